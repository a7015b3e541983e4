"""Where the top of a peak lies within its cell.

Maps are float32, contiguous and without NaN (see `peaks.clean`).  A cell is a flat index y * w + x.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Subpixel = Literal["none", "quarter", "inner_quarter", "dark", "udp"]
LOG_FLOOR = 1e-10  # the heat below which the logarithm of a map is cut off
UDP_RANGE = (0.001, 50.0)  # of the heat whose logarithm UDP's step takes
LARGEST = 1e30  # where infinite heat would not do
UDP_DAMPING = float(np.finfo(np.float32).eps)  # added to the diagonal of its Hessian


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


def quarter_cells(
    heat: np.ndarray, channel: np.ndarray, index: np.ndarray, last_row: int | None = None
) -> np.ndarray:
    """The same as `subpixel_offset` by "quarter", for maps on a CPU, with the cells: x and y (..., 2)
    float64."""
    height, width = heat.shape[-2:]
    y = index // width
    x = index - y * width
    here, flat = index + channel * (height * width), heat.reshape(-1)
    right, left = (x < width - 1), (x > 0)
    down = y < height - 1 if last_row is None else np.minimum(y + 1, min(last_row, height - 1)) - y
    place = np.empty((*index.shape, 2))
    place[..., 0] = flat.take(here + right) > flat.take(here - left)
    place[..., 1] = flat.take(here + width * down) > flat.take(here - width * (y > 0))
    place *= 0.5
    place -= 0.25
    place[..., 0] += x
    place[..., 1] += y
    return place


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
