"""Levels of doubled resolution above a feature (Cheng et al.: HigherHRNet: Scale-Aware Representation
Learning for Bottom-Up Human Pose Estimation, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pose.config import Settings
from pose.errors import UserError
from pose.layers import BasicBlock, Init, first_weights, upsampling
from pose.predictors.base import Predictor, fields_at, projection, split
from pose.registry import PREDICTORS
from pose.structures import Fields, FieldSpec


class HigherResolutionSettings(Settings):
    """The defaults are HigherHRNet's: one level, at half of the image from a feature at a quarter of it."""

    name: Literal["higher_resolution"] = "higher_resolution"
    levels: int = Field(1, ge=1, le=3)
    """Levels above the first one, each of doubled resolution."""
    width: int | None = Field(None, ge=1)
    """Channels of the further levels; null = those of the feature."""
    kernel: Literal[2, 3, 4] = 4
    """Side of the transposed convolution's kernel."""
    blocks: int = Field(4, ge=0)
    """Residual blocks after each transposed convolution."""
    cat_output: bool = True
    """Each transposed convolution also sees the fields predicted at the level before."""
    init: Init = "kaiming"
    """First weights of the transposed convolutions and blocks: Kaiming's, or N(0, 0.001^2) as published."""


@PREDICTORS.register("higher_resolution", HigherResolutionSettings)
class HigherResolution(Predictor):
    """`final[l]` predicts the fields of level l; `up[l]` leads from level l to l + 1."""

    def __init__(
        self,
        cfg: HigherResolutionSettings,
        channels: Sequence[int],
        strides: Sequence[int],
        fields: Mapping[str, FieldSpec],
    ) -> None:
        super().__init__()
        if len(strides) != 1:
            raise UserError(
                f"predictor: higher_resolution stands on one feature, and the neck gives {len(strides)}"
            )
        self.cat_output = cfg.cat_output
        self.strides = tuple(strides[0] >> level for level in range(cfg.levels + 1))
        if strides[0] % (1 << cfg.levels):
            raise UserError(
                f"predictor.levels={cfg.levels}: so many doublings of the feature at stride {strides[0]} "
                "would be finer than the image"
            )
        self.fields = [fields_at(stride, fields) for stride in self.strides]
        empty = [stride for stride, here in zip(self.strides, self.fields, strict=True) if not here]
        if empty:
            raise UserError(f"predictor: no field of the head exists at the stride {empty[0]} of its level")
        final, up, width = [], [], channels[0]
        for level, here in enumerate(self.fields):
            final.append(projection(width, sum(here.values())))
            if level < cfg.levels:
                inputs = width + (sum(here.values()) if cfg.cat_output else 0)
                width = cfg.width or channels[0]
                up.append(
                    nn.Sequential(
                        upsampling(inputs, width, cfg.kernel),
                        nn.BatchNorm2d(width),
                        nn.ReLU(inplace=True),
                        *(BasicBlock(width) for _ in range(cfg.blocks)),
                    )
                )
        self.final, self.up = nn.ModuleList(final), nn.ModuleList(up)
        first_weights(self.up, cfg.init)

    def forward(self, features: Sequence[Tensor]) -> list[Fields]:
        (x,) = features
        stages: list[Fields] = []
        for level, (final, here) in enumerate(zip(self.final, self.fields, strict=True)):
            maps = final(x)
            stages.append(split(maps, here))
            if level < len(self.up):
                x = self.up[level](torch.cat((x, maps), 1) if self.cat_output else x)
        return stages
