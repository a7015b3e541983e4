"""Typed settings -> YAML, a description of every key, and a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pose.config.settings import Settings
from pose.config.yaml_files import EXPONENT


class _Dumper(yaml.SafeDumper):
    pass


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    flat = all(not isinstance(item, dict) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)


_Dumper.add_representer(list, _represent_list)
# text that looks like a number to our loader is written in quotes
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))


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
