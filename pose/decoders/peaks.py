"""Peaks of score maps, for a whole batch without a copy to the host.

Maps are float32, contiguous and without NaN (see `clean`).  A cell is a flat index y * w + x.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Not below any cell of a square, of equal ones only the first, not below 4 neighbours, or above all 4.
Window = Literal["square", "first", "cross", "strict"]
FEW = 8  # times as many cells as may be peaks: then not every cell is compared with its neighbours


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
