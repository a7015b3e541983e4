"""Losses on dense maps."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Reduction = Literal["mean", "sum_over_2n"]


def masked_mse(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    foreground_weight: float = 0.0,
    *,
    foreground: Tensor | None = None,
    labelled: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """(prediction - target)^2 * mask * (1 + foreground_weight * foreground) over images, channels and cells.

    prediction, target, foreground (B, C, h, w), foreground by default the target itself; mask (B, 1, h, w);
    labelled (B, C) bool: maps of what nobody has labelled count nothing, neither as there nor as absent.  The
    mean counts masked cells and maps too (as pose-ae-train), so a picture with a large crowd weighs less
    rather than more.  `sum_over_2n`: the sum over all of them, divided by 2 B, as Caffe's Euclidean loss in
    CMU's part affinity fields: a learning rate for it is C h w / 2 times smaller than for the mean."""
    weight = mask
    if foreground_weight:
        weight = mask * (1 + foreground_weight * (target if foreground is None else foreground))
    squared = (prediction - target) ** 2 * weight
    if labelled is None:
        return squared.mean() if reduction == "mean" else squared.sum() / (2 * len(prediction))
    total = (squared.sum((2, 3)) * labelled).sum()
    return total / (squared.numel() if reduction == "mean" else 2 * len(prediction))
