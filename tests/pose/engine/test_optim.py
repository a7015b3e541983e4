"""Schedules, decay and moving average against their formulas."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from pose.engine.optim import (
    MovingAverage,
    OptimSettings,
    Plateau,
    build_optimizer,
    build_scheduler,
    continue_at,
    keep_settings,
    layer_rates,
    rate,
    set_rates,
)
from pose.errors import UserError
from pose.model import resolve_precision
from tests.small_networks import feature_network, small_network
from tests.training_fixtures import scores


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def without_norm() -> nn.Sequential:
    """A bias before batch norm has no gradient but rounding, which Adam makes large."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))


def stepped(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    x = torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    module(x).square().mean().backward()
    optimizer.step()


def rates(total: int = 100, epoch: int = 10, **settings: Any) -> list[float]:
    """The rates that an optimiser really has, step by step."""
    cfg = OptimSettings(lr=2.0, **settings)
    optimizer = build_optimizer(net().named_parameters(), cfg)
    scheduler = build_scheduler(optimizer, cfg, total, epoch)
    result = []
    for _ in range(total):
        result.append(optimizer.param_groups[0]["lr"])
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        optimizer.step()
        scheduler.step()
    return result


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"betas": (1.0, 0.9)}, r"from 0 to below 1, got \[1.0, 0.9\]"),
        ({"betas": (0.9, -0.1)}, "from 0 to below 1"),
        ({"optimizer": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_what_torch_would_refuse_is_told_by_the_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimSettings(**settings)
    OptimSettings(momentum=0.0, nesterov=True)  # of sgd only


def test_constant() -> None:
    assert rates(schedule="constant") == [2.0] * 100


def test_warm_up_rises_from_nothing_to_the_rate() -> None:
    found = rates(schedule="constant", warmup_steps=4)
    assert found[:6] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_piecewise_rates_begin_at_their_epochs() -> None:
    found = rates(schedule="piecewise", rates=((0, 0.5), (2, 4.0), (3.5, 0.25)), warmup_steps=2)
    expected = [1.0, 2.0] + [0.5] * 18 + [4.0] * 15 + [0.25] * 65  # warm-up goes to lr
    assert found == pytest.approx(expected)
    for wrong in ((), ((1, 0.5),), ((0, 0.5), (3, 0.1), (2, 0.2)), ((0, 0.0),)):
        with pytest.raises(ValueError, match="rates"):
            OptimSettings(schedule="piecewise", rates=wrong)


def test_step_falls_at_the_milestones_which_are_epochs() -> None:
    found = rates(schedule="step", milestones=(3, 5.5), gamma=0.1, warmup_steps=2)
    assert found[2:30] == [2.0] * 28
    assert found[30:55] == pytest.approx([0.2] * 25)
    assert found[55:] == pytest.approx([0.02] * 45)


def test_cosine_starts_at_the_rate_after_warm_up_and_ends_at_final_lr() -> None:
    found = rates(schedule="cosine", warmup_steps=20, final_lr=0.25)
    expected = [2 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * t / 80))) for t in range(80)]
    assert found[20:] == pytest.approx(expected)
    assert rate(100, OptimSettings(schedule="cosine", final_lr=0.25), 100, 10) == pytest.approx(0.25)
    assert found[20] == 2.0 and found[60] == pytest.approx(2 * 0.625)  # the middle


LOSSES = [5.0, 4.0, 4.1, 4.0, 3.9999] + [4.2 + 0.1 * i for i in range(8)] + [3.0 + 0.1 * i for i in range(7)]
SHORT = {"plateau_patience": 2, "plateau_cooldown": 1}


@pytest.mark.parametrize("metric", ["loss", "best"])
@pytest.mark.parametrize("more", [{}, SHORT])
def test_plateau_is_torchs_own_on_the_optimiser(metric: Any, more: dict[str, Any]) -> None:
    """Validation by validation, with two steps between; stopped and continued after each."""
    cfg = OptimSettings(lr=2.0, schedule="plateau", plateau_metric=metric, **more)
    expected_on = build_optimizer(net().named_parameters(), cfg)
    expected = torch.optim.lr_scheduler.ReduceLROnPlateau(
        expected_on, "min" if metric == "loss" else "max", factor=0.8, threshold=1e-4,
        patience=more.get("plateau_patience", 5), cooldown=more.get("plateau_cooldown", 3),
    )  # fmt: skip
    optimizer = build_optimizer(net().named_parameters(), cfg)
    plateau = Plateau(cfg)
    scheduler = build_scheduler(optimizer, cfg, 100, 2, plateau)
    found = []
    for loss in LOSSES:
        for _ in range(2):
            optimizer.step()
            scheduler.step()
        expected.step(loss if metric == "loss" else 1 / loss)
        plateau.step(scores(loss=loss, AP=1 / loss))
        set_rates(scheduler)
        found.append(optimizer.param_groups[0]["lr"])
        assert found[-1] == pytest.approx(expected_on.param_groups[0]["lr"], rel=1e-12)
        assert {group["lr"] for group in optimizer.param_groups} == {found[-1]} == {*scheduler.get_last_lr()}

        saved = copy.deepcopy((plateau.state_dict(), scheduler.state_dict()))
        optimizer = build_optimizer(net().named_parameters(), cfg)
        plateau = Plateau(cfg)
        scheduler = build_scheduler(optimizer, cfg, 100, 2, plateau)
        plateau.load_state_dict(saved[0])
        continue_at(scheduler, saved[1])
        assert optimizer.param_groups[0]["lr"] == found[-1]
    assert len(set(found)) > (2 if more else 1)


def test_plateau_with_its_published_settings_bears_five_validations() -> None:
    cfg = OptimSettings(schedule="plateau", plateau_metric="loss")
    plateau = Plateau(cfg)
    factors = []
    for _ in range(1 + 6 + 3 + 6):
        plateau.step(scores(loss=1.0, AP=0.0))
        factors.append(plateau.factor)
    assert factors == pytest.approx([1.0] * 6 + [0.8] * 9 + [0.64])


def test_plateau_lowers_the_warm_up_as_well() -> None:
    cfg = OptimSettings(lr=2.0, schedule="plateau", warmup_steps=4, plateau_patience=0)
    plateau = Plateau(cfg)
    optimizer = build_optimizer(net().named_parameters(), cfg)
    scheduler = build_scheduler(optimizer, cfg, 100, 10, plateau)
    for _ in range(2):
        plateau.step(scores(AP=0.5))
        set_rates(scheduler)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 / 4 * 0.8)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 / 2 * 0.8)


def test_edited_plateau_settings_count_from_where_the_run_is() -> None:
    old = Plateau(OptimSettings(plateau_patience=1, plateau_metric="loss"))
    for loss in (1.0, 2.0, 2.0, 2.0):
        old.step(scores(loss=loss))
    assert old.factor == 0.8
    same = Plateau(OptimSettings(plateau_factor=0.5, plateau_patience=7, plateau_metric="loss"))
    same.load_state_dict(old.state_dict())
    assert (same.factor, same.scheduler.best, same.scheduler.patience) == (0.8, 1.0, 7)
    other = Plateau(OptimSettings(plateau_metric="best"))  # a loss of 1 is no AP of 1
    other.load_state_dict(old.state_dict())
    assert (other.factor, other.scheduler.best, other.scheduler.num_bad_epochs) == (0.8, -math.inf, 0)


def test_runs_from_before_there_were_other_metrics_go_on() -> None:
    old_name: Any = "AP"
    cfg = OptimSettings(plateau_metric=old_name)
    assert cfg.plateau_metric == "best"
    plateau = Plateau(cfg)
    plateau.step(scores(AP=0.25))
    again = Plateau(cfg)
    again.load_state_dict({**plateau.state_dict(), "metric": old_name})
    assert again.scheduler.best == 0.25
    again.restart()
    assert (again.scheduler.best, again.factor) == (-math.inf, 1.0)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_optimiser_is_torchs_own_and_only_weights_decay(name: Any) -> None:
    cfg = OptimSettings(optimizer=name, lr=0.01, weight_decay=0.1, nesterov=name == "sgd")
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
    groups = build_optimizer(module.named_parameters(), OptimSettings()).param_groups
    assert sum(len(group["params"]) for group in groups) == 4


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_an_edited_rate_counts_when_a_run_continues(name: Any) -> None:
    """The moments come from the checkpoint, rate, decay and momentum from the config."""
    old = OptimSettings(optimizer=name, lr=0.1, schedule="step", milestones=(1,), gamma=0.5)
    module = net()
    optimizer = build_optimizer(module.named_parameters(), old)
    scheduler = build_scheduler(optimizer, old, 100, 3)
    for seed in range(4):
        stepped(module, optimizer, seed)
        scheduler.step()
    moments, schedule = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(scheduler.state_dict())

    new = OptimSettings(
        optimizer=name, lr=0.01, weight_decay=0.2, momentum=0.5, betas=(0.8, 0.9), milestones=(1,), gamma=0.5
    )
    fresh = build_optimizer(module.named_parameters(), new)
    after = build_scheduler(fresh, new, 100, 3)
    keep_settings(fresh, moments)
    continue_at(after, schedule)
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


def test_moving_average_is_the_recursion_for_weights_and_statistics() -> None:
    module = net()
    average = MovingAverage(module, 0.95)
    optimizer = build_optimizer(module.named_parameters(), OptimSettings(optimizer="sgd", lr=0.05))
    expected = {name: value.clone().double() for name, value in module.state_dict().items()}
    for step in range(1, 31):
        stepped(module, optimizer, step)
        average.update(step)
        decay = min(0.95, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    own = average.module.state_dict()
    for name, value in own.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert own["1.num_batches_tracked"] == 30
    assert not torch.equal(own["1.running_mean"], module.state_dict()["1.running_mean"])
    assert not average.module.training and not any(p.requires_grad for p in average.module.parameters())


def test_precision_on_a_cpu() -> None:
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(("decay", "backbone_lr"), [(0.7, 1.0), (1.0, 0.1), (0.7, 0.1)])
def test_learning_rates_fall_with_the_distance_from_the_head(decay: float, backbone_lr: float) -> None:
    """Four groups of the backbone and the head, 0.7: .2401 .343 .49 .7 1."""
    backbone = feature_network("hrnet", {})
    cfg = OptimSettings(lr=1e-3, layer_decay=decay, backbone_lr=backbone_lr, weight_decay=0.1)
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
    scheduler = build_scheduler(optimizer, OptimSettings(lr=1e-3, warmup_steps=2), 10, 10)
    assert rate_of[head.weight] == pytest.approx(2 * optimizer.param_groups[0]["lr"])
    assert len(scheduler.get_last_lr()) == len(optimizer.param_groups)


def test_no_factors_make_the_groups_that_there_always_were() -> None:
    backbone = feature_network("hrnet", {})
    assert layer_rates(backbone, OptimSettings()) == {}
    groups = build_optimizer(backbone.named_parameters(), OptimSettings()).param_groups
    assert [len(group["params"]) for group in groups] == [
        sum(p.ndim > 1 for p in backbone.parameters()), sum(p.ndim <= 1 for p in backbone.parameters())
    ]  # fmt: skip


def test_a_decay_over_a_network_without_an_order_is_refused() -> None:
    hourglass = small_network("hourglass")
    assert {*layer_rates(hourglass, OptimSettings(backbone_lr=0.1)).values()} == {0.1}
    with pytest.raises(UserError, match=r"train.backbone_lr instead"):
        layer_rates(hourglass, OptimSettings(layer_decay=0.9))
