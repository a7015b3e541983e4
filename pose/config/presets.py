"""Named sets of values for the keys of a section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from pose.config.settings import Settings
from pose.registry import BACKBONES, DECODERS, HEADS


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


def preset_keys(section: str, name: str | None) -> tuple[set[str], str, dict[str, str]]:
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
