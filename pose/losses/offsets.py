"""Losses on offsets at chosen cells."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gather_cells(maps: Tensor, index: Tensor) -> Tensor:
    """maps (B, K, C, h, w), index (B, P, K, R) flat cells -> (B, P, K, R, C): the C values of keypoint k at
    the cells of each person."""
    people, cells = index.shape[1], index.shape[3]
    where = index.transpose(1, 2).flatten(2)[:, :, None].expand(-1, -1, maps.shape[2], -1)  # (B, K, C, P * R)
    found = maps.flatten(3).gather(3, where)
    return found.unflatten(3, (people, cells)).permute(0, 3, 1, 4, 2)


def masked_huber(prediction: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Scalar: 0.5 d^2 where |d| < 1, else |d| - 0.5, averaged for every image over the elements where
    `counts` (B, ...) is True (0 without any), and over images.

    Each image by its own number of elements, so that a batch has the gradient of its images one by one, as
    DeeperCut's training with batches of one."""
    each = F.huber_loss(prediction, target.where(counts, prediction), reduction="none")
    number = counts.flatten(1).sum(1).clamp(min=1)
    return (each.flatten(1).sum(1) / number).mean()
