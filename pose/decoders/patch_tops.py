"""The highest point of the cells around a peak, enlarged by cubic interpolation: the sub-pixel position of
rtpose (PyTorch)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

PATCH = 5  # cells across an enlarged patch
BEYOND = PATCH // 2  # of them on each side of the peak
# how far the values of such a patch, computed by a matrix product, may be off, per unit of heat
PRODUCT_ERROR = 4e-6


def patch_top(heat: Tensor, channel: Tensor, index: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The highest place of the 5 x 5 cells around each cell (fewer at the border), enlarged `factor` times as
    `cv2.resize` with INTER_CUBIC does, the first one in row-major order.

    heat (B, K, h, w) finite; channel (...) int64 b * K + k; index (...) int64 cells -> where it lies relative
    to the centre of the cell, (..., 2) float32, x first, in cells, up to 2.5; and the heat there (...).
    (rtpose; Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", 2017.)
    """
    if heat.device.type == "cpu":
        flat = channel.numpy().reshape(-1), index.numpy().reshape(-1)
        offset, value = map(torch.from_numpy, patch_top_on_host(heat.numpy(), *flat, factor))
        return offset.view(*index.shape, 2), value.view(index.shape)
    return patch_top_on_device(heat, channel, index, factor)


def patch_top_on_device(heat: Tensor, channel: Tensor, index: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """`patch_top` without a copy to the host."""
    height, width = heat.shape[-2:]
    side = PATCH * factor
    y, x = index.div(width, rounding_mode="floor"), index % width
    step = torch.arange(-BEYOND, BEYOND + 1, device=heat.device)
    rows, columns = (y[..., None] + step), (x[..., None] + step)
    at = rows.clamp(0, height - 1)[..., None] * width + columns.clamp(0, width - 1)[..., None, :]
    patch = torch.take(heat, (channel * (height * width))[..., None, None] + at).flatten(0, -3)
    inside = ((rows >= 0) & (rows < height))[..., None] & ((columns >= 0) & (columns < width))[..., None, :]
    place, value = _top_of_patches(patch, inside.flatten(0, -3), factor)
    place = torch.stack((place % side, place.div(side, rounding_mode="floor")), -1).view(*index.shape, 2)
    return (place.float() + 0.5) / factor - (BEYOND + 0.5), value.view(index.shape)


def _top_of_patches(patch: Tensor, inside: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """patch (P, 5, 5), and which of its cells lie inside the map -> (P,) int64 y * 5 * factor + x in the
    enlarged patch, and the value there (P,).  Static shapes: nothing is copied to the host."""
    weights, first = _cubic(factor, patch.device)
    taps = [(first + tap).clamp(0, PATCH - 1) for tap in range(4)]
    a, b, c, d = (patch[:, :, cells] * weights[:, tap] for tap, cells in enumerate(taps))
    wide = ((a + b) + c) + d
    a, b, c, d = (wide[:, cells] * weights[:, tap, None] for tap, cells in enumerate(taps))
    large = a + (b + (c + d))
    large = large.where(inside.repeat_interleave(factor, 1).repeat_interleave(factor, 2), -torch.inf).flatten(
        1
    )
    value = large.amax(1, keepdim=True)
    # of equal ones the first, which argmax does not promise
    backwards = torch.arange(large.shape[1] - 1, -1, -1, device=patch.device)
    return large.shape[1] - 1 - torch.where(large == value, backwards, -1).amax(1), value[:, 0]


def patch_top_on_host(
    heat: np.ndarray, channel: np.ndarray, index: np.ndarray, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """`patch_top` of peaks (P,) on a CPU, the same bit by bit and several times faster: a matrix product
    leaves a few places to be computed exactly."""
    if not len(index):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    matrix, weights, taps = _cubic_cpu(factor)
    (height, width), side = heat.shape[-2:], PATCH * factor
    y, x = np.divmod(index, width)
    step = np.arange(-BEYOND, BEYOND + 1)
    rows, columns = y[:, None] + step, x[:, None] + step
    near_rows = np.minimum(np.maximum(rows, 0), height - 1)
    near_columns = np.minimum(np.maximum(columns, 0), width - 1)
    near_rows *= width
    near_rows += (channel * (height * width))[:, None]
    patches = heat.reshape(-1).take(near_rows[:, :, None] + near_columns[:, None])  # (P, 5, 5)
    wide = (patches.reshape(-1, PATCH) @ matrix.T).reshape(-1, PATCH, side)
    large = (matrix @ wide).reshape(-1, side * side)
    cut = (y < BEYOND) | (y >= height - BEYOND) | (x < BEYOND) | (x >= width - BEYOND)
    if cut.any():
        cut = cut.nonzero()[0]
        inside = ((rows >= 0) & (rows < height))[cut, :, None] & ((columns >= 0) & (columns < width))[
            cut, None
        ]
        whole = inside.repeat(factor, 1).repeat(factor, 2).reshape(len(cut), side * side)
        large[cut] = np.where(whole, large[cut], -np.inf)
    flat = patches.reshape(len(patches), -1)
    slack = PRODUCT_ERROR * np.maximum(flat.max(1), -flat.min(1))
    p, place = np.divmod(np.flatnonzero(large >= (large.max(1) - slack)[:, None]), side * side)
    row, column = np.divmod(place, side)
    value = _enlarged(patches, p, row, column, weights, taps)
    # the highest one of every patch, of equal ones the first
    best = np.lexsort((place, -value, p))
    best = best[p.searchsorted(np.arange(len(patches)))]
    top = np.stack((column[best], row[best]), -1).astype(np.float32)
    return (top + 0.5) / factor - (BEYOND + 0.5), value[best]


def _enlarged(
    patches: np.ndarray,
    p: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    weights: np.ndarray,
    taps: np.ndarray,
) -> np.ndarray:
    """patches (P, 5, 5); patch p, row and column (n,) of places -> their values (n,), added up in the order
    in which OpenCV adds."""
    rows, columns = taps[row], taps[column]
    cells = (p * PATCH**2)[:, None, None] + (rows * PATCH)[:, :, None] + columns[:, None]
    a, b, c, d = np.moveaxis(patches.take(cells) * weights[column][:, None], 2, 0)  # (n, 4) each
    a, b, c, d = ((((a + b) + c) + d) * weights[row]).T
    total: np.ndarray = a + (b + (c + d))
    return total


@lru_cache(maxsize=16)
def _cubic_cpu(factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix (5 * factor, 5) that enlarges a patch along one axis; the weights of `_cubic` and the cells
    that they are for (5 * factor, 4)."""
    weights, first = (table.numpy() for table in _cubic(factor, torch.device("cpu")))
    cells = (first[:, None] + np.arange(4)).clip(0, PATCH - 1)
    matrix = np.zeros((len(weights), PATCH), np.float32)
    for tap in range(4):
        matrix[np.arange(len(weights)), cells[:, tap]] += weights[:, tap]
    return matrix, weights, cells


def _cubic(factor: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cubic interpolation (a = -0.75) of a patch enlarged `factor` times, along one axis: the weights of four
    cells in a row (5 * factor, 4) float32 and the first of the four (5 * factor,) int64; cells outside repeat
    the border.  Computed on the device: a table from the host would have to be copied, and waited for."""
    place = ((torch.arange(PATCH * factor, device=device).double() + 0.5) * (1 / factor) - 0.5).float()
    cell = place.floor()
    x, y = place - cell, 1 - (place - cell)
    a = -0.75
    before = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    here = ((a + 2) * x - (a + 3)) * x * x + 1
    after = ((a + 2) * y - (a + 3)) * y * y + 1
    return torch.stack((before, here, after, 1 - before - here - after), 1), cell.long() - 1
