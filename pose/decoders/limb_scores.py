"""How well the field of a limb joins two peaks: its integral along the line between them (Cao, Simon, Wei and
Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
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


def limb_scores_on_host(
    grid: Grid,
    base: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    settings: PafGroupsSettings,
) -> np.ndarray:
    """`limb_scores` of lines (N,) on a CPU, with the same result bit by bit: a call of NumPy costs less than
    one of PyTorch, and there are few lines."""
    # a line without length has no direction, and a field may hold anything
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        along = _read_on_host(
            grid, base, start, end, settings.samples, settings.samples - settings.include_end
        )
        passing = along > settings.sample_threshold
        number = passing.sum(0)
        if settings.mean_over == "passing":
            along = np.where(passing, along, 0)  # it may be no number
        total = along[0]
        for value in along[1:]:
            total = total + value
        score = total / (number.astype(np.float32) if settings.mean_over == "passing" else settings.samples)
        if settings.length_prior:
            length = _length((end - start) * grid.stride).astype(np.float64)
            longer = np.minimum(0.5 * grid.height * grid.stride / length - 1, 0)
            score = (score + longer).astype(np.float32)
        possible = (number >= points_needed(settings)) & (score > 0) & (score < LARGEST)
    return np.where(possible, score, 0)


def _read_on_host(
    grid: Grid, base: np.ndarray, start: np.ndarray, end: np.ndarray, samples: int, steps: int
) -> np.ndarray:
    """`read_along` (S, N) of lines (N,)."""
    away = end - start
    unit = away / _length(away)
    half = 0.5 / grid.stride
    points = np.arange(samples, dtype=np.float32)[:, None]
    place = (points * (away / steps)[:, None] + (start + (0.5 - half))[:, None] + half).astype(np.int32)
    at = place[1] * grid.width + place[0] + base.astype(np.int32)
    flat = torch.from_numpy(at.reshape(-1))
    x = grid.values.index_select(0, flat).numpy().reshape(at.shape)
    y = grid.values.index_select(0, flat + grid.height * grid.width).numpy().reshape(at.shape)
    x *= unit[0]
    y *= unit[1]
    x += y
    return x


def _length(away: np.ndarray) -> np.ndarray:
    """(2, N) -> (N,)."""
    square = away * away
    return torch.from_numpy(square[0] + square[1]).sqrt_().numpy()  # NumPy's may differ in the last bit
