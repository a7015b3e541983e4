"""Stacked hourglass (Newell, Yang, Deng: Stacked Hourglass Networks, ECCV 2016), in the plain-convolution
form of associative embedding (Newell, Huang, Deng: Associative Embedding, NIPS 2017, as published in
pose-ae-train and, with batch normalisation, in MMPose)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pose.config import Settings
from pose.registry import BACKBONES
from pose.structures import Fields

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "silu": nn.SiLU}


class HourglassSettings(Settings):
    """The defaults are the published network: 4 stacks, 138.9 M parameters with `unused_channels: 34`."""

    name: Literal["hourglass"] = "hourglass"
    stacks: int = Field(4, ge=1)
    """Hourglasses one after the other, each supervised."""
    width: int = Field(256, ge=1)
    """Channels at the output stride."""
    growth: int = Field(128, ge=0)
    """Channels added at every halving of the resolution inside an hourglass."""
    depth: int = Field(4, ge=1)
    """Halvings inside an hourglass."""
    stem_width: int = Field(64, ge=1)
    """Channels of the first convolution; the rest of the stem has twice as many."""
    output_stride: Literal[2, 4, 8] = 4
    """Input pixels per cell of the output."""
    batch_norm: Literal["none", "before", "after", "throughout"] = "none"
    """Batch normalisation before or after the activation (pose-ae-train's option is `after`).  throughout:
    before it and also between stacks, each after a convolution without bias (MMPose's hourglass_ae)."""
    activation: Literal["relu", "leaky_relu", "silu"] = "relu"
    """After every convolution but the linear ones."""
    unused_channels: int = Field(0, ge=0)
    """Output channels of no meaning after the fields' own: 34 in the published weights."""


def conv(
    cfg: HourglassSettings, inputs: int, outputs: int, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    """Convolution and activation, same size, with batch normalisation where the settings want it."""
    bias = cfg.batch_norm != "throughout"
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=bias)]
    activation = ACTIVATIONS[cfg.activation](inplace=cfg.batch_norm != "after")
    if cfg.batch_norm in ("before", "throughout"):
        layers += [nn.BatchNorm2d(outputs), activation]
    elif cfg.batch_norm == "after":
        layers += [activation, nn.BatchNorm2d(outputs)]
    else:
        layers += [activation]
    return nn.Sequential(*layers)


def merge(cfg: HourglassSettings, inputs: int) -> nn.Module:
    """What brings (B, inputs, h, w) to the next stack's input (B, width, h, w)."""
    if cfg.batch_norm != "throughout":
        return nn.Conv2d(inputs, cfg.width, 1)
    return nn.Sequential(nn.Conv2d(inputs, cfg.width, 1, bias=False), nn.BatchNorm2d(cfg.width))


def stem(cfg: HourglassSettings) -> nn.Sequential:
    """(B, 3, H, W) -> (B, width, H / stride, W / stride)."""
    narrow, wide = cfg.stem_width, 2 * cfg.stem_width
    pools = int(math.log2(cfg.output_stride)) - 1
    layers = [conv(cfg, 3, narrow, kernel=7, stride=2), conv(cfg, narrow, wide)]
    layers += [nn.Sequential(nn.MaxPool2d(2))] if pools > 0 else []
    layers += [conv(cfg, wide, wide)]
    layers += [nn.Sequential(nn.MaxPool2d(2))] if pools > 1 else []
    layers += [conv(cfg, wide, cfg.width)]
    return nn.Sequential(*layers)


class Hourglass(nn.Module):
    """One hourglass: a branch at this resolution, and one that goes to half of it and comes back."""

    def __init__(self, cfg: HourglassSettings, depth: int, width: int) -> None:
        super().__init__()
        wider = width + cfg.growth
        self.up1 = conv(cfg, width, width)
        self.pool = nn.MaxPool2d(2)
        self.low1 = conv(cfg, width, wider)
        self.low2 = Hourglass(cfg, depth - 1, wider) if depth > 1 else conv(cfg, wider, wider)
        self.low3 = conv(cfg, wider, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(self.pool(x))))
        return self.up1(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class Stack(nn.Module):
    """Hourglass, two convolutions, the prediction; and, but for the last stack, what the next one adds to
    x."""

    def __init__(self, cfg: HourglassSettings, outputs: int, last: bool) -> None:
        super().__init__()
        self.hourglass = Hourglass(cfg, cfg.depth, cfg.width)
        self.features = nn.Sequential(conv(cfg, cfg.width, cfg.width), conv(cfg, cfg.width, cfg.width))
        self.prediction = nn.Conv2d(cfg.width, outputs, 1)
        self.merge_features = None if last else merge(cfg, cfg.width)
        self.merge_prediction = None if last else merge(cfg, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, width, h, w) -> prediction (B, outputs, h, w), the next stack's x."""
        features = self.features(self.hourglass(x))
        prediction = self.prediction(features)
        if self.merge_features is not None and self.merge_prediction is not None:
            x = x + self.merge_prediction(prediction) + self.merge_features(features)
        return prediction, x


@BACKBONES.register("hourglass", HourglassSettings)
class StackedHourglass(nn.Module):
    """`channels` maps each field to its number of channels; every stage has every field."""

    def __init__(self, cfg: HourglassSettings, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.channels = dict(channels)
        self.strides = (cfg.output_stride,) * cfg.stacks
        self.size_multiple = cfg.output_stride * 2**cfg.depth
        outputs = sum(channels.values()) + cfg.unused_channels
        self.stem = stem(cfg)
        self.stacks = nn.ModuleList(Stack(cfg, outputs, last=s == cfg.stacks - 1) for s in range(cfg.stacks))

    def forward(self, x: Tensor) -> list[Fields]:
        """x (B, 3, H, W) float -> one {field: (B, C, h, w)} for every stack."""
        x = self.stem(x)
        stages = []
        for stack in self.stacks:
            prediction, x = stack(x)
            sizes = [*self.channels.values()]
            split = prediction[:, : sum(sizes)].split(sizes, dim=1)
            stages.append(dict(zip(self.channels, split)))
        return stages
