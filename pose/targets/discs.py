"""The cells around every keypoint, and which keypoint each of them belongs to (Insafutdinov et al.:
DeeperCut, ECCV 2016)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pose.geometry import PIXEL_CENTER, LayoutLike, to_grid, to_pixels


class Discs(NamedTuple):
    """R cells around each keypoint; where `owned` is False they mean nothing."""

    cell: Tensor  # (B, P, K, R) int64, flat y * w + x
    owned: Tensor  # (B, P, K, R) bool: in the disc, on the grid, and nearer to no other person's keypoint
    center: Tensor  # (B, P, K, R, 2) float32 x, y of the cell's centre, pixels of the input


def discs(
    keypoints: Tensor,
    radius: float,
    stride: int,
    size: tuple[int, int],
    layout: LayoutLike = PIXEL_CENTER,
) -> Discs:
    """The cells of a grid of `size` (h, w) whose centre is at most `radius` pixels from a labelled keypoint,
    of keypoints (B, P, K, 3).  A cell in the discs of several people is the nearest one's; of two as near,
    the first's."""
    height, width = size
    position = to_grid(keypoints[..., :2], stride, layout, size)
    labelled = keypoints[..., 2] > 0
    position = torch.where(labelled[..., None], position, 0)  # an unlabelled keypoint may hold any number
    reach = radius / stride
    first = (position - reach).ceil()
    steps = torch.arange(int(2 * reach) + 1, device=keypoints.device, dtype=position.dtype)
    x, y = first[..., 0, None] + steps, first[..., 1, None] + steps  # (B, P, K, side)
    away = (x - position[..., 0, None])[..., None, :] ** 2 + (y - position[..., 1, None])[..., None] ** 2
    away = away.flatten(3)  # (B, P, K, R) in cells squared
    on_grid = ((x >= 0) & (x < width))[..., None, :] & ((y >= 0) & (y < height))[..., None]
    # a keypoint at exactly the radius counts, whatever the square root of its distance rounds to
    inside = on_grid.flatten(3) & labelled[..., None] & (away * stride**2 <= radius**2 * (1 + 1e-6))
    column = x[..., None, :].expand(*x.shape, x.shape[-1]).flatten(3)
    row = y[..., None].expand(*y.shape, y.shape[-1]).flatten(3)
    index = torch.where(inside, row * width + column, 0).long()
    center = to_pixels(torch.stack((column, row), -1), stride, layout, size)
    return Discs(index, _nearest(index, inside, away, height * width), center)


def _nearest(index: Tensor, inside: Tensor, away: Tensor, cells: int) -> Tensor:
    """(B, P, K, R) bool: `inside`, and nearer to no other person of the same kind of keypoint."""
    batch, people, kinds, _ = index.shape
    where = index.transpose(1, 2).flatten(2)  # (B, K, P * R)
    distance = away.masked_fill(~inside, torch.inf).transpose(1, 2).flatten(2)
    least = distance.new_full((batch, kinds, cells), torch.inf)
    least = least.scatter_reduce(2, where, distance, "amin")
    near = inside & (
        away <= least.gather(2, where).view(batch, kinds, people, index.shape[3]).transpose(1, 2)
    )
    number = torch.arange(people, device=index.device).view(1, -1, 1, 1).expand_as(index)
    rank = number.masked_fill(~near, people).transpose(1, 2).flatten(2)
    first = rank.new_full((batch, kinds, cells), people).scatter_reduce(2, where, rank, "amin")
    return near & (
        number == first.gather(2, where).view(batch, kinds, people, index.shape[3]).transpose(1, 2)
    )


def draw_discs(found: Discs, size: tuple[int, int]) -> Tensor:
    """(B, K, h, w) float32: 1 on the cells of any person's disc, else 0."""
    batch, _, kinds, _ = found.cell.shape
    maps = torch.zeros(batch, kinds, size[0] * size[1], device=found.cell.device)
    cell, owned = (one.transpose(1, 2).flatten(2) for one in (found.cell, found.owned))
    # not scatter_: an unowned place has index 0, which another may own
    return maps.scatter_reduce(2, cell, owned.float(), "amax").view(batch, kinds, *size)
