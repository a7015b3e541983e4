"""Pretrained layers that stand still while the new ones behind them learn the first."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pose.errors import UserError
from pose.registry import BACKBONES


def check_frozen_start(backbone: str, epochs: int) -> None:
    """Raises `UserError` where `train.freeze_epochs` is asked of a backbone without pretrained layers."""
    able = [name for name in BACKBONES.names() if "pretrained" in BACKBONES[name].config.model_fields]
    if not epochs or backbone in able:
        return
    raise UserError(
        f"train.freeze_epochs={epochs}: the backbone {backbone!r} has no pretrained layers to hold; set it "
        f"to 0, or use a backbone that has some ({', '.join(able)})"
    )


@dataclass
class FrozenStart:
    """`layers` stand still, from the making of this object until `release`, which is due after `steps` steps.

    `wrap` makes what training calls (DDP, DataParallel): DDP looks only once at what is trained."""

    layers: Sequence[nn.Module]
    steps: int
    wrap: Callable[[], nn.Module]

    def __post_init__(self) -> None:
        self._set(False)

    def release(self) -> nn.Module:
        """From here on the layers move; a new wrapper.  The caller has dropped the old one, whose hooks must
        be gone."""
        gc.collect()
        self._set(True)
        torch.compiler.reset()  # torch 2.6 goes on with what it compiled for layers without gradients
        return self.wrap()

    def _set(self, moving: bool) -> None:
        for layer in self.layers:
            layer.requires_grad_(moving)
