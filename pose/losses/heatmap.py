"""Losses on dense maps."""

from __future__ import annotations

from torch import Tensor


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor, foreground_weight: float = 0.0) -> Tensor:
    """Mean over images, channels and cells of (prediction - target)^2 * mask * (1 + foreground_weight *
    target).

    prediction, target (B, C, h, w); mask (B, 1, h, w).  The mean counts masked cells too (as pose-ae-train),
    so a picture with a large crowd weighs less rather than more."""
    weight = mask * (1 + foreground_weight * target) if foreground_weight else mask
    return ((prediction - target) ** 2 * weight).mean()
