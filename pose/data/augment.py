"""Random geometry and colour.  The worker draws the numbers and warps; colours are changed on the device, for
the whole batch at once.

The ranges are those of pose-ae-train (Newell, Huang, Deng: Associative Embedding, 2017); HigherHRNet's are
`scale: [0.75, 1.5]`, `scale_of: short`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from pose import geometry
from pose.config import Settings

IDENTITY_COLOR = (0.0, 1.0, 0.0, 1.0)  # hue shift, saturation factor, brightness shift, contrast factor
PIXELS_AT_ONCE = 1 << 16  # whose colours one thread of a CPU changes: 256 KiB for each number of a pixel

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
        """Whether hue or saturation ever change: `color_jitter` is cheaper without."""
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


@torch.no_grad()
def color_jitter(images: Tensor, color: Tensor, *, hsv: bool = True) -> Tensor:
    """images (B, 3, H, W) RGB in [0, 1]; color (B, 4) as of `draw_color` -> images of the same shape.

    Hue is turned, saturation multiplied (at most 1); brightness is added to every channel; then each pixel's
    channels are spread about their mean; the result is cut to [0, 1].  `hsv=False` leaves hue and saturation
    alone.  Nothing waits for the device.  Within 2e-6 of the same formulas in float64."""
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    source, target, color = images.flatten(2), result.flatten(2), color.to(images.dtype)[:, :, None]
    change = _change_hsv if hsv else _change_brightness
    for at, where in _parts(images):
        change(source[at, :, where], color[at], target[at, :, where])
    return result


def _parts(images: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images and pixels that are changed at once: on a CPU so few that what is computed of them stays in its
    cache, and that memory is not asked of the system at every step; elsewhere, and compiled, all."""
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        yield slice(None), slice(None)
        return
    pixels, step = images.shape[2] * images.shape[3], PIXELS_AT_ONCE * torch.get_num_threads()
    for image in range(len(images)):
        for first in range(0, pixels, step):
            yield slice(image, image + 1), slice(first, first + step)


def _change_hsv(images: Tensor, color: Tensor, result: Tensor) -> None:
    """images (B, 3, N) -> all four changes, written to `result` (B, 3, N); color (B, 4, 1).

    A colour is its value V (the largest channel), its chroma C (V minus the smallest, low) and its hue h in
    sixths of a turn, -3 to 3.  From red (h = 0) the other two channels rise and then red falls, so that
    |h| C = (V - red) + (green - low) + (blue - low), and h has the sign of green - blue.  Back again a
    channel is V - C * amount: clamp(|h| - 1, 0, 1) for red, clamp(2 - |h + 1|, 0, 1) for green and
    clamp(2 - |h - 1|, 0, 1) for blue.  No case needs a mask, and only |h| a division."""
    hue, saturation, brightness, contrast = color.unbind(1)  # (B, 1)
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - low
    turned = (value - red).add_(green - low).add_(blue - low)
    turned.div_(chroma.clamp(min=torch.finfo(images.dtype).tiny)).copysign_(green - blue).add_(6 * hue)
    turned.sub_((turned / 6).round_().mul_(6))
    amounts = (
        turned.abs().sub_(1).clamp_(0, 1),
        (turned + 1).abs_().neg_().add_(2).clamp_(0, 1),
        (turned - 1).abs_().neg_().add_(2).clamp_(0, 1),
    )
    depth = torch.minimum(chroma.mul_(saturation), value)  # value * saturation, which is at most 1
    # a channel x becomes (x - grey) * contrast + grey + brightness, and grey is value - depth * mean(amount)
    mean = (amounts[0] + amounts[1]).add_(amounts[2]).mul_((1 - contrast) / 3).mul_(depth)
    base, depth = value.add_(brightness).sub_(mean), depth.mul_(contrast)
    for amount, channel in zip(amounts, result.unbind(1), strict=True):
        channel.copy_((base - amount.mul_(depth)).clamp_(0, 1))


def _change_brightness(images: Tensor, color: Tensor, result: Tensor) -> None:
    """As `_change_hsv`, without hue and saturation."""
    _, _, brightness, contrast = color.unbind(1)
    red, green, blue = images.unbind(1)
    base = (red + green).add_(blue).mul_((1 - contrast) / 3).add_(brightness)
    for source, channel in zip((red, green, blue), result.unbind(1), strict=True):
        channel.copy_((source * contrast).add_(base).clamp_(0, 1))
