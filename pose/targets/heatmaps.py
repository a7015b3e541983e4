"""Gaussians, gather indices and loss masks on the grid, for a batch of padded people."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pose.geometry import PIXEL_CENTER, LayoutLike, to_grid
from pose.targets import on_host

Combine = Literal["max", "sum_clip"]


def cells(
    keypoints: Tensor, stride: int, size: tuple[int, int], layout: LayoutLike = PIXEL_CENTER
) -> tuple[Tensor, Tensor, Tensor]:
    """Where keypoints (B, P, K, 3) lie on a grid of `size` (h, w).

    Returns the continuous cell coordinates (B, P, K, 2), the nearest cells (B, P, K, 2) int64 (x, y), and
    (B, P, K) bool: labelled and on the grid.  Only where the last is True do the cells mean anything."""
    if keypoints.device.type == "cpu":
        found = on_host.cells(keypoints.numpy(), stride, size, layout)
        position, cell, valid = map(torch.from_numpy, found)
        return position, cell, valid
    return cells_on_device(keypoints, stride, size, layout)


def cells_on_device(
    keypoints: Tensor, stride: int, size: tuple[int, int], layout: LayoutLike
) -> tuple[Tensor, Tensor, Tensor]:
    position = to_grid(keypoints[..., :2], stride, layout, size)
    cell = (position + 0.5).floor()
    x, y = cell.unbind(-1)
    valid = (keypoints[..., 2] > 0) & (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    return position, cell.where(valid[..., None], 0).long(), valid


def flat_index(cell: Tensor, width: int) -> Tensor:
    """(..., 2) cells x, y -> (...) index y * w + x into a flattened grid."""
    return cell[..., 1] * width + cell[..., 0]


def draw_heatmaps(
    position: Tensor,
    cell: Tensor,
    valid: Tensor,
    size: tuple[int, int],
    sigma: float,
    subpixel: bool,
    *,
    combine: Combine = "max",
    cutoff: float | None = None,
    background: bool = False,
) -> Tensor:
    """Gaussians of `sigma` cells: (B, K, h, w) float32 in [0, 1]; with `background` a last map is 1 minus the
    largest of the others.

    position, cell and valid as `cells` returns them.  Each Gaussian has its centre on the keypoint
    (`subpixel`) or on the keypoint's cell (as pose-ae-train).  It is cut off outside its square of 6 sigma +
    3 cells or, with `cutoff`, where its exponent d^2 / (2 sigma^2) exceeds that (4.6052, a value of 0.01, in
    rtpose). People are combined by maximum, or summed and cut at 1.  Only the squares are computed and
    scattered, which for a few people is some percent of the grid."""
    if position.device.type == "cpu":
        center = (position if subpixel else cell.to(position.dtype)).numpy()
        add = combine == "sum_clip"
        return on_host.heatmaps(
            center, valid.numpy(), size, sigma, add=add, cutoff=cutoff, background=background
        )
    return draw_heatmaps_on_device(
        position, cell, valid, size, sigma, subpixel, combine=combine, cutoff=cutoff, background=background
    )


def draw_heatmaps_on_device(
    position: Tensor,
    cell: Tensor,
    valid: Tensor,
    size: tuple[int, int],
    sigma: float,
    subpixel: bool,
    *,
    combine: Combine,
    cutoff: float | None,
    background: bool,
) -> Tensor:
    """`draw_heatmaps` in shapes that do not depend on how many keypoints there are."""
    height, width = size
    batch, people, num_keypoints = valid.shape
    # an unlabelled keypoint may hold any number
    position = position.where(valid[..., None], 0) if subpixel else cell.to(position.dtype)
    # person by person and maps last: operations run along the last axis, and people are added up in order
    channel = torch.arange(batch * num_keypoints, device=cell.device)
    center = position.permute(3, 1, 0, 2).reshape(2, people, 1, len(channel)).contiguous()
    there = valid.transpose(0, 1).reshape(people, 1, len(channel)).contiguous()
    reach = int(3 * sigma + 1) if cutoff is None else sigma * math.sqrt(2 * cutoff)
    reach = min(reach, max(size))  # keypoints are on the grid: nothing of it is farther away
    first = (center + 0.5).floor() - reach if cutoff is None else (center - reach).ceil()
    steps = torch.arange(int(2 * reach) + 1, device=cell.device, dtype=first.dtype)[:, None]
    around = first + steps  # (2, P, R, B * K) cells covered in x and in y
    exponent = (around - center).square_().div_(2 * sigma**2)
    x, y = around.long()
    inside = torch.stack(((x >= 0) & (x < width), (y >= 0) & (y < height))) & there
    bell = torch.exp(-exponent).mul_(inside)
    patch = bell[1, :, :, None] * bell[0, :, None]  # (P, R, R, B * K) rows are y
    if cutoff is not None:  # products are several times faster than `where`
        patch *= exponent[1, :, :, None] + exponent[0, :, None] <= cutoff
    channels, area = num_keypoints + background, height * width
    if background:
        channel = channel + channel.div(num_keypoints, rounding_mode="floor")
    index = (y.clamp_(0, height - 1) * width + channel * area)[:, :, None] + x.clamp_(0, width - 1)[:, None]
    maps, values, flat = patch.new_zeros(batch * channels * area), patch.view(-1), index.view(-1)
    result = maps.view(batch, channels, height, width)
    if combine == "max":
        maps.scatter_reduce_(0, flat, values, "amax", include_self=True)
    else:
        maps.scatter_add_(0, flat, values)
        result[:, :num_keypoints].clamp_(max=1)
    if background:
        result[:, num_keypoints] = 1 - result[:, :num_keypoints].amax(1)
    return result


def grid_mask(loss_mask: Tensor, stride: int) -> Tensor:
    """(B, H, W) bool -> (B, 1, h, w) float32: 1 where more than half of a cell's pixels count."""
    if loss_mask.device.type == "cpu":
        return torch.from_numpy(on_host.mask(loss_mask.numpy(), stride))[:, None]
    return grid_mask_on_device(loss_mask, stride)


def grid_mask_on_device(loss_mask: Tensor, stride: int) -> Tensor:
    height, width = (side // stride for side in loss_mask.shape[1:])
    whole = loss_mask[:, None, : height * stride, : width * stride]
    cells = whole.unflatten(3, (width, stride)).unflatten(2, (height, stride))
    return (cells.sum((3, 5)) > stride * stride // 2).float()
