"""All features of the backbone, brought to the finest one's resolution and concatenated (Sun et al.:
High-Resolution Representations for Labeling Pixels and Regions, 2019: HRNetV2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pose.config import Settings
from pose.layers import conv_bn, kaiming
from pose.necks.base import Neck
from pose.registry import NECKS


class CatSettings(Settings):
    """Without a width it has no weights, as in DEKR and CID."""

    name: Literal["cat"] = "cat"
    width: int | None = Field(None, ge=1)
    """Channels of a 1x1 convolution with batch normalization and ReLU after the concatenation; null = no
    such convolution."""


@NECKS.register("cat", CatSettings)
class Cat(Neck):
    def __init__(self, cfg: CatSettings, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        joined = sum(channels)
        self.strides = (min(strides),)
        self.channels = (joined if cfg.width is None else cfg.width,)
        self.mix: nn.Module = nn.Identity()
        if cfg.width is not None:
            self.mix = conv_bn(joined, cfg.width, 1)
            kaiming(self.mix)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        size = features[0].shape[-2:]
        same = [features[0], *(F.interpolate(x, size, mode="bilinear") for x in features[1:])]
        return [self.mix(torch.cat(same, 1))]
