"""Peaks of score maps and their sub-pixel position, for a whole batch without a copy to the host.

Maps are float32, contiguous and without NaN (see `clean`).  A cell is a flat index y * w + x.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Subpixel = Literal["none", "quarter", "dark"]
LOG_FLOOR = 1e-10  # the heat below which the logarithm of a map is cut off


class Peaks(NamedTuple):
    """The highest peaks of every map, highest first and of equal ones the first in row-major order; places
    left over have heat 0 and cell 0."""

    heat: Tensor  # (B, K, M) float32
    cell: Tensor  # (B, K, M) int64


def clean(heatmap: Tensor, clip: float | None = None) -> Tensor:
    """Maps as the functions here take them: NaN, which marks no peak, becomes -inf; heat is cut at `clip`."""
    heat = torch.nan_to_num(heatmap.float(), nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
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


def find_peaks(heat: Tensor, max_peaks: int, nms_size: int = 3, threshold: float = 0.0) -> Peaks:
    """heat (B, K, h, w) -> at most `max_peaks` cells per map that are above `threshold` (compared in float64;
    0 or more) and the highest of their `nms_size` x `nms_size` window (cells of one plateau all count)."""
    flat, highest = heat.flatten(2), local_maximum(heat, nms_size).flatten(2)
    top = _top_cells_cpu if heat.device.type == "cpu" else _top_cells
    index, present = top(flat, highest, min(max_peaks, flat.shape[2]), _next_float32(threshold))
    return Peaks(torch.where(present, flat.gather(2, index), 0), index)


def _next_float32(threshold: float) -> float:
    """The smallest float32 above a float64: 0.1 lies below the float32 nearest to it."""
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) > threshold else np.nextafter(nearest, np.float32(np.inf)))


def _top_cells(flat: Tensor, highest: Tensor, limit: int, lowest: float) -> tuple[Tensor, Tensor]:
    """flat, highest (B, K, cells): a map and the maximum around every cell; `lowest` positive -> the highest
    peaks (B, K, limit) and which of them exist.  Static shapes: nothing is copied to the host."""
    cells = flat.shape[2]
    # Positive floats are ordered as their bits are.  With the position below the bits all keys differ, so
    # that the choice among equal peaks does not depend on how topk works.
    backwards = torch.arange(cells - 1, -1, -1, device=flat.device)
    key = (flat.view(torch.int32).long() << 32) | backwards
    key = torch.where((flat == highest) & (flat >= lowest), key, -1).topk(limit, dim=2).values
    present = key >= 0
    return torch.where(present, cells - 1 - (key & 0xFFFFFFFF), 0), present


def _top_cells_cpu(flat: Tensor, highest: Tensor, limit: int, lowest: float) -> tuple[Tensor, Tensor]:
    """The same, several times faster where the few peaks can be picked out first and sorted together."""
    heat, maximum = flat.numpy().reshape(-1), highest.numpy().reshape(-1)
    cells = flat.shape[2]
    where = (heat >= lowest).nonzero()[0]
    value = heat[where]
    is_peak = value == maximum[where]
    where, value = where[is_peak], value[is_peak]
    maps = where // cells
    best = np.lexsort((-value, maps))  # stable: equal peaks stay in row-major order
    where, maps = where[best], maps[best]
    place = np.arange(len(maps)) - maps.searchsorted(maps)  # of each peak within its map
    kept = place < limit
    where, maps, place = where[kept], maps[kept], place[kept]
    index = np.zeros((flat.shape[0] * flat.shape[1], limit), np.int64)
    present = np.zeros(index.shape, bool)
    index[maps, place], present[maps, place] = where - maps * cells, True
    shape = (*flat.shape[:2], limit)
    return torch.from_numpy(index).view(shape), torch.from_numpy(present).view(shape)


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


def subpixel_offset(heat: Tensor, channel: Tensor, index: Tensor, method: Subpixel) -> Tensor:
    """Where the top lies relative to the centre of its cell: (..., 2) float32, x first, in cells.

    heat (B, K, h, w); channel (...) int64 b * K + k; index (...) int64 cells.  "quarter": 0.25 towards the
    larger neighbour per axis, the smaller coordinate where they are equal; outside the map the border cell is
    repeated (Newell et al., "Associative Embedding", 2017, as released in pose-ae-train).  "dark": one Newton
    step on the logarithm of the heat (Zhang et al., "Distribution-Aware Coordinate Representation", 2020), at
    most one cell per axis; where the 3 x 3 cells lie partly outside or have no maximum, "quarter".
    """
    if method == "none":
        return torch.zeros(*index.shape, 2, device=heat.device)
    height, width = heat.shape[-2:]
    y, x = index.div(width, rounding_mode="floor"), index % width
    step = torch.arange(-1, 2, device=heat.device)
    rows = (y[..., None] + step).clamp(0, height - 1)
    columns = (x[..., None] + step).clamp(0, width - 1)
    first = channel * (height * width)
    if method == "quarter":
        across = torch.take(heat, (first + y * width)[..., None] + columns)
        down = torch.take(heat, (first + x)[..., None] + rows * width)
        return _quarter(across, down)
    window = torch.take(heat, first[..., None, None] + rows[..., None] * width + columns[..., None, :])
    inside = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    newton, curved = _newton(window.double().clamp(min=LOG_FLOOR).log())
    return torch.where((inside & curved)[..., None], newton, _quarter(window[..., 1, :], window[..., 1]))


def _quarter(across: Tensor, down: Tensor) -> Tensor:
    """Three cells (..., 3) along x and three along y -> (..., 2)."""
    larger = torch.stack((across[..., 2] > across[..., 0], down[..., 2] > down[..., 0]), -1)
    return larger.float() * 0.5 - 0.25


def _newton(window: Tensor) -> tuple[Tensor, Tensor]:
    """window (..., 3, 3) -> the step (..., 2) float32 to the top of the paraboloid through it, and whether it
    has a top."""
    middle = window[..., 1, 1]
    gx, gy = (window[..., 1, 2] - window[..., 1, 0]) / 2, (window[..., 2, 1] - window[..., 0, 1]) / 2
    xx = window[..., 1, 2] - 2 * middle + window[..., 1, 0]
    yy = window[..., 2, 1] - 2 * middle + window[..., 0, 1]
    xy = (window[..., 2, 2] - window[..., 2, 0] - window[..., 0, 2] + window[..., 0, 0]) / 4
    determinant = xx * yy - xy * xy
    curved = (xx < 0) & (determinant > 0)
    step = torch.stack((xy * gy - yy * gx, xy * gx - xx * gy), -1) / determinant.where(curved, 1)[..., None]
    return step.clamp(-1, 1).float(), curved
