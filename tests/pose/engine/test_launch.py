"""pose.engine.launch: the plain command in several processes, and no process that stays behind."""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pose import checkpoint
from pose.engine import launch as module
from pose.errors import UserError
from tests.training_fixtures import command, drawn, environment, lines, settings

TIMEOUT = 240  # seconds; what hangs fails
KILLS = int(os.environ.get("POSE_TEST_KILLS", "3"))  # moments at which a process is killed


def options(device: str = "auto", gpus: str | None = None, processes: int | None = None) -> Any:
    return argparse.Namespace(device=device, gpus=gpus, processes=processes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A machine of so many GPUs."""
    for name in ("RANK", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is restored
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")

    def with_gpus(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return with_gpus


@pytest.mark.parametrize(
    ("gpus", "given", "parallel", "count"),
    [
        (0, {}, "auto", 1),
        (1, {}, "ddp", 1),
        (8, {}, "auto", 8),
        (8, {}, "ddp", 8),
        (8, {}, "dp", 1),
        (8, {}, "none", 1),
        (8, {"gpus": "0,2"}, "auto", 2),
        (8, {"gpus": "3"}, "auto", 1),
        (8, {"device": "cuda:1"}, "auto", 1),
        (8, {"device": "cpu"}, "auto", 1),
        (8, {"device": "cpu", "processes": 3}, "none", 3),
        (8, {"processes": 2}, "auto", 2),
        (8, {"processes": 1}, "auto", 1),
        (0, {"processes": 2}, "auto", 2),
    ],
)
def test_how_many_processes(
    machine: Callable[[int], None], gpus: int, given: dict[str, Any], parallel: Any, count: int
) -> None:
    machine(gpus)
    assert module.process_count(options(**given), lambda: parallel) == count


def test_processes_of_torchrun_start_no_others(
    machine: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(8)
    monkeypatch.setenv("RANK", "0")
    assert module.process_count(options(processes=4), lambda: "ddp") == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"processes": 0}, "--processes 0: expected 1 to 4"),
        ({"processes": 5}, r"--processes 5: expected 1 to 4 \(torch sees so many GPUs\)"),
        ({"processes": 2, "device": "cuda:1"}, "--processes 2 cannot share --device cuda:1"),
    ],
)
def test_impossible_numbers_of_processes(
    machine: Callable[[int], None], given: dict[str, Any], says: str
) -> None:
    machine(4)
    with pytest.raises(UserError, match=says):
        module.process_count(options(**given), lambda: "auto")


@pytest.mark.parametrize(
    ("before", "gpus", "after"),
    [(None, "0,2", "0,2"), (None, "3", "3"), ("4,5,6,7", "0,2", "4,6"),
     ("GPU-a,GPU-b,GPU-c,GPU-d", "1", "GPU-b")],
)  # fmt: skip
def test_chosen_gpus_are_the_visible_ones(
    machine: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
    gpus: str,
    after: str,
) -> None:
    machine(4)
    if before:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    module.choose_gpus(options(gpus=gpus))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == after
    module.choose_gpus(options())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == after


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gpus": "0,0"}, "expected different numbers"),
        ({"gpus": "0;1"}, "expected different numbers"),
        ({"gpus": ""}, "expected different numbers"),
        ({"gpus": "-1"}, "expected different numbers"),
        ({"gpus": "1,4"}, "there is no GPU 4; torch sees 4"),
        ({"gpus": "1", "device": "cpu"}, "does not go with --device cpu"),
        ({"gpus": "1", "device": "cuda:1"}, "does not go with --device cuda:1"),
    ],
)
def test_gpus_that_cannot_be_chosen(machine: Callable[[int], None], given: dict[str, Any], says: str) -> None:
    machine(4)
    with pytest.raises(UserError, match=says):
        module.choose_gpus(options(**given))
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


# ------------------------------------------------------------------------------------- on the CPU, for real


class Started:
    """A command in a process of its own, and all that it starts."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments, "--processes", "2", "--device", "cpu"],
            cwd=folder,
            env={**environment(), "POSE_TEST_MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def all(self) -> dict[int, str]:
        """Pids and command lines of it and what it has started, loader workers too."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"POSE_TEST_MARK={self.mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # gone, or somebody else's
                continue
        return {pid: line for pid, line in found.items() if line}  # a zombie has none

    def ranks(self) -> list[int]:
        """Pids of the processes that train."""
        parents = {}
        for pid in self.all():
            try:
                parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        return sorted(pid for pid, parent in parents.items() if parent == self.process.pid)

    def finished(self) -> tuple[int, str]:
        """Exit code and words; nothing may be left of it a little later."""
        try:
            told = self.process.communicate(timeout=TIMEOUT)[0]
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError("hangs") from None
        deadline = time.monotonic() + 60
        while self.all() and time.monotonic() < deadline:
            time.sleep(0.2)
        left = self.all()
        self.end()
        assert not left, f"still there: {left}; {told}"
        return self.process.returncode, told

    def end(self) -> None:
        for pid in self.all():
            os.kill(pid, signal.SIGKILL)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.finished())
            time.sleep(0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


LONG = ("train.epochs=4000", "train.validate_every=0", "train.panels_every=0", "train.save_steps=3")


def long_run(data: Path, folder: Path, *more: str) -> Started:
    """Training that has taken a few steps."""
    one = Started(folder, "pose.train", "-e", "run", *settings(data, *LONG, *more))
    run = folder / "exp" / "run"
    one.wait_for(lambda: (run / "log.jsonl").exists() and len(lines(run)) > 3)
    return one


@pytest.mark.slow
def test_two_processes_train_and_test_as_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = settings(
        data, "train.batch_size=8", "train.optimizer.name=sgd", "train.optimizer.lr=0.05", batch_norm="none"
    )
    one = Started(tmp_path, "pose.train", "-e", "two", *more)
    assert command(monkeypatch, "-e", "one", "--device", "cpu", *more) == 0
    code, told = one.finished()
    assert code == 0, told
    assert told.count("2 processes (DDP)") == told.count("finished after 15 steps") == 1
    assert [record["step"] for record in lines(tmp_path / "exp/two", "train")] == [*range(1, 16)]  # one log
    assert len([*(tmp_path / "exp/two/tensorboard").iterdir()]) == told.count("step 5: AP ") == 1, told
    assert lines(tmp_path / "exp/one", "validation") == lines(tmp_path / "exp/two", "validation")
    states = [checkpoint.load(tmp_path / "exp" / name / "last.pt") for name in ("one", "two")]
    for part in ("model", "ema"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=1e-5)
    everywhere = "head.decoder.detection_threshold=0"  # where an untrained network sees people
    assert Started(tmp_path, "pose.test", "-c", "two", everywhere).finished()[0] == 0
    results = tmp_path / "exp/two/results-single.json"
    content = results.read_bytes()
    monkeypatch.setattr(sys, "argv", ["pose.test", "-c", "two", "--device", "cpu", everywhere])
    import pose.test

    assert pose.test.main() == 0
    assert results.read_bytes() == content and len(content) > 100


@pytest.mark.slow
def test_a_mistake_is_told_once(data: Path, tmp_path: Path) -> None:
    for more, says in (("train.learning=1", "unknown key"), ("train.batch_size=3", "cannot be shared by 2")):
        one = Started(tmp_path, "pose.train", "-e", "run", *settings(data, more))
        code, told = one.finished()
        assert code == 2 and told.count(says) == told.count("error: ") == 1, told
        assert "Traceback" not in told and not (tmp_path / "exp/run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_all(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    one = long_run(data, tmp_path)
    one.process.send_signal(number)
    code, told = one.finished()
    assert code == 128 + number, told
    assert told.count(f"stopped by {number.name} after step") == 1 and "Traceback" not in told, told
    step = int(re.findall(r"after step (\d+)", told)[0])
    assert checkpoint.load(tmp_path / "exp/run/last.pt")["progress"]["step"] == step


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_nothing_is_left_after_a_kill(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The launcher or a rank is killed, at any moment; and the run goes on by one process."""
    rng = random.Random(seed)
    one = long_run(data, tmp_path, "data.workers=1")
    time.sleep(rng.random() * 2)
    victim = (
        rng.choice([one.process.pid, *one.ranks()]) if seed > 1 else [one.process.pid, one.ranks()[1]][seed]
    )
    os.kill(victim, signal.SIGKILL)
    code, told = one.finished()
    if victim == one.process.pid:
        assert code == -signal.SIGKILL
    else:
        assert code == 2 and re.search(r"error: process [01] of 2 was ended by SIGKILL", told), told
    saved = checkpoint.load(tmp_path / "exp/run/last.pt")["progress"]["step"]
    assert saved >= 3
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "exp/run/config.yaml"
    file.write_text(file.read_text().replace("epochs: 4000", f"epochs: {saved // 5 + 1}"))
    assert command(monkeypatch, "-c", "run", "--device", "cpu") == 0
