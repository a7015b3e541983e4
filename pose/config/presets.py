"""Named sets of values for the keys of a section, each a YAML file in `configs/_presets/`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import field_validator, model_validator

from pose.config.settings import Settings
from pose.config.yaml_files import read_with_bases
from pose.config_files import config_folder


class PresetSettings(Settings):
    """Settings whose `preset` names the values of those keys that are not given.

    The default preset has no values; each other one is a file NAME.yaml in `preset_folder`, which may have
    others as its `base:`."""

    preset_folder: ClassVar[str | Path]
    """Inside `configs/_presets/`."""
    former_presets: ClassVar[Mapping[str, str]] = {}
    """Names that presets once had -> those of today: older configs and runs still have them."""

    @classmethod
    def preset_values(cls, preset: str) -> dict[str, Any]:
        """The values of a preset, as plain data."""
        values: dict[str, Any] = {}
        if preset != cls.model_fields["preset"].default:
            folder = config_folder() / "_presets" / cls.preset_folder
            for _, data in read_with_bases(folder / f"{preset}.yaml"):
                values |= data
        return values

    @classmethod
    def preset_keys(cls) -> set[str]:
        """The keys that any preset sets."""
        return {
            key
            for preset in get_args(cls.model_fields["preset"].annotation)
            for key in cls.preset_values(preset)
        }

    @classmethod
    def preset_of(cls, section: Mapping[str, Any]) -> Any:
        """The preset that a section of a config has, by its name of today."""
        preset = section.get("preset", cls.model_fields["preset"].default)
        return cls.former_presets.get(preset, preset) if isinstance(preset, str) else preset

    @field_validator("preset", mode="before", check_fields=False)
    @classmethod
    def _name_of_today(cls, preset: Any) -> Any:
        return cls.former_presets.get(preset, preset) if isinstance(preset, str) else preset

    @model_validator(mode="after")
    def _fill(self) -> PresetSettings:
        # not before: what a validator hands on is no longer JSON, in which a list stands for a tuple
        for key, value in _typed_values(type(self), self.preset).items():  # type: ignore[attr-defined]
            if key not in self.model_fields_set:
                self.__dict__[key] = value  # frozen for everybody else
        return self


@functools.cache
def _typed_values(cls: type[PresetSettings], preset: str) -> dict[str, Any]:
    values = cls.preset_values(preset)
    if not values:
        return {}
    settings = cls.model_validate_json(json.dumps(values))
    return {key: getattr(settings, key) for key in values}
