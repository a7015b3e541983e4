"""Feature pyramid (Lin et al.: Feature Pyramid Networks for Object Detection, CVPR 2017): every feature is
projected to one width, and added to what comes down from the coarser ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pose.config import Settings
from pose.errors import UserError
from pose.layers import conv_bn, kaiming
from pose.necks.base import Neck
from pose.registry import NECKS


class FpnSettings(Settings):
    """The width costs more than the backbone does: 256 channels at 1/4 take 10 GMACs of a 512 x 512 image."""

    name: Literal["fpn"] = "fpn"
    width: int = Field(128, ge=1)
    """Channels of its features."""
    strides: tuple[int, ...] = ()
    """Strides of the features that it gives; empty = the finest one only."""


@NECKS.register("fpn", FpnSettings)
class Fpn(Neck):
    """1x1 convolutions, bilinear upsampling with addition, a 3x3 convolution on what is given."""

    def __init__(self, cfg: FpnSettings, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        wanted = sorted(cfg.strides or (min(strides),))
        absent = [stride for stride in wanted if stride not in strides]
        if absent:
            given = ", ".join(map(str, strides))
            raise UserError(f"neck.strides={wanted}: the backbone gives features at the strides {given} only")
        self.index = [list(strides).index(stride) for stride in wanted]
        self.first = self.index[0]  # finer features than this are of no use
        self.strides, self.channels = tuple(wanted), (cfg.width,) * len(wanted)
        self.lateral = nn.ModuleList(
            conv_bn(count, cfg.width, 1, relu=False) for count in channels[self.first :]
        )
        self.smooth = nn.ModuleList(conv_bn(cfg.width, cfg.width, 3) for _ in wanted)
        kaiming(self)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        projected = [lateral(x) for lateral, x in zip(self.lateral, features[self.first :], strict=True)]
        for i in range(len(projected) - 1, 0, -1):
            finer = projected[i - 1]
            projected[i - 1] = finer + F.interpolate(projected[i], finer.shape[-2:], mode="bilinear")
        chosen = [projected[i - self.first] for i in self.index]
        return [smooth(x) for smooth, x in zip(self.smooth, chosen, strict=True)]
