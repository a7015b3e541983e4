"""Moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average of a module's weights and floating buffers, by torch's multi-tensor
    update; other buffers (counters) are copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        # looked up once, by name: loading a state changes the same tensors
        own, new = self.module.state_dict(), module.state_dict()
        floating = [name for name, value in own.items() if value.is_floating_point()]
        others = [name for name in own if name not in set(floating)]
        self.averaged = [own[name] for name in floating], [new[name] for name in floating]
        self.copied = [own[name] for name in others], [new[name] for name in others]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """`step` counts the updates of the weights, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(*self.averaged, None)
        if self.copied[0]:
            torch._foreach_copy_(*self.copied)
