"""Losses on dense maps."""

from __future__ import annotations

from torch import Tensor


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean over images, channels and cells of (prediction - target)^2 * mask.

    prediction, target (B, C, h, w); mask (B, 1, h, w).  The mean counts masked cells too (as pose-ae-train),
    so a picture with a large crowd weighs less rather than more."""
    return ((prediction - target) ** 2 * mask).mean()
