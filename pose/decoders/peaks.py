"""Peaks of score maps, for a whole batch without a copy to the host.

Maps are float32, contiguous and without NaN (see `clean`).  A cell is a flat index y * w + x.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Not below any cell of a square, of equal ones only the first, not below 4 neighbours, or above all 4.
Window = Literal["square", "first", "cross", "strict"]
FEW = 8  # times as many cells as may be peaks: then not every cell is compared with its neighbours
PATCH = 5  # cells across an enlarged patch
BEYOND = PATCH // 2  # of them on each side of the peak
# how far the values of such a patch, computed by a matrix product, may be off, per unit of heat
PRODUCT_ERROR = 4e-6


class Peaks(NamedTuple):
    """The highest peaks of every map, highest first and of equal ones the first in row-major order; places
    left over have heat 0 and cell 0."""

    heat: Tensor  # (B, K, M) float32
    cell: Tensor  # (B, K, M) int64


def clean(heatmap: Tensor, clip: float | None = None) -> Tensor:
    """Maps as the functions here take them: NaN, which marks no peak, becomes -inf; heat is cut at `clip`.

    Maps on a CPU that are so already are not copied."""
    heat = heatmap.detach().float()
    if heat.device.type == "cpu" and heat.is_contiguous() and heat.numel():
        highest = heat.numpy().max()  # NaN where a cell is
        if highest <= (np.inf if clip is None else clip):
            return heat
    heat = torch.nan_to_num(heat, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return (heat if clip is None else heat.clamp_(max=clip)).contiguous()


def local_maximum(heat: Tensor, size: int) -> Tensor:
    """heat (..., h, w) -> the maximum over the window of `size` x `size` cells around every cell.

    Row and column maxima by turns: 20 times faster on a CPU than `max_pool2d`."""
    for _ in range(size // 2):
        for dim in (-1, -2):
            length = heat.shape[dim] - 1
            wider = heat.clone()
            for here, there in ((0, 1), (1, 0)):
                part = wider.narrow(dim, here, length)
                torch.maximum(part, heat.narrow(dim, there, length), out=part)
            heat = wider
    return heat


def cross_maximum(heat: Tensor, *, strict: bool = False) -> Tensor:
    """heat (..., h, w) -> the maximum over every cell and its 4 neighbours; `strict`: infinity where one of
    the neighbours is as high as the cell itself."""
    around = torch.full_like(heat, -torch.inf) if strict else heat.clone()
    for dim in (-1, -2):
        length = heat.shape[dim] - 1
        for here, there in ((0, 1), (1, 0)):
            part = around.narrow(dim, here, length)
            torch.maximum(part, heat.narrow(dim, there, length), out=part)
    return torch.where(around < heat, heat, torch.inf) if strict else around


def first_maximum(heat: Tensor) -> Tensor:
    """heat (..., h, w) -> the maximum over the 3 x 3 cells around every cell; infinity where one of those
    before it, in row-major order, is as high as the cell itself."""
    row = heat.clone()
    for here, there in ((0, 1), (1, 0)):
        part = row.narrow(-1, here, heat.shape[-1] - 1)
        torch.maximum(part, heat.narrow(-1, there, heat.shape[-1] - 1), out=part)
    before, around = torch.full_like(heat, -torch.inf), heat.clone()
    before[..., 1:] = heat[..., :-1]
    torch.maximum(around[..., :-1], heat[..., 1:], out=around[..., :-1])
    torch.maximum(before[..., 1:, :], row[..., :-1, :], out=before[..., 1:, :])
    torch.maximum(around[..., :-1, :], row[..., 1:, :], out=around[..., :-1, :])
    return torch.where(before < heat, around, torch.inf)


def highest_around(heat: Tensor, window: Window, size: int = 3) -> Tensor:
    """heat (..., h, w) -> what a cell must be equal to, to be a peak; `size` is that of a square."""
    if window == "square":
        return local_maximum(heat, size)
    return first_maximum(heat) if window == "first" else cross_maximum(heat, strict=window == "strict")


def find_peaks(
    heat: Tensor, max_peaks: int, nms_size: int = 3, threshold: float = 0.0, window: Window = "square"
) -> Peaks:
    """heat (B, K, h, w) -> at most `max_peaks` cells per map that are above `threshold` (compared in float64;
    0 or more) and the highest of their `nms_size` x `nms_size` window (cells of one plateau all count) or of
    another `window`."""
    limit, lowest = min(max_peaks, heat.shape[2] * heat.shape[3]), _next_float32(threshold)
    if heat.device.type == "cpu":
        return _top_cells_cpu(heat, limit, lowest, window, nms_size)
    return _top_cells(heat, limit, lowest, window, nms_size)


def list_peaks(
    heat: Tensor, max_peaks: int, threshold: float, window: Window
) -> tuple[np.ndarray, np.ndarray]:
    """The peaks of `find_peaks` without empty places, for maps on a CPU: maps b * K + k and cells, (P,) int64
    each, map by map and in every map in row-major order."""
    cells = heat[0, 0].numel()
    where, value = _pick(heat, _next_float32(threshold), window, 3)
    maps = where // cells
    if len(where) > max_peaks:
        kept = np.sort(_highest_first(maps, value, max_peaks)[0])
        where, maps = where[kept], maps[kept]
    return maps, where - maps * cells


def _next_float32(threshold: float) -> float:
    """The smallest float32 above a float64: 0.1 lies below the float32 nearest to it."""
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) > threshold else np.nextafter(nearest, np.float32(np.inf)))


def _top_cells(heat: Tensor, limit: int, lowest: float, window: Window, size: int) -> Peaks:
    """heat (B, K, h, w); `lowest` positive -> the `limit` highest peaks.  Static shapes: nothing is copied to
    the host."""
    flat, highest = heat.flatten(2), highest_around(heat, window, size).flatten(2)
    cells = flat.shape[2]
    # Positive floats are ordered as their bits are.  With the position below the bits all keys differ, so
    # that the choice among equal peaks does not depend on how topk works.
    backwards = torch.arange(cells - 1, -1, -1, device=flat.device)
    key = (flat.view(torch.int32).long() << 32) | backwards
    key = torch.where((flat == highest) & (flat >= lowest), key, -1).topk(limit, dim=2).values
    present = key >= 0
    index = torch.where(present, cells - 1 - (key & 0xFFFFFFFF), 0)
    return Peaks(torch.where(present, flat.gather(2, index), 0), index)


def _top_cells_cpu(heat: Tensor, limit: int, lowest: float, window: Window, size: int) -> Peaks:
    """The same, several times faster where the few peaks can be picked out first and sorted together."""
    where, value = _pick(heat, lowest, window, size)
    cells = heat.shape[2] * heat.shape[3]
    maps = where // cells
    best, place = _highest_first(maps, value, limit)
    maps = maps[best]
    shape = (heat.shape[0] * heat.shape[1], limit)
    highest, cell = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    highest[maps, place], cell[maps, place] = value[best], where[best] - maps * cells
    both = (torch.from_numpy(one).view(*heat.shape[:2], limit) for one in (highest, cell))
    return Peaks(*both)


def _pick(heat: Tensor, lowest: float, window: Window, size: int) -> tuple[np.ndarray, np.ndarray]:
    """heat (B, K, h, w) on a CPU -> the peaks that are `lowest` or higher, flat in all maps (P,) int64 and in
    order, and their heat (P,).

    Where few cells are so high, these alone are compared with their neighbours."""
    flat = heat.numpy().reshape(-1)
    where = true_places(flat >= lowest)
    if window == "square" and size == 3 and len(where) * FEW < len(flat):
        return _highest_of_nine(flat, where, heat.shape[2], heat.shape[3])
    value = flat[where]
    is_peak = value == highest_around(heat, window, size).numpy().reshape(-1)[where]
    return where[is_peak], value[is_peak]


def true_places(mask: np.ndarray) -> np.ndarray:
    """mask (n,) bool, contiguous -> where it is True, (P,) int64: `mask.nonzero()[0]`, in less time.

    Where fewer than a tenth are True, NumPy jumps from one to the next, and the processor mispredicts most
    of them.  Here such jumps only lead to the words of 8 cells that are not all False; within these so many
    are True that NumPy looks at all, without a branch."""
    if len(mask) % 8:
        return mask.nonzero()[0]
    words = mask.view(np.uint64)
    some = (words != 0).nonzero()[0]
    at = words.take(some).view(bool).nonzero()[0]
    return (some.take(at >> 3) << 3) + (at & 7)


def _highest_of_nine(
    heat: np.ndarray, where: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """heat (cells of all maps,); where (n,) in it -> those not below any of the 8 cells around, and their
    heat.  The fewer cells are left, the more neighbours they are compared with."""
    value, row = heat.take(where), where // width
    x = where - row * width
    left, right = x > 0, x < width - 1  # whether there is a cell
    kept = ((value >= heat.take(where - left)) & (value >= heat.take(where + right))).nonzero()[0]
    where, value, row, left, right = (one.take(kept) for one in (where, value, row, left, right))
    y = row - row // height * height
    above, below = where - width * (y > 0), where + width * (y < height - 1)
    kept = ((value >= heat.take(above)) & (value >= heat.take(below))).nonzero()[0]
    where, value, left, right, above, below = (
        one.take(kept) for one in (where, value, left, right, above, below)
    )
    corners = np.array((above - left, above + right, below - left, below + right))
    kept = (value >= heat.take(corners)).all(0).nonzero()[0]
    return where.take(kept), value.take(kept)


def _highest_first(maps: np.ndarray, value: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """maps, ascending, and heat (P,) of peaks -> which of them are the `limit` highest of their map, map by
    map and highest first, and the place of each in its map."""
    best = np.lexsort((-value, maps))  # stable: equal peaks stay in row-major order
    maps = maps[best]
    place = np.arange(len(maps)) - maps.searchsorted(maps)
    kept = place < limit
    return best[kept], place[kept]


def gaussian_blur(heat: Tensor, size: int) -> Tensor:
    """heat (B, K, h, w) smoothed by a Gaussian of `size` x `size` cells (odd; sigma as OpenCV derives it),
    the negative part cut off, borders repeated."""
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    offset = torch.arange(size, device=heat.device, dtype=heat.dtype) - size // 2
    kernel = torch.softmax(-(offset**2) / (2 * sigma**2), 0)
    rows = heat.clamp(min=0).flatten(0, 1)[:, None]
    for _ in range(2):
        rows = F.pad(rows, (size // 2, size // 2, 0, 0), mode="replicate")
        rows = F.conv2d(rows, kernel.view(1, 1, 1, size)).transpose(2, 3)
    return rows.reshape(heat.shape)


# ---- the highest point of an enlarged patch ----


def patch_top(heat: Tensor, channel: Tensor, index: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The highest place of the 5 x 5 cells around each cell (fewer at the border), enlarged `factor` times as
    `cv2.resize` with INTER_CUBIC does, the first one in row-major order.

    heat (B, K, h, w) finite; channel (...) int64 b * K + k; index (...) int64 cells -> where it lies relative
    to the centre of the cell, (..., 2) float32, x first, in cells, up to 2.5; and the heat there (...).
    (rtpose; Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", 2017.)
    """
    height, width = heat.shape[-2:]
    side = PATCH * factor
    y, x = index.div(width, rounding_mode="floor"), index % width
    step = torch.arange(-BEYOND, BEYOND + 1, device=heat.device)
    rows, columns = (y[..., None] + step), (x[..., None] + step)
    at = rows.clamp(0, height - 1)[..., None] * width + columns.clamp(0, width - 1)[..., None, :]
    patch = torch.take(heat, (channel * (height * width))[..., None, None] + at).flatten(0, -3)
    inside = ((rows >= 0) & (rows < height))[..., None] & ((columns >= 0) & (columns < width))[..., None, :]
    top = _top_of_patches_cpu if heat.device.type == "cpu" else _top_of_patches
    place, value = top(patch, inside.flatten(0, -3), factor)
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


def _top_of_patches_cpu(patch: Tensor, inside: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The same, several times faster: a matrix product leaves a few places to be computed exactly."""
    if not len(patch):
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    matrix, weights, first = _cubic_cpu(factor)
    side, patches = PATCH * factor, patch.numpy()
    large = (matrix @ (patches.reshape(-1, PATCH) @ matrix.T).reshape(-1, PATCH, side)).reshape(
        -1, side * side
    )
    cut = (~inside.flatten(1).all(1)).numpy().nonzero()[0]
    whole = inside.numpy()[cut].repeat(factor, 1).repeat(factor, 2).reshape(len(cut), side * side)
    large[cut] = np.where(whole, large[cut], -np.inf)
    slack = PRODUCT_ERROR * np.abs(patches).reshape(len(patches), -1).max(1)
    near = np.flatnonzero(large >= (large.max(1) - slack)[:, None])
    p, place = np.divmod(near, side * side)
    value = _enlarged(patches, p, place // side, place % side, weights, first)
    # the highest one of every patch, of equal ones the first
    best = np.lexsort((place, -value, p))
    best = best[np.diff(p[best], prepend=-1) > 0]
    return torch.from_numpy(place[best]), torch.from_numpy(value[best])


def _enlarged(
    patches: np.ndarray,
    p: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    weights: np.ndarray,
    first: np.ndarray,
) -> np.ndarray:
    """patches (P, 5, 5); patch p, row and column (n,) of places -> their values (n,), added up in the order
    in which OpenCV adds."""
    rows, columns = ((first[at][:, None] + np.arange(4)).clip(0, PATCH - 1) for at in (row, column))
    cells = (p * PATCH**2)[:, None, None] + (rows * PATCH)[:, :, None] + columns[:, None]
    a, b, c, d = np.moveaxis(patches.take(cells) * weights[column][:, None], 2, 0)  # (n, 4) each
    a, b, c, d = ((((a + b) + c) + d) * weights[row]).T
    total: np.ndarray = a + (b + (c + d))
    return total


@lru_cache(maxsize=16)
def _cubic_cpu(factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix (5 * factor, 5) that enlarges a patch along one axis, and what `_cubic` tells."""
    weights, first = (table.numpy() for table in _cubic(factor, torch.device("cpu")))
    matrix = np.zeros((len(weights), PATCH), np.float32)
    for tap in range(4):
        matrix[np.arange(len(weights)), (first + tap).clip(0, PATCH - 1)] += weights[:, tap]
    return matrix, weights, first


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
