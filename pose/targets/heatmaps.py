"""Gaussians, gather indices and loss masks on the grid, for a batch of padded people."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pose.geometry import PIXEL_CENTER, to_grid


def cells(
    keypoints: Tensor, stride: int, size: tuple[int, int], pixel_center: float = PIXEL_CENTER
) -> tuple[Tensor, Tensor, Tensor]:
    """Where keypoints (B, P, K, 3) lie on a grid of `size` (h, w).

    Returns the continuous cell coordinates (B, P, K, 2), the nearest cells (B, P, K, 2) int64 (x, y), and
    (B, P, K) bool: labelled and on the grid.  Only where the last is True do the cells mean anything."""
    position = to_grid(keypoints[..., :2], stride, pixel_center)
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
    position: Tensor, cell: Tensor, valid: Tensor, size: tuple[int, int], sigma: float, subpixel: bool
) -> Tensor:
    """Gaussians of `sigma` cells, people combined by maximum: (B, K, h, w) float32 in [0, 1].

    Arguments as `cells` returns them.  Each Gaussian is cut off outside its square of 6 sigma + 3 cells and
    has its centre on the keypoint (`subpixel`) or on the keypoint's cell (as pose-ae-train).  Only those
    squares are computed and scattered, which for a few people is some percent of the grid."""
    height, width = size
    batch, _, num_keypoints = valid.shape
    radius = int(3 * sigma + 1)
    reach = torch.arange(-radius, radius + 1, device=cell.device)
    around = cell[..., None] + reach  # (B, P, K, 2, R) cells covered in x and in y
    center = position if subpixel else cell.to(position.dtype)
    bell = torch.exp(-((around - center[..., None]) ** 2) / (2 * sigma**2))
    limit = _width_height(size, around)[:, None]
    inside = (around >= 0) & (around < limit) & valid[..., None, None]
    bell = bell.where(inside, 0)  # not a product: an unlabelled keypoint may hold any number
    patch = bell[..., 1, :, None] * bell[..., 0, None, :]  # (B, P, K, R, R) rows are y
    around = around.clamp(min=0).minimum(limit - 1)
    index = around[..., 1, :, None] * width + around[..., 0, None, :]
    heatmaps = patch.new_zeros(batch, num_keypoints, height * width)
    heatmaps.scatter_reduce_(
        2, index.transpose(1, 2).flatten(2), patch.transpose(1, 2).flatten(2), "amax", include_self=True
    )
    return heatmaps.view(batch, num_keypoints, height, width)


def grid_mask(loss_mask: Tensor, stride: int) -> Tensor:
    """(B, H, W) bool -> (B, 1, h, w) float32: 1 where more than half of a cell's pixels count."""
    return (F.avg_pool2d(loss_mask[:, None].float(), stride) > 0.5).float()
