"""How well the field of a limb joins two peaks: its integral along the line between them (Cao, Simon, Wei and
Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pose.decoders.paf_groups import PafGroupsSettings

LARGEST = 1e4  # heat is cut here, and limbs with a higher score are none: nothing overflows


class Grid(NamedTuple):
    """Fields on the grid of one stride."""

    values: Tensor  # all fields, flat, float32
    height: int
    width: int
    stride: int


def points_needed(settings: PafGroupsSettings) -> int:
    """How many points must pass: more than the share `min_pass` of them."""
    return math.floor(settings.min_pass * settings.samples + 1e-9) + 1


def limb_scores(grid: Grid, base: Tensor, start: Tensor, end: Tensor, settings: PafGroupsSettings) -> Tensor:
    """The score of a limb for each line: (...) float32, 0 where its peaks cannot be joined.

    base (...) int: where a line's field begins in `grid.values`; start, end (2, ...) in cells, x first.
    Sums are made in the same order on every device."""
    along = read_along(grid, base, start, end, settings.samples, settings.samples - settings.include_end)
    passing = along > settings.sample_threshold
    number = passing.sum(0)
    if settings.mean_over == "passing":
        along = along.where(passing, 0)
    total = along[0]
    for value in along[1:]:
        total = total + value
    score = total / (number if settings.mean_over == "passing" else settings.samples)
    if settings.length_prior:
        length = ((end - start) * grid.stride).square().sum(0).sqrt().double()
        score = (score + (0.5 * grid.height * grid.stride / length - 1).clamp(max=0)).float()
    possible = (number >= points_needed(settings)) & (score > 0) & (score < LARGEST)
    return score.where(possible, 0)


def read_along(grid: Grid, base: Tensor, start: Tensor, end: Tensor, samples: int, steps: int) -> Tensor:
    """The component of the field in the direction of the line, at i / steps of the way for i in 0 .. samples:
    (S, ...); the other arguments as `limb_scores`.

    The arithmetic is that of rtpose: in pixels (here divided by the stride), which are rounded to integers,
    halves up; the field of the cell in which such a pixel lies counts."""
    away = end - start
    unit = away / (away * away).sum(0).sqrt()
    points = torch.arange(samples, device=start.device, dtype=torch.float32).view(-1, *[1] * (away.ndim - 1))
    half = 0.5 / grid.stride
    column, row = (
        (points * (along / steps) + (origin + (0.5 - half)) + half).int()
        for along, origin in zip(away, start, strict=True)
    )
    at = ((row * grid.width + column) + base).view(-1)
    x = grid.values.index_select(0, at).view(column.shape)
    y = grid.values.index_select(0, at + grid.height * grid.width).view(column.shape)
    return unit[0] * x + unit[1] * y
