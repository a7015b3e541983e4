"""Batch normalisation that trains, or keeps the statistics that came with its weights."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BatchNorm = Literal["train", "frozen"]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation by fixed statistics, whatever the mode; scale and shift are parameters.

    Its tensors are those of `nn.BatchNorm2d` without the count of batches.  It is no subclass, so that
    SyncBatchNorm does not replace it."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def batch_norm(kind: BatchNorm, channels: int) -> nn.Module:
    return FrozenBatchNorm2d(channels) if kind == "frozen" else nn.BatchNorm2d(channels)
