"""torch's scheduler that goes by one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pose.engine.schedules.base import Schedule, ScheduleSettings
from pose.registry import SCHEDULES


def build_schedule(
    settings: ScheduleSettings, *, lr: float, total_steps: int, steps_per_epoch: int
) -> Schedule[Any]:
    schedule: Schedule[Any] = SCHEDULES.build(
        settings, lr=lr, total_steps=total_steps, steps_per_epoch=steps_per_epoch
    )
    return schedule


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: Schedule[Any]
) -> torch.optim.lr_scheduler.LambdaLR:
    """Sets the rates by step; call `set_rates` after a validation."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.__call__)


def continue_at(scheduler: torch.optim.lr_scheduler.LambdaLR, state: Mapping[str, Any]) -> None:
    """Set the scheduler to the step of its `state`, with its own rates."""
    scheduler.last_epoch, scheduler._step_count = state["last_epoch"], state["_step_count"]
    set_rates(scheduler)


def set_rates(scheduler: torch.optim.lr_scheduler.LambdaLR) -> None:
    """Work out the rates of the scheduler's step again."""
    rates = [base * at(scheduler.last_epoch) for base, at in zip(scheduler.base_lrs, scheduler.lr_lambdas)]
    for group, lr in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
    scheduler._last_lr = rates


def rates_to_log(scheduler: torch.optim.lr_scheduler.LambdaLR, lr: float) -> dict[str, float]:
    """`lr`, the rate of layers without a factor, and where some have one `lr/NAME` of every group."""
    rates = {"lr": lr * scheduler.lr_lambdas[0](scheduler.last_epoch)}
    if any(base != lr for base in scheduler.base_lrs):
        groups = scheduler.optimizer.param_groups
        rates |= {f"lr/{group['name']}": float(group["lr"]) for group in reversed(groups)}
    return rates
