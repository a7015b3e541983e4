"""Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from pose.engine.optimizers.base import AdamSettings as BothSettings
from pose.engine.optimizers.base import ParameterGroup
from pose.registry import OPTIMIZERS


class AdamSettings(BothSettings):
    """Adam (Kingma and Ba, 2015); weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"


@OPTIMIZERS.register("adam", AdamSettings)
def adam(settings: AdamSettings, groups: Sequence[ParameterGroup], *, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, settings.lr, settings.betas, fused=fused)
