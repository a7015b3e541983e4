"""The base of every config class, and sections that name a component of a registry."""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from pose.registry import Registry

KeyPath = tuple[str, ...]  # the keys from the top of a config to one value


def _file_path(text: str) -> str:
    if "\0" in text:
        raise ValueError("no file name can hold the character \\0")
    return os.path.expanduser(text)


FilePath = Annotated[str, AfterValidator(_file_path)]
"""A setting that names a file or folder; `~` is the home folder."""


def _label(value: Any) -> Any:
    """YAML reads an id as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Label = Annotated[str, BeforeValidator(_label)]
"""A name or a number."""


class Counts(Enum):
    """When a setting counts, where it is not for a run's whole training:
    `key: Annotated[int, Counts.AFTER_TRAINING] = 3`."""

    ONLY_AT_START = "read when a run begins, and null in the run's own config"
    AFTER_TRAINING = "may be changed for a trained run"
    WITH_THE_DATA = "may be changed for a trained run by commands that read its data"


class Settings(BaseModel):
    """Base of every config class: frozen, strict about types, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    former_keys: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Keys that this section once had -> the section in it and the key there that they are today.  A key that
    is a section today and was a name before leads to that section's `name`."""


def component_settings(registry: Registry, default: str | None = None) -> Any:
    """The type of a section that names a component: the union of the config classes in `registry`.  A section
    without a name is that of `default`.

    Every component's config class has a field `name: Literal["its_name"]`."""
    classes: tuple[type[Settings], ...] = tuple(registry[name].config for name in registry.names())
    for name, cls in zip(registry.names(), classes, strict=True):
        if get_args(cls.model_fields["name"].annotation) != (name,):
            raise ValueError(f"{cls.__name__}.name must be Literal[{name!r}]")
    if len(classes) == 1:
        return classes[0]
    if default is None:
        return Annotated[Union[classes], Field(discriminator="name")]  # noqa: UP007 -- built from a tuple
    tagged = tuple(Annotated[cls, Tag(name)] for name, cls in zip(registry.names(), classes, strict=True))

    def name_of(section: Any) -> str | None:
        if isinstance(section, Mapping):
            return str(section.get("name", default))
        return getattr(section, "name", None)

    return Annotated[Union[tagged], Discriminator(name_of)]  # noqa: UP007


def settings_in(annotation: Any) -> list[type[Settings]]:
    """The config classes inside a type: `A | None` -> [A]."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [cls for part in get_args(annotation) for cls in settings_in(part)]


def section_class(schema: type[Settings] | None, key: str, name: Any = None) -> type[Settings] | None:
    """The class of the section `key` of a config of type `schema`, where it may have one of several that of
    the component `name`, or of the default component for None.  None: it is no section, or there is no such
    component."""
    field = schema.model_fields.get(key) if schema else None
    members = _members(field.annotation) if field else []
    if len(members) < 2:
        return members[0] if members else None
    for one in field.metadata if field and name is None else ():
        if isinstance(one, Discriminator) and callable(one.discriminator):
            name = one.discriminator({})  # of a section without a name
    return next((cls for cls in members if cls.model_fields["name"].default == name), None)


def _members(annotation: Any) -> list[type[Settings]]:
    """The config classes that a value of this type may be, not those of what it holds."""
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [cls for part in get_args(annotation) for cls in _members(part)]
    return settings_in(annotation) if isinstance(annotation, type) else []


def keys_that_count(schema: type[Settings], when: Counts, above: KeyPath = ()) -> list[KeyPath]:
    """Every key of a config of type `schema` that is marked so, whatever its components are."""
    found: dict[KeyPath, None] = {}
    for key, field in schema.model_fields.items():
        here = (*above, key)
        if when in field.metadata:
            found[here] = None
        for cls in _members(field.annotation):
            found |= dict.fromkeys(keys_that_count(cls, when, here))
    return [*found]
