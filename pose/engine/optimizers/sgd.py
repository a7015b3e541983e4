"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator

from pose.engine.optimizers.base import OptimizerSettings, ParameterGroup
from pose.registry import OPTIMIZERS


class SGDSettings(OptimizerSettings):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    """Decay of the sum of the gradients before."""
    nesterov: bool = False
    """Nesterov momentum."""

    @model_validator(mode="after")
    def _check_nesterov(self) -> SGDSettings:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum; set momentum=0.9, or nesterov=false")
        return self


@OPTIMIZERS.register("sgd", SGDSettings)
def sgd(settings: SGDSettings, groups: Sequence[ParameterGroup], *, fused: bool) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(
        groups, settings.lr, settings.momentum, nesterov=settings.nesterov, fused=fused
    )
    if settings.momentum:
        # fused SGD leaves the momentum uninitialised where its very first step is skipped; from zeros the
        # first step is the same
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
