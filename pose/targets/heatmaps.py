"""Gaussians, gather indices and loss masks on the grid, for a batch of padded people."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pose.geometry import PIXEL_CENTER, LayoutLike, to_grid

Combine = Literal["max", "sum_clip"]


def cells(
    keypoints: Tensor, stride: int, size: tuple[int, int], layout: LayoutLike = PIXEL_CENTER
) -> tuple[Tensor, Tensor, Tensor]:
    """Where keypoints (B, P, K, 3) lie on a grid of `size` (h, w).

    Returns the continuous cell coordinates (B, P, K, 2), the nearest cells (B, P, K, 2) int64 (x, y), and
    (B, P, K) bool: labelled and on the grid.  Only where the last is True do the cells mean anything."""
    position = to_grid(keypoints[..., :2], stride, layout, size)
    cell = (position + 0.5).floor()
    limit = _width_height(size, cell)
    valid = (keypoints[..., 2] > 0) & ((cell >= 0) & (cell < limit)).all(-1)
    cell = torch.where(valid[..., None], cell, torch.zeros_like(cell)).long()
    return position, cell, valid


def _width_height(size: tuple[int, int], like: Tensor) -> Tensor:
    """(2,) filled on the device: a tensor made from a list would be copied there, and waited for."""
    return torch.stack([like.new_full((), size[1]), like.new_full((), size[0])])


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
    height, width = size
    batch, _, num_keypoints = valid.shape
    # contiguous now, (B, K, P, ...), not when they have become patches
    position, cell, valid = (one.transpose(1, 2).contiguous() for one in (position, cell, valid))
    center = position if subpixel else cell.to(position.dtype)
    reach = int(3 * sigma + 1) if cutoff is None else sigma * math.sqrt(2 * cutoff)
    reach = min(reach, max(size))  # keypoints are on the grid: nothing of it is farther away
    first = cell - reach if cutoff is None else (center - reach).ceil().long()
    steps = torch.arange(int(2 * reach) + 1, device=cell.device)
    around = first[..., None] + steps  # (B, K, P, 2, R) cells covered in x and in y
    exponent = ((around - center[..., None]) ** 2) / (2 * sigma**2)
    limit = _width_height(size, around)[:, None]
    inside = (around >= 0) & (around < limit) & valid[..., None, None]
    bell = torch.exp(-exponent).where(inside, 0)  # not a product: an unlabelled keypoint may hold any number
    patch = bell[..., 1, :, None] * bell[..., 0, None, :]  # (B, K, P, R, R) rows are y
    if cutoff is not None:
        patch = patch.where(exponent[..., 1, :, None] + exponent[..., 0, None, :] <= cutoff, 0)
    around = around.clamp(min=0).minimum(limit - 1)
    index = around[..., 1, :, None] * width + around[..., 0, None, :]
    index, patch = index.flatten(2), patch.flatten(2)
    maps = patch.new_zeros(batch, num_keypoints + background, height * width)
    keypoint_maps = maps[:, :num_keypoints]
    if combine == "max":
        keypoint_maps.scatter_reduce_(2, index, patch, "amax", include_self=True)
    else:
        keypoint_maps.scatter_add_(2, index, patch).clamp_(max=1)
    if background:
        maps[:, num_keypoints] = 1 - keypoint_maps.amax(1)
    return maps.view(batch, num_keypoints + background, height, width)


def grid_mask(loss_mask: Tensor, stride: int) -> Tensor:
    """(B, H, W) bool -> (B, 1, h, w) float32: 1 where more than half of a cell's pixels count."""
    batch, height, width = loss_mask.shape[0], loss_mask.shape[1] // stride, loss_mask.shape[2] // stride
    whole = loss_mask[:, : height * stride, : width * stride].contiguous().view(torch.uint8)
    # eight bytes at a time while their sums fit into bytes: no wider copy of the mask, which would cost more
    # than everything else here
    packed = stride < 256 and width * stride % 8 == 0
    rows = (whole.view(torch.int64) if packed else whole).view(batch, height, stride, -1).sum(2)
    rows = rows.view(torch.uint8) if packed else rows
    count = rows.view(batch, 1, height, width, stride).sum(4)
    return (2 * count > stride * stride).float()
