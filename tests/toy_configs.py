"""A small config with two kinds of backbones, to test how configs are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Union

import pytest
from pydantic import Field

from pose import config
from pose.config import Settings
from pose.errors import UserError

SYNTHETIC = Path(__file__).parents[1] / "configs" / "synthetic" / "ae_small.yaml"
Write = Callable[..., Path]


class Big(Settings):
    name: Literal["big"] = "big"
    stacks: int = 4
    """How many."""
    width: int = 256


class Tiny(Settings):
    name: Literal["tiny"] = "tiny"
    width: int = 8


class Train(Settings):
    batch_size: int = Field(32, gt=0)
    lr: float = 1e-3
    note: str = ""
    """Free text."""
    scales: tuple[float, ...] = (1.0,)
    limit: int | None = None
    flip: bool = True


class Config(Settings):
    backbone: Annotated[Union[Big, Tiny], Field(discriminator="name")]  # noqa: UP007
    train: Train = Train()


def mistakes(path: Path | None, *overrides: str, schema: type[Settings] = Config) -> str:
    with pytest.raises(UserError) as caught:
        config.load(schema, path, overrides)
    return str(caught.value)
