"""The loop on made-up batches: skipped steps, accumulation, means, stopping, and no waits for a device."""

from __future__ import annotations

import copy
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from pose import checkpoint
from pose.data.augment import AugmentSettings
from pose.data.loader import Loaded
from pose.engine.meter import Meter
from pose.engine.signals import Interrupted, catch_signals, signals_for_this_process_only
from pose.engine.trainer import Trainer, seed_everything
from pose.engine.update import Buffers, Update
from pose.errors import UserError
from pose.experiment import load_config
from pose.metrics.base import Scores
from pose.model import TrainStep
from pose.structures import Batch
from tests.training_fixtures import (
    batches,
    differences,
    lines,
    scores,
    settings,
    tiny_step,
    trainer,
)

# ---------------------------------------------------------------------------------------- non-finite losses


class _BadGradient(torch.autograd.Function):
    """The identity, whose gradient is nan."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * torch.nan


POISONS: dict[str, Callable[[Tensor], Tensor]] = {
    "nan loss": lambda loss: loss * torch.nan,
    "inf loss": lambda loss: loss * torch.inf,
    "inf loss, finite gradients": lambda loss: loss + torch.inf,
    "nan gradients only": _BadGradient.apply,
    "finite gradients of infinite norm": lambda loss: loss * 3e37,
}


class Poisoned(nn.Module):
    """The training step, spoiled where the batch has one of `ids`."""

    def __init__(self, step: TrainStep, ids: set[int], poison: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step, self.ids, self.poison = step, ids, poison

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        terms = self.step(batch)
        if self.ids & set(batch.image_id.tolist()):
            terms["loss"] = self.poison(terms["loss"])
        return terms


def snapshot(one: Trainer) -> dict[str, Any]:
    """Weights, statistics and moments, without what counts steps."""
    state = copy.deepcopy(one.state())
    return {"model": state["model"], "optimizer": state["optimizer"]["state"], "ema": state["ema"]}


def finite(nest: Any) -> bool:
    if isinstance(nest, Tensor):
        return bool(nest.isfinite().all())
    return all(finite(one) for one in nest.values()) if isinstance(nest, dict) else True


def taken(one: Trainer, batch: Batch) -> None:
    one.updater.wrapped.train()
    update = one.updater.update(batch)
    one.progress.step += 1
    one.nonfinite.add(one.progress.step, batch.image_id, update.finite)


OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "adam"},
    {"optimizer": "adamw", "clip_norm": 1.0},
    {"optimizer": "sgd", "weight_decay": 0.1},
]


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize(
    "settings",
    OPTIMIZERS,
    ids=lambda settings: settings["optimizer"],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bad_step_changes_nothing(
    tmp_path: Path, poison: str, settings: dict[str, Any], accumulate: int
) -> None:
    """Whatever is not finite, and wherever in the batch: the step that follows is as if there had been no bad
    one.  The very first step is spoiled as well, before the optimiser has any state."""
    loaded = batches(4)
    settings = {**settings, "lr": 1e-3, "schedule": "constant", "ema": 0.9, "accumulate": accumulate}
    step, clean = tiny_step(), tiny_step()
    ids = {int(loaded[0].batch.image_id[3]), int(loaded[2].batch.image_id[0])}
    one = trainer(tmp_path, loaded, step=step, wrapped=Poisoned(step, ids, POISONS[poison]), **settings)
    other = trainer(tmp_path, loaded, step=clean, **settings)

    before = snapshot(one)
    taken(one, loaded[0].batch)  # spoiled
    after = snapshot(one)
    assert differences(before["model"], after["model"]) == []
    assert finite(after)
    for batch in (loaded[1].batch, loaded[2].batch, loaded[3].batch):  # the middle one is spoiled
        before = snapshot(one)
        taken(one, batch)
        after = snapshot(one)
        if batch is loaded[2].batch:
            assert differences(before["model"], after["model"]) == []
            assert differences(before["optimizer"], after["optimizer"]) == []
            assert finite(after)
        else:
            taken(other, batch)
    assert differences(one.state()["model"], other.state()["model"]) == []
    assert (
        differences(
            one.updater.optimizer.state_dict()["state"], other.updater.optimizer.state_dict()["state"]
        )
        == []
    )
    verdicts = [bool(pending.finite) for pending in one.nonfinite.pending]
    assert verdicts == [False, True, False, True]


def test_fp16_skips_an_overflow_and_lowers_the_scale(tmp_path: Path) -> None:
    loaded = batches(3)
    step = tiny_step(precision="fp16", batch_norm="none")
    bad = {int(loaded[0].batch.image_id[0])}
    one = trainer(
        tmp_path, loaded, step=step, wrapped=Poisoned(step, bad, lambda loss: loss * 1e36), lr=1e-3, ema=0.5
    )
    assert one.updater.scaler.get_scale() == 2.0**16
    before = snapshot(one)
    taken(one, loaded[0].batch)  # the loss is finite, the loss times the scale is not
    assert one.updater.scaler.get_scale() == 2.0**15
    assert differences(before["model"], snapshot(one)["model"]) == []
    taken(one, loaded[1].batch)
    assert one.updater.scaler.get_scale() == 2.0**15 and finite(snapshot(one))
    assert differences(before["model"], snapshot(one)["model"]) != []
    assert [bool(pending.finite) for pending in one.nonfinite.pending] == [False, True]


def test_without_fp16_the_scaler_changes_no_number(tmp_path: Path) -> None:
    one = trainer(tmp_path, batches(1))
    taken(one, batches(1)[0].batch)
    assert one.updater.scaler.get_scale() == 1.0


def test_bad_pictures_are_named_and_the_count_of_bad_steps_starts_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two bad steps in a row, thrice, do not end a run that bears two."""
    loaded = batches(9)
    step = tiny_step()
    ids = {int(loaded[i].batch.image_id[1]) for i in (0, 1, 3, 4, 6, 7)}
    one = trainer(
        tmp_path, loaded, step=step, wrapped=Poisoned(step, ids, POISONS["nan loss"]), max_nonfinite=3
    )
    one.run()
    assert one.progress.nonfinite == 6 and one.finished
    skipped = lines(tmp_path, "skipped")
    assert [record["step"] for record in skipped] == [1, 2, 4, 5, 7, 8]
    assert skipped[0]["image_ids"] == [100, 101, 102, 103]
    assert "step 4: the loss is not finite" in capsys.readouterr().err
    losses = [record["loss"] for record in lines(tmp_path, "train")]
    assert [loss is None for loss in losses] == [True, True, False] * 3


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_too_many_bad_steps_in_a_row_end_the_run(tmp_path: Path, log_every: int) -> None:
    loaded = batches(12)
    step = tiny_step()
    ids = {int(one.batch.image_id[0]) for one in loaded[4:]}
    one = trainer(
        tmp_path,
        loaded,
        step=step,
        wrapped=Poisoned(step, ids, POISONS["nan gradients only"]),
        max_nonfinite=5,
        log_every=log_every,
        save_steps=2,
    )
    told = r"not finite in 5 steps in a row.*step 9.*last\.pt holds step.*train\.optimizer\.lr"
    with pytest.raises(UserError, match=told):
        one.run()
    state = checkpoint.load(tmp_path / "last.pt")
    assert finite(state["model"]) and finite(state["optimizer"]["state"])
    assert state["progress"]["step"] == one.checkpoints.saved_step and state["progress"]["step"] <= 8
    assert finite(one.state()["model"])


# ---------------------------------------------------------------------------------------------------- means


def test_means_leave_skipped_steps_out() -> None:
    meter = Meter()
    for loss, skipped in [(2.0, 0.0), (0.0, 1.0), (4.0, 0.0)]:
        meter.add({"loss": torch.tensor(loss), "skipped": torch.tensor(skipped)}, 4, 0.0)
    assert meter.means() == {"loss": 3.0}


def test_the_logged_loss_is_the_mean_of_its_steps(tmp_path: Path) -> None:
    loaded = batches(6)
    folders = [tmp_path / name for name in ("each", "threes")]
    for folder, every in zip(folders, (1, 3)):
        folder.mkdir()
        trainer(folder, loaded, log_every=every).run()
    each = [record["loss"] for record in lines(folders[0], "train")]
    threes = [record["loss"] for record in lines(folders[1], "train")]
    assert threes == pytest.approx([sum(each[:3]) / 3, sum(each[3:]) / 3], rel=1e-5)
    record = lines(folders[0], "train")[0]
    parts = [record[f"loss/{name}"] for name in ("heatmap", "pull", "push")]
    assert record["loss"] == pytest.approx(sum(parts), rel=1e-5) and "stat/collapse" in record


# --------------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("parts", [2, 4, 3])
def test_accumulation_is_the_big_batch(tmp_path: Path, parts: int) -> None:
    """Also where 8 pictures make parts of 3, 3 and 2.  Without batch norm, whose statistics are of a part."""
    states, terms = [], []
    for accumulate in (1, parts):
        loaded = batches(3, size=8)
        step = tiny_step(batch_norm="none")
        one = trainer(
            tmp_path, loaded, step=step, accumulate=accumulate, optimizer="sgd", lr=0.1, schedule="constant"
        )
        start = copy.deepcopy(one.updater.model.state_dict())
        terms.append([one.updater.update(item.batch).terms for item in loaded])
        states.append(one.updater.model.state_dict())
    assert differences(start, states[0]) != []
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-6)
    for big, small in zip(*terms):
        for name in ("loss", "heatmap", "pull", "push"):
            torch.testing.assert_close(big[name], small[name], rtol=1e-5, atol=1e-7)


class Replicas(DataParallel):
    """DataParallel as it divides a batch and gathers the terms, on the CPU and one after the other."""

    def __init__(self, module: nn.Module, count: int) -> None:
        nn.Module.__init__(self)
        self.module, self.device_ids = module, list(range(count))

    def forward(self, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        chunks = [Batch(*fields) for fields in zip(*(value.chunk(len(self.device_ids)) for value in batch))]
        answers = [self.module(chunk) for chunk in chunks]
        return {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}


def test_replicas_with_unequal_shares_are_the_big_batch(tmp_path: Path) -> None:
    """7 pictures on 3 GPUs are 3 + 3 + 1."""
    states = []
    for count in (1, 3):
        loaded = batches(2, size=7)
        step = tiny_step(batch_norm="none")
        wrapped = Replicas(step, count) if count > 1 else step
        one = trainer(tmp_path, loaded, step=step, wrapped=wrapped, optimizer="sgd", lr=0.1)
        for item in loaded:
            one.updater.update(item.batch)
        states.append(one.updater.model.state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- waits


class NoWaits(TorchDispatchMode):
    """Fails where a value is read from the device: `.item()`, `bool(tensor)`, sizes that depend on values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique"):
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_reads_nothing_from_the_device(tmp_path: Path, precision: str) -> None:
    loaded = batches(2)
    step = tiny_step(precision=precision, batch_norm="before", augment=AugmentSettings())
    one = trainer(tmp_path, loaded, step=step, ema=0.9, clip_norm=1.0, accumulate=2, warmup_steps=2)
    meter = Meter()
    with NoWaits():
        for item in loaded:
            meter.add(one.updater.update(item.batch).terms, 4, 0.0)
            one.progress.step += 1
        with pytest.raises(AssertionError, match="waits"):
            meter.means()


# ------------------------------------------------------------------------------------------------- stopping


def test_signals_are_noted_and_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with catch_signals() as stop:
        assert stop() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # again: patience
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_processes_started_in_training_are_deaf_to_sigterm() -> None:
    """Loader workers: torchrun and batch systems send it to all, and it is the main process's to answer."""
    with catch_signals() as stop:
        with signals_for_this_process_only():
            child = os.fork()
            if not child:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() == signal.SIGTERM  # here it arrives again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_data(tmp_path: Path, number: signal.Signals) -> None:
    """What was learned is saved, and the run goes on from there."""
    loaded = batches(4)

    def slow() -> Iterator[Loaded]:
        yield from loaded[:2]
        threading.Timer(0.1, lambda: os.kill(os.getpid(), number)).start()
        time.sleep(60)
        raise AssertionError("nothing stopped the wait")

    one = trainer(tmp_path, loaded)
    one.loader = lambda start: slow()
    with pytest.raises(Interrupted) as stop:
        one.run()
    assert stop.value.code == 128 + number
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == 2


def test_a_stop_saves_at_once(tmp_path: Path) -> None:
    loaded = batches(6)
    one = trainer(tmp_path, loaded)
    real = one.updater.update

    def update(batch: Batch) -> Update:
        if one.progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(batch)

    one.updater.update = update  # type: ignore[method-assign]
    with pytest.raises(Interrupted) as caught:
        one.run()
    assert caught.value.code == 143
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == 4


# ------------------------------------------------------------------------------------------ saving, keeping


def test_save_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute goes by with every step; the last save of the epoch comes in any case."""
    clock = iter(range(0, 100000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    saved = []
    one = trainer(tmp_path, batches(9), save_minutes=1.0)
    monkeypatch.setattr(one.checkpoints, "save", lambda name: saved.append(one.progress.step))
    one.run()
    assert saved[-1] == 9 and 1 < len(saved) < 9


@pytest.mark.slow
def test_the_best_checkpoint_is_the_one_with_the_highest_ap(tmp_path: Path) -> None:
    loaded = batches(8)
    aps = iter([0.4, 0.4, 0.3, 0.2])  # of equal ones the later: it has trained longer
    seen = []

    def validate(model: nn.Module, step: int, log: Any) -> Scores:
        seen.append((step, copy.deepcopy(model.state_dict()), model.training))
        return scores(AP=next(aps), AP50=0.5)

    one = trainer(
        tmp_path, loaded, epochs=4, validate_every=1, ema=0.5, keep=2, steps_per_epoch=2, validate=validate
    )
    one.run()
    assert [step for step, *_ in seen] == [2, 4, 6, 8]
    best = checkpoint.load(tmp_path / "best.pt")
    assert best["progress"]["best_step"] == best["progress"]["step"] == 4
    assert differences(best["ema"], seen[1][1]) == []  # what was validated is what is kept
    assert sorted(path.name for path in tmp_path.glob("epoch-*.pt")) == ["epoch-0003.pt", "epoch-0004.pt"]
    assert checkpoint.load(tmp_path / "epoch-0003.pt")["progress"]["step"] == 6
    last = checkpoint.load(tmp_path / "last.pt")["progress"]
    assert (last["step"], last["validated"], last["best"], last["best_step"]) == (8, 8, 0.4, 4)
    assert [record["AP"] for record in lines(tmp_path, "validation")] == [0.4, 0.4, 0.3, 0.2]


def test_another_metric_begins_anew(tmp_path: Path) -> None:
    """A score of 0.3 by one is no worse than an AP of 0.4; and what the log says of it."""
    values = iter([scores(AP=0.4), Scores("other", {"hits": 0.3, "loss": 1.0}, "hits"), scores(AP=0.1)])
    one = trainer(
        tmp_path, batches(3), epochs=3, validate_every=1, steps_per_epoch=1, validate=lambda *_: next(values)
    )
    one.run()
    done = one.progress
    assert (done.best, done.best_step, done.metric) == (0.1, 3, "coco AP")
    second = lines(tmp_path, "validation")[1]
    assert (second["metric"], second["best"], second["shown"]) == ("other", "hits", ["hits"])
    assert second["hits"] == 0.3


def test_a_checkpoint_from_before_there_were_other_metrics_goes_on(tmp_path: Path) -> None:
    one = trainer(tmp_path, batches(2))
    state = one.state()
    progress = {key: value for key, value in state["progress"].items() if key not in ("best", "metric")}
    again = trainer(tmp_path, batches(2))
    again.load_state({**state, "progress": {**progress, "best_ap": 0.5, "best_step": 1}}, tmp_path)
    assert again.progress.best == 0.5
    assert not again.progress.improved_by(scores(AP=0.4)) and again.progress.metric == "coco AP"


def test_the_last_epoch_is_validated_whatever_the_distance(tmp_path: Path) -> None:
    seen = []

    def validate(model: nn.Module, step: int, log: Any) -> Scores:
        seen.append(step)
        return scores(AP=0.1)

    one = trainer(tmp_path, batches(5), epochs=5, validate_every=3, steps_per_epoch=1, validate=validate)
    one.run()
    assert seen == [3, 5]


@pytest.mark.slow
def test_plateau_lowers_the_rate_at_validations(tmp_path: Path) -> None:
    """From the step after a validation on, also where the run is continued there."""
    losses = iter([3.0, 2.0, 2.5, 2.6, 2.7])

    def validate(model: nn.Module, step: int, log: Any) -> Scores:
        return scores(AP=0.1, loss=next(losses))

    recipe: dict[str, Any] = {
        "schedule": "plateau", "plateau_metric": "loss", "plateau_patience": 1, "plateau_cooldown": 0,
        "plateau_factor": 0.5, "lr": 0.01, "optimizer": "sgd", "epochs": 5, "validate_every": 1,
    }  # fmt: skip
    one = trainer(tmp_path, batches(10), **recipe, steps_per_epoch=2, validate=validate)
    one.run()
    assert [record["lr"] for record in lines(tmp_path, "train")] == pytest.approx([0.01] * 8 + [0.005] * 2)
    assert checkpoint.load(tmp_path / "last.pt")["plateau"]["num_bad_epochs"] == 1

    again = trainer(tmp_path, batches(10), **recipe)
    again.load_state(checkpoint.load(tmp_path / "last.pt"), tmp_path)
    assert again.updater.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    other = trainer(tmp_path, batches(10), **{**recipe, "schedule": "constant"})
    other.load_state(checkpoint.load(tmp_path / "last.pt"), tmp_path)
    assert other.updater.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    rest = tmp_path / ".last.pt.123.partial"
    rest.write_bytes(b"half")
    trainer(tmp_path, batches(1)).run()
    assert not rest.exists() and (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("spoil", ["network", "optimizer", "key"])
def test_a_state_of_another_config_is_refused(tmp_path: Path, spoil: str) -> None:
    state = trainer(tmp_path, batches(1)).state()
    if spoil == "network":
        state["model"].popitem()
    elif spoil == "optimizer":
        state["optimizer"]["param_groups"].pop()
    else:
        del state["progress"]
    with pytest.raises(UserError, match=r"last\.pt does not belong to this config.*config\.yaml"):
        trainer(tmp_path, batches(1)).load_state(state, tmp_path / "last.pt")


# ---------------------------------------------------------------------------- moments by name, rates by layer

HRNET = [
    "backbone.name=hrnet",
    "backbone.width=4",
    "backbone.modules=[1, 1, 1]",
    "backbone.blocks=1",
    "head.name=tags",
]


def layered_step() -> TrainStep:
    """A network whose backbone has four groups of layers."""
    plain = [one for one in settings("unused") if not one.startswith("backbone.")]
    seed_everything(0)
    return TrainStep(load_config(None, ["data.skeleton=coco17", *plain, *HRNET]).build_model())


def layered(folder: Path, loaded: Sequence[Loaded], **train: Any) -> Trainer:
    return trainer(folder, loaded, step=layered_step(), **{"lr": 1e-3, "schedule": "constant", **train})


def moments(one: Trainer) -> dict[str, Any]:
    """Moments of every parameter, by the network's names."""
    return {name: dict(one.updater.optimizer.state[p]) for name, p in one.updater.model.named_parameters()}


def old_format(state: dict[str, Any]) -> dict[str, Any]:
    """As it was before optimisers had names: torch's state of an optimiser of nameless parameters."""
    groups = [
        {key: value for key, value in group.items() if key not in ("param_names", "name")}
        for group in state["optimizer"]["param_groups"]
    ]
    return {**state, "optimizer": {**state["optimizer"], "param_groups": groups}}


REGROUPED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"layer_decay": 0.8}),
    ({"layer_decay": 0.8}, {"layer_decay": 1.0}),
    ({"layer_decay": 0.8}, {"layer_decay": 0.5, "weight_decay": 0.1}),
    ({"backbone_lr": 0.5}, {"backbone_lr": 2.0}),  # the backbone's group comes first
    ({"backbone_lr": 0.1, "layer_decay": 0.9}, {"backbone_lr": 0.1}),
]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("before", "after"), REGROUPED)
def test_moments_follow_their_parameters_into_other_groups(
    tmp_path: Path, optimizer: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Through a file; and the run goes on with the new rates."""
    loaded = batches(3)
    one = layered(tmp_path, loaded, optimizer=optimizer, **before)
    for batch in loaded[:2]:
        taken(one, batch.batch)
    one.save()
    again = layered(tmp_path, loaded, optimizer=optimizer, **after)
    again.load_state(checkpoint.load(tmp_path / "last.pt"), tmp_path / "last.pt")
    assert all(moments(one).values())
    assert differences(moments(one), moments(again)) == []
    fresh = layered(tmp_path, loaded, optimizer=optimizer, **after)
    kept = ("lr", "weight_decay", "name", "param_names")
    for own, new in zip(
        again.updater.optimizer.param_groups, fresh.updater.optimizer.param_groups, strict=True
    ):
        assert [own[key] for key in kept] == [new[key] for key in kept]
    before_step = copy.deepcopy((dict(again.updater.model.state_dict()), moments(again)))
    taken(again, loaded[2].batch)
    assert differences(before_step[0], dict(again.updater.model.state_dict())) and finite(moments(again))
    changed = {where.split("/")[1] for where in differences(before_step[1], moments(again))}
    assert changed == set(before_step[1])


def test_positions_would_not_do(tmp_path: Path) -> None:
    """The places of parameters change with the groups, or the test above shows nothing."""
    orders = [
        [name for group in layered(tmp_path, batches(1), **more).updater.optimizer.param_groups
         for name in group["param_names"]]
        for more in ({}, {"layer_decay": 0.8}, {"backbone_lr": 0.5}, {"backbone_lr": 2.0})
    ]  # fmt: skip
    assert len({tuple(order) for order in orders}) == 4 and len({frozenset(order) for order in orders}) == 1


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("rates", [{}, {"layer_decay": 0.8, "backbone_lr": 0.3}])
def test_a_run_goes_on_to_the_same_weights(
    tmp_path: Path, optimizer: str, old: bool, rates: dict[str, Any]
) -> None:
    """Also from a checkpoint whose optimiser has no names."""
    loaded = batches(4)
    more = {"optimizer": optimizer, "weight_decay": 0.1, "ema": 0.9, **rates}
    straight = layered(tmp_path, loaded, **more)
    for batch in loaded:
        taken(straight, batch.batch)

    one = layered(tmp_path, loaded, **more)
    for batch in loaded[:2]:
        taken(one, batch.batch)
    state = one.state()
    checkpoint.save(old_format(state) if old else state, tmp_path / "last.pt")
    again = layered(tmp_path, loaded, **more)
    again.load_state(checkpoint.load(tmp_path / "last.pt"), tmp_path / "last.pt")
    for batch in loaded[2:]:
        taken(again, batch.batch)
    assert differences(straight.state(), again.state()) == []


def test_names_are_the_bare_networks(tmp_path: Path) -> None:
    step = layered_step()
    expected = {name for name, _ in step.model.named_parameters()}
    step.model.backbone = torch.compile(step.model.backbone)  # type: ignore[assignment]
    one = trainer(tmp_path, batches(1), step=step, wrapped=DataParallel(step))
    assert any("_orig_mod" in name for name, _ in step.model.named_parameters())
    groups = one.state()["optimizer"]["param_groups"]
    assert {name for group in groups for name in group["param_names"]} == expected


def spoiled(state: dict[str, Any], kind: str) -> dict[str, Any]:
    optimizer = copy.deepcopy(state["optimizer"])
    group = optimizer["param_groups"][0]
    if kind == "absent":
        group["param_names"].pop(0)
        group["params"].pop(0)
    elif kind == "shape":
        optimizer["state"][0]["exp_avg"] = optimizer["state"][0]["exp_avg"][:1]
    else:
        return old_format(state)
    return {**state, "optimizer": optimizer}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("absent", {}, r"its optimiser knows nothing of backbone\.conv1\.weight\); restore config"),
        ("shape", {}, r"exp_avg of backbone\.conv1\.weight is \(1, 3, 3, 3\), the parameter \(64, 3, 3, 3\)"),
        (
            "old",
            {"layer_decay": 0.5},
            r"no names and are of \[.*\] param.*backbone_lr and layer_decay of train\.optimizer",
        ),
        ("old", {"optimizer": "sgd"}, r"of another train\.optimizer"),
    ],
)
def test_moments_that_do_not_fit_are_refused(
    tmp_path: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    loaded = batches(1)
    one = layered(tmp_path, loaded)
    taken(one, loaded[0].batch)
    with pytest.raises(UserError, match=r"last\.pt does not belong to this config \(.*" + message):
        layered(tmp_path, loaded, **settings).load_state(spoiled(one.state(), kind), tmp_path / "last.pt")


def test_each_rate_is_logged_by_name(tmp_path: Path) -> None:
    """`lr` is that of neck, predictor and head, though the backbone's may be higher."""
    loaded = batches(4)
    recipe: dict[str, Any] = {"lr": 0.01, "warmup_steps": 4, "layer_decay": 0.5, "backbone_lr": 4.0}
    layered(tmp_path, loaded, **recipe).run()
    factors = {"head": 1.0, "backbone.0": 0.25, "backbone.1": 0.5, "backbone.3": 2.0}
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for record, at in zip(lines(tmp_path, "train"), (0.005, 0.0075, 0.01, 0.01), strict=True):
        named = {key.removeprefix("lr/"): value for key, value in record.items() if key.startswith("lr/")}
        # the third group's factor is 4 * 0.5^2: it has the head's rate, and is in its group
        assert named == pytest.approx({name: at * factor for name, factor in factors.items()})
        assert record["lr"] == pytest.approx(at)
        for name, value in named.items():
            (found,) = [e.value for e in events.Scalars(f"train/lr/{name}") if e.step == record["step"]]
            assert found == pytest.approx(value)


@pytest.mark.parametrize(
    ("rates", "expected"), [({}, {"lr": 1e-3}), ({"backbone_lr": 0.1}, {"lr": 1e-3, "lr/backbone": 1e-4})]
)
def test_one_rate_is_logged_once(tmp_path: Path, rates: dict[str, Any], expected: dict[str, float]) -> None:
    """The hourglass is all backbone: nothing has the rate `lr` itself where it has a factor."""
    trainer(tmp_path, batches(1), lr=1e-3, schedule="constant", **rates).run()
    (record,) = lines(tmp_path, "train")
    assert {k: v for k, v in record.items() if k.startswith("lr")} == pytest.approx(expected)


def test_panels_come_at_their_steps_and_training_goes_on(tmp_path: Path) -> None:
    called: list[tuple[int, bool]] = []

    def panels(model: nn.Module, step: int, log: Any) -> None:
        called.append((step, model.training))
        model.eval()

    step = tiny_step()
    one = trainer(tmp_path, batches(5), step=step, panels_every=2)
    one.panels = panels
    one.run()
    assert called == [(1, True), (2, True), (4, True)] and step.model.training


def test_seconds_of_panels_are_not_the_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer(tmp_path, batches(4), panels_every=2, log_every=4)
    monkeypatch.setattr(one, "draw_panels", lambda: -1e6)  # as if the training had lost so many
    one.run()
    (line,) = (json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["images_per_second"] == pytest.approx(16 / 2e6, rel=0.01)  # steps 1 and 2


def test_buffers_return_to_their_copy_only_where_asked_to() -> None:
    first, second = nn.BatchNorm2d(3), nn.BatchNorm1d(2)
    module = nn.Sequential(first, second)
    buffers = Buffers(module)
    old = {name: value.clone() for name, value in module.state_dict().items()}
    before = buffers.copy()
    for buffer in module.buffers():
        buffer.add_(2) if buffer.dtype == torch.int64 else buffer.fill_(torch.nan)
    buffers.restore(before, torch.tensor(False))
    now = module.state_dict()
    assert now["0.num_batches_tracked"] == 2 and now["1.running_var"].isnan().all()
    buffers.restore(before, torch.tensor(True))
    assert not differences(dict(module.state_dict()), old)
