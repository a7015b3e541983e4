"""The base of all settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.toy_configs import Config, Tiny, Train


def test_settings_are_frozen() -> None:
    one = Config(backbone=Tiny())
    with pytest.raises(ValidationError):
        one.train = Train()  # type: ignore[misc]
