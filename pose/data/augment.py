"""All that is random about a training image: its geometry (`pose.data.warps`) and its pixels.  The worker
draws the numbers and warps; pixels are changed on the device, for the whole batch at once.

The ranges are those of pose-ae-train (Newell, Huang, Deng: Associative Embedding, 2017).

A further change of pixels is its keys in `AugmentSettings` and one class, named in `CHANGES`; nothing else
of the package needs to know of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from pose.data.warps import WarpSettings, check_range


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

    unchanged = (0.0, 1.0)

    @property
    def wanted(self) -> bool:
        return self.settings.hue > 0 or self.settings.saturation != (1.0, 1.0)

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        hue = rng.uniform(-self.settings.hue, self.settings.hue)
        return hue, rng.uniform(*self.settings.saturation)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Hue is kept in sixths of a turn.  A channel is value - value * saturation * clamp(min(k, 4 - k), 0,
        1), where k is the hue's distance from the channel's own: 5, 3 and 1 sixths for red, green and
        blue."""
        hue, saturation = numbers[:, :, None, None].unbind(1)  # (B, 1, 1)
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

    def told(self, numbers: tuple[float, ...]) -> str:
        hue, saturation = numbers
        return f"hue {hue:+.2f} turns, saturation x {saturation:.2f}"


class BrightnessContrast(PixelChange):
    """Brightness is added to every channel; then each pixel's channels are spread about their mean."""

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

    def forward(self, images: Tensor, color: Tensor) -> Tensor:
        """images (B, 3, H, W) RGB, uint8 or float in [0, 1]; color (B, n) as of `draw_color` -> float in [0,
        1].  Nothing waits for the device."""
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        for columns, change in self.changes:
            images = change(images, color[:, columns].to(images.dtype))
        return images
