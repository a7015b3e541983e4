"""A learning rate from each of some epochs on."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pose.engine.schedules.base import Schedule, ScheduleSettings
from pose.registry import SCHEDULES


class PiecewiseSettings(ScheduleSettings):
    """A learning rate from each of some epochs on."""

    name: Literal["piecewise"] = "piecewise"
    rates: tuple[tuple[float, float], ...]
    """[epoch, learning rate] pairs, each from its epoch on until the next; the first epoch is 0.  They stand
    for `lr`, which is then only where the warm-up ends."""

    @model_validator(mode="after")
    def _check_rates(self) -> PiecewiseSettings:
        epochs = [epoch for epoch, _ in self.rates]
        if epochs[:1] != [0] or epochs != sorted(set(epochs)):
            raise ValueError(
                "the schedule piecewise needs rates: [epoch, rate] pairs from epoch 0 on, ascending"
            )
        if any(rate <= 0 for _, rate in self.rates):
            raise ValueError("rates must be above 0")
        return self


@SCHEDULES.register("piecewise", PiecewiseSettings)
class Piecewise(Schedule[PiecewiseSettings]):
    def factor(self, step: int) -> float:
        started = [lr for epoch, lr in self.settings.rates if step >= epoch * self.steps_per_epoch]
        return started[-1] / self.lr
