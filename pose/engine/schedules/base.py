"""What all schedules have in common: the warm-up, and a factor on the learning rate by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import Field

from pose.config import Settings
from pose.metrics.base import Scores


class ScheduleSettings(Settings):
    """The warm-up."""

    name: str
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the rate rises linearly from nothing."""

    @property
    def needs_validation(self) -> bool:
        """Whether the schedule goes by the scores of validations."""
        return False

    @property
    def needs_validation_loss(self) -> bool:
        """Whether the loss on the validation images is one of them."""
        return False


S = TypeVar("S", bound=ScheduleSettings)


class Schedule(Generic[S]):
    """The learning rate by step, as a fraction of `lr`.

    A closed form: the rate of a step does not depend on how often the run was stopped.  lr: the learning rate
    of the optimiser's settings; total_steps: length of the run."""

    def __init__(self, settings: S, *, lr: float, total_steps: int, steps_per_epoch: int) -> None:
        self.settings = settings
        self.lr = lr
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, step: int) -> float:
        """The factor of `step`, which counts from 0."""
        warmup = self.settings.warmup_steps
        return ((step + 1) / warmup if step < warmup else self.factor(step)) * self.lowered

    def factor(self, step: int) -> float:
        """The factor of a step after the warm-up."""
        raise NotImplementedError

    @property
    def lowered(self) -> float:
        """A factor on every rate, the warm-up's too, that depends on what was validated."""
        return 1.0

    def validated(self, scores: Scores, *, comparable: bool) -> None:
        """After a validation.  comparable: its best number is of the same metric as those before."""

    def state_dict(self) -> dict[str, Any]:
        """What depends on the validations so far; empty where nothing does."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; settings that were edited since count from here on."""
