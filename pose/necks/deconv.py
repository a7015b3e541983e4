"""Transposed convolutions on the coarsest feature (Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation
and Tracking, ECCV 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from pose.config import Settings
from pose.errors import UserError
from pose.layers import upsampling
from pose.necks.base import Neck
from pose.registry import NECKS


class DeconvSettings(Settings):
    """The defaults are Simple Baselines'."""

    name: Literal["deconv"] = "deconv"
    layers: int = Field(3, ge=1, le=5)
    """Transposed convolutions, each with batch normalization and ReLU; each doubles the resolution."""
    width: int = Field(256, ge=1)
    """Channels of each."""
    kernel: Literal[2, 3, 4] = 4
    """Side of their kernels."""


@NECKS.register("deconv", DeconvSettings)
class Deconv(Neck):
    def __init__(self, cfg: DeconvSettings, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        coarsest, factor = max(strides), 2**cfg.layers
        if coarsest % factor:
            raise UserError(
                f"neck.layers={cfg.layers}: {cfg.layers} doublings of the coarsest feature, at stride "
                f"{coarsest}, would be finer than the image"
            )
        self.index = list(strides).index(coarsest)
        self.channels, self.strides = (cfg.width,), (coarsest // factor,)
        layers: list[nn.Module] = []
        inputs = channels[self.index]
        for _ in range(cfg.layers):
            layers += [upsampling(inputs, cfg.width, cfg.kernel), nn.BatchNorm2d(cfg.width)]
            layers += [nn.ReLU(inplace=True)]
            inputs = cfg.width
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.001)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [self.layers(features[self.index])]
