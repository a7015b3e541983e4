"""The learning rate times `gamma` at each milestone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pose.engine.schedules.base import Schedule, ScheduleSettings
from pose.registry import SCHEDULES


class StepSettings(ScheduleSettings):
    """The learning rate times `gamma` at each milestone."""

    name: Literal["step"] = "step"
    milestones: tuple[float, ...] = ()
    """Epochs at which the rate is lowered."""
    gamma: float = Field(0.1, gt=0)
    """What it is multiplied by."""


@SCHEDULES.register("step", StepSettings)
class Step(Schedule[StepSettings]):
    def factor(self, step: int) -> float:
        passed = sum(step >= epoch * self.steps_per_epoch for epoch in self.settings.milestones)
        return self.settings.gamma**passed
