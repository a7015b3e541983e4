"""Moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average of a module's weights and floating buffers, by torch's multi-tensor
    update."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """`step` counts the updates of the weights, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        own, new = self.module.state_dict(), module.state_dict()
        floating = [name for name, value in own.items() if value.is_floating_point()]
        # by name: the wrapped module's tensors come in the same order, integers (counters) are copied
        get_ema_multi_avg_fn(decay)([own[n] for n in floating], [new[n] for n in floating], None)
        for name in own.keys() - set(floating):
            own[name].copy_(new[name])
