"""What a neck offers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Neck(nn.Module):
    """Features -> features, both fine to coarse; made as `Class(settings, channels, strides)` of what comes
    in.

    channels, strides: of each feature that it gives."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, H / stride, W / stride) each, from and to."""
        raise NotImplementedError
