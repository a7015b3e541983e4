"""Optimisers, their groups of weights, and their state from a checkpoint."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from pose.engine.optim import build_optimizer, keep_settings, layer_rates
from pose.engine.optimizers.adam import AdamSettings
from pose.engine.schedules.base import Schedule
from pose.engine.schedules.step import StepSettings
from pose.engine.scheduling import build_schedule, build_scheduler, continue_at
from pose.engine.settings import TrainSettings
from pose.errors import UserError
from pose.model import resolve_precision
from tests.small_networks import feature_network, small_network
from tests.small_optimization import net, stepped, without_norm
from tests.training_fixtures import train_settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"betas": (1.0, 0.9)}, r"optimizer.betas: expected two numbers from 0 to below 1, got \[1.0, 0.9\]"),
        ({"betas": (0.9, -0.1)}, "from 0 to below 1"),
        ({"optimizer": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_what_torch_would_refuse_is_told_by_the_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_settings(**settings)
    train_settings(momentum=0.0, nesterov=True)  # those of sgd, whose keys others had in former versions


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_optimiser_is_torchs_own_and_only_weights_decay(name: Any) -> None:
    cfg = train_settings(optimizer=name, lr=0.01, weight_decay=0.1, nesterov=name == "sgd").optimizer
    module, twin = without_norm(), without_norm()
    optimizer = build_optimizer(module.named_parameters(), cfg)
    assert all(group["fused"] for group in optimizer.param_groups)
    weights = [p for p in twin.parameters() if p.ndim > 1]
    others = [p for p in twin.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    assert len(weights) == len(others) == 2
    plain = {
        "adam": lambda: torch.optim.Adam(groups, 0.01, (0.9, 0.999), foreach=False),
        "adamw": lambda: torch.optim.AdamW(groups, 0.01, (0.9, 0.999), foreach=False),
        "sgd": lambda: torch.optim.SGD(groups, 0.01, 0.9, nesterov=True, foreach=False),
    }[name]()
    for seed in range(5):
        stepped(module, optimizer, seed)
        stepped(twin, plain, seed)
    for own, expected in zip(module.parameters(), twin.parameters()):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


def test_frozen_parameters_are_left_out() -> None:
    module = net()
    module[0].requires_grad_(False)
    groups = build_optimizer(module.named_parameters(), AdamSettings()).param_groups
    assert sum(len(group["params"]) for group in groups) == 4


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_an_edited_rate_counts_when_a_run_continues(name: Any) -> None:
    """The moments come from the checkpoint, rate, decay and momentum from the config."""

    def schedule(cfg: TrainSettings) -> Schedule[Any]:
        return build_schedule(cfg.schedule, lr=cfg.optimizer.lr, total_steps=100, steps_per_epoch=3)

    old = train_settings(optimizer=name, lr=0.1, schedule="step", milestones=(1,), gamma=0.5)
    module = net()
    optimizer = build_optimizer(module.named_parameters(), old.optimizer)
    scheduler = build_scheduler(optimizer, schedule(old))
    for seed in range(4):
        stepped(module, optimizer, seed)
        scheduler.step()
    moments, state = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(scheduler.state_dict())

    new = train_settings(
        optimizer=name, lr=0.01, weight_decay=0.2, momentum=0.5, betas=(0.8, 0.9), milestones=(1,), gamma=0.5
    )
    fresh = build_optimizer(module.named_parameters(), new.optimizer)
    after = build_scheduler(fresh, schedule(new))
    keep_settings(fresh, moments)
    continue_at(after, state)
    assert fresh.param_groups[0]["lr"] == after.get_last_lr()[0] == pytest.approx(0.005)
    assert [group["weight_decay"] for group in fresh.param_groups] == [0.2, 0.0]
    if name == "adam":
        assert fresh.param_groups[0]["betas"] == (0.8, 0.9)
    else:
        assert fresh.param_groups[0]["momentum"] == 0.5
    for key, value in moments["state"].items():
        for what, tensor in value.items():
            torch.testing.assert_close(fresh.state_dict()["state"][key][what], tensor)
    fresh.step()
    after.step()
    assert fresh.param_groups[0]["lr"] == pytest.approx(0.01 * 0.5) and after.last_epoch == 5


def test_precision_on_a_cpu() -> None:
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(("decay", "backbone_lr"), [(0.7, 1.0), (1.0, 0.1), (0.7, 0.1)])
def test_learning_rates_fall_with_the_distance_from_the_head(decay: float, backbone_lr: float) -> None:
    """Four groups of the backbone and the head, 0.7: .2401 .343 .49 .7 1."""
    backbone = feature_network("hrnet", {})
    cfg = AdamSettings(lr=1e-3, layer_decay=decay, backbone_lr=backbone_lr, weight_decay=0.1)
    head = nn.Conv2d(8, 3, 1)
    rates = layer_rates(backbone, cfg)
    optimizer = build_optimizer([*backbone.named_parameters(), *head.named_parameters("head")], cfg, rates)
    rate_of = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rate_of) == len([*backbone.parameters(), *head.parameters()])
    assert {rate_of[p] for p in head.parameters()} == {1e-3}
    expected = [1e-3 * backbone_lr * factor for factor in (decay**4, decay**3, decay**2, decay)]
    for group, lr in zip(backbone.layer_groups(), expected, strict=True):
        found = {rate_of[p] for p in group}
        assert len(found) == 1 and found.pop() == pytest.approx(lr)
    decayed = {p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {p for p in rate_of if p.ndim > 1}
    warmup = build_schedule(StepSettings(warmup_steps=2), lr=1e-3, total_steps=10, steps_per_epoch=10)
    scheduler = build_scheduler(optimizer, warmup)
    assert rate_of[head.weight] == pytest.approx(2 * optimizer.param_groups[0]["lr"])
    assert len(scheduler.get_last_lr()) == len(optimizer.param_groups)


def test_no_factors_make_the_groups_that_there_always_were() -> None:
    backbone = feature_network("hrnet", {})
    assert layer_rates(backbone, AdamSettings()) == {}
    groups = build_optimizer(backbone.named_parameters(), AdamSettings()).param_groups
    assert [len(group["params"]) for group in groups] == [
        sum(p.ndim > 1 for p in backbone.parameters()), sum(p.ndim <= 1 for p in backbone.parameters())
    ]  # fmt: skip


def test_a_decay_over_a_network_without_an_order_is_refused() -> None:
    hourglass = small_network("hourglass")
    assert {*layer_rates(hourglass, AdamSettings(backbone_lr=0.1)).values()} == {0.1}
    with pytest.raises(UserError, match=r"train.optimizer.backbone_lr instead"):
        layer_rates(hourglass, AdamSettings(layer_decay=0.9))
