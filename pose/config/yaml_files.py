"""Reading YAML: safe, bounded, and with a sentence for what is wrong with a file."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pose.errors import UserError
from pose.files import is_regular

LARGEST_FILE = 1 << 20  # bytes of a YAML file
MOST_VALUES = 100_000  # of a YAML file, those of an alias counted wherever it stands
LONGEST_NUMBER = 64  # characters


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
EXPONENT = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))


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


def read_with_bases(path: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The mappings of a file and of those that it names in `base:` (relative to itself), each without that
    key, from the lowest to the file itself.  above: the files that led to this one."""
    real = path.resolve()
    if real in above:
        cycle = " -> ".join(p.name for p in (*above[above.index(real) :], real))
        raise UserError(f"{path}: `base:` goes in a circle: {cycle}")
    data = read_yaml(path)
    bases = data.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{path}: `base:` is a file name or a list of file names")
    for base in bases:
        if "\0" in base:
            raise UserError(f"{path}: `base:` {base!r:.200} is a name that no file can have")
        yield from read_with_bases(path.parent / os.path.expanduser(base), (*above, real))
    yield path, data
