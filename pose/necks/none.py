"""No neck: the predictor reads the one feature that the backbone gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pose.config import Settings
from pose.errors import UserError
from pose.necks.base import Neck
from pose.registry import NECKS


class NoNeckSettings(Settings):
    """Has nothing to set."""

    name: Literal["none"] = "none"


@NECKS.register("none", NoNeckSettings)
class NoNeck(Neck):
    """Has no weights.  Of several features it would leave the layers of all but one without a gradient, so
    those are refused."""

    def __init__(self, cfg: NoNeckSettings, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        if len(strides) != 1:
            given = ", ".join(map(str, strides))
            raise UserError(
                f"neck: this backbone gives features at the strides {given}, and without a neck all but one "
                "would be of no use; set neck.name=fpn, cat or deconv"
            )
        self.channels, self.strides = tuple(channels), tuple(strides)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return list(features)
