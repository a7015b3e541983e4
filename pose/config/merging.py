"""Config files, their bases below them and settings above them, merged key by key."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pose.config.presets import PresetSettings
from pose.config.settings import KeyPath, Settings, section_class
from pose.config.yaml_files import parse_yaml, read_with_bases
from pose.errors import UserError

COMMAND_LINE = "command line"


class Merged:
    """A config of type `schema` under construction: plain data, and for every value the file that set it."""

    def __init__(self, schema: type[Settings]) -> None:
        self.schema = schema
        self.data: dict[str, Any] = {}
        self.origin: dict[KeyPath, str] = {}
        self.former: dict[str, dict[str, str]] = {}
        """By file, the keys of former versions that it has -> what they are called today, both dotted."""
        self._former_values: dict[KeyPath, dict[str, Any]] = {}  # of each section

    def put(self, data: Mapping[str, Any], origin: str) -> None:
        self._put(self.data, data, origin, (), self.schema)

    def _put(
        self,
        into: dict[str, Any],
        data: Mapping[str, Any],
        origin: str,
        path: KeyPath,
        schema: type[Settings] | None,
    ) -> None:
        former = {
            key: value
            for key, value in data.items()
            if schema and key in schema.former_keys and not isinstance(value, Mapping)
        }
        for name, value in data.items():
            if name in former:
                continue
            key = str(name)  # a number: an unknown key like any other
            here = (*path, key)
            old = into.get(key)
            renamed = (
                isinstance(value, Mapping)
                and isinstance(old, dict)
                and value.get("name", old.get("name")) != old.get("name")
                and "name" in old
            )
            kept = old if isinstance(old, dict) and not renamed else None
            if isinstance(value, Mapping):
                inner = section_class(schema, key, {**(kept or {}), **value}.get("name"))
                if kept is not None:
                    self._drop_preset(kept, value, here, inner)
                    self._put(kept, value, origin, here, inner)
                    continue
            self.origin = {p: o for p, o in self.origin.items() if p[: len(here)] != here}
            self.origin[here] = origin
            if isinstance(value, Mapping):
                into[key] = {}
                self._put(into[key], value, origin, here, inner)
            else:
                into[key] = copy.deepcopy(value)
        if former and schema:
            self._put_former(into, former, origin, path, schema)

    def _drop_preset(
        self, section: dict[str, Any], value: Mapping[str, Any], path: KeyPath, schema: type[Settings] | None
    ) -> None:
        """Where `value` names another preset, what the one before may have set makes room."""
        if "preset" not in value or schema is None or not issubclass(schema, PresetSettings):
            return
        if schema.preset_of(section) != schema.preset_of(value):
            for key in schema.preset_keys() & set(section):
                self._drop(section, key, path)

    def _drop(self, section: dict[str, Any], key: str, path: KeyPath) -> None:
        del section[key]
        self.origin.pop((*path, key), None)

    def _put_former(
        self,
        into: dict[str, Any],
        given: Mapping[str, Any],
        origin: str,
        path: KeyPath,
        schema: type[Settings],
    ) -> None:
        """Puts keys of former versions where they are today.  There were those of all components side by
        side: what the chosen one does not have is only remembered, in case that another is chosen later."""
        known = self._former_values.setdefault(path, {})
        known.update(given)
        for section, (key_of_name, names) in _former_sections(schema).items():
            now = {names[key]: value for key, value in given.items() if key in names}
            name, old = given.get(key_of_name), into.get(section)
            if not now and name is None:
                continue
            values = old if isinstance(old, dict) else into.setdefault(section, {})
            component = section_class(schema, section, values.get("name") if name is None else name)
            fields = set(component.model_fields if component else names.values())
            for key in set(values) - fields:
                self._drop(values, key, (*path, section))
            remembered = {names[key]: value for key, value in known.items() if key in names}
            chosen = (
                {}
                if name is None
                else {"name": name, **{k: remembered[k] for k in remembered if k not in values}}
            )
            self._put(
                values,
                {k: v for k, v in {**chosen, **now}.items() if k in {*fields, "name"}},
                origin,
                (*path, section),
                component,
            )
        self.former.setdefault(origin, {}).update(
            (".".join((*path, key)), ".".join((*path, *schema.former_keys[key]))) for key in given
        )

    def origin_of(self, path: KeyPath) -> str | None:
        while path and path not in self.origin:
            path = path[:-1]
        return self.origin.get(path)


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """`train.lr=2e-4` -> (("train", "lr"), 0.0002); the value is YAML."""
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"cannot read the setting {text!r}; write it as key.sub=value")
    return path, parse_yaml(value, f"{COMMAND_LINE}, {text!r}")


def merge(schema: type[Settings], path: Path | None, overrides: Iterable[str] = ()) -> Merged:
    """The file, its bases below it and the overrides above it."""
    merged = Merged(schema)
    for file, data in read_with_bases(path) if path is not None else ():
        merged.put(data, str(file))
    return override(merged, overrides)


def _former_sections(schema: type[Settings]) -> dict[str, tuple[str, dict[str, str]]]:
    """The sections that have keys of former versions -> the key that was their name, and the other keys ->
    what they are called in the section."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for key, (section, today) in schema.former_keys.items():
        name, keys = found.get(section, ("", {}))
        found[section] = (key, keys) if today == "name" else (name, {**keys, key: today})
    return found


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
