"""VGG-19 and a pose machine of several stages, with a branch for every field (Cao, Simon, Wei, Sheikh:
Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields, CVPR 2017, section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pose.backbones.pretrained import load_vgg19
from pose.config import FilePath, Settings
from pose.registry import BACKBONES
from pose.structures import Fields


class Vgg19CpmSettings(Settings):
    """The defaults are the published network: 52.3 M parameters with 38 PAF and 19 heatmap channels."""

    name: Literal["vgg19_cpm"] = "vgg19_cpm"
    stages: int = Field(6, ge=1, le=6)
    """Predictions one after the other, each supervised; all but the first see the one before."""
    trunk_width: int = Field(64, ge=1)
    """Channels of VGG's first layers; its later ones have 2, 4 and 8 times as many."""
    width: int = Field(128, ge=1)
    """Channels of the trunk's output and inside the stages."""
    first_stage_width: int = Field(512, ge=1)
    """Channels before the prediction of the first stage."""
    kernel: Literal[3, 5, 7] = 7
    """Side of the kernels in the later stages."""
    pretrained: FilePath | None = None
    """Weights of VGG's ten layers when a new run starts: `imagenet` (torchvision's, fetched once), a file
    with VGG-19's weights, or null."""


def conv(inputs: int, outputs: int, kernel: int = 3) -> list[nn.Module]:
    """Convolution of the same size, and its activation."""
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]


def trunk(cfg: Vgg19CpmSettings) -> nn.Sequential:
    """(B, 3, H, W) -> (B, width, H / 8, W / 8): VGG-19 to conv4_2 under torchvision's numbers, and two layers
    of the pose machine's own."""
    w = cfg.trunk_width
    return nn.Sequential(
        *conv(3, w), *conv(w, w), nn.MaxPool2d(2),
        *conv(w, 2 * w), *conv(2 * w, 2 * w), nn.MaxPool2d(2),
        *conv(2 * w, 4 * w), *conv(4 * w, 4 * w), *conv(4 * w, 4 * w), *conv(4 * w, 4 * w), nn.MaxPool2d(2),
        *conv(4 * w, 8 * w), *conv(8 * w, 8 * w),
        *conv(8 * w, 4 * w), *conv(4 * w, cfg.width),
    )  # fmt: skip


def first_stage(cfg: Vgg19CpmSettings, outputs: int) -> nn.Sequential:
    """One branch: trunk (B, width, h, w) -> field (B, outputs, h, w)."""
    w, wide = cfg.width, cfg.first_stage_width
    return nn.Sequential(
        *conv(w, w), *conv(w, w), *conv(w, w), *conv(w, wide, 1), nn.Conv2d(wide, outputs, 1)
    )


def later_stage(cfg: Vgg19CpmSettings, inputs: int, outputs: int) -> nn.Sequential:
    """One branch: all fields of the stage before, and trunk (B, inputs, h, w) -> field (B, outputs, h, w)."""
    w, k = cfg.width, cfg.kernel
    return nn.Sequential(
        *conv(inputs, w, k), *conv(w, w, k), *conv(w, w, k), *conv(w, w, k), *conv(w, w, k),
        *conv(w, w, 1), nn.Conv2d(w, outputs, 1),
    )  # fmt: skip


@BACKBONES.register("vgg19_cpm", Vgg19CpmSettings)
class Vgg19Cpm(nn.Module):
    """`channels` maps each field to its number of channels; every stage has every field."""

    def __init__(self, cfg: Vgg19CpmSettings, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.cfg = cfg
        self.channels = dict(channels)
        self.strides = (8,) * cfg.stages
        self.size_multiple = 8
        seen = sum(channels.values()) + cfg.width
        self.trunk = trunk(cfg)
        first = nn.ModuleDict({name: first_stage(cfg, count) for name, count in channels.items()})
        later = [
            nn.ModuleDict({name: later_stage(cfg, seen, count) for name, count in channels.items()})
            for _ in range(cfg.stages - 1)
        ]
        self.stages = nn.ModuleList([first, *later])
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> list[Fields]:
        """x (B, 3, H, W) float -> one {field: (B, C, H / 8, W / 8)} for every stage."""
        features = self.trunk(x)
        stages: list[Fields] = []
        for stage in self.stages:
            seen = torch.cat([*stages[-1].values(), features], 1) if stages else features
            stages.append({name: branch(seen) for name, branch in stage.items()})  # type: ignore[operator]
        return stages

    def load_pretrained(self) -> str:
        """Gives conv1_1 to conv4_2 the weights that `pretrained` names; a sentence about them."""
        assert self.cfg.pretrained is not None
        return load_vgg19(self._convolutions()[:10], self.cfg.pretrained)

    def pretrained_layers(self) -> list[nn.Conv2d]:
        """What `train.freeze_epochs` holds: conv1_1 to conv4_1.  conv4_2 is pretrained too, but moves from
        the start, as in rtpose (PyTorch)."""
        return self._convolutions()[:9]

    def _convolutions(self) -> list[nn.Conv2d]:
        return [layer for layer in self.trunk if isinstance(layer, nn.Conv2d)]
