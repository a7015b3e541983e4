"""The learning rate times a factor wherever validations stop getting better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from pose.engine.schedules.base import Schedule, ScheduleSettings
from pose.metrics.base import Scores
from pose.registry import SCHEDULES

COUNTERS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class PlateauSettings(ScheduleSettings):
    """The learning rate times a factor wherever validations stop getting better."""

    name: Literal["plateau"] = "plateau"
    metric: Literal["best", "loss"] = "best"
    """The number that chooses best.pt, or the loss on the validation images without augmentation."""
    factor: float = Field(0.8, gt=0, lt=1)
    """What the rate is multiplied by."""
    patience: int = Field(5, ge=0)
    """Validations without improvement before the rate drops."""
    cooldown: int = Field(3, ge=0)
    """Validations after a drop that are not counted."""
    threshold: float = Field(1e-4, ge=0)
    """Better means better by this fraction of the best."""

    @field_validator("metric", mode="before")
    @classmethod
    def _name_of_today(cls, value: Any) -> Any:
        return "best" if value == "AP" else value  # of configs from before there were other metrics

    @property
    def needs_validation(self) -> bool:
        return True

    @property
    def needs_validation_loss(self) -> bool:
        return self.metric == "loss"


@SCHEDULES.register("plateau", PlateauSettings)
class Plateau(Schedule[PlateauSettings]):
    """torch's ReduceLROnPlateau on an optimiser of its own: the rate of that one is the factor by which the
    learning rate has been lowered."""

    def __init__(
        self, settings: PlateauSettings, *, lr: float, total_steps: int, steps_per_epoch: int
    ) -> None:
        super().__init__(settings, lr=lr, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        self.metric = settings.metric
        self.factor_holder = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.factor_holder,
            "max" if self.metric == "best" else "min",
            factor=settings.factor,
            patience=settings.patience,
            threshold=settings.threshold,
            cooldown=settings.cooldown,
        )

    def factor(self, step: int) -> float:
        return 1.0

    @property
    def lowered(self) -> float:
        return float(self.factor_holder.param_groups[0]["lr"])

    def validated(self, scores: Scores, *, comparable: bool) -> None:
        if self.metric == "best" and not comparable:
            self.scheduler._reset()  # counts anew from here, with the same factor
        self.scheduler.step(scores.value if self.metric == "best" else scores.numbers[self.metric])

    def state_dict(self) -> dict[str, Any]:
        counters = {name: getattr(self.scheduler, name) for name in COUNTERS}
        return {"factor": self.lowered, "metric": self.metric, **counters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """For another metric the counting starts anew."""
        self.factor_holder.param_groups[0]["lr"] = state["factor"]
        if {"AP": "best"}.get(state["metric"], state["metric"]) == self.metric:
            for name in COUNTERS:
                setattr(self.scheduler, name, state[name])
