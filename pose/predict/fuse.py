"""Maps of several passes, brought to one grid."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pose.structures import FieldSpec


def unflip(maps: Tensor, spec: FieldSpec) -> Tensor:
    """The field (B, C, h, w) of mirrored pictures, as it would lie over the pictures themselves."""
    perm, sign = _flip_tensors(spec, maps.device)
    return maps.flip(-1).index_select(1, perm) * sign


@lru_cache(maxsize=64)
def _flip_tensors(spec: FieldSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Copied to the device once: each copy would wait for it."""
    with torch.inference_mode(False):
        perm = torch.tensor(spec.flip_perm, device=device)
        return perm, torch.tensor(spec.flip_sign, device=device).view(-1, 1, 1)


def resample(maps: Tensor, size: tuple[int, int], mode: str = "bilinear", *, corners: bool = False) -> Tensor:
    """Bilinear or bicubic, without antialiasing (as cv2.resize); corners: between the centres of the
    outermost cells instead of their borders."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode=mode, align_corners=corners)
