"""All that is random about a training image: its geometry (`pose.data.warps`) and its pixels.  The worker
draws the numbers and warps; pixels are changed on the device, for the whole batch at once.

The ranges are those of pose-ae-train (Newell, Huang, Deng: Associative Embedding, 2017).

A further change of pixels is its keys in `AugmentSettings` and one class, named in `CHANGES`; nothing else
of the package needs to know of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from pose.data.warps import WarpSettings, check_range

PIXELS_AT_ONCE = 1 << 16  # that one thread of a CPU changes: 256 KiB for each number of a pixel


class AugmentSettings(WarpSettings):
    """Ranges of the random changes to a training picture."""

    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Largest shift of the hue in turns, either way."""
    saturation: tuple[float, float] = (0.5, 1.5)
    """Smallest and largest factor on the saturation."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Largest amount added to red, green and blue (0 to 1), either way."""
    contrast: tuple[float, float] = (0.5, 1.5)
    """Smallest and largest factor on the distance of red, green and blue from their mean at each pixel."""

    @field_validator("saturation", "contrast")
    @classmethod
    def _check_factor(cls, value: tuple[float, float]) -> tuple[float, float]:
        return check_range(value)


def no_augmentation() -> AugmentSettings:
    """The square of the long side, upright, colours as they are."""
    return AugmentSettings(
        scale=(1.0, 1.0), rotation=0.0, shift=0.0, flip=0.0,
        hue=0.0, saturation=(1.0, 1.0), brightness=0.0, contrast=(1.0, 1.0),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the changes


class PixelChange(ABC):
    """One kind of random change of pixels: what a worker draws for an image, and what the device makes of
    it."""

    pointwise: ClassVar[bool] = False
    """Whether a pixel becomes what it does whatever those around it are: it may then be changed by itself."""
    unchanged: ClassVar[tuple[float, ...]]
    """Numbers that leave an image as it is; as many as are drawn."""

    def __init__(self, settings: AugmentSettings) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def wanted(self) -> bool:
        """Whether the settings ever ask for a change."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The numbers of one image; as much is taken from `rng` whatever the settings are."""

    @abstractmethod
    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """images (B, 3, H, W) RGB in [0, 1], numbers (B, n) -> images of the same shape, in [0, 1].

        Leaves `images` as they are, waits for nothing on the device, and makes of each image what it would
        make of it alone."""

    @abstractmethod
    def told(self, numbers: tuple[float, ...]) -> str:
        """The numbers in words, e.g. "hue +0.10 turns"."""


class HueSaturation(PixelChange):
    """The hue is turned, the saturation multiplied (at most 1)."""

    pointwise = True
    unchanged = (0.0, 1.0)

    @property
    def wanted(self) -> bool:
        return self.settings.hue > 0 or self.settings.saturation != (1.0, 1.0)

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        hue = rng.uniform(-self.settings.hue, self.settings.hue)
        return hue, rng.uniform(*self.settings.saturation)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """A colour is its value V (the largest channel), its chroma C (V minus the smallest, low) and its hue
        h in sixths of a turn, -3 to 3.  From red (h = 0) the other two channels rise and then red falls, so
        that |h| C = (V - red) + (green - low) + (blue - low), and h has the sign of green - blue.  Back again
        a channel is V - C * amount: clamp(|h| - 1, 0, 1) for red, clamp(2 - |h + 1|, 0, 1) for green and
        clamp(2 - |h - 1|, 0, 1) for blue.  No case needs a mask, and only |h| a division.  Within 2e-6 of
        the same formulas in float64."""
        hue, saturation = numbers[:, :, None, None].unbind(1)  # (B, 1, 1)
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
        return torch.stack([value - amount.mul_(depth) for amount in amounts], 1)

    def told(self, numbers: tuple[float, ...]) -> str:
        hue, saturation = numbers
        return f"hue {hue:+.2f} turns, saturation x {saturation:.2f}"


class BrightnessContrast(PixelChange):
    """Brightness is added to every channel; then each pixel's channels are spread about their mean."""

    pointwise = True
    unchanged = (0.0, 1.0)

    @property
    def wanted(self) -> bool:
        return self.settings.brightness > 0 or self.settings.contrast != (1.0, 1.0)

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        brightness = rng.uniform(-self.settings.brightness, self.settings.brightness)
        return brightness, rng.uniform(*self.settings.contrast)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        brightness, contrast = numbers[:, :, None, None, None].unbind(1)  # (B, 1, 1, 1)
        grey = images.mean(1, keepdim=True)
        # (x + b - mean(x + b)) * c + mean(x + b), with the shift taken out of the difference
        return torch.lerp(grey, images, contrast).add_(brightness).clamp_(0, 1)

    def told(self, numbers: tuple[float, ...]) -> str:
        brightness, contrast = numbers
        return f"brightness {brightness:+.2f}, contrast x {contrast:.2f}"


CHANGES: tuple[type[PixelChange], ...] = (HueSaturation, BrightnessContrast)
"""In the order in which their numbers are drawn and images are changed.  A new one goes to the end: it then
leaves the numbers of the others as they are."""


# ---------------------------------------------------------------------------------------------- all of them


def pixel_changes(settings: AugmentSettings) -> list[tuple[slice, PixelChange]]:
    """All changes, each with the columns of its numbers among those of an image."""
    changes, first = [], 0
    for kind in CHANGES:
        last = first + len(kind.unchanged)
        changes.append((slice(first, last), kind(settings)))
        first = last
    return changes


def unchanged_color() -> tuple[float, ...]:
    """The numbers of an image whose pixels stay as they are."""
    return tuple(number for kind in CHANGES for number in kind.unchanged)


def draw_color(rng: np.random.Generator, settings: AugmentSettings) -> np.ndarray:
    """(n,) float32, the numbers of one image: hue shift in turns, saturation factor, brightness shift,
    contrast factor."""
    return np.array([x for _, change in pixel_changes(settings) for x in change.draw(rng)], np.float32)


def told_color(settings: AugmentSettings, color: np.ndarray) -> str:
    """What the numbers (n,) of an image do to its pixels, in words."""
    changes = pixel_changes(settings)
    if not any(change.wanted for _, change in changes):
        return "colours unchanged"
    return ", ".join(change.told(tuple(color[columns].tolist())) for columns, change in changes)


class DeviceAugment(nn.Module):
    """The changes of pixels that the settings ask for, on the device of the images."""

    def __init__(self, settings: AugmentSettings) -> None:
        super().__init__()
        self.changes = [(columns, one) for columns, one in pixel_changes(settings) if one.wanted]
        self.pointwise = all(one.pointwise for _, one in self.changes)

    def forward(self, images: Tensor, color: Tensor) -> Tensor:
        """images (B, 3, H, W) RGB, uint8 or float in [0, 1]; color (B, n) as of `draw_color` -> float in [0,
        1].  Nothing waits for the device.

        On a CPU so few pixels at a time that what is computed of them stays in its cache, and that memory is
        not asked of the system at every operation."""
        if not self.pointwise or images.device.type != "cpu" or torch.compiler.is_compiling():
            return self._changed(images, color)
        count, height, width = len(images), images.shape[2], images.shape[3]
        result = torch.empty(images.shape, dtype=(images[:0] / 255).dtype)
        step = PIXELS_AT_ONCE * torch.get_num_threads()
        together, rows = max(1, step // (height * width)), max(1, step // width)
        for b, y in product(range(0, count, together), range(0, height, rows)):
            which, where = slice(b, b + together), slice(y, y + rows)
            result[which, :, where] = self._changed(images[which, :, where], color[which])
        return result

    def _changed(self, images: Tensor, color: Tensor) -> Tensor:
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        for columns, change in self.changes:
            images = change(images, color[:, columns].to(images.dtype))
        return images
