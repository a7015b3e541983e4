"""All that is random about a training image: its geometry (`pose.data.warps`) and its colours.  The worker
draws the numbers and warps; colours are changed on the device, for the whole batch at once.

The ranges are those of pose-ae-train (Newell, Huang, Deng: Associative Embedding, 2017).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from pose.data.warps import WarpSettings, check_range

IDENTITY_COLOR = (0.0, 1.0, 0.0, 1.0)  # hue shift, saturation factor, brightness shift, contrast factor


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
