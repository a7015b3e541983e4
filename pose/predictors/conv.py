"""One 1x1 convolution per feature, whose channels are the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from pose.config import Settings
from pose.predictors.base import Predictor, fields_at, projection, split
from pose.registry import PREDICTORS
from pose.structures import Fields, FieldSpec


class ConvSettings(Settings):
    """Has nothing to set."""

    name: Literal["conv"] = "conv"


@PREDICTORS.register("conv", ConvSettings)
class Conv(Predictor):
    def __init__(
        self,
        cfg: ConvSettings,
        channels: Sequence[int],
        strides: Sequence[int],
        fields: Mapping[str, FieldSpec],
    ) -> None:
        super().__init__()
        levels = [
            (i, stride, here)
            for i, stride in reversed([*enumerate(strides)])
            if (here := fields_at(stride, fields))
        ]
        self.index = [i for i, _, _ in levels]
        self.strides = tuple(stride for _, stride, _ in levels)
        self.fields = [here for _, _, here in levels]
        self.layers = nn.ModuleList(projection(channels[i], sum(here.values())) for i, _, here in levels)

    def forward(self, features: Sequence[Tensor]) -> list[Fields]:
        return [
            split(layer(features[i]), here)
            for layer, i, here in zip(self.layers, self.index, self.fields, strict=True)
        ]
