"""YAML + `base:` + `key.sub=value` -> frozen, typed settings, with all errors reported at once.

A file may name other files in `base:` (relative to itself); the child wins key by key, and a section whose
`name` changes replaces the base's section, so that settings of one backbone never leak into another.  Where
its `preset` changes, the base's values are dropped of those keys that presets set.
"""

from __future__ import annotations

from pose.config.checking import load, validate
from pose.config.merging import COMMAND_LINE, Merged, merge, override, parse_override
from pose.config.presets import PresetSettings
from pose.config.settings import (
    Counts,
    FilePath,
    Label,
    Settings,
    component_settings,
    keys_that_count,
    settings_in,
)
from pose.config.writing import describe, json_schema, plain_to_yaml, to_plain, to_yaml
from pose.config.yaml_files import LARGEST_FILE, LONGEST_NUMBER, MOST_VALUES, parse_yaml, read_yaml

__all__ = [
    "COMMAND_LINE",
    "LARGEST_FILE",
    "LONGEST_NUMBER",
    "MOST_VALUES",
    "Counts",
    "FilePath",
    "Label",
    "Merged",
    "PresetSettings",
    "Settings",
    "component_settings",
    "describe",
    "json_schema",
    "keys_that_count",
    "load",
    "merge",
    "override",
    "parse_override",
    "parse_yaml",
    "plain_to_yaml",
    "read_yaml",
    "settings_in",
    "to_plain",
    "to_yaml",
    "validate",
]
