"""Random geometry and colour.  The worker draws the numbers and warps; colours are changed on the device, for
the whole batch at once.

The ranges are those of pose-ae-train (Newell, Huang, Deng: Associative Embedding, 2017); HigherHRNet's are
`scale: [0.75, 1.5]`, `scale_of: short`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from pose import geometry
from pose.config import Settings

IDENTITY_COLOR = (0.0, 1.0, 0.0, 1.0)  # hue shift, saturation factor, brightness shift, contrast factor


PERSON_HEIGHT = 0.6  # of the input's side: what the box of the chosen person becomes at `person_scale` 1
PERSON_KEYPOINTS = 5  # labelled ones that a person must have to be chosen, and
PERSON_AREA = 32.0**2  # its area in pixels of the picture


class AugmentSettings(Settings):
    """Ranges of the random changes to a training picture."""

    crop: Literal["image", "person", "whole"] = "image"
    """What is cut out: image = a square round the middle of the picture, by `scale`, `scale_of`, `shift`;
    person = one round a person drawn at random, by `person_scale`, `person_shift` (Cao et al., 2017), and as
    for image where nobody has 5 labelled keypoints and 1024 pixels of area; whole = the whole picture at
    `whole_scale` times its own size, in batches of like shapes (DeeperCut)."""
    scale: tuple[float, float] = (0.75, 1.25)
    """Smallest and largest factor on the side of the square that is cut out: above 1 shrinks the picture."""
    scale_of: Literal["long", "short"] = "long"
    """Factor 1 is a square of the picture's long side (all is seen) or of its short side (HigherHRNet)."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest turn in degrees, either way."""
    shift: Annotated[float, Field(ge=0)] = 0.2
    """Largest move of the square per axis, either way, as a fraction of its side."""
    person_scale: tuple[float, float] = (0.5, 1.1)
    """Smallest and largest factor on 0.6 of the input's shorter side, which the height of the person's box
    becomes: above 1 enlarges the picture."""
    person_shift: Annotated[float, Field(ge=0)] = 40.0
    """Largest distance of the person from the middle of the input per axis, in pixels of the input."""
    whole_scale: tuple[float, float] = (0.85, 1.15)
    """Smallest and largest factor on the size of a whole picture; one that would have more pixels than
    `input.size` is made that large."""
    whole_multiple: Annotated[int, Field(ge=1)] = 64
    """The sides of a batch of whole pictures are rounded up to multiples of this: the larger, the fewer
    shapes there are, and the wider the borders."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of mirroring."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Largest shift of the hue in turns, either way."""
    saturation: tuple[float, float] = (0.5, 1.5)
    """Smallest and largest factor on the saturation."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Largest amount added to red, green and blue (0 to 1), either way."""
    contrast: tuple[float, float] = (0.5, 1.5)
    """Smallest and largest factor on the distance of red, green and blue from their mean at each pixel."""

    @field_validator("scale", "person_scale", "whole_scale", "saturation", "contrast")
    @classmethod
    def _check_range(cls, value: tuple[float, float], info: object) -> tuple[float, float]:
        low, high = value
        divides = getattr(info, "field_name", "") in ("scale", "person_scale", "whole_scale")
        if not 0 <= low <= high or (divides and low == 0):
            raise ValueError(f"expected the smaller factor first, both positive, got [{low}, {high}]")
        return value

    @property
    def needs_hsv(self) -> bool:
        """Whether hue or saturation ever change: `color_jitter` is several times cheaper without."""
        return self.hue > 0 or self.saturation != (1.0, 1.0)

    @property
    def needs_color(self) -> bool:
        """Whether colours ever change."""
        return self.needs_hsv or self.brightness > 0 or self.contrast != (1.0, 1.0)


def no_augmentation() -> AugmentSettings:
    """The square of the long side, upright, colours as they are."""
    return AugmentSettings(
        scale=(1.0, 1.0), rotation=0.0, shift=0.0, flip=0.0,
        hue=0.0, saturation=(1.0, 1.0), brightness=0.0, contrast=(1.0, 1.0),
    )  # fmt: skip


def draw_affine(
    rng: np.random.Generator,
    settings: AugmentSettings,
    size: tuple[int, int],
    output_size: tuple[int, int],
    pixel_center: float = geometry.PIXEL_CENTER,
) -> tuple[np.ndarray, bool]:
    """A random matrix (2, 3) from a picture of `size` to an input of `output_size` (both height, width), and
    whether it mirrors.

    The five numbers are drawn whatever the settings are, so that switching one change off leaves the others
    as they were."""
    side = (max(size) if settings.scale_of == "long" else min(size)) * rng.uniform(*settings.scale)
    rotation = rng.uniform(-settings.rotation, settings.rotation)
    dx, dy = rng.uniform(-settings.shift, settings.shift, 2) * side
    flip = bool(rng.random() < settings.flip)
    matrix = geometry.affine(
        size=size, output_size=output_size, side=side, rotation=rotation, shift=(dx, dy), flip=flip,
        pixel_center=pixel_center,
    )  # fmt: skip
    return matrix, flip


def draw_person_affine(
    rng: np.random.Generator,
    settings: AugmentSettings,
    boxes: np.ndarray,
    size: tuple[int, int],
    output_size: tuple[int, int],
    pixel_center: float = geometry.PIXEL_CENTER,
) -> tuple[np.ndarray, bool]:
    """As `draw_affine`, for a crop round one of the people with `boxes` (N, 4) x, y, width, height; N > 0.

    The person is scaled, turned about the middle of its box, put near the middle of the input, and then
    mirrored, as Cao, Simon, Wei, Sheikh: Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields
    (CVPR 2017) trained."""
    x, y, width, height = boxes[rng.integers(len(boxes))].tolist()
    # a box without a height would enlarge the picture without an end
    side = max(height, 1.0) / (PERSON_HEIGHT * rng.uniform(*settings.person_scale))
    rotation = rng.uniform(-settings.rotation, settings.rotation)
    dx, dy = rng.uniform(-settings.person_shift, settings.person_shift, 2)
    flip = bool(rng.random() < settings.flip)
    middle = (x + width / 2 - size[1] / 2, y + height / 2 - size[0] / 2)
    centered = geometry.affine(
        size=size, output_size=output_size, side=side, rotation=rotation, shift=middle,
        pixel_center=pixel_center,
    )  # fmt: skip
    moved = geometry.affine(
        size=output_size, output_size=output_size, side=min(output_size), shift=(dx, dy), flip=flip,
        pixel_center=pixel_center,
    )  # fmt: skip
    return geometry.compose(centered, moved), flip


def whole_factor(
    rng: np.random.Generator, settings: AugmentSettings, size: tuple[int, int], limit: tuple[int, int]
) -> float:
    """By what a whole picture of `size` (height, width) is enlarged: to at most the area of `limit`, and to
    twice its longer side, as the others of the batch get a canvas as long."""
    most = min(float(np.sqrt(limit[0] * limit[1] / (size[0] * size[1]))), 2 * max(limit) / max(size))
    return min(rng.uniform(*settings.whole_scale), most)


def draw_whole_affine(
    rng: np.random.Generator,
    settings: AugmentSettings,
    factor: float,
    size: tuple[int, int],
    output_size: tuple[int, int],
    pixel_center: float = geometry.PIXEL_CENTER,
) -> tuple[np.ndarray, bool]:
    """As `draw_affine`, for a picture enlarged by `factor` in the middle of a canvas that holds it."""
    side = min(output_size) / factor
    rotation = rng.uniform(-settings.rotation, settings.rotation)
    flip = bool(rng.random() < settings.flip)
    matrix = geometry.affine(
        size=size, output_size=output_size, side=side, rotation=rotation, flip=flip, pixel_center=pixel_center
    )
    return matrix, flip


def draw_color(rng: np.random.Generator, settings: AugmentSettings) -> np.ndarray:
    """(4,) float32: hue shift in turns, saturation factor, brightness shift, contrast factor."""
    hue = rng.uniform(-settings.hue, settings.hue)
    saturation = rng.uniform(*settings.saturation)
    brightness = rng.uniform(-settings.brightness, settings.brightness)
    return np.array([hue, saturation, brightness, rng.uniform(*settings.contrast)], np.float32)


def color_jitter(images: Tensor, color: Tensor, *, hsv: bool = True) -> Tensor:
    """images (B, 3, H, W) RGB in [0, 1]; color (B, 4) as of `draw_color` -> images of the same shape.

    Hue is turned, saturation multiplied (at most 1); brightness is added to every channel; then each pixel's
    channels are spread about their mean; the result is cut to [0, 1].  `hsv=False` leaves hue and saturation
    alone, which saves most of the work.  Nothing waits for the device."""
    hue, saturation, brightness, contrast = color.to(images.dtype)[:, :, None, None].unbind(1)  # (B, 1, 1)
    if hsv:
        images = _turn_and_saturate(images, hue, saturation)
    grey = images.mean(1, keepdim=True)
    # (x + b - mean(x + b)) * c + mean(x + b), with the shift taken out of the difference
    return torch.lerp(grey, images, contrast[:, None]).add_(brightness[:, None]).clamp_(0, 1)


def _turn_and_saturate(images: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """RGB -> hue and saturation changed -> RGB.  images (B, 3, H, W), the others (B, 1, 1).

    Hue is kept in sixths of a turn.  A channel is value - value * saturation * clamp(min(k, 4 - k), 0, 1),
    where k is the hue's distance from the channel's own: 5, 3 and 1 sixths for red, green and blue."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    divisor = chroma.clamp(min=torch.finfo(images.dtype).tiny)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = torch.where(chroma > 0, sixths, 0.0) + 6 * hue
    depth = torch.minimum(chroma * saturation, value)  # value * saturation, which is at most 1
    own = torch.arange(5, 0, -2, dtype=images.dtype, device=images.device)[:, None, None]
    k = torch.remainder(sixths[:, None] + own, 6)
    return value[:, None] - depth[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)
