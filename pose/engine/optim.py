"""Optimiser, learning-rate schedule and moving average of the weights: torch's own, chosen by settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pose.config import Settings


class OptimSettings(Settings):
    """The part of `train:` that says how weights move."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(2e-4, gt=0)
    """Learning rate after warm-up, for the whole batch size."""
    weight_decay: float = Field(0.0, ge=0)
    """Of weights; biases and normalisation layers are not decayed."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd."""
    nesterov: bool = False
    """Of sgd."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of adam and adamw."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    """After warm-up: as it is, times `gamma` at each of `milestones`, or down a cosine to `final_lr`."""
    milestones: tuple[float, ...] = ()
    """Epochs at which `step` lowers the rate."""
    gamma: float = Field(0.1, gt=0)
    final_lr: float = Field(0.0, ge=0)
    """End of `cosine`, as a fraction of lr."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the rate rises linearly from nothing."""
    clip_norm: float | None = Field(None, gt=0)
    """Gradients are scaled down to this total norm."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is validated and tested; 0 = none.  It starts lower:
    (1 + step) / (10 + step) while that is less."""


def build_optimizer(parameters: Iterable[nn.Parameter], cfg: OptimSettings) -> torch.optim.Optimizer:
    """The fused form where the device has it: one kernel, and a skipped step costs no wait for the device."""
    chosen = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in chosen if p.ndim > 1], "weight_decay": cfg.weight_decay},
        {"params": [p for p in chosen if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type in ("cuda", "cpu") for p in chosen)
    if cfg.optimizer == "sgd":
        sgd = torch.optim.SGD(groups, cfg.lr, cfg.momentum, nesterov=cfg.nesterov, fused=fused)
        if cfg.momentum:
            # fused SGD leaves the momentum uninitialised where its very first step is skipped; from zeros the
            # first step is the same
            for parameter in chosen:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    kind = torch.optim.Adam if cfg.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, cfg.lr, cfg.betas, fused=fused)


def rate(step: int, cfg: OptimSettings, total_steps: int, steps_per_epoch: int) -> float:
    """The learning rate of `step` (from 0) as a fraction of `cfg.lr`."""
    if step < cfg.warmup_steps:
        return (step + 1) / cfg.warmup_steps
    if cfg.schedule == "step":
        return cfg.gamma ** sum(step >= epoch * steps_per_epoch for epoch in cfg.milestones)
    if cfg.schedule == "cosine":
        progress = (step - cfg.warmup_steps) / max(1, total_steps - cfg.warmup_steps)
        return cfg.final_lr + (1 - cfg.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def keep_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load `state` (moments), but keep the optimiser's own settings: a rate that was edited in the config
    counts when a run is continued."""
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def continue_at(scheduler: torch.optim.lr_scheduler.LambdaLR, state: Mapping[str, Any]) -> None:
    """Set the scheduler to the step of its `state`, with its own rates."""
    scheduler.last_epoch, scheduler._step_count = state["last_epoch"], state["_step_count"]
    rates = [base * at(scheduler.last_epoch) for base, at in zip(scheduler.base_lrs, scheduler.lr_lambdas)]
    for group, lr in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
    scheduler._last_lr = rates


def build_scheduler(
    optimizer: torch.optim.Optimizer, cfg: OptimSettings, total_steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    # a closed form: the rate of a step does not depend on how often the run was stopped
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate(step, cfg, total_steps, steps_per_epoch)
    )


class MovingAverage:
    """Exponential moving average of a module's weights and floating buffers, by torch's multi-tensor
    update."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """`step` counts the updates of the weights, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        own, new = self.module.state_dict(), module.state_dict()
        floating = [name for name, value in own.items() if value.is_floating_point()]
        # by name: the wrapped module's tensors come in the same order, integers (counters) are copied
        get_ema_multi_avg_fn(decay)([own[n] for n in floating], [new[n] for n in floating], None)
        for name in own.keys() - set(floating):
            own[name].copy_(new[name])
