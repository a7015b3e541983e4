"""Stacked hourglass with pre-activation and swish at an output stride of 8, with separate heads for the
fields: the network of JakeRenn's associative-embedding entry to AI Challenger 2017
(Pytorch-Multi-Person-Pose-Estimation). Hourglasses: Newell, Yang, Deng, "Stacked Hourglass Networks" (ECCV
2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pose.config import Settings
from pose.registry import BACKBONES
from pose.structures import Fields

STRIDE = 8


class HourglassSwishSettings(Settings):
    """The defaults are the published network: 103.4 M parameters with 14 heatmaps and 14 tag maps."""

    name: Literal["hourglass_swish"] = "hourglass_swish"
    stacks: int = Field(3, ge=1)
    """Hourglasses one after the other, each supervised."""
    width: int = Field(256, ge=1)
    """Channels at the output stride."""
    growth: int = Field(128, ge=0)
    """Channels added at every halving of the resolution inside an hourglass."""
    depth: int = Field(4, ge=1)
    """Halvings inside an hourglass."""
    stem_width: int = Field(64, ge=1)
    """Channels of the first convolution; the rest of the stem has twice as many."""


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Same size at stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)


def act_conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Activation, then convolution.  Never in place: what comes in is also added or pooled as it is."""
    return nn.Sequential(nn.SiLU(), conv(inputs, outputs, kernel))


def stem(cfg: HourglassSwishSettings) -> nn.Sequential:
    """(B, 3, H, W) -> (B, width, H / 8, W / 8), without an activation at the end."""
    narrow, wide = cfg.stem_width, 2 * cfg.stem_width
    layers: list[nn.Module] = [conv(3, narrow, 7, stride=2), nn.SiLU(), conv(narrow, wide), nn.SiLU()]
    layers += [nn.MaxPool2d(2), conv(wide, wide), nn.SiLU(), conv(wide, wide), nn.SiLU()]
    layers += [nn.MaxPool2d(2), conv(wide, cfg.width), nn.SiLU(), conv(cfg.width, cfg.width)]
    return nn.Sequential(*layers)


class Hourglass(nn.Module):
    """One hourglass: a branch at this resolution, and one that goes to half of it and comes back."""

    def __init__(self, depth: int, width: int, growth: int) -> None:
        super().__init__()
        wider = width + growth
        self.up1 = act_conv(width, width)
        self.pool = nn.MaxPool2d(2)
        self.low1 = act_conv(width, wider)
        self.low2 = Hourglass(depth - 1, wider, growth) if depth > 1 else act_conv(wider, wider)
        self.low3 = act_conv(wider, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(self.pool(x))))
        return self.up1(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class Stack(nn.Module):
    """Hourglass, two convolutions, one head per field; and, but for the last stack, what the next one adds to
    x."""

    def __init__(self, cfg: HourglassSwishSettings, channels: Mapping[str, int], last: bool) -> None:
        super().__init__()
        width = cfg.width
        self.hourglass = Hourglass(cfg.depth, width, cfg.growth)
        self.features = nn.Sequential(act_conv(width, width), act_conv(width, width, 1))
        self.heads = nn.ModuleDict({name: conv(width, count, 1) for name, count in channels.items()})
        self.merge_features = None if last else conv(width, width, 1)
        self.merge_fields = None if last else conv(sum(channels.values()), width, 1)

    def forward(self, x: Tensor) -> tuple[Fields, Tensor]:
        """x (B, width, h, w) -> fields (B, C, h, w) each, the next stack's x."""
        features = self.features(self.hourglass(x))
        fields = {name: head(features) for name, head in self.heads.items()}
        if self.merge_features is not None and self.merge_fields is not None:
            x = x + self.merge_features(features) + self.merge_fields(torch.cat([*fields.values()], 1))
        return fields, x


@BACKBONES.register("hourglass_swish", HourglassSwishSettings)
class HourglassSwish(nn.Module):
    """`channels` maps each field to its number of channels; every stage has every field."""

    def __init__(self, cfg: HourglassSwishSettings, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.strides = (STRIDE,) * cfg.stacks
        self.size_multiple = STRIDE * 2**cfg.depth
        self.stem = stem(cfg)
        self.stacks = nn.ModuleList(Stack(cfg, channels, last=s == cfg.stacks - 1) for s in range(cfg.stacks))

    def forward(self, x: Tensor) -> list[Fields]:
        """x (B, 3, H, W) float -> one {field: (B, C, h, w)} for every stack."""
        x = self.stem(x)
        stages = []
        for stack in self.stacks:
            fields, x = stack(x)
            stages.append(fields)
        return stages
