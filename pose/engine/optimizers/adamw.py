"""AdamW (Loshchilov and Hutter, 2019): weight decay apart from the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from pose.engine.optimizers.base import AdamSettings, ParameterGroup
from pose.registry import OPTIMIZERS


class AdamWSettings(AdamSettings):
    """AdamW (Loshchilov and Hutter, 2019): weight decay apart from the gradient."""

    name: Literal["adamw"] = "adamw"


@OPTIMIZERS.register("adamw", AdamWSettings)
def adamw(settings: AdamWSettings, groups: Sequence[ParameterGroup], *, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, settings.lr, settings.betas, fused=fused)
