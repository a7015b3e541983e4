"""Config files, their bases below them and settings above them, merged key by key."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pose.config.presets import preset_keys
from pose.config.yaml_files import parse_yaml, read_yaml
from pose.errors import UserError

COMMAND_LINE = "command line"
KeyPath = tuple[str, ...]  # the keys from the top of a config to one value


class Merged:
    """A config under construction: plain data, and for every value the file that set it."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origin: dict[KeyPath, str] = {}

    def put(self, data: Mapping[str, Any], origin: str) -> None:
        self._put(self.data, data, origin, ())

    def _put(self, into: dict[str, Any], data: Mapping[str, Any], origin: str, path: KeyPath) -> None:
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

    def _drop_preset(self, section: dict[str, Any], value: Mapping[str, Any], path: KeyPath) -> None:
        """`value` names a preset: where it is another one, what the one before may have set makes room."""
        keys, default, former = preset_keys(path[-1], value.get("name", section.get("name")))
        before, now = (former.get(str(one), one) for one in (section.get("preset", default), value["preset"]))
        if before == now:
            return
        for key in keys & set(section):
            del section[key]
            self.origin.pop((*path, key), None)

    def origin_of(self, path: KeyPath) -> str | None:
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


def parse_override(text: str) -> tuple[KeyPath, Any]:
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
