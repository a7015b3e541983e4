"""The values that travel between parts, and the one legend of letters used in every shape comment:

B batch · S stages · P people (padded) · K keypoints · L limbs · C channels · H W input pixels ·
h w grid cells (H / stride, W / stride) · N people found · M peaks · T test passes · D tag dimension
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field, field_validator, model_validator

from pose.config import Settings
from pose.geometry import Layout

if TYPE_CHECKING:  # what is on this floor is also for commands that need no torch, which takes seconds
    import torch
    from torch import Tensor

# What the network takes: (R, G, B / 255 - mean) / std, then in channel_order
NORMALIZATIONS: Mapping[str, Mapping[str, Any]] = {
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "channel_order": "rgb"},
    # R, G, B in 0 to 255 minus the mean of ImageNet: pose-tensorflow's
    "imagenet_255": {
        "mean": (123.68 / 255, 116.779 / 255, 103.939 / 255),
        "std": (1 / 255,) * 3,
        "channel_order": "rgb",
    },
    # B, G, R in 0 to 255, / 256 - 0.5: the weights that CMU trained with Caffe
    "bgr_256": {"mean": (128 / 255,) * 3, "std": (256 / 255,) * 3, "channel_order": "bgr"},
}
LARGEST_SIDE = 16384  # pixels of an input: a single one has 0.8 GB
Byte = Annotated[int, Field(ge=0, le=255)]


class InputSettings(Settings):
    """What the network sees; shared by training, testing and everything that maps coordinates."""

    size: tuple[int, int] = (512, 512)
    """Height and width of the training input in pixels."""
    normalization: Literal["custom", "imagenet", "imagenet_255", "bgr_256"] = "custom"
    """What `mean`, `std` and `channel_order` are: custom = as given below, imagenet = torchvision's,
    imagenet_255 = 0 to 255 minus the mean (pose-tensorflow), bgr_256 = blue, green, red / 256 - 0.5 (CMU's
    networks)."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from R, G, B in [0, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """R, G, B are divided by this."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of the channels that the network takes."""
    pixel_center: float = 0.5
    """Where a pixel's centre lies relative to its integer coordinate: 0.5, or 0 for pose-ae-train's
    weights."""
    cells: Literal["centers", "first_pixel", "corners"] = "centers"
    """Where the cells of the network's maps lie: each over the middle of its stride x stride pixels; or, for
    weights trained so, with cell 0 at pixel 0 (DEKR, OpenPifPaf), or from the first pixel to the last
    (UDP)."""
    mirror_shift: Literal["none", "stride"] = "none"
    """stride: a mirrored image is moved by stride - 1 pixels, for weights trained so (DEKR)."""
    pad_value: tuple[Byte, Byte, Byte] = (0, 0, 0)
    """R, G, B (0 to 255) around the picture where it does not fill the input, in training and testing."""

    @model_validator(mode="after")
    def _named_normalization(self) -> InputSettings:
        for key, value in NORMALIZATIONS.get(self.normalization, {}).items():
            given = getattr(self, key)
            if key not in self.model_fields_set:
                object.__setattr__(self, key, value)  # frozen, but nobody has it yet
            elif given != value:
                what, wanted = (list(v) if isinstance(v, tuple) else v for v in (given, value))
                raise ValueError(
                    f"normalization {self.normalization!r} has {key} {wanted}, but {key} {what} is given; "
                    f"leave {key} out or set normalization: custom"
                )
        return self

    @property
    def layout(self) -> Layout:
        """Of the network's cells."""
        return Layout(self.pixel_center, self.cells, self.mirror_shift)

    @field_validator("size", "std")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(number > 0 for number in value):
            raise ValueError(f"expected positive numbers, got {list(value)}")
        return value

    @field_validator("size")
    @classmethod
    def _drawable(cls, value: tuple[int, int]) -> tuple[int, int]:
        if max(value) > LARGEST_SIDE:
            raise ValueError(f"expected at most {LARGEST_SIDE} pixels, got {list(value)}")
        return value


class Sample(NamedTuple):
    """One training picture, all that a worker ships.  A NamedTuple because collating, pinning and
    DataParallel's scatter rebuild one (a dataclass is not scattered)."""

    image: Tensor  # (3, H, W) uint8 RGB, already warped to the input size
    loss_mask: Tensor  # (H, W) bool, False under crowds and people without labelled keypoints
    keypoints: Tensor  # (P, K, 3) float32: x, y in input pixels, v in {0, 1, 2}; padding has v = 0
    areas: Tensor  # (P,) float32, input pixels squared; 0 for padding
    color: Tensor  # (4,) float32, of `draw_color`: hue shift, saturation factor, brightness shift, contrast
    image_id: Tensor  # () int64
    labelled: Tensor  # (K,) bool, False for keypoints that nobody in this picture's data set has labelled

    def to(self, device: torch.device) -> Sample:
        """On `device`; pinned memory is copied without waiting for it."""
        return Sample(*(value.to(device, non_blocking=True) for value in self))


Batch = Sample  # with a leading B on every field

Fields: TypeAlias = "dict[str, Tensor]"  # {"heatmap": (B, K, h, w), "tag": (B, K * D, h, w), ...}


Drawn: TypeAlias = Literal["heat", "vectors", "value", "offsets", "offsets_to_others"]

WORTH_SEEING = 0.2  # score from which people are shown: fragments have less, whatever the head


@dataclass(frozen=True, repr=False)
class People:
    """The result for one image; the arrays share the axis N."""

    keypoints: np.ndarray  # (N, K, 3) float32: x, y, score in [0, 1]; score 0 = not found
    scores: np.ndarray  # (N,) float32, ranks people for AP

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.2f}" for score in self.scores[:20])
        more = ", ..." if len(self) > 20 else ""
        return f"<People: {len(self)} of {self.keypoints.shape[1]} keypoints, scores [{scores}{more}]>"

    def above(self, score: float = WORTH_SEEING) -> People:
        """Those with this score or a better one, and with a keypoint."""
        chosen = (self.scores >= score) & (self.keypoints[..., 2] > 0).any(axis=1)
        return People(self.keypoints[chosen], self.scores[chosen])

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
    strides: of the network's levels that have the field; None: all of them.
    drawn: how images show it (pose.draw.fields).  "heat": each map over the image, in a colour of its own;
    "vectors": maps in pairs x, y, by direction; "value": as many numbers for each keypoint, by colour where
    `heatmap` has the keypoint; "offsets": x, y for each keypoint in input pixels, an arrow to where it is;
    "offsets_to_others": the same from each keypoint to every other one of its person.  None: by name only.
    """

    channels: int
    flip_perm: tuple[int, ...]
    flip_sign: tuple[float, ...]
    fuse: str = "mean"
    in_pixels: bool = False
    strides: tuple[int, ...] | None = None
    drawn: Drawn | None = None
