"""Part affinity fields on the grid: along every limb of every person the unit vector from its first keypoint
to its second (Cao, Simon, Wei, Sheikh: Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields,
CVPR 2017)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pose.targets import on_host

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
    if start.device.type == "cpu":
        return on_host.pafs(
            start.numpy(), end.numpy(), valid.numpy(), size, limb_width=limb_width, closed=edge == "closed",
            rounding=None if extent == "segment" else rounding, average=overlap == "average",
        )  # fmt: skip
    return draw_pafs_on_device(start, end, valid, size, limb_width, edge, extent, rounding, overlap)


def draw_pafs_on_device(
    start: Tensor,
    end: Tensor,
    valid: Tensor,
    size: tuple[int, int],
    limb_width: float,
    edge: Edge,
    extent: Extent,
    rounding: Rounding,
    overlap: Overlap,
) -> tuple[Tensor, Tensor]:
    """`draw_pafs` in shapes that do not depend on how many limbs there are."""
    batch, people, limbs = valid.shape
    cells = size[0] * size[1]
    limb, unit, place, inside = _strips(start, end, valid, size, limb_width, edge, extent, rounding)
    number = torch.arange(batch * people * limbs, device=unit.device)
    maps = number.div(people * limbs, rounding_mode="floor") * limbs + number % limbs
    maps = (maps * cells).index_select(0, limb)  # where a limb's map begins
    # a product is several times faster than `where`
    index = (place * inside).long().add_(maps)
    # where the same limb of several people lies, their vectors are added person by person
    flat, twice = (one.t().reshape(-1) for one in (index, index + maps))  # the field has two maps for a limb
    on_limb = inside.t().reshape(-1)
    # bytes where people can be counted in them: floats would cost as much as the fields themselves
    counts = torch.uint8 if people < 256 else torch.int32
    drawn = torch.zeros(batch * limbs * cells, dtype=counts, device=unit.device)
    if overlap == "average":
        drawn.scatter_add_(0, flat, on_limb.to(counts))
        share = on_limb.to(unit.dtype).div_(drawn.index_select(0, flat).to(unit.dtype).clamp_(min=1))
    else:
        person = (limb.div(limbs, rounding_mode="floor") % people + 1).to(counts)
        person = (person[:, None] * inside.t()).reshape(-1)
        drawn.scatter_reduce_(0, flat, person, "amax")
        share = (on_limb & (person == drawn.index_select(0, flat))).to(unit.dtype)
    share = share.view(len(limb), len(place))
    field = unit.new_zeros(2 * batch * limbs * cells)
    field.scatter_add_(0, twice, (share * unit[0, :, None]).view(-1))
    field[cells:].scatter_add_(0, twice, (share * unit[1, :, None]).view(-1))
    return field.view(batch, 2 * limbs, *size), drawn.view(batch, limbs, *size)


class Strips(NamedTuple):
    """The rows of all strips (R,), limb by limb, each of r cells."""

    limb: Tensor  # (R,) int64 number of the limb
    unit: Tensor  # (2, R) x and y of its direction
    place: Tensor  # (r, R) float y * w + x of the cells
    inside: Tensor  # (r, R) bool, whether they lie on the limb


def _strips(
    start: Tensor,
    end: Tensor,
    valid: Tensor,
    size: tuple[int, int],
    limb_width: float,
    edge: Edge,
    extent: Extent,
    rounding: Rounding,
) -> Strips:
    """Arguments of `draw_pafs`.  `main` is the axis along which a limb's rows are counted: y of a steep limb,
    x of a flat one; `other` is the axis across.  Limbs are the last axis, along which operations run."""
    # an unlabelled keypoint may hold any number
    start, end = (point.where(valid[..., None], 0).reshape(-1, 2) for point in (start, end))
    length = (end - start).norm(dim=-1)
    valid = valid.flatten() & (length > 0)
    start, end = start.t().contiguous(), end.t().contiguous()
    delta = end - start
    unit = delta / length.clamp(min=torch.finfo(length.dtype).tiny)
    low, high = _box(start, end, size, None if extent == "segment" else rounding)
    steep = delta[0].abs() < delta[1].abs()
    pairs = torch.stack((start, delta, unit, low, high))
    (main, other), (step, drift), turned, (top, left), (bottom, right) = pairs.where(~steep, pairs.flip(1))
    slope = drift / step.where(step != 0, 1)
    # a limb reaches beyond its keypoints by its width at 45 degrees, or by the rounded box's cell and a half
    margin = max(1.5, 2**0.5 * limb_width) + 1e-3
    first = (main + step.clamp(max=0) - margin).ceil().maximum(top)
    last = (main + step.clamp(min=0) + margin).floor().minimum(bottom - 1)
    limb, row, there = _rows(first, last, valid, max(size))
    pitch = (1 + (size[1] - 1) * ~steep).to(main.dtype)  # of `place`, from one cell to the next across
    of_limb = torch.stack((main, other, slope, *turned, left, right, length, pitch, *unit)).index_select(
        1, limb
    )
    main, other, slope, along_main, along_other, left, right, length, pitch = of_limb[:-2]
    ahead = row - main
    middle = (other + ahead * slope).round()
    # rows are crossed at 45 degrees or steeper: cells on the limb are within sqrt(2) limb_width of the line
    reach = min(int(2**0.5 * limb_width + 0.5), 2 * max(size))  # more would lie off the grid on either side
    cell = middle + torch.arange(-reach, reach + 1, device=row.device)[:, None]
    aside = cell - other
    away = (ahead * along_other - aside * along_main).abs_()
    inside = away < limb_width if edge == "open" else away <= limb_width
    inside &= there & (cell >= left) & (cell < right)
    if extent == "segment":
        along = (aside * along_other).add_(ahead * along_main)
        inside &= along >= -limb_width
        inside &= along <= length + limb_width
    return Strips(limb, of_limb[-2:], row * (size[1] + 1 - pitch) + cell * pitch, inside)


def _rows(first: Tensor, last: Tensor, valid: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows (columns) from `first` to `last` of valid limbs (N,), `side` of them for each limb: the limb's
    number (R,), the row as a float (R,), and which of them are meant (R,) bool."""
    limb = torch.arange(len(first), device=first.device)[:, None].expand(-1, side).flatten()
    row = torch.arange(side, device=first.device, dtype=first.dtype).repeat(len(first))
    return limb, row, (row >= first[limb]) & (row <= last[limb]) & valid[limb]


def _box(
    start: Tensor, end: Tensor, size: tuple[int, int], rounding: Rounding | None
) -> tuple[Tensor, Tensor]:
    """First cells and the cells after the last (2, N), x and y: of the box round a limb, as far as it lies on
    the grid; without a rounding those of the whole grid."""
    limit = torch.stack((start.new_full((1,), size[1]), start.new_full((1,), size[0])))
    if rounding is None:
        return torch.zeros_like(start), limit.expand_as(start)
    low, high = torch.minimum(start, end) - 1, torch.maximum(start, end) + 1
    if rounding == "half_even":
        low, high = low.round(), high.round()
    else:
        low, high = (low + 0.5).floor(), (high + 0.5).floor()
    return low.clamp(min=0), high.minimum(limit)
