"""YAML + `base:` + `key.sub=value` -> frozen, typed settings, with all errors reported at once.

A file may name other files in `base:` (relative to itself); the child wins key by key, and a section whose
`name` changes replaces the base's section, so that settings of one backbone never leak into another.  Where
its `preset` changes, the base's values are dropped of those keys that presets set.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from pose.errors import UserError
from pose.files import is_regular
from pose.registry import BACKBONES, DECODERS, HEADS, Registry, nearest

COMMAND_LINE = "command line"
LARGEST_FILE = 1 << 20  # bytes of a YAML file
MOST_VALUES = 100_000  # of a YAML file, those of an alias counted wherever it stands
LONGEST_NUMBER = 64  # characters
Path_ = tuple[str, ...]  # the keys from the top of a config to one value


def _file_path(text: str) -> str:
    if "\0" in text:
        raise ValueError("no file name can hold the character \\0")
    return os.path.expanduser(text)


FilePath = Annotated[str, AfterValidator(_file_path)]


def _label(value: Any) -> Any:
    """YAML reads an id as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Label = Annotated[str, BeforeValidator(_label)]
"""A name or a number."""
"""A setting that names a file or folder; `~` is the home folder."""


class Settings(BaseModel):
    """Base of every config class: frozen, strict about types, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    only_at_start: ClassVar[tuple[str, ...]] = ()
    """Keys that only the start of a new run looks at: null in the run's own config."""


class PresetSettings(Settings):
    """Settings whose `preset` names a set of values for those that are not given."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    former_presets: ClassVar[Mapping[str, str]] = {}
    """Names that presets once had -> those of today: older configs and runs still have them."""
    section: ClassVar[str | None] = None
    """The key of the section in a config, for settings without a `name`."""

    @field_validator("preset", mode="before", check_fields=False)
    @classmethod
    def _name_of_today(cls, preset: Any) -> Any:
        return cls.former_presets.get(preset, preset) if isinstance(preset, str) else preset

    @model_validator(mode="after")
    def _fill(self) -> PresetSettings:
        # not before: what a validator hands on is no longer JSON, in which a list stands for a tuple
        for key, value in self.presets[self.preset].items():  # type: ignore[attr-defined]
            if key not in self.model_fields_set:
                self.__dict__[key] = value  # frozen for everybody else
        return self


def _preset_keys(section: str, name: str | None) -> tuple[set[str], str, dict[str, str]]:
    """The keys that presets set in a config's `section`, which is of the component `name` (None: of any), the
    preset that counts where none is given, and the names that presets once had."""
    for registry in (BACKBONES, HEADS, DECODERS):
        registry.names()  # imports the components
    known = PresetSettings.__subclasses__()
    classes = [cls for cls in known if cls.section == section] or [
        cls
        for cls in known
        if "name" in cls.model_fields and name in (None, cls.model_fields["name"].default)
    ]
    keys = {key for cls in classes for values in cls.presets.values() for key in values}
    former = {old: new for cls in classes for old, new in cls.former_presets.items()}
    return keys, classes[0].model_fields["preset"].default if classes else "", former


S = TypeVar("S", bound=Settings)


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


# --------------------------------------------------------------------------------------------- reading YAML


TOO_MANY = yaml.composer.ComposerError(
    None, None, f"more than {MOST_VALUES} values, those of an alias counted wherever it stands"
)


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `2e-4` is a number, dates stay text and a key given twice is an error."""

    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.composed += 1
        if self.composed > MOST_VALUES:
            raise TOO_MANY
        return super().compose_node(parent, index)

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _count(node, {}) > MOST_VALUES:
            raise TOO_MANY
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Raises `ConstructorError` also for a text that is not of its tag, as in `!!int x`."""
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > LONGEST_NUMBER:
            what = f"a number of {len(node.value)} characters"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError, TypeError):
            what = f"{node.value!r:.40} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        if not isinstance(node, yaml.MappingNode):
            return super().construct_mapping(node, deep)  # raises
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *other`
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict, set)):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_EXPONENT = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def _count(node: yaml.Node, known: dict[yaml.Node, int | None]) -> int:
    """The values in a node, those of an alias counted wherever it stands."""
    if node in known:
        count = known[node]
        if count is None:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias stands inside of what it names", node.start_mark
            )
        return count
    known[node] = None
    inside: Any = [] if isinstance(node, yaml.ScalarNode) else node.value
    parts = [part for entry in inside for part in (entry if isinstance(entry, tuple) else (entry,))]
    count = 1 + sum(_count(part, known) for part in parts)
    known[node] = count
    return count


def parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader
    except RecursionError:
        raise UserError(f"{where}: not readable as YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}{line}: not readable as YAML: {what}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        if path.exists() and not path.is_dir() and not is_regular(path):
            raise UserError(f"cannot read {path}: it is no regular file")
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path} has {path.stat().st_size / 1e6:.0f} MB: too large for a config")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent
        siblings = [p.name for p in folder.glob("*.yaml")] if folder.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f", did you mean {folder / close[0]}?" if close else ""
        raise UserError(f"no config file {path}{hint}") from None
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the encoding, or a name that no file can have
        raise UserError(f"cannot read {str(path)!r:.200}: {error}") from None
    data = parse_yaml(text, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UserError(f"{path}: expected a mapping of names at the top, got {type(data).__name__}")
    return data


# ------------------------------------------------------------------------------------- bases and overrides


class Merged:
    """A config under construction: plain data, and for every value the file that set it."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origin: dict[Path_, str] = {}

    def put(self, data: Mapping[str, Any], origin: str) -> None:
        self._put(self.data, data, origin, ())

    def _put(self, into: dict[str, Any], data: Mapping[str, Any], origin: str, path: Path_) -> None:
        for name, value in data.items():
            key = str(name)  # a number: an unknown key like any other
            here = (*path, key)
            old = into.get(key)
            renamed = (
                isinstance(value, Mapping)
                and isinstance(old, dict)
                and value.get("name", old.get("name")) != old.get("name")
                and "name" in old
            )
            if isinstance(value, Mapping) and isinstance(old, dict) and not renamed:
                if "preset" in value:
                    self._drop_preset(old, value, here)
                self._put(old, value, origin, here)
                continue
            self.origin = {p: o for p, o in self.origin.items() if p[: len(here)] != here}
            self.origin[here] = origin
            if isinstance(value, Mapping):
                into[key] = {}
                self._put(into[key], value, origin, here)
            else:
                into[key] = copy.deepcopy(value)

    def _drop_preset(self, section: dict[str, Any], value: Mapping[str, Any], path: Path_) -> None:
        """`value` names a preset: where it is another one, what the one before may have set makes room."""
        keys, default, former = _preset_keys(path[-1], value.get("name", section.get("name")))
        before, now = (former.get(str(one), one) for one in (section.get("preset", default), value["preset"]))
        if before == now:
            return
        for key in keys & set(section):
            del section[key]
            self.origin.pop((*path, key), None)

    def origin_of(self, path: Path_) -> str | None:
        while path and path not in self.origin:
            path = path[:-1]
        return self.origin.get(path)


def _put_file(merged: Merged, path: Path, chain: tuple[Path, ...]) -> None:
    real = path.resolve()
    if real in chain:
        cycle = " -> ".join(p.name for p in (*chain[chain.index(real) :], real))
        raise UserError(f"{path}: `base:` goes in a circle: {cycle}")
    data = read_yaml(path)
    bases = data.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: `base:` is a file name or a list of file names")
    for base in bases:
        if "\0" in base:
            raise UserError(f"{path}: `base:` {base!r:.200} is a name that no file can have")
        _put_file(merged, path.parent / os.path.expanduser(base), (*chain, real))
    merged.put(data, str(path))


def parse_override(text: str) -> tuple[Path_, Any]:
    """`train.lr=2e-4` -> (("train", "lr"), 0.0002); the value is YAML."""
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"cannot read the setting {text!r}; write it as key.sub=value")
    return path, parse_yaml(value, f"{COMMAND_LINE}, {text!r}")


def merge(path: Path | None, overrides: Iterable[str] = ()) -> Merged:
    """The file, its bases below it and the overrides above it."""
    merged = Merged()
    if path is not None:
        _put_file(merged, path, ())
    return override(merged, overrides)


def override(merged: Merged, overrides: Iterable[str]) -> Merged:
    """Puts `key.sub=value` settings above what is there."""
    parsed = [(text, *parse_override(text)) for text in overrides]
    # `backbone.name=other` and presets first, so that they do not undo `backbone.width=8` on their left
    first = ("name", "preset")
    parsed.sort(key=lambda one: (first.index(one[1][-1]), len(one[1])) if one[1][-1] in first else (2, 0))
    for text, keys, value in parsed:
        node: Any = merged.data
        for i, key in enumerate(keys[:-1]):
            node = node.get(key) if isinstance(node, dict) else None
            if node is not None and not isinstance(node, dict):
                whole = "; a list is set as a whole" if isinstance(node, list) else ""
                raise UserError(
                    f"{COMMAND_LINE}, {text!r}: {'.'.join(keys[: i + 1])} has no keys below it{whole}"
                )
        for key in reversed(keys):
            value = {key: value}
        merged.put(value, COMMAND_LINE)
    return merged


# --------------------------------------------------------------------------------------- checking the types


def validate(schema: type[S], merged: Merged) -> S:
    """The typed settings, or one `UserError` that lists every problem under the file that caused it."""
    try:
        # as JSON: YAML has lists where the settings have tuples, which strict types take from JSON only
        return schema.model_validate_json(json.dumps(merged.data))
    except ValidationError as error:
        problems = error.errors()
    except (TypeError, ValueError) as error:
        raise UserError(f"the config holds a value that is not plain data: {error}") from None
    by_file: dict[str, list[str]] = {}
    explained = [_explain(schema, problem, merged.data) for problem in problems]
    for path, line in explained:
        if any(len(other) > len(path) and other[: len(path)] == path for other, _ in explained):
            continue  # of `A | B` the value is clearly an A with a mistake inside, so "not a B" says nothing
        origin = merged.origin_of(path) or _first_file(merged)
        lines = by_file.setdefault(origin, [])
        if line not in lines:
            lines.append(line)
    raise UserError(
        "the config has mistakes\n"
        + "\n".join(
            f"{file}:\n" + "\n".join(f"  {line}" for line in lines) for file, lines in by_file.items()
        )
    )


def _first_file(merged: Merged) -> str:
    files = [origin for origin in merged.origin.values() if origin != COMMAND_LINE]
    return files[-1] if files else COMMAND_LINE


def _explain(schema: type[Settings], problem: Any, data: Any) -> tuple[Path_, str]:
    """The path of a pydantic error in the user's data, and a sentence about it."""
    path, model = _user_path(schema, problem["loc"], data)
    dotted = ".".join(path) or "top"
    kind, given, context = problem["type"], problem.get("input"), problem.get("ctx", {})
    if kind == "extra_forbidden":
        fields = list(model.model_fields) if model else []
        return path, f"{dotted}: unknown key{nearest(path[-1], fields) or _known(fields)}"
    if kind == "missing":
        return path, f"{dotted}: missing"
    if kind in ("union_tag_invalid", "literal_error") and (
        path[-1:] == ("name",) or kind == "union_tag_invalid"
    ):
        name = given.get("name") if isinstance(given, dict) else given
        known = re.findall(r"'([^']+)'", context.get("expected_tags") or context.get("expected", ""))
        path = path if path[-1:] == ("name",) else (*path, "name")
        what = path[-2] if len(path) > 1 else "name"
        hint = f"{nearest(str(name), known)} (known: {', '.join(known)})"
        return path, f"{'.'.join(path)}: unknown {what} {name!r}{hint}"
    if kind == "union_tag_not_found":
        if not isinstance(given, dict):
            return path, f"{dotted}: expected a mapping, got {_short(given)}"
        return (*path, "name"), f"{dotted}.name: missing"
    if kind == "literal_error":
        return path, f"{dotted}: expected {context['expected']}, got {given!r}"
    if kind == "value_error":
        text = str(context["error"])
        word = re.match(r"\w*", text)[0]  # type: ignore[index]
        named = model is not None and word in model.model_fields  # which key of the section it is about
        if named and text.startswith(f"{word}: "):
            return (*path, word), f"{'.'.join((*path, word))}{text[len(word) :]}"
        return (*path, word) if named else path, f"{dotted}: {text}"
    expected = {
        "int_type": "int", "int_from_float": "int", "float_type": "float", "string_type": "text",
        "bool_type": "true or false", "tuple_type": "a list", "list_type": "a list", "dict_type": "a mapping",
        "model_type": "a mapping", "model_attributes_type": "a mapping", "path_type": "a path",
    }.get(kind)  # fmt: skip
    if expected:
        return path, f"{dotted}: expected {expected}, got {_short(given)}"
    return path, f"{dotted}: {_lower_first(problem['msg'])}, got {_short(given)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _known(fields: Sequence[str]) -> str:
    return f" (known: {', '.join(fields)})" if fields and len(fields) <= 30 else ""


def _user_path(schema: type[Settings], loc: Sequence[Any], data: Any) -> tuple[Path_, type[Settings] | None]:
    """pydantic puts the chosen union member into `loc`; the user's file has no such key.  Also returns the
    class of settings in which the error lies."""
    path: list[str] = []
    model: type[Settings] | None = schema
    options: tuple[Any, ...] = ()
    tagged = False
    for i, step in enumerate(loc):
        member = next((m for m in options if _member_name(m) == step), None)
        if member is not None:
            model, options = member, ()
            continue
        if tagged:
            tagged = False  # a tag such as "list[str]" that pydantic adds to a union's path
            continue
        path.append(str(step))
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            data = None
        field = model.model_fields.get(str(step)) if model else None
        if field is None:
            continue_model = model if i == len(loc) - 1 else None
            model, options = continue_model, ()
            continue
        members = settings_in(field.annotation)
        if i < len(loc) - 1:
            model = members[0] if len(members) == 1 else None
            options = tuple(members) if len(members) > 1 else ()
            tagged = not members and _is_union(field.annotation)
    return tuple(path), model


def _is_union(annotation: Any) -> bool:
    """`A | B`, but not `A | None`."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    return get_origin(annotation) in (Union, types.UnionType) and len(members) > 1


def _member_name(member: Any) -> str | None:
    fields = getattr(member, "model_fields", None)
    if not fields or "name" not in fields:
        return None
    names = get_args(fields["name"].annotation)
    return names[0] if names else None


def settings_in(annotation: Any) -> list[type[Settings]]:
    """The config classes inside a type: `A | None` -> [A]."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [cls for part in get_args(annotation) for cls in settings_in(part)]


def load(schema: type[S], path: Path | None, overrides: Iterable[str] = ()) -> S:
    return validate(schema, merge(path, overrides))


# ------------------------------------------------------------------------------------------ writing and help


class _Dumper(yaml.SafeDumper):
    pass


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    flat = all(not isinstance(item, dict) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)


_Dumper.add_representer(list, _represent_list)
# text that looks like a number to our loader is written in quotes
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def to_plain(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def to_yaml(settings: Settings) -> str:
    """The resolved config; `load` reads it back to equal settings."""
    return plain_to_yaml(to_plain(settings))


def plain_to_yaml(plain: Mapping[str, Any]) -> str:
    """Plain data as YAML, which `parse_yaml` reads back to the same."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def describe(settings: Settings, indent: str = "") -> str:
    """The resolved config with what each key means, as YAML with comments."""
    lines: list[str] = []
    for key, info in type(settings).model_fields.items():
        value = getattr(settings, key)
        meaning = " ".join((info.description or "").split())
        if isinstance(value, Settings):
            lines += [
                f"{indent}{key}:" + (f"  # {meaning}" if meaning else ""),
                describe(value, indent + "  "),
            ]
            continue
        plain = settings.model_dump(mode="json", include={key})[key]
        text = yaml.dump(
            {key: plain}, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True
        ).rstrip()
        first, *rest = text.split("\n")
        lines.append(f"{indent}{first}" + (f"  # {meaning}" if meaning else ""))
        lines += [indent + line for line in rest]
    return "\n".join(lines)


def json_schema(schema: type[Settings]) -> dict[str, Any]:
    """A JSON schema by which editors complete and check the YAML.  No key is required, because a `base:` may
    have set it."""
    result = schema.model_json_schema()
    for part in [result, *result.get("$defs", {}).values()]:
        part.pop("required", None)
    result["properties"]["base"] = {
        "description": "Config files below this one, relative to it.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    return result
