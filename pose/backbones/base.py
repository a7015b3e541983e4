"""What a backbone offers that gives features and no fields: a neck and a predictor stand on it.

A backbone whose fields cannot be separated from it (hourglass, pose machine) is a module with `forward(x) ->
list[Fields]`, `strides` and `size_multiple` instead."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class FeatureBackbone(nn.Module):
    """Images -> features at several resolutions.

    feature_channels, feature_strides: of each feature, fine to coarse; size_multiple: sides of images are
    multiples of it; normalization: that of the weights which `pretrained` names, a key of
    `pose.structures.NORMALIZATIONS` (None: nothing is known)."""

    feature_channels: tuple[int, ...]
    feature_strides: tuple[int, ...]
    size_multiple: int
    normalization: str | None = None

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) float -> (B, C, H / stride, W / stride) for every feature, fine to coarse."""
        raise NotImplementedError

    def layer_groups(self) -> Sequence[Sequence[nn.Module]]:
        """All layers in groups from the input to the output, for learning rates that fall with the distance
        from the head."""
        raise NotImplementedError
