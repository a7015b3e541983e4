"""Schedules against their formulas."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from pose.engine.optim import build_optimizer
from pose.engine.scheduling import build_schedule, build_scheduler, continue_at, set_rates
from pose.engine.settings import TrainSettings
from pose.errors import UserError
from tests.small_optimization import net
from tests.training_fixtures import scores, train_settings


def schedule(settings: TrainSettings, total: int = 100, epoch: int = 10) -> Any:
    return build_schedule(
        settings.schedule, lr=settings.optimizer.lr, total_steps=total, steps_per_epoch=epoch
    )


def rates(total: int = 100, epoch: int = 10, **settings: Any) -> list[float]:
    """The rates that an optimiser really has, step by step."""
    cfg = train_settings(lr=2.0, **settings)
    optimizer = build_optimizer(net().named_parameters(), cfg.optimizer)
    scheduler = build_scheduler(optimizer, schedule(cfg, total, epoch))
    result = []
    for _ in range(total):
        result.append(optimizer.param_groups[0]["lr"])
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        optimizer.step()
        scheduler.step()
    return result


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
        with pytest.raises(UserError, match="rates"):
            train_settings(schedule="piecewise", rates=wrong)


def test_step_falls_at_the_milestones_which_are_epochs() -> None:
    found = rates(schedule="step", milestones=(3, 5.5), gamma=0.1, warmup_steps=2)
    assert found[2:30] == [2.0] * 28
    assert found[30:55] == pytest.approx([0.2] * 25)
    assert found[55:] == pytest.approx([0.02] * 45)


def test_cosine_starts_at_the_rate_after_warm_up_and_ends_at_final_lr() -> None:
    found = rates(schedule="cosine", warmup_steps=20, final_lr=0.25)
    expected = [2 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * t / 80))) for t in range(80)]
    assert found[20:] == pytest.approx(expected)
    assert schedule(train_settings(schedule="cosine", final_lr=0.25), 100, 10)(100) == pytest.approx(0.25)
    assert found[20] == 2.0 and found[60] == pytest.approx(2 * 0.625)  # the middle


LOSSES = [5.0, 4.0, 4.1, 4.0, 3.9999] + [4.2 + 0.1 * i for i in range(8)] + [3.0 + 0.1 * i for i in range(7)]
SHORT = {"plateau_patience": 2, "plateau_cooldown": 1}


@pytest.mark.parametrize("metric", ["loss", "best"])
@pytest.mark.parametrize("more", [{}, SHORT])
def test_plateau_is_torchs_own_on_the_optimiser(metric: Any, more: dict[str, Any]) -> None:
    """Validation by validation, with two steps between; stopped and continued after each."""
    cfg = train_settings(lr=2.0, schedule="plateau", plateau_metric=metric, **more)
    expected_on = build_optimizer(net().named_parameters(), cfg.optimizer)
    expected = torch.optim.lr_scheduler.ReduceLROnPlateau(
        expected_on, "min" if metric == "loss" else "max", factor=0.8, threshold=1e-4,
        patience=more.get("plateau_patience", 5), cooldown=more.get("plateau_cooldown", 3),
    )  # fmt: skip
    optimizer = build_optimizer(net().named_parameters(), cfg.optimizer)
    plateau = schedule(cfg, 100, 2)
    scheduler = build_scheduler(optimizer, plateau)
    found = []
    for loss in LOSSES:
        for _ in range(2):
            optimizer.step()
            scheduler.step()
        expected.step(loss if metric == "loss" else 1 / loss)
        plateau.validated(scores(loss=loss, AP=1 / loss), comparable=True)
        set_rates(scheduler)
        found.append(optimizer.param_groups[0]["lr"])
        assert found[-1] == pytest.approx(expected_on.param_groups[0]["lr"], rel=1e-12)
        assert {group["lr"] for group in optimizer.param_groups} == {found[-1]} == {*scheduler.get_last_lr()}

        saved = copy.deepcopy((plateau.state_dict(), scheduler.state_dict()))
        optimizer = build_optimizer(net().named_parameters(), cfg.optimizer)
        plateau = schedule(cfg, 100, 2)
        scheduler = build_scheduler(optimizer, plateau)
        plateau.load_state_dict(saved[0])
        continue_at(scheduler, saved[1])
        assert optimizer.param_groups[0]["lr"] == found[-1]
    assert len(set(found)) > (2 if more else 1)


def test_plateau_with_its_published_settings_bears_five_validations() -> None:
    cfg = train_settings(schedule="plateau", plateau_metric="loss")
    plateau = schedule(cfg, 100, 2)
    factors = []
    for _ in range(1 + 6 + 3 + 6):
        plateau.validated(scores(loss=1.0, AP=0.0), comparable=True)
        factors.append(plateau.lowered)
    assert factors == pytest.approx([1.0] * 6 + [0.8] * 9 + [0.64])


def test_plateau_lowers_the_warm_up_as_well() -> None:
    cfg = train_settings(lr=2.0, schedule="plateau", warmup_steps=4, plateau_patience=0)
    plateau = schedule(cfg, 100, 2)
    optimizer = build_optimizer(net().named_parameters(), cfg.optimizer)
    scheduler = build_scheduler(optimizer, plateau)
    for _ in range(2):
        plateau.validated(scores(AP=0.5), comparable=True)
        set_rates(scheduler)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 / 4 * 0.8)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 / 2 * 0.8)


def test_edited_plateau_settings_count_from_where_the_run_is() -> None:
    old = schedule(train_settings(schedule="plateau", plateau_patience=1, plateau_metric="loss"))
    for loss in (1.0, 2.0, 2.0, 2.0):
        old.validated(scores(loss=loss), comparable=True)
    assert old.lowered == 0.8
    same = schedule(
        train_settings(schedule="plateau", plateau_factor=0.5, plateau_patience=7, plateau_metric="loss")
    )
    same.load_state_dict(old.state_dict())
    assert (same.lowered, same.scheduler.best, same.scheduler.patience) == (0.8, 1.0, 7)
    other = schedule(train_settings(schedule="plateau", plateau_metric="best"))  # a loss of 1 is no AP of 1
    other.load_state_dict(old.state_dict())
    assert (other.lowered, other.scheduler.best, other.scheduler.num_bad_epochs) == (0.8, -math.inf, 0)


def test_runs_from_before_there_were_other_metrics_go_on() -> None:
    old_name = "AP"
    cfg = train_settings(schedule="plateau", plateau_metric=old_name)
    assert cfg.schedule.metric == "best"
    plateau = schedule(cfg, 100, 2)
    plateau.validated(scores(AP=0.25), comparable=True)
    again = schedule(cfg)
    again.load_state_dict({**plateau.state_dict(), "metric": old_name})
    assert again.scheduler.best == 0.25
    again.validated(scores(AP=-1.0), comparable=False)
    assert (again.scheduler.best, again.lowered) == (-1.0, 1.0)
