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
    channels x and y of limb after limb, and how many people's limbs lie on a cell (B, L, h, w) uint8.

    A cell lies on a limb if it is nearer to its line than `limb_width` cells (`edge` closed: or as near), and
    along it at most `limb_width` beyond its ends (`segment`) or inside the box of its ends, one cell wider on
    each side and without its last row and column (`box`, in the rounding of Python or of C: rtpose, CMU).
    Where limbs of several people lie on a cell, their vectors are averaged, or the last person's counts.

    Only a strip of cells is looked at: those beside the line in every row of a steep limb, in every column
    of a flat one.  For a limb of n cells these are 3 n instead of the whole grid."""
    height, width = size
    batch, people, limbs = valid.shape
    # an unlabelled keypoint may hold any number
    start, end = (point.where(valid[..., None], 0).view(-1, 2) for point in (start, end))
    length = (end - start).norm(dim=-1, keepdim=True)
    valid = (valid.view(-1, 1) & (length > 0)).to(length.dtype)
    unit = (end - start) / length.clamp(min=torch.finfo(length.dtype).tiny)
    limb, x, y = _strips(start, end, valid, size, limb_width)
    low, high = _box(start, end, rounding)
    of_row = torch.cat((start, unit, length, valid, low, high), 1).index_select(0, limb)
    ax, ay, ux, uy, length, valid, left, top, right, bottom = of_row[:, :, None].unbind(1)  # (R, 1)
    away = ((x - ax) * uy - (y - ay) * ux).abs()
    inside = (away < limb_width if edge == "open" else away <= limb_width) & (valid > 0)
    if extent == "segment":
        along = (x - ax) * ux + (y - ay) * uy
        inside &= (along >= -limb_width) & (along <= length + limb_width)
    else:
        inside &= (x >= left) & (x < right) & (y >= top) & (y < bottom)
    inside &= (x >= 0) & (x < width) & (y >= 0) & (y < height)
    map_start = (limb.div(people * limbs, rounding_mode="floor") * limbs + limb % limbs) * (height * width)
    index = (map_start[:, None] + (y * width + x).where(inside, 0).long()).view(-1)
    weight = inside.view(-1).to(unit.dtype)
    # bytes: a map of floats would cost as much as the fields themselves
    count = torch.zeros(batch * limbs * height * width, dtype=torch.uint8, device=unit.device)
    count.scatter_add_(0, index, inside.view(-1).byte())
    if overlap == "average":
        share = weight / count.index_select(0, index).clamp(min=1)
    else:
        number = (limb.div(limbs, rounding_mode="floor") % people + 1)[:, None] * weight.view_as(inside)
        last = unit.new_zeros(len(count)).scatter_reduce_(0, index, number.view(-1), "amax")
        share = weight * (number.view(-1) == last.index_select(0, index))
    field = unit.new_zeros(batch * limbs * 2 * height * width)
    share = share.view_as(inside)
    index = (index.view_as(inside) + map_start[:, None]).view(-1)  # two maps for every limb
    field.scatter_add_(0, index, (share * ux).view(-1))
    field.scatter_add_(0, index + height * width, (share * uy).view(-1))
    return field.view(batch, 2 * limbs, height, width), count.view(batch, limbs, height, width)


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
    reach = int(2**0.5 * limb_width + 0.5)
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
    before = count.cumsum(0) - count
    return limb, first[limb] + (torch.arange(len(limb)) - before[limb])


def _box(start: Tensor, end: Tensor, rounding: Rounding) -> tuple[Tensor, Tensor]:
    """First cells and the cells after the last (N, 2) of the box round a limb."""
    low, high = torch.minimum(start, end) - 1, torch.maximum(start, end) + 1
    if rounding == "half_even":
        return low.round(), high.round()
    return (low + 0.5).floor(), (high + 0.5).floor()
