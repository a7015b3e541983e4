"""What a predictor offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from pose.structures import Fields, FieldSpec


class Predictor(nn.Module):
    """Features -> one dict of fields per level, coarse to fine; made as `Class(settings, channels, strides,
    fields)`: channels and strides of the features, and what the head needs.

    strides: of each level.  A level has the fields whose `strides` allow it."""

    strides: tuple[int, ...]

    def forward(self, features: Sequence[Tensor]) -> list[Fields]:
        """(B, C, H / stride, W / stride) each, fine to coarse -> {field: (B, C, h, w)} coarse to fine."""
        raise NotImplementedError


def fields_at(stride: int, fields: Mapping[str, FieldSpec]) -> dict[str, int]:
    """The fields that a level of `stride` has, and how many channels each."""
    return {n: s.channels for n, s in fields.items() if s.strides is None or stride in s.strides}


def projection(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution with a bias, its weights N(0, 0.001^2)."""
    layer = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(layer.weight, std=0.001)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def split(maps: Tensor, channels: Mapping[str, int]) -> Fields:
    """(B, sum of the channels, h, w) -> the fields."""
    return dict(zip(channels, maps.split([*channels.values()], 1), strict=True))
