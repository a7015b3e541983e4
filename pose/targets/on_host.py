"""The targets of `heatmaps` and `pafs` on a CPU: of the keypoints and limbs that there are, by NumPy.

A batch of a few people is a hundred operations on tables of some thousand numbers.  A call of PyTorch costs
more than its arithmetic then, several times so where the caches are empty, and most of a padded batch is
nobody.  The formulas, and the order in which people are added up, are those of the tensors' way, which
accelerators go: the maps are equal bit by bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pose.geometry import LayoutLike, to_grid

FLOAT32_MAX = float(np.finfo(np.float32).max)


def cells(
    keypoints: np.ndarray, stride: int, size: tuple[int, int], layout: LayoutLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`heatmaps.cells`: keypoints (B, P, K, 3) -> position and cell (B, P, K, 2), valid (B, P, K)."""
    position = to_grid(keypoints[..., :2], stride, layout, size)
    cell = np.floor(position + 0.5)
    limit = np.array([size[1], size[0]], cell.dtype)
    x, y = (((cell >= 0) & (cell < limit))[..., axis] for axis in (0, 1))
    valid = (keypoints[..., 2] > 0) & x & y
    return position, np.where(valid[..., None], cell, 0).astype(np.int64), valid


def heatmaps(
    center: np.ndarray,
    valid: np.ndarray,
    size: tuple[int, int],
    sigma: float,
    *,
    add: bool,
    cutoff: float | None,
    background: bool,
) -> Tensor:
    """`draw_heatmaps`: center (B, P, K, 2) of the Gaussians in cells, valid (B, P, K); `add`: people are
    summed and cut at 1."""
    (height, width), (batch, _, kinds) = size, valid.shape
    person, image, kind = valid.transpose(1, 0, 2).nonzero()  # person by person: sums keep their order
    center = center[image, person, kind].T[:, None]  # (2, 1, N)
    reach = int(3 * sigma + 1) if cutoff is None else sigma * math.sqrt(2 * cutoff)
    reach = min(reach, max(size))  # keypoints are on the grid: nothing of it is farther away
    first = np.floor(center + 0.5) - reach if cutoff is None else np.ceil(center - reach)
    around = first + np.arange(int(2 * reach) + 1, dtype=first.dtype)[:, None]  # (2, R, N) cells covered
    exponent = around - center
    exponent *= exponent
    exponent /= 2 * sigma**2
    bell = torch.from_numpy(-exponent).exp_().numpy()  # NumPy's differs in the last bit
    cell = around.astype(np.int64)
    last = np.array([[[width - 1]], [[height - 1]]])
    on_grid = np.minimum(np.maximum(cell, 0), last)
    bell *= cell == on_grid
    patch = bell[1][:, None] * bell[0]  # (R, R, N) rows are y
    if cutoff is not None:
        patch *= exponent[1][:, None] + exponent[0] <= min(cutoff, FLOAT32_MAX)
    channels, area = kinds + background, height * width
    column, row = on_grid
    row *= width
    row += (image * channels + kind) * area
    index = row[:, None] + column
    # sums depend on the order of the people, a maximum does not
    patch, index = map(_by_column if add else np.ravel, (patch, index))
    values, flat = torch.from_numpy(patch), torch.from_numpy(index)
    maps = torch.zeros(batch * channels * area, dtype=values.dtype)
    result = maps.view(batch, channels, height, width)
    if add:
        maps.scatter_add_(0, flat, values)
        own = maps.numpy()
        over = own.take(index) > 1
        if over.any():
            own[index[over]] = 1
    else:
        maps.scatter_reduce_(0, flat, values, "amax")
    if background:
        own = result.numpy()
        np.subtract(1, own[:, :kinds].max(1), out=own[:, kinds])
    return result


def pafs(
    start: np.ndarray,
    end: np.ndarray,
    valid: np.ndarray,
    size: tuple[int, int],
    *,
    limb_width: float,
    closed: bool,
    rounding: str | None,
    average: bool,
) -> tuple[Tensor, Tensor]:
    """`draw_pafs`: start, end (B, P, L, 2), valid (B, P, L); `closed` is its edge; without a `rounding` limbs
    end at their ends, else at the box; `average` is its overlap."""
    batch, people, limbs = valid.shape
    cells = size[0] * size[1]
    number = valid.reshape(-1).nonzero()[0]
    start, end = start.reshape(-1, 2)[number], end.reshape(-1, 2)[number]
    length = torch.from_numpy(end - start).norm(dim=-1).numpy()  # its own rounding of the sum
    row, (unit_x, unit_y), place, inside = _strips(start.T, end.T, length, size, limb_width, closed, rounding)
    image, other = np.divmod(number, people * limbs)
    person, limb = np.divmod(other, limbs)
    maps = ((image * limbs + limb) * cells)[row]  # where a limb's map begins
    index = (place * inside).astype(np.int64)
    index += maps
    counts = np.uint8 if people < 256 else np.int32  # people can be counted in them
    drawn = torch.zeros(batch * limbs * cells, dtype=torch.uint8 if people < 256 else torch.int32)
    flat, on_limb = torch.from_numpy(index.reshape(-1)), inside.astype(counts)
    if average:
        drawn.scatter_add_(0, flat, torch.from_numpy(on_limb.reshape(-1)))
        here = drawn.index_select(0, flat).numpy().reshape(index.shape)
        share = inside / np.maximum(here, 1).astype(length.dtype)
    else:
        on_limb = on_limb * (person + 1).astype(counts)[row]
        drawn.scatter_reduce_(0, flat, torch.from_numpy(on_limb.reshape(-1)), "amax")
        share = inside & (on_limb == drawn.index_select(0, flat).numpy().reshape(index.shape))
    field = torch.zeros(2 * batch * limbs * cells, dtype=torch.from_numpy(length).dtype)
    index += maps  # the field has two maps for a limb
    # where the same limb of several people lies, their vectors are added person by person
    twice = torch.from_numpy(_by_column(index))
    field.scatter_add_(0, twice, torch.from_numpy(_by_column(share * unit_x)))
    field[cells:].scatter_add_(0, twice, torch.from_numpy(_by_column(share * unit_y)))
    return field.view(batch, 2 * limbs, *size), drawn.view(batch, limbs, *size)


class Strips(NamedTuple):
    """The rows of all strips (R,), limb by limb, each of r cells."""

    limb: np.ndarray  # (R,) int64 number of the limb
    unit: np.ndarray  # (2, R) x and y of its direction
    place: np.ndarray  # (r, R) float y * w + x of the cells
    inside: np.ndarray  # (r, R) bool, whether they lie on the limb


def _strips(
    start: np.ndarray,
    end: np.ndarray,
    length: np.ndarray,
    size: tuple[int, int],
    limb_width: float,
    closed: bool,
    rounding: str | None,
) -> Strips:
    """`pafs._strips` of limbs start, end (2, N), x and y, of some length (N,)."""
    delta = end - start
    unit = delta / np.maximum(length, np.finfo(length.dtype).tiny)
    low, high = _box(start, end, size, rounding)
    steep = np.abs(delta[0]) < np.abs(delta[1])
    pairs = np.stack((start, delta, unit, low, high))
    turned = np.where(steep, pairs[:, ::-1], pairs)
    (main, step, along_main, top, bottom), (other, drift, along_other, left, right) = turned.swapaxes(0, 1)
    slope = drift / np.where(step != 0, step, 1)
    # a limb reaches beyond its keypoints by its width at 45 degrees, or by the rounded box's cell and a half
    margin = max(1.5, 2**0.5 * limb_width) + 1e-3
    first = np.maximum(np.ceil(main + np.minimum(step, 0) - margin), top)
    last = np.minimum(np.floor(main + np.maximum(step, 0) + margin), bottom - 1)
    count = (np.maximum(last - first + 1, 0) * (length > 0)).astype(np.int64)
    limb = np.repeat(np.arange(len(count)), count)
    pitch = np.where(steep, 1, size[1]).astype(main.dtype)  # of `place`, from one cell to the next across
    ahead = first - (np.cumsum(count) - count).astype(
        first.dtype
    )  # of the first row, less the rows of the limbs before
    columns = (ahead, pitch, *unit, main, other, slope, along_main, along_other, left, right)
    of_limb = np.repeat(np.stack(columns), count, axis=1)
    ahead, pitch, unit, (main, other, slope, along_main, along_other, left, right) = (
        of_limb[0], of_limb[1], of_limb[2:4], of_limb[4:],
    )  # fmt: skip
    row = np.arange(len(limb), dtype=main.dtype) + ahead
    ahead = row - main
    # rows are crossed at 45 degrees or steeper: cells on the limb are within sqrt(2) limb_width of the line
    reach = min(int(2**0.5 * limb_width + 0.5), 2 * max(size))  # more would lie off the grid on either side
    cell = np.rint(other + ahead * slope) + np.arange(-reach, reach + 1, dtype=main.dtype)[:, None]
    aside = cell - other
    away = np.abs(ahead * along_other - aside * along_main)
    inside = away <= limb_width if closed else away < limb_width
    inside &= cell >= left
    inside &= cell < right
    if rounding is None:
        along = aside * along_other + ahead * along_main
        inside &= along >= -limb_width
        inside &= along <= np.repeat(length, count) + limb_width
    cell *= pitch
    cell += row * (size[1] + 1 - pitch)
    return Strips(limb, unit, cell, inside)


def _box(
    start: np.ndarray, end: np.ndarray, size: tuple[int, int], rounding: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """`pafs._box`: first cells and the cells after the last (2, N) of the box round a limb."""
    limit = np.array([[size[1]], [size[0]]], start.dtype)
    if rounding is None:
        return np.zeros_like(start), np.broadcast_to(limit, start.shape)
    low, high = np.minimum(start, end) - 1, np.maximum(start, end) + 1
    if rounding == "half_even":
        low, high = np.rint(low), np.rint(high)
    else:
        low, high = np.floor(low + 0.5), np.floor(high + 0.5)
    return np.maximum(low, 0), np.minimum(high, limit)


def _by_column(table: np.ndarray) -> np.ndarray:
    """(..., N) -> all of the first column, then all of the second, (-1,)."""
    return table.reshape(math.prod(table.shape[:-1]), table.shape[-1]).T.reshape(-1)


def mask(loss_mask: np.ndarray, stride: int) -> np.ndarray:
    """`grid_mask`: (B, H, W) bool -> (B, h, w) float32."""
    height, width = loss_mask.shape[1] // stride, loss_mask.shape[2] // stride
    whole = loss_mask[:, : height * stride, : width * stride]
    result = np.ones((len(whole), height, width), np.float32)
    partly = np.flatnonzero(~whole.all((1, 2)))  # most images count as a whole
    if len(partly):
        result[partly] = _counted(whole[partly], stride) > stride * stride // 2
    return result


def _counted(whole: np.ndarray, stride: int) -> np.ndarray:
    """(B, h * stride, w * stride) bool -> how many pixels of each cell count, (B, h, w) integers."""
    batch, height, width = len(whole), whole.shape[1] // stride, whole.shape[2] // stride
    pixels = np.ascontiguousarray(whole).view(np.uint8)
    # eight bytes at a time while their sums fit into bytes: no wider copy of the mask, which would cost more
    # than everything else here
    packed = stride < 256 and width * stride % 8 == 0
    rows = (pixels.view(np.int64) if packed else pixels).reshape(batch * height, stride, -1)
    if packed and stride in (1, 2, 4, 8):  # the highest byte of such a product is the sum of all its bytes
        number = np.dtype(f"u{stride}").type
        count = rows.sum(1).view(number) * number(int.from_bytes(bytes([1] * stride), "little"))
        return (count >> number(8 * (stride - 1))).reshape(batch, height, width)
    columns = rows.sum(1).view(np.uint8) if packed else rows.sum(1, dtype=np.int64)
    return columns.reshape(batch, height, width, stride).sum(3)
