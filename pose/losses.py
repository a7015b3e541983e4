"""Losses: pure functions on whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["mean", "sum_over_2n"]
OverStages = Literal["mean", "sum"]


def over_stages(terms: Sequence[Tensor], how: OverStages) -> Tensor:
    """Terms of one shape, one per stage that has the field -> their mean or sum."""
    stacked = torch.stack([*terms])
    return stacked.mean(0) if how == "mean" else stacked.sum(0)


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
        weight = foreground_weight * (target if foreground is None else foreground)
        weight = weight.add_(1).mul_(mask)
    squared = F.mse_loss(prediction, target, reduction="none") * weight
    if labelled is None:
        return squared.mean() if reduction == "mean" else squared.sum() / (2 * len(prediction))
    total = (squared.sum((2, 3)) * labelled).sum()
    return total / (squared.numel() if reduction == "mean" else 2 * len(prediction))


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


def tag_loss(tags: Tensor, index: Tensor, visible: Tensor, push: str = "exp") -> tuple[Tensor, Tensor]:
    """Pull the tags of one person together and push the means of different people apart (Newell, Huang, Deng:
    Associative Embedding, NIPS 2017, section 3.2).

    tags (B, K, D, h, w); index (B, P, K) int64 flat y * w + x; visible (B, P, K) bool.  Returns pull and
    push, each (B,) float32 (float64 for float64 tags):

        pull = mean over people of the mean over their keypoints of |tag - m_i|^2
        push = 0.5 * mean over ordered pairs i != j of exp(-|m_i - m_j|^2), or of max(0, 1 - |m_i - m_j|)
        (hinge)

    m_i is the mean tag of person i, and |.|^2 the mean over the D tag dimensions, so that thresholds and
    weights keep their meaning at any D.  Nobody: both 0.  One person: push 0.  Fixed shapes, no host sync."""
    tags = tags if tags.dtype == torch.float64 else tags.float()  # exp and means of close tags need float32
    batch, num_people, num_keypoints = index.shape
    dim = tags.shape[2]
    where = index.transpose(1, 2)[:, :, None].expand(-1, -1, dim, -1)  # (B, K, D, P)
    found = tags.flatten(3).gather(3, where).permute(0, 3, 1, 2)  # (B, P, K, D)

    seen = visible.to(found.dtype)
    count = seen.sum(2).clamp(min=1)  # (B, P) keypoints per person
    person = visible.any(2).to(found.dtype)  # (B, P)
    people = person.sum(1)  # (B,)
    mean = (found * seen[..., None]).sum(2) / count[..., None]  # (B, P, D)

    spread = ((found - mean[:, :, None]) ** 2).mean(3) * seen  # (B, P, K)
    pull = (spread.sum(2) / count).sum(1) / people.clamp(min=1)

    distance2 = ((mean[:, :, None] - mean[:, None, :]) ** 2).mean(3)  # (B, P, P)
    different = ~torch.eye(num_people, dtype=torch.bool, device=tags.device)
    pair = person[:, :, None] * person[:, None, :] * different
    if push == "exp":
        closeness = torch.exp(-distance2)
    else:
        # the square root has no gradient at 0: the clamp keeps it finite where two means coincide
        closeness = (1 - distance2.clamp(min=1e-12).sqrt()).clamp(min=0)
    pairs = (people * (people - 1)).clamp(min=1)
    return pull, 0.5 * (closeness * pair).sum((1, 2)) / pairs
