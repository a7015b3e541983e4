"""A network to optimise, and a step."""

from __future__ import annotations

import torch
from torch import nn


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def without_norm() -> nn.Sequential:
    """A bias before batch norm has no gradient but rounding, which Adam makes large."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))


def stepped(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    x = torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    module(x).square().mean().backward()
    optimizer.step()
