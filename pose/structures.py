"""The values that travel between parts, and the one legend of letters used in every shape comment:

B batch · S stages · P people (padded) · K keypoints · L limbs · C channels · H W input pixels ·
h w grid cells (H / stride, W / stride) · N people found · M peaks · T test passes · D tag dimension
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from pydantic import field_validator
from torch import Tensor

from pose.config import Settings


class InputSettings(Settings):
    """What the network sees; shared by training, testing and everything that maps coordinates."""

    size: tuple[int, int] = (512, 512)
    """Height and width of the training input in pixels."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from R, G, B in [0, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """R, G, B are divided by this."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of the channels that the network takes."""
    pixel_center: float = 0.5
    """Where a pixel's centre lies relative to its integer coordinate: 0.5, or 0 for pose-ae-train's
    weights."""

    @field_validator("size", "std")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(number > 0 for number in value):
            raise ValueError(f"expected positive numbers, got {list(value)}")
        return value


class Sample(NamedTuple):
    """One training picture, all that a worker ships.  A NamedTuple because collating, pinning and
    DataParallel's scatter rebuild one (a dataclass is not scattered)."""

    image: Tensor  # (3, H, W) uint8 RGB, already warped to the input size
    loss_mask: Tensor  # (H, W) bool, False under crowds and people without labelled keypoints
    keypoints: Tensor  # (P, K, 3) float32: x, y in input pixels, v in {0, 1, 2}; padding has v = 0
    areas: Tensor  # (P,) float32, input pixels squared; 0 for padding
    color: Tensor  # (4,) float32: hue shift, saturation factor, brightness shift, contrast factor
    image_id: Tensor  # () int64


Batch = Sample  # with a leading B on every field

Fields = dict[str, Tensor]  # {"heatmap": (B, K, h, w), "tag": (B, K * D, h, w), ...}


@dataclass(frozen=True)
class People:
    """The result for one image; the arrays share the axis N."""

    keypoints: np.ndarray  # (N, K, 3) float32: x, y, score in [0, 1]; score 0 = not found
    scores: np.ndarray  # (N,) float32, ranks people for AP

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def none(num_keypoints: int) -> People:
        return People(np.zeros((0, num_keypoints, 3), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class FieldSpec:
    """What a head says of one field it needs.

    channels: how many; the order of a head's fields is the channel order of the network's output.
    flip_perm, flip_sign: the field of the mirrored picture is `maps.flip(-1)[:, flip_perm] * flip_sign`.
    fuse: over test passes, "mean" averages, "stack" keeps the passes near scale 1 side by side.
    in_pixels: the values are lengths in input pixels, brought to pixels of the first canvas before fusing.
    """

    channels: int
    flip_perm: tuple[int, ...]
    flip_sign: tuple[float, ...]
    fuse: str = "mean"
    in_pixels: bool = False
