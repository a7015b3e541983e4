"""What a backbone offers that gives features and no fields: a neck and a predictor stand on it.

A backbone whose fields cannot be separated from it (hourglass, pose machine) is a module with `forward(x) ->
list[Fields]`, `strides` and `size_multiple` instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class FeatureBackbone(nn.Module):
    """Images -> features at several resolutions.

    feature_channels, feature_strides: of each feature, fine to coarse; size_multiple: sides of images are
    multiples of it; normalization: what the weights that `pretrained` names were trained with, as settings of
    `input` (None: nothing is known, or several are in use)."""

    feature_channels: tuple[int, ...]
    feature_strides: tuple[int, ...]
    size_multiple: int
    normalization: Mapping[str, Any] | None = None

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) float -> (B, C, H / stride, W / stride) for every feature, fine to coarse."""
        raise NotImplementedError

    def layer_groups(self) -> Sequence[Sequence[nn.Parameter]]:
        """All parameters in groups from the input to the output, for learning rates that fall with the
        distance from the head."""
        raise NotImplementedError


def parameters(*layers: nn.Module) -> list[nn.Parameter]:
    """Those of all `layers`."""
    return [parameter for layer in layers for parameter in layer.parameters()]
