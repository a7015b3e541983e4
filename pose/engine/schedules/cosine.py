"""Down a cosine from the learning rate to a fraction of it (Loshchilov and Hutter, 2017)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from pose.engine.schedules.base import Schedule, ScheduleSettings
from pose.registry import SCHEDULES


class CosineSettings(ScheduleSettings):
    """Down a cosine from the learning rate to a fraction of it (Loshchilov and Hutter, 2017)."""

    name: Literal["cosine"] = "cosine"
    final_lr: float = Field(0.0, ge=0)
    """Learning rate at the end, as a fraction of lr."""


@SCHEDULES.register("cosine", CosineSettings)
class Cosine(Schedule[CosineSettings]):
    def factor(self, step: int) -> float:
        final, warmup = self.settings.final_lr, self.settings.warmup_steps
        progress = (step - warmup) / max(1, self.total_steps - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
