"""Optimiser, learning-rate schedule and moving average of the weights: torch's own, chosen by settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pose.backbones.base import FeatureBackbone
from pose.config import Settings
from pose.errors import UserError
from pose.metrics.base import Scores


class OptimSettings(Settings):
    """The part of `train:` that says how weights move."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(2e-4, gt=0)
    """Learning rate after warm-up, for the whole batch size."""
    weight_decay: float = Field(0.0, ge=0)
    """Of weights; biases and normalisation layers are not decayed."""
    backbone_lr: float = Field(1.0, gt=0)
    """Factor on the learning rate of the whole backbone, such as 0.1 where it is pretrained."""
    layer_decay: float = Field(1.0, gt=0, le=1)
    """The learning rate of each group of the backbone's layers is this times that of the group after it, and
    that of the last group this times the rate of neck and predictor; for backbones that give features."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd."""
    nesterov: bool = False
    """Of sgd."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of adam and adamw."""
    schedule: Literal["constant", "step", "piecewise", "cosine", "plateau"] = "step"
    """After warm-up: as it is, times `gamma` at each of `milestones`, the learning rates of `rates`, down a
    cosine to `final_lr`, or times `plateau_factor` wherever validations stop getting better."""
    milestones: tuple[float, ...] = ()
    """Epochs at which `step` lowers the rate."""
    gamma: float = Field(0.1, gt=0)
    rates: tuple[tuple[float, float], ...] = ()
    """Of `piecewise`: [epoch, learning rate] pairs, each from its epoch on until the next; the first epoch is
    0.  They stand for `lr`."""
    final_lr: float = Field(0.0, ge=0)
    """End of `cosine`, as a fraction of lr."""
    plateau_factor: float = Field(0.8, gt=0, lt=1)
    """What `plateau` lowers the rate by."""
    plateau_patience: int = Field(5, ge=0)
    """Validations in a row without a better one that it bears."""
    plateau_cooldown: int = Field(3, ge=0)
    """Validations after a lowering that it does not count."""
    plateau_threshold: float = Field(1e-4, ge=0)
    """Better means better by this fraction of the best."""
    plateau_metric: Literal["best", "loss"] = "best"
    """What it looks at: the number that chooses best.pt, or the loss on the validation images without
    augmentation."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the rate rises linearly from nothing."""
    clip_norm: float | None = Field(None, gt=0)
    """Gradients are scaled down to this total norm."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is validated and tested; 0 = none.  It starts lower:
    (1 + step) / (10 + step) while that is less."""

    @field_validator("plateau_metric", mode="before")
    @classmethod
    def _old_name(cls, value: Any) -> Any:
        return "best" if value == "AP" else value  # of configs from before there were other metrics

    @field_validator("betas")
    @classmethod
    def _check_betas(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"expected two numbers from 0 to below 1, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _check_rates(self) -> OptimSettings:
        epochs = [epoch for epoch, _ in self.rates]
        if self.schedule == "piecewise" and (epochs[:1] != [0] or epochs != sorted(set(epochs))):
            raise ValueError(
                "the schedule piecewise needs rates: [epoch, rate] pairs from epoch 0 on, ascending"
            )
        if any(rate <= 0 for _, rate in self.rates):
            raise ValueError("rates must be above 0")
        return self

    @model_validator(mode="after")
    def _check_nesterov(self) -> OptimSettings:
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum; set momentum=0.9, or nesterov=false")
        return self


def layer_rates(backbone: nn.Module, cfg: OptimSettings) -> dict[nn.Parameter, float]:
    """Factors on the learning rate of the backbone's parameters by `backbone_lr` and `layer_decay`.  Raises
    `UserError` for a decay over a backbone that has no groups of layers."""
    if cfg.backbone_lr == cfg.layer_decay == 1:
        return {}
    rates = dict.fromkeys(backbone.parameters(), cfg.backbone_lr)
    if cfg.layer_decay < 1:
        if not isinstance(backbone, FeatureBackbone):
            raise UserError(
                f"train.layer_decay={cfg.layer_decay:g}: this backbone does not say which layers come after "
                "which; set train.backbone_lr instead, or use a backbone of features"
            )
        groups = backbone.layer_groups()
        for above, group in zip(range(len(groups), 0, -1), groups, strict=True):
            rates |= dict.fromkeys(group, cfg.backbone_lr * cfg.layer_decay**above)
    return rates


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    cfg: OptimSettings,
    rates: Mapping[nn.Parameter, float] | None = None,
) -> torch.optim.Optimizer:
    """Optimizes those named parameters that are not frozen; its state has their names.  Fused where the
    device has it: one kernel, and a skipped step costs no wait for the device.

    rates: factors on the learning rate, 1 where there is none.  Each group has a `name` for the log:
    `backbone.0`, `backbone.1` and so on by rising factors, and `head` for all without a factor."""
    named = [(name, p) for name, p in parameters if p.requires_grad]
    chosen = [p for _, p in named]
    factor = {p: (rates or {}).get(p, 1.0) for p in chosen}
    rising = sorted({*(rates or {}).values()})
    names = {one: f"backbone.{i}" if len(rising) > 1 else "backbone" for i, one in enumerate(rising)}
    groups: list[dict[str, Any]] = [
        {
            "params": [(n, p) for n, p in named if (p.ndim > 1) == decayed and factor[p] == one],
            "weight_decay": cfg.weight_decay if decayed else 0.0,
            "lr": cfg.lr * one,
            "name": "head" if one == 1 else names[one],
        }
        for one in sorted({*factor.values()}, reverse=True)
        for decayed in (True, False)
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


class Plateau:
    """torch's ReduceLROnPlateau on an optimiser of its own: the rate of that one is the factor by which the
    schedule `plateau` has lowered the learning rate."""

    COUNTERS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

    def __init__(self, cfg: OptimSettings) -> None:
        self.metric = cfg.plateau_metric
        self.factor_holder = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.factor_holder,
            "max" if self.metric == "best" else "min",
            factor=cfg.plateau_factor,
            patience=cfg.plateau_patience,
            threshold=cfg.plateau_threshold,
            cooldown=cfg.plateau_cooldown,
        )

    @property
    def factor(self) -> float:
        return float(self.factor_holder.param_groups[0]["lr"])

    def step(self, scores: Scores) -> None:
        """After a validation."""
        self.scheduler.step(scores.value if self.metric == "best" else scores.numbers[self.metric])

    def restart(self) -> None:
        """Count anew from here, with the same factor: what is looked at has changed."""
        self.scheduler._reset()

    def state_dict(self) -> dict[str, Any]:
        counters = {name: getattr(self.scheduler, name) for name in self.COUNTERS}
        return {"factor": self.factor, "metric": self.metric, **counters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Settings that were edited since count from here on; for another metric the counting starts anew."""
        self.factor_holder.param_groups[0]["lr"] = state["factor"]
        if {"AP": "best"}.get(state["metric"], state["metric"]) == self.metric:
            for name in self.COUNTERS:
                setattr(self.scheduler, name, state[name])


def rate(step: int, cfg: OptimSettings, total_steps: int, steps_per_epoch: int) -> float:
    """The learning rate of `step` (from 0) as a fraction of `cfg.lr`, but for the factor of `Plateau`."""
    if step < cfg.warmup_steps:
        return (step + 1) / cfg.warmup_steps
    if cfg.schedule == "step":
        return cfg.gamma ** sum(step >= epoch * steps_per_epoch for epoch in cfg.milestones)
    if cfg.schedule == "piecewise":
        return [lr for epoch, lr in cfg.rates if step >= epoch * steps_per_epoch][-1] / cfg.lr
    if cfg.schedule == "cosine":
        progress = (step - cfg.warmup_steps) / max(1, total_steps - cfg.warmup_steps)
        return cfg.final_lr + (1 - cfg.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return 1.0


def keep_settings(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], *, joined: bool = False
) -> None:
    """Load the moments of `state`, each to the parameter of its name, but keep the optimiser's own groups and
    their settings: a rate that was edited in the config counts when a run is continued.

    joined: parameters that `state` does not know were frozen until now, and begin anew.  Raises
    `ValueError` where it lacks any other one, or is of another optimiser or other shapes."""
    own = optimizer.state_dict()
    saved = moments_by_name(state, own)
    named = [one for group in optimizer.param_groups for one in zip(group["param_names"], group["params"])]
    unknown = [name for name, _ in named if name not in saved]
    if unknown and not joined:
        more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        raise ValueError(f"its optimiser knows nothing of {unknown[0]}{more}")
    moments = {}
    for place, (name, parameter) in enumerate(named):
        one = saved.get(name) or own["state"].get(place)  # of sgd there are zeros from the start
        for what, value in (one or {}).items():
            if what != "step" and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise ValueError(
                    f"{what} of {name} is {tuple(value.shape)}, the parameter {tuple(parameter.shape)}"
                )
        if one:
            moments[place] = one
    optimizer.load_state_dict({"state": moments, "param_groups": own["param_groups"]})


def moments_by_name(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The state of each parameter in an optimiser's `state`, empty before its first step.

    States from before there were names in them are of the same groups as `own`, the new optimiser's."""
    groups, new = state["param_groups"], own["param_groups"]
    if any(("betas" in group) != ("betas" in new[0]) for group in groups):
        raise ValueError("its moments are of another train.optimizer")
    if not all("param_names" in group for group in groups):
        sizes, expected = ([len(group["params"]) for group in each] for each in (groups, new))
        if sizes != expected:
            raise ValueError(
                f"its moments have no names and are of {sizes} parameters, here there are {expected}: older "
                "checkpoints need the train.backbone_lr and train.layer_decay that they were saved with"
            )
        groups = [
            {**group, "param_names": other["param_names"]} for group, other in zip(groups, new, strict=True)
        ]
    return {
        name: state["state"].get(place, {})
        for group in groups
        for name, place in zip(group["param_names"], group["params"], strict=True)
    }


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


def rates_to_log(scheduler: torch.optim.lr_scheduler.LambdaLR, cfg: OptimSettings) -> dict[str, float]:
    """`lr`, the rate of layers without a factor, and where some have one `lr/NAME` of every group."""
    rates = {"lr": cfg.lr * scheduler.lr_lambdas[0](scheduler.last_epoch)}
    if any(base != cfg.lr for base in scheduler.base_lrs):
        groups = scheduler.optimizer.param_groups
        rates |= {f"lr/{group['name']}": float(group["lr"]) for group in reversed(groups)}
    return rates


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    cfg: OptimSettings,
    total_steps: int,
    steps_per_epoch: int,
    plateau: Plateau | None = None,
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule by step; call `set_rates` where the factor of `plateau` has changed."""

    # a closed form: the rate of a step does not depend on how often the run was stopped
    def factor(step: int) -> float:
        return rate(step, cfg, total_steps, steps_per_epoch) * (plateau.factor if plateau else 1.0)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class MovingAverage:
    """Exponential moving average of a module's weights and floating buffers, by torch's multi-tensor
    update; other buffers (counters) are copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        # looked up once, by name: loading a state changes the same tensors
        own, new = self.module.state_dict(), module.state_dict()
        floating = [name for name, value in own.items() if value.is_floating_point()]
        others = [name for name in own if name not in set(floating)]
        self.averaged = [own[name] for name in floating], [new[name] for name in floating]
        self.copied = [own[name] for name in others], [new[name] for name in others]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """`step` counts the updates of the weights, from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(*self.averaged, None)
        if self.copied[0]:
            torch._foreach_copy_(*self.copied)
