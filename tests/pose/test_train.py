"""`python -m pose.train` end to end on a tiny drawn data set: a run that is stopped in every way and
continued is the run that never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
import torch

from pose import checkpoint
from pose.engine.log import RunLog
from pose.engine.saving import Checkpoints
from pose.engine.trainer import Trainer
from pose.engine.update import Updater
from tests.training_fixtures import command, differences, drawn, environment, lines, settings

EXACT = ("train.keep=2", "data.workers=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of 15 steps without interruption, with everything that could go astray: augmentation,
    a worker, batch norm, moving average, warm-up and cosine, epoch checkpoints, validation."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert command(monkeypatch, "-e", "run", *settings(data, *EXACT)) == 0
    return folder / "exp" / "run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "exp" / "run"


class Killed(BaseException):
    """Stands for `kill -9`: nothing of the run gets to say a last word."""


@contextmanager
def at(target: type, method: str, act: Callable[[object], None], *, after: bool = False) -> Iterator[None]:
    """`act(self)` before or after every call of a method."""
    real = getattr(target, method)

    def call(self: object, *args: object, **kwargs: object) -> object:
        if not after:
            act(self)
        result = real(self, *args, **kwargs)
        if after:
            act(self)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, method, call)
        yield


def send(number: int, step: int) -> Callable[[object], None]:
    """While step `step` (from 1) is computed, the signal arrives."""

    def act(updater: object) -> None:
        assert isinstance(updater, Updater)
        if updater.steps == step - 1:
            os.kill(os.getpid(), number)

    return act


def kill(step: int) -> Callable[[object], None]:
    def act(updater: object) -> None:
        assert isinstance(updater, Updater)
        if updater.steps == step - 1:
            raise Killed

    return act


def die(_: object) -> None:
    raise Killed


def assert_same_run(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.glob("*.pt"))
    assert names == ["best.pt", "epoch-0002.pt", "epoch-0003.pt", "last.pt"]
    assert names == sorted(path.name for path in other.glob("*.pt"))
    for name in names:
        assert differences(checkpoint.load(one / name), checkpoint.load(other / name)) == [], name
    assert lines(one) == lines(other)


# ------------------------------------------------------------------------------------------ an ordinary run


def test_what_a_run_leaves_behind(reference: Path) -> None:
    train = lines(reference, "train")
    assert [record["step"] for record in train] == list(range(1, 16))
    assert {"loss", "loss/heatmap", "loss/pull", "loss/push", "lr", "epoch"} <= train[0].keys()
    assert train[-1]["epoch"] == 3
    assert [record["step"] for record in lines(reference, "validation")] == [5, 10, 15]
    assert cv2.imread(str(reference / "curves.png")) is not None
    notes = [json.loads(line) for line in (reference / "environment.jsonl").read_text().splitlines()]
    assert len(notes) == 1 and notes[0]["packages"]["torch"] and "git" in notes[0] and notes[0]["command"]
    assert list((reference / "tensorboard").glob("events.*"))
    state = checkpoint.load(reference / "last.pt")
    assert state["progress"]["step"] == 15 and state["ema"] is not None
    start = checkpoint.load(reference / "epoch-0002.pt")
    assert differences(state["model"], start["model"]) != []


@pytest.mark.slow
def test_the_seed_decides(reference: Path, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons below would notice: another seed is another run; no worker is the same run."""
    assert command(monkeypatch, "-e", "run", *settings(data, *EXACT, "data.workers=0")) == 0
    assert_same_run(reference, here)
    assert command(monkeypatch, "-e", "other", *settings(data, "train.seed=1", "train.epochs=1")) == 0
    assert lines(here.parent / "other", "train")[0]["loss"] != lines(reference, "train")[0]["loss"]


# ---------------------------------------------------------------------------------- stopping and continuing


@pytest.mark.slow
def test_stopped_by_signals_at_many_steps(
    reference: Path,
    data: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the first step, at the end of an epoch before its validation, in the middle, and at the very end
    before the last validation."""
    ctrl_c, term = signal.SIGINT, signal.SIGTERM
    stops = [(ctrl_c, 1), (term, 5), (ctrl_c, 6), (term, 9), (ctrl_c, 15)]
    arguments = ["-e", "run", *settings(data, *EXACT)]
    for number, step in stops:
        with at(Updater, "update", send(number, step)):
            assert command(monkeypatch, *arguments) == 128 + number
        told = capsys.readouterr().err
        assert f"stopped by {number.name} after step {step}" in told
        assert "Continue with: python -m pose.train -c run" in told
        assert checkpoint.load(here / "last.pt")["progress"]["step"] == step
        arguments = ["-c", "run"]
    assert [record["step"] for record in lines(here, "validation")] == [5, 10]
    assert command(monkeypatch, "-c", "run") == 0
    assert_same_run(reference, here)
    assert len((here / "environment.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_killed_at_any_moment(
    reference: Path, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a step, between the steps' lines and their save, in a save, around a validation."""
    arguments = ["-e", "run", *settings(data, *EXACT), "train.save_steps=2"]
    moments = [
        (at(Updater, "update", kill(1)), None),  # before anything is saved
        (at(Updater, "update", kill(4)), 2),
        (at(Checkpoints, "save_epoch", die), 4),  # step 5 is in the log already
        (at(Trainer, "validate", die), 5),
        (at(RunLog, "image", die), 5),  # in the validation
        (at(RunLog, "say", die, after=True), 5),  # the validation is in the log and nowhere else
        (at(Updater, "update", kill(8)), 6),
        (at(Checkpoints, "save_epoch", die, after=True), 8),
        (at(Updater, "update", kill(15)), 14),
    ]
    for moment, saved in moments:
        with moment, pytest.raises(Killed):
            command(monkeypatch, *arguments)
        file = here / "last.pt"
        assert (checkpoint.load(file)["progress"]["step"] if file.exists() else None) == saved
        arguments = ["-c", "run"]
    assert command(monkeypatch, "-c", "run") == 0
    assert_same_run(reference, here)


def started(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pose.train", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group of its own
    )


def wait_for(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if (run / "log.jsonl").exists() and any(record["step"] >= step for record in lines(run)):
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.mark.slow
def test_real_signals_to_real_processes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9, then SIGTERM to the whole process group with its loader workers, then the rest."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "exp" / "run"
    more = ("data.workers=2", "train.epochs=40", "train.validate_every=0", "train.save_steps=3")
    process = started(["-e", "run", *settings(data, *more)], tmp_path)
    wait_for(process, run, 4)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    saved = checkpoint.load(run / "last.pt")["progress"]["step"]
    assert saved % 3 == 0 or saved % 5 == 0

    process = started(["-c", "run"], tmp_path)
    wait_for(process, run, saved + 3)
    os.killpg(process.pid, signal.SIGTERM)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 143, told
    assert f"continuing at step {saved} of 200" in told and "stopped by SIGTERM" in told
    assert "Traceback" not in told and "out of memory" not in told
    reached = checkpoint.load(run / "last.pt")["progress"]["step"]
    assert saved < reached < 200
    assert [record["step"] for record in lines(run)] == list(range(1, reached + 1))

    with at(Updater, "update", send(signal.SIGINT, reached)):
        straight = command(monkeypatch, "-e", "straight", *settings(data, *more, "data.workers=0"))
    assert straight == 130
    one, other = (checkpoint.load(folder / "last.pt") for folder in (run, run.parent / "straight"))
    assert differences(one, other) == [] and lines(run) == lines(run.parent / "straight")


# ----------------------------------------------------------------------------------------- finished, edited


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_finished_run_says_so_and_stays_as_it_is(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reference.parents[1])
    before = contents(reference)
    assert command(monkeypatch, "-c", "run") == 0
    assert "already finished, 15 steps" in capsys.readouterr().err
    assert contents(reference) == before


@pytest.mark.slow
def test_more_epochs_in_the_config_go_on_from_the_end(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another rate, which counts from there on."""
    run = tmp_path / "exp" / "run"
    shutil.copytree(reference, run)
    monkeypatch.chdir(tmp_path)
    file = run / "config.yaml"
    text = file.read_text().replace("epochs: 3", "epochs: 4").replace("lr: 0.004", "lr: 0.5")
    assert "lr: 0.5" in text and "epochs: 4" in text
    file.write_text(text.replace("name: cosine", "name: constant").replace("    final_lr: 0.01\n", ""))
    assert command(monkeypatch, "-c", "run") == 0
    train = lines(run, "train")
    assert [record["step"] for record in train] == list(range(1, 21))
    assert train[:15] == lines(reference, "train") and {record["lr"] for record in train[15:]} == {0.5}


@pytest.mark.slow
def test_a_run_keeps_the_precision_that_it_began_with(
    data: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = settings(data, "train.epochs=1", "train.validate_every=0")
    monkeypatch.setattr("pose.training.resolve_precision", lambda precision, device: "bf16")
    assert command(monkeypatch, "-e", "run", *short) == 0
    monkeypatch.undo()
    monkeypatch.chdir(here.parents[1])
    config = here / "config.yaml"
    assert "precision: bf16" in config.read_text().partition("\ntest:")[0]
    assert "only emulates" not in capsys.readouterr().err
    for native, epochs in ((False, 2), (True, 3)):
        monkeypatch.setattr("pose.cpu.has_bf16", lambda native=native: native)
        config.write_text(config.read_text().replace(f"epochs: {epochs - 1}", f"epochs: {epochs}"))
        assert command(monkeypatch, "-c", "run") == 0
        printed = capsys.readouterr().err
        assert ", bf16\n" in printed
        assert ("is trained in bf16, which this CPU only emulates" in printed) == (not native)
    # what the sentence advises
    config.write_text(config.read_text().replace("precision: bf16", "precision: fp32", 1))
    config.write_text(config.read_text().replace("epochs: 3", "epochs: 4"))
    assert command(monkeypatch, "-c", "run") == 0
    assert ", fp32\n" in capsys.readouterr().err


def test_rates_by_layer_may_be_edited(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between stop and continuation."""
    plain = [one for one in settings(data) if not one.startswith("backbone.")]
    net = ("name=hrnet", "width=4", "modules=[1, 1, 1]", "blocks=1")
    more = [
        *plain,
        *(f"backbone.{one}" for one in net),
        "train.schedule.name=constant",
        "train.validate_every=0",
    ]
    with at(Updater, "update", send(signal.SIGINT, 4)):
        assert command(monkeypatch, "-e", "run", *more) == 130
    file = here / "config.yaml"
    text = file.read_text()
    assert "layer_decay: 1.0" in text
    file.write_text(text.replace("layer_decay: 1.0", "layer_decay: 0.5"))
    assert command(monkeypatch, "-c", "run") == 0
    first, *_, last = lines(here, "train")
    assert not any(key.startswith("lr/") for key in first)
    found = {key: value for key, value in last.items() if key.startswith("lr/")}
    assert found == pytest.approx(
        {f"lr/backbone.{i}": 0.004 * 0.5 ** (4 - i) for i in range(4)} | {"lr/head": 0.004}
    )
    assert last["step"] == 15 and last["lr"] == 0.004


@pytest.mark.slow
def test_weights_start_a_run_and_not_its_continuation(
    reference: Path,
    data: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = here.parents[1] / "start.pt"
    shutil.copy(reference / "last.pt", weights)
    more = settings(data, f"train.weights={weights}", "train.optimizer.lr=1e-30", "train.epochs=1")
    with at(Updater, "update", send(signal.SIGINT, 2)):
        assert command(monkeypatch, "-e", "run", *more) == 130
    assert "parameters loaded" in capsys.readouterr().err
    old, new = checkpoint.load(weights)["ema"], checkpoint.load(here / "last.pt")["model"]
    assert torch.equal(old["backbone.stem.0.0.weight"], new["backbone.stem.0.0.weight"])
    weights.unlink()  # no longer needed
    assert command(monkeypatch, "-c", "run") == 0


@pytest.mark.slow
def test_settings_may_stand_anywhere_on_the_command_line(
    data: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = settings(data, "train.epochs=1", "train.steps_per_epoch=1", "train.validate_every=0")
    assert command(monkeypatch, *more[:3], "-e", "run", *more[3:6], "--device", "cpu", *more[6:]) == 0
    assert checkpoint.load(here / "last.pt")["progress"]["step"] == 1
