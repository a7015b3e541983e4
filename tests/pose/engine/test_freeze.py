"""Pretrained layers stand still at first; after their release the run goes on as with a new optimiser."""

from __future__ import annotations

import copy
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from pose import checkpoint
from pose.engine.freeze import FrozenStart, check_frozen_start
from pose.engine.signals import Interrupted
from pose.engine.trainer import Trainer, seed_everything
from pose.engine.update import Update, Updater
from pose.errors import UserError
from pose.experiment import load_config
from pose.model import TrainStep
from tests.training_fixtures import CPU, batches, command, differences, drawn, lines, settings, train_settings

pytestmark = pytest.mark.slow  # most of them train

HELD = {f"backbone.trunk.{i}.{kind}" for i in (0, 2, 5, 7, 10, 12, 14, 16, 19) for kind in ("weight", "bias")}
VGG = [
    "backbone.name=vgg19_cpm",
    "backbone.stages=2",
    "backbone.trunk_width=4",
    "backbone.width=8",
    "backbone.first_stage_width=16",
    "backbone.kernel=3",
    "head.name=tags",
    "head.sigma=1.0",
]


def vgg_settings(root: Path | str, *more: str) -> list[str]:
    """As the fixtures' tiny run, with a small VGG-19 instead of the hourglass."""
    return [one for one in settings(root) if not one.startswith("backbone.")] + VGG + list(more)


def vgg_step() -> TrainStep:
    """With weights that keep the signal up through many layers."""
    config = load_config(None, ["data.skeleton=coco17", *vgg_settings("unused")])
    seed_everything(0)
    model = config.build_model()
    for value in model.backbone.parameters():
        if value.ndim > 1:
            nn.init.kaiming_normal_(value)
    return TrainStep(model)


def held_trainer(folder: Path, count: int, held: int, *, compiled: bool = False, **train: Any) -> Trainer:
    """A run of `count` steps, in the first `held` of which the pretrained layers stand still."""
    loaded, step = batches(count), vgg_step()
    if compiled:
        step.model.backbone.compile(backend="aot_eager")
    layers = step.model.backbone.pretrained_layers()  # type: ignore[operator]
    plain = {"batch_size": 4, "epochs": 1, "log_every": 1, "validate_every": 0, "lr": 0.01}
    return Trainer(
        step=step,
        wrapped=step,
        settings=train_settings(**{**plain, **train}),
        group=CPU,
        loader=lambda start: loaded[start:],
        steps_per_epoch=count,
        folder=folder,
        frozen=FrozenStart(layers, held, lambda: step) if held else None,
    )


def watched(one: Trainer) -> list[dict[str, Tensor]]:
    """The weights before each step and at the end."""
    seen: list[dict[str, Tensor]] = []
    real = one.updater.update

    def update(batch: Any) -> Update:
        seen.append(copy.deepcopy(dict(one.updater.model.state_dict())))
        return real(batch)

    one.updater.update = update  # type: ignore[method-assign]
    one.run()
    return [*seen, copy.deepcopy(dict(one.updater.model.state_dict()))]


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_the_held_layers_stand_still_and_then_all_move(tmp_path: Path, optimizer: str) -> None:
    one = held_trainer(tmp_path, 6, 3, optimizer=optimizer, weight_decay=0.1, ema=0.9, clip_norm=1.0)
    everything = set(one.updater.model.state_dict())
    seen = watched(one)
    for before, after in zip(seen[:3], seen[1:]):
        assert moved(before, after) == everything - HELD
    for before, after in zip(seen[3:], seen[4:]):
        assert moved(before, after) == everything
    assert one.updater.frozen is None and all(p.requires_grad for p in one.updater.model.parameters())
    assert one.updater.average is not None
    assert not any(p.requires_grad for p in one.updater.average.module.parameters())


def test_after_the_release_the_optimiser_is_fresh_and_the_schedule_goes_on(tmp_path: Path) -> None:
    """As a run without held layers that starts from the weights of the release."""
    recipe: dict[str, Any] = {"optimizer": "sgd", "schedule": "cosine", "warmup_steps": 2}
    one = held_trainer(tmp_path / "one", 6, 3, **recipe)
    other = held_trainer(tmp_path / "other", 6, 0, **recipe)
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    seen = watched(one)
    rates = [record["lr"] for record in lines(tmp_path / "one", "train")]

    state = other.state()
    state["model"], state["progress"]["step"] = seen[3], 3
    state["scheduler"] |= {"last_epoch": 3, "_step_count": 4}
    other.load_state(state, tmp_path)
    again = watched(other)
    assert differences(seen[3:], again) == []
    assert rates[3:] == [record["lr"] for record in lines(tmp_path / "other", "train")]
    assert len(set(rates)) > 3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_held_layers_that_an_edit_sets_free_begin_anew(tmp_path: Path, optimizer: str) -> None:
    """freeze_epochs=0 in the config of a stopped run: the others keep their moments."""
    one = held_trainer(tmp_path, 2, 3, optimizer=optimizer)
    one.run()
    state = checkpoint.load(tmp_path / "last.pt")
    other = held_trainer(tmp_path, 4, 0, optimizer=optimizer)
    other.load_state(state, tmp_path / "last.pt")
    parameters = dict(one.updater.model.named_parameters())
    for name, value in other.updater.model.named_parameters():
        moments = {k: v for k, v in other.updater.optimizer.state[value].items() if k != "step"}
        if name in HELD:
            assert all((moment == 0).all() for moment in moments.values())
        else:
            assert moments
            kept = one.updater.optimizer.state[parameters[name]]
            assert all(torch.equal(moment, kept[what]) for what, moment in moments.items())
    seen = watched(other)
    assert moved(seen[0], seen[1]) == set(seen[0])
    del state["frozen"]  # where nothing was held nothing may be missing
    with pytest.raises(UserError, match=r"knows nothing of backbone\.trunk\.0\.weight and 17 more"):
        held_trainer(tmp_path, 4, 0, optimizer=optimizer).load_state(state, tmp_path / "last.pt")


def test_the_wrapper_is_made_anew_when_the_old_one_is_gone(tmp_path: Path) -> None:
    """DDP looks at `requires_grad` only when it is made, and two of them would both wait for gradients."""
    import weakref

    class Wrapper(nn.Module):
        made: list[weakref.ref[nn.Module]] = []

        def __init__(self, step: TrainStep) -> None:
            super().__init__()
            self.step, self.cycle = step, [self]
            self.trained = sum(p.requires_grad for p in step.parameters())
            self.others = sum(one() is not None for one in Wrapper.made)
            Wrapper.made.append(weakref.ref(self))

        def forward(self, batch: Any) -> dict[str, Tensor]:
            return self.step(batch)

    one = held_trainer(tmp_path, 2, 1)
    step = one.updater.wrapped
    assert one.updater.frozen and isinstance(step, TrainStep)
    one.updater.frozen.wrap = lambda: Wrapper(step)
    one.updater.wrapped = Wrapper(step)
    every = len(list(step.parameters()))
    assert one.updater.wrapped.trained == every - len(HELD)
    one.run()
    assert (
        isinstance(one.updater.wrapped, Wrapper)
        and one.updater.wrapped.trained == every
        and one.updater.wrapped.others == 0
    )


def test_a_compiled_network_notices_the_release(tmp_path: Path) -> None:
    """What was compiled for held layers must not go on without their gradients."""
    ends = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        folder.mkdir()
        one = held_trainer(folder, 4, 2, compiled=compiled, optimizer="sgd")
        seen = watched(one)
        assert moved(seen[1], seen[2]) & HELD == set()
        assert moved(seen[2], seen[3]) & HELD == HELD
        ends.append(seen[-1])
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-6)


def test_a_backbone_without_pretrained_layers_cannot_hold_any() -> None:
    check_frozen_start("hourglass", 0)
    for backbone in ("vgg19_cpm", "resnet", "hrnet"):  # of one class, made by a function, all of it
        check_frozen_start(backbone, 5)
    with pytest.raises(UserError, match=r"freeze_epochs=5.*'hourglass' has no pretrained layers.*vgg19_cpm"):
        check_frozen_start("hourglass", 5)


# ------------------------------------------------------------------------------------------------- a real run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow VGG-19 in torchvision's layout."""
    torch.manual_seed(1)
    layers = make_layers([w if isinstance(w, str) else w // 16 for w in cfgs["E"]])
    file = tmp_path_factory.mktemp("features") / "vgg.pth"
    torch.save({f"features.{name}": value for name, value in layers.state_dict().items()}, file)
    return file


def arguments(data: Path, features: Path) -> list[str]:
    """15 steps: 5 with held layers, and a rate that falls at every validation after those."""
    return vgg_settings(
        data,
        f"backbone.pretrained={features}",
        "train.freeze_epochs=1",
        "train.schedule.name=plateau",
        "train.schedule.metric=loss",
        "train.schedule.patience=0",
        "train.schedule.cooldown=0",
        "train.schedule.threshold=10",  # nothing is ever better
        "train.optimizer.weight_decay=0.1",
        "train.keep=2",
        "train.save_steps=2",
    )


@pytest.fixture(scope="module")
def reference(data: Path, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert command(monkeypatch, "-e", "run", *arguments(data, features)) == 0
    return folder / "exp" / "run"


class Killed(BaseException):
    """Stands for `kill -9`."""


def at_step(step: int, act: Callable[[], None]) -> Callable[..., Any]:
    """`Updater.update` that acts before step `step` (from 1)."""
    real = Updater.update

    def call(self: Updater, batch: Any) -> Any:
        if self.steps == step - 1:
            act()
        return real(self, batch)

    return call


def assert_same_run(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.pt"))
    assert names == ["best.pt", "epoch-0002.pt", "epoch-0003.pt", "last.pt"]
    for name in names:
        assert differences(checkpoint.load(one / name), checkpoint.load(other / name)) == [], name
    assert lines(one) == lines(other)


def file_name(name: str) -> str:
    return name.replace("backbone.trunk", "features")


def test_a_run_with_held_layers_and_a_plateau(reference: Path, features: Path) -> None:
    """After the release all weights move, and each validation lowers the rate."""
    file = checkpoint.load(features)
    early, late = (checkpoint.load(reference / f"{name}.pt") for name in ("epoch-0002", "last"))
    assert moved({n: file[file_name(n)] for n in HELD}, {n: early["model"][n] for n in HELD}) == HELD
    assert len(moved(early["model"], late["model"])) == len(early["model"])
    rates = [record["lr"] for record in lines(reference, "train")]
    assert rates[3:10] == pytest.approx([0.004] * 7) and rates[10:] == pytest.approx([0.0032] * 5)
    losses = [record["loss"] for record in lines(reference, "validation")]
    assert len(losses) == 3 and all(loss > 0 for loss in losses)
    assert late["plateau"]["factor"] == pytest.approx(0.64)


@pytest.mark.parametrize("stops", [(3, 5, 6, 7), (4, 10, 11)])
def test_stopped_before_at_and_after_the_release(
    reference: Path,
    data: Path,
    features: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stops: tuple[int, ...],
) -> None:
    """By Ctrl-C in a step."""
    monkeypatch.chdir(tmp_path)
    run, file = tmp_path / "exp" / "run", checkpoint.load(features)
    words = ["-e", "run", *arguments(data, features)]
    for step in stops:
        with monkeypatch.context() as patch:
            patch.setattr(Updater, "update", at_step(step, lambda: signal.raise_signal(signal.SIGINT)))
            assert command(monkeypatch, *words) == 130
        state = checkpoint.load(run / "last.pt")
        assert state["progress"]["step"] == step and state["frozen"] == (step <= 5)
        if state["frozen"]:
            for part in ("model", "ema"):
                assert all(torch.equal(state[part][name], file[file_name(name)]) for name in HELD)
            moving = "backbone.trunk.21.weight"
            assert not torch.equal(state["model"][moving], file[file_name(moving)])
        words = ["-c", "run"]
    assert command(monkeypatch, "-c", "run") == 0
    assert_same_run(reference, run)


@pytest.mark.parametrize("steps", [(5, 6, 7), (8,)])
def test_killed_before_at_and_after_the_release(
    reference: Path,
    data: Path,
    features: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: tuple[int, ...],
) -> None:
    monkeypatch.chdir(tmp_path)

    def die() -> None:
        raise Killed

    words = ["-e", "run", *arguments(data, features)]
    for step in steps:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Updater, "update", at_step(step, die))
            command(monkeypatch, *words)
        words = ["-c", "run"]
    assert command(monkeypatch, "-c", "run") == 0
    assert_same_run(reference, tmp_path / "exp" / "run")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.freeze_epochs=1", "the backbone 'hourglass' has no pretrained layers"),
        ("train.validate_every=0", "train: the schedule plateau goes by validations"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "-e", "run", *settings(data, "train.schedule.name=plateau", setting)) == 2
    told = capsys.readouterr().err
    assert re.search(message, told) and "Traceback" not in told
    assert not (tmp_path / "exp").exists()


def test_weights_to_start_from_make_pretrained_ones_needless(
    reference: Path, data: Path, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With train.weights the file of the backbone is not even looked for; without, its absence is told."""
    monkeypatch.chdir(tmp_path)
    words = [*arguments(data, tmp_path / "gone.pth"), "train.epochs=1", "train.steps_per_epoch=1"]
    assert command(monkeypatch, "-e", "run", *words) == 2
    assert not (tmp_path / "exp").exists()
    assert command(monkeypatch, "-e", "run", *words, f"train.weights={reference / 'last.pt'}") == 0


def test_holding_random_weights_is_pointed_out(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = vgg_settings(data, "train.epochs=1", "train.steps_per_epoch=1", "train.validate_every=0")
    assert command(monkeypatch, "-e", "run", *short, "train.freeze_epochs=1") == 0
    told = capsys.readouterr().err
    assert "freeze_epochs=1 holds layers with random weights" in told
    assert "freeze_epochs=1 of 1 epochs: the pretrained layers never move" in told
    assert command(monkeypatch, "-e", "other", *short) == 0
    assert "random weights" not in capsys.readouterr().err


def test_an_interrupted_release_is_an_interruption_like_any_other(tmp_path: Path) -> None:
    """The signal arrives while layers are released: the step is finished, and what is saved has no held
    layers."""
    one = held_trainer(tmp_path, 4, 2)
    assert one.updater.frozen
    real = one.updater.frozen.release

    def release() -> nn.Module:
        signal.raise_signal(signal.SIGTERM)
        return real()

    one.updater.frozen.release = release  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        one.run()
    state = checkpoint.load(tmp_path / "last.pt")
    assert state["progress"]["step"] == 3 and not state["frozen"]
