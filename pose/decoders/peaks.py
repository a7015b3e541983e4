"""Peaks of score maps and their sub-pixel position, for a whole batch without a copy to the host.

Maps are float32, contiguous and without NaN (see `clean`).  A cell is a flat index y * w + x.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Subpixel = Literal["none", "quarter", "inner_quarter", "dark", "udp"]
# Not below any cell of a square, of equal ones only the first, not below 4 neighbours, or above all 4.
Window = Literal["square", "first", "cross", "strict"]
CROSS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # y and x of a cell's 4 neighbours
NEIGHBOURS = (*CROSS, (-1, -1), (-1, 1), (1, -1), (1, 1))
LOG_FLOOR = 1e-10  # the heat below which the logarithm of a map is cut off
UDP_RANGE = (0.001, 50.0)  # of the heat whose logarithm UDP's step takes
LARGEST = 1e30  # where infinite heat would not do
UDP_DAMPING = float(np.finfo(np.float32).eps)  # added to the diagonal of its Hessian


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
    flat, highest = heat.flatten(2), highest_around(heat, window, nms_size).flatten(2)
    top = _top_cells_cpu if heat.device.type == "cpu" else _top_cells
    index, present = top(flat, highest, min(max_peaks, flat.shape[2]), _next_float32(threshold))
    return Peaks(torch.where(present, flat.gather(2, index), 0), index)


def list_peaks(
    heat: Tensor, max_peaks: int, threshold: float, window: Window
) -> tuple[np.ndarray, np.ndarray]:
    """The peaks of `find_peaks` without empty places, for maps on a CPU: maps b * K + k and cells, (P,) int64
    each, map by map and in every map in row-major order."""
    heat_of, cells = heat.numpy().reshape(-1), heat.shape[2] * heat.shape[3]
    lowest = _next_float32(threshold)
    if window == "square":
        where, _ = _pick(heat_of, highest_around(heat, window).numpy().reshape(-1), lowest)
    else:
        where = _highest_of_neighbours(
            heat_of, (heat_of >= lowest).nonzero()[0], heat.shape[3], cells, window
        )
    maps = where // cells
    if len(where) > max_peaks:
        kept = np.sort(_highest_first(maps, heat_of[where], max_peaks)[0])
        where, maps = where[kept], maps[kept]
    return maps, where - maps * cells


def _highest_of_neighbours(
    heat: np.ndarray, where: np.ndarray, width: int, cells: int, window: Window
) -> np.ndarray:
    """heat (all cells of maps of `cells`); where (N,) numbers of some of them -> those that are peaks by
    `window`, not square.  Few cells are hot: looking at their neighbours costs less than whole maps do."""
    for dy, dx in NEIGHBOURS if window == "first" else CROSS:
        inside, column = where % cells, where % width
        outside = np.zeros(len(where), bool)
        if dy:
            outside |= inside < width if dy < 0 else inside >= cells - width
        if dx:
            outside |= column == (0 if dx < 0 else width - 1)
        beside = heat.take(np.where(outside, where, where + (dy * width + dx)))
        value = heat.take(where)
        above = window == "strict" or (window == "first" and (dy, dx) < (0, 0))
        where = where[(value > beside) | outside if above else value >= beside]
    return where


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
    where, value = _pick(flat.numpy().reshape(-1), highest.numpy().reshape(-1), lowest)
    cells = flat.shape[2]
    maps = where // cells
    best, place = _highest_first(maps, value, limit)
    where, maps = where[best], maps[best]
    index = np.zeros((flat.shape[0] * flat.shape[1], limit), np.int64)
    present = np.zeros(index.shape, bool)
    index[maps, place], present[maps, place] = where - maps * cells, True
    shape = (*flat.shape[:2], limit)
    return torch.from_numpy(index).view(shape), torch.from_numpy(present).view(shape)


def _pick(heat: np.ndarray, maximum: np.ndarray, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """heat, maximum (cells of all maps,) -> the peaks that are `lowest` or higher, in order, and their
    heat."""
    where = (heat >= lowest).nonzero()[0]
    value = heat[where]
    is_peak = value == maximum[where]
    return where[is_peak], value[is_peak]


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


def subpixel_offset(
    heat: Tensor, channel: Tensor, index: Tensor, method: Subpixel, last_row: int | None = None
) -> Tensor:
    """Where the top lies relative to the centre of its cell: (..., 2) float32, x first, in cells.

    heat (B, K, h, w); channel (...) int64 b * K + k; index (...) int64 cells.  "quarter": 0.25 towards the
    larger neighbour per axis, the smaller coordinate where they are equal; outside the map the border cell is
    repeated (Newell et al., "Associative Embedding", 2017, as released in pose-ae-train).  "inner_quarter":
    the same as MMPose 1.x takes it, see `_inner_quarter`.  "dark": one Newton
    step on the logarithm of the heat (Zhang et al., "Distribution-Aware Coordinate Representation", 2020), at
    most one cell per axis; where the 3 x 3 cells lie partly outside or have no maximum, "quarter".  "udp":
    such a step as MMPose 0.x takes it for UDP, at any cell and of any length, see `_udp`.

    `last_row`: the neighbour below that "quarter" compares with lies in this row if it would lie below it.
    """
    if method == "none":
        return torch.zeros(*index.shape, 2, device=heat.device)
    height, width = heat.shape[-2:]
    y, x = index.div(width, rounding_mode="floor"), index % width
    step = torch.arange(-1, 2, device=heat.device)
    rows = (y[..., None] + step).clamp(0, height - 1)
    columns = (x[..., None] + step).clamp(0, width - 1)
    first = channel * (height * width)
    if method == "udp":
        return _udp(heat, first, rows, columns)
    if method in ("quarter", "inner_quarter"):
        if last_row is not None:
            rows[..., 2].clamp_(max=last_row)
        across = torch.take(heat, (first + y * width)[..., None] + columns)
        down = torch.take(heat, (first + x)[..., None] + rows * width)
        if method == "inner_quarter":
            return _inner_quarter(across, down, (x, y), (width, height))
        return _quarter(across, down)
    window = torch.take(heat, first[..., None, None] + rows[..., None] * width + columns[..., None, :])
    inside = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    newton, curved = _newton(window.double().clamp(min=LOG_FLOOR).log())
    return torch.where((inside & curved)[..., None], newton, _quarter(window[..., 1, :], window[..., 1]))


def _quarter(across: Tensor, down: Tensor) -> Tensor:
    """Three cells (..., 3) along x and three along y -> (..., 2)."""
    larger = torch.stack((across[..., 2] > across[..., 0], down[..., 2] > down[..., 0]), -1)
    return larger.float() * 0.5 - 0.25


def _inner_quarter(
    across: Tensor, down: Tensor, cell: tuple[Tensor, Tensor], size: tuple[int, int]
) -> Tensor:
    """Three cells (..., 3) along x and three along y round `cell` x, y (...) -> (..., 2): none where two
    neighbours are equal, or along an axis on which the cell is one of the first two or the last; and neither
    axis where it is the first of the other one (MMPose 1.x)."""
    (x, y), (width, height) = cell, size
    along_x = (x > 1) & (x < width - 1) & (y > 0)
    along_y = (y > 1) & (y < height - 1) & (x > 0)
    step = torch.stack(
        (
            (across[..., 2] - across[..., 0]).sign().where(along_x, 0),
            (down[..., 2] - down[..., 0]).sign().where(along_y, 0),
        ),
        -1,
    )
    return step * 0.25


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


def dark_on_host(heat: np.ndarray, channel: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`subpixel_offset` by "dark" of peaks (P,) on a CPU, the same bit by bit: (P, 2) float32.  There are few
    peaks, and a call of NumPy costs less than one of PyTorch."""
    height, width = heat.shape[-2:]
    y, x = np.divmod(index, width)
    step = np.arange(-1, 2)
    rows = np.minimum(np.maximum(y[:, None] + step, 0), height - 1) * width
    rows += (channel * (height * width))[:, None]
    columns = np.minimum(np.maximum(x[:, None] + step, 0), width - 1)
    window = heat.reshape(-1).take(rows[:, :, None] + columns[:, None])
    floor = np.maximum(window.astype(np.float64), LOG_FLOOR)
    f = torch.from_numpy(floor).log_().numpy().transpose(1, 2, 0).copy()  # NumPy's may differ in the last bit
    (a, above, b), (left, middle, right), (c, below, d) = f
    gx, gy = (right - left) / 2, (below - above) / 2
    xx, yy = right - 2 * middle + left, below - 2 * middle + above
    xy = (d - c - b + a) / 4
    determinant = xx * yy - xy * xy
    curved = (xx < 0) & (determinant > 0)
    newton = np.stack((xy * gy - yy * gx, xy * gx - xx * gy), -1) / np.where(curved, determinant, 1)[:, None]
    newton = np.minimum(np.maximum(newton, -1), 1).astype(np.float32)
    larger = np.stack((window[:, 1, 2] > window[:, 1, 0], window[:, 2, 1] > window[:, 0, 1]), -1)
    inside = (y > 0) & (y < height - 1) & (x > 0) & (x < width - 1)
    return np.where((inside & curved)[:, None], newton, larger.astype(np.float32) * 0.5 - 0.25)


def _udp(heat: Tensor, first: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The Newton step of UDP (Huang et al., "The Devil is in the Details", CVPR 2020, as released in MMPose
    0.x) on the logarithm of the smoothed heat, with a mixed derivative of 7 cells.

    heat (B, K, h, w); first (...) where each map starts; rows, columns (..., 3) of the 3 x 3 cells, within
    the map -> (..., 2) float32.  The maps are smoothed by 1/4, 1/2, 1/4 along both axes, reflected at the
    border without repeating it; beyond the border the smoothed cells are repeated."""
    height, width = heat.shape[-2:]
    around = torch.arange(-1, 2, device=heat.device)
    near_rows = _reflect(rows[..., None] + around, height)[..., :, :, None, None]
    near_columns = _reflect(columns[..., None] + around, width)[..., None, None, :, :]
    cells = torch.take(heat, first[..., None, None, None, None] + near_rows * width + near_columns)
    cells = cells.clamp(-LARGEST, LARGEST)  # infinity minus infinity would be no number
    # In float32 and in this order: where the Hessian is nearly singular, rounding decides how far it goes.
    smooth = (cells[..., 0] + cells[..., 2]) * 0.25 + cells[..., 1] * 0.5  # (..., 3, 3, 3): along the rows
    smooth = (smooth[..., 0, :] + smooth[..., 2, :]) * 0.25 + smooth[..., 1, :] * 0.5
    f = _log(smooth.clamp(*UDP_RANGE))
    middle, left, right, above, below = f[..., 1, 1], f[..., 1, 0], f[..., 1, 2], f[..., 0, 1], f[..., 2, 1]
    mixed = f[..., 2, 2] - right - below + middle + middle - left - above + f[..., 0, 0]
    gx, gy = ((right - left) / 2).double(), ((below - above) / 2).double()
    xx = (right - 2 * middle + left).double() + UDP_DAMPING
    yy = (below - 2 * middle + above).double() + UDP_DAMPING
    xy = (mixed / 2).double()
    determinant = xx * yy - xy * xy
    solvable = determinant != 0
    step = torch.stack((xy * gy - yy * gx, xy * gx - xx * gy), -1)
    return (step / determinant.where(solvable, torch.inf)[..., None]).float()


def _log(x: Tensor) -> Tensor:
    """On a CPU NumPy's, as in the original: it is the last bit that differs."""
    return torch.from_numpy(np.log(x.numpy())) if x.device.type == "cpu" else x.log()


def _reflect(index: Tensor, length: int) -> Tensor:
    """Places one outside -> the last but one; in a map of one cell that cell."""
    return (length - 1 - (length - 1 - index.abs()).abs()).clamp(0, length - 1)
