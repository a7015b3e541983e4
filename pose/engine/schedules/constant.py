"""The learning rate as it is."""

from __future__ import annotations

from typing import Literal

from pose.engine.schedules.base import Schedule, ScheduleSettings
from pose.registry import SCHEDULES


class ConstantSettings(ScheduleSettings):
    """The learning rate as it is."""

    name: Literal["constant"] = "constant"


@SCHEDULES.register("constant", ConstantSettings)
class Constant(Schedule[ConstantSettings]):
    def factor(self, step: int) -> float:
        return 1.0
