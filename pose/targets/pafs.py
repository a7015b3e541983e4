"""Part affinity fields on the grid: along every limb of every person the unit vector from its first keypoint
to its second (Cao, Simon, Wei, Sheikh: Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields,
CVPR 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Overlap = Literal["average", "overwrite"]
Edge = Literal["open", "closed"]
Extent = Literal["segment", "box"]
Rounding = Literal["half_even", "half_up"]


def draw_pafs(
    start: Tensor,
    end: Tensor,
    valid: Tensor,
    size: tuple[int, int],
    *,
    limb_width: float = 1.0,
    edge: Edge = "open",
    extent: Extent = "segment",
    rounding: Rounding = "half_even",
    overlap: Overlap = "average",
) -> tuple[Tensor, Tensor]:
    """start, end (B, P, L, 2) continuous cells x, y; valid (B, P, L) bool -> the fields (B, 2 L, h, w),
    channels x and y of limb after limb, and where limbs lie (B, L, h, w): integers above 0.

    A cell lies on a limb if it is nearer to its line than `limb_width` cells (`edge` closed: or as near), and
    along it at most `limb_width` beyond its ends (`segment`) or inside the box of its ends, one cell wider on
    each side and without its last row and column (`box`, in the rounding of Python or of C: rtpose, CMU).
    Where limbs of several people lie on a cell, their vectors are averaged, or the last person's counts.

    Only a strip of cells is looked at: those beside the line in every row of a steep limb, in every column
    of a flat one.  For a limb of n cells these are 3 n instead of the whole grid."""
    height, width = size
    batch, people, limbs = valid.shape
    # an unlabelled keypoint may hold any number
    start, end = (point.where(valid[..., None], 0).reshape(-1, 2) for point in (start, end))
    length = (end - start).norm(dim=-1, keepdim=True)
    valid = (valid.reshape(-1, 1) & (length > 0)).to(length.dtype)
    unit = (end - start) / length.clamp(min=torch.finfo(length.dtype).tiny)
    low, high = _box(start, end, size, None if extent == "segment" else rounding)
    limb, x, y = _strips(start, end, valid, size, limb_width)
    of_row = torch.cat((start, unit, length, low, high * valid), 1).index_select(0, limb)
    ax, ay, ux, uy, length, left, top, right, bottom = of_row[:, :, None].unbind(1)  # (R, 1)
    right_of, below = x - ax, y - ay
    away = (right_of * uy - below * ux).abs()
    inside = away < limb_width if edge == "open" else away <= limb_width
    inside &= (x >= left) & (x < right) & (y >= top) & (y < bottom)
    if extent == "segment":
        along = right_of * ux + below * uy
        inside &= (along >= -limb_width) & (along <= length + limb_width)
    map_start = (limb.div(people * limbs, rounding_mode="floor") * limbs + limb % limbs) * (height * width)
    index = map_start[:, None] + (y * width + x).where(inside, 0).long()
    maps = batch * limbs * height * width
    # bytes where people can be counted in them: floats would cost as much as the fields themselves
    counts = torch.uint8 if people < 256 else torch.int32
    if overlap == "average":
        there = torch.zeros(maps, dtype=counts, device=unit.device)
        there.scatter_add_(0, index.view(-1), inside.view(-1).to(counts))
        share = inside.to(unit.dtype) / there.take(index).clamp(min=1)
    else:
        number = (limb.div(limbs, rounding_mode="floor") % people + 1)[:, None] * inside
        number = number.to(counts)
        there = number.new_zeros(maps).scatter_reduce_(0, index.view(-1), number.view(-1), "amax")
        share = (inside & (number == there.take(index))).to(unit.dtype)
    field = unit.new_zeros(2 * maps)
    index = index + map_start[:, None]  # two maps for every limb
    field.scatter_add_(0, index.view(-1), (share * ux).view(-1))
    field.scatter_add_(0, (index + height * width).view(-1), (share * uy).view(-1))
    return field.view(batch, 2 * limbs, height, width), there.view(batch, limbs, height, width)


def _strips(
    start: Tensor, end: Tensor, valid: Tensor, size: tuple[int, int], limb_width: float
) -> tuple[Tensor, Tensor, Tensor]:
    """start, end (N, 2), valid (N, 1) -> for each row of the strips its limb (R,) int64 and its r cells' x
    and y (R, r), as floats: all cells that lie on a valid limb, and some more."""
    delta = end - start
    steep = delta[:, 0].abs() < delta[:, 1].abs()
    main, step = (torch.where(steep, pair[:, 1], pair[:, 0]) for pair in (start, delta))
    other, drift = (torch.where(steep, pair[:, 0], pair[:, 1]) for pair in (start, delta))
    slope = drift / step.where(step != 0, 1)
    # a limb reaches beyond its keypoints by its width at 45 degrees, or by the rounded box's cell and a half
    margin = max(1.5, 2**0.5 * limb_width) + 1e-3
    first = (main + step.clamp(max=0) - margin).ceil()
    last = (main + step.clamp(min=0) + margin).floor()
    side = max(size)
    first, last = first.clamp(0, side - 1), last.clamp(0, side - 1)
    limb, row = _rows(first, last, valid[:, 0], side)
    main, other, slope = torch.stack((main, other, slope), 1).index_select(0, limb).unbind(1)
    middle = (other + (row - main) * slope).round()
    # rows are crossed at 45 degrees or steeper: cells on the limb are within sqrt(2) limb_width of the line
    reach = min(int(2**0.5 * limb_width + 0.5), 2 * side)  # more would lie off the grid on either side
    beside = middle[:, None] + torch.arange(-reach, reach + 1, device=row.device)
    swap, row = steep.index_select(0, limb)[:, None], row[:, None]
    return limb, torch.where(swap, beside, row), torch.where(swap, row, beside)


def _rows(first: Tensor, last: Tensor, valid: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The rows (columns) of every limb (R,): its number, and the row as a float.  On a CPU only those from
    `first` to `last` of valid limbs; elsewhere `side` rows for each, as their number is not known on the
    host."""
    limbs = torch.arange(len(first), device=first.device)
    if first.device.type != "cpu":
        limb = limbs[:, None].expand(-1, side).flatten()
        row = torch.arange(side, device=first.device).repeat(len(first))
        return limb, row.to(first.dtype)
    count = ((last - first + 1) * valid).long()
    limb = limbs.repeat_interleave(count)
    before = count.cumsum(0) - count  # rows of the limbs before
    return limb, torch.arange(len(limb)) + (first - before).index_select(0, limb)


def _box(
    start: Tensor, end: Tensor, size: tuple[int, int], rounding: Rounding | None
) -> tuple[Tensor, Tensor]:
    """First cells and the cells after the last (N, 2), x and y: of the box round a limb, as far as it lies on
    the grid; without a rounding those of the whole grid."""
    limit = torch.stack((start.new_full((), size[1]), start.new_full((), size[0])))
    if rounding is None:
        return torch.zeros_like(start), limit.expand_as(start)
    low, high = torch.minimum(start, end) - 1, torch.maximum(start, end) + 1
    if rounding == "half_even":
        low, high = low.round(), high.round()
    else:
        low, high = (low + 0.5).floor(), (high + 0.5).floor()
    return low.clamp(min=0), high.minimum(limit)
