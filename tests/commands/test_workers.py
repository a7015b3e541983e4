"""Data workers of the real command: killed at any moment, without memory to share, with few open files.  The
training goes on or ends with one sentence and exit code 2; it never hangs, and leaves no process behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.small_machines import can_mount, mounted, with_few_files
from tests.training_fixtures import drawn, environment, lines, settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]
KILLS = int(os.environ.get("POSE_TEST_KILLS", "3"))  # moments at which a worker is killed
LONG = ("train.epochs=4000", "train.validate_every=0", "train.panels_every=0", "data.workers=2")
SHORT = ("train.epochs=1", "train.validate_images=6", "train.panels_every=0", "data.workers=2")


class Training:
    """A training in a process of its own, and all that it starts."""

    def __init__(self, folder: Path, line: list[str]) -> None:
        self.run = folder / "exp" / "run"
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            line, cwd=folder, env={**environment(), "POSE_TEST_MARK": self.mark}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def all(self) -> list[int]:
        """Pids, without those that have ended."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"POSE_TEST_MARK={self.mark}".encode() in (folder / "environ").read_bytes():
                    found += [int(folder.name)] if (folder / "cmdline").read_bytes() else []
            except OSError:  # gone, or somebody else's
                continue
        return found

    def workers(self) -> list[int]:
        return [pid for pid in self.all() if pid != self.process.pid and is_fork(pid)]

    def steps(self, count: int) -> None:
        """Waits until it has taken some."""
        deadline = time.monotonic() + 120
        while not ((self.run / "log.jsonl").exists() and len(lines(self.run)) >= count):
            assert self.process.poll() is None and time.monotonic() < deadline, self.ended()
            time.sleep(0.02)

    def ended(self) -> tuple[int, str]:
        """Exit code and words; nothing may be left of it a little later."""
        try:
            told = self.process.communicate(timeout=120)[0]
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError("hangs") from None
        deadline = time.monotonic() + 20
        while (left := self.all()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.end()
        assert not left, f"still there: {left}; {told}"
        return self.process.returncode, told

    def end(self) -> None:
        for pid in self.all():
            os.kill(pid, signal.SIGKILL)


def is_fork(pid: int) -> bool:
    """Not the resource tracker."""
    try:
        return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def command(data: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "pose.train", "-e", "run", "--device", "cpu", *settings(data, *more)]


def sentence(told: str) -> str:
    """The only one of its kind, without a traceback."""
    assert "Traceback" not in told and told.count("error: ") == 1, told
    return told.partition("error: ")[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_worker_that_is_killed_at_any_moment_is_one_sentence(data: Path, tmp_path: Path, seed: int) -> None:
    """Also where a batch is handed over or a checkpoint is written."""
    rng = random.Random(seed)
    training = Training(tmp_path, command(data, *LONG, "train.save_steps=1"))
    training.steps(3)
    time.sleep(rng.random() / 2)
    os.kill(rng.choice(training.workers()), signal.SIGKILL)
    code, told = training.ended()
    assert code == 2, told
    assert sentence(told).startswith("DataLoader worker"), told


@pytest.mark.skipif(not can_mount(), reason="needs root")
@pytest.mark.parametrize("size", ["64k", "1m"])
def test_little_memory_to_share(data: Path, tmp_path: Path, size: str) -> None:
    code, told = Training(tmp_path, mounted("/dev/shm", size, command(data, *SHORT))).ended()
    assert code in (0, 2) and (size != "64k" or code == 2), told
    if code == 2:
        assert "in shared memory (No space left on device" in sentence(told), told


@pytest.mark.skipif(not can_mount(), reason="needs root")
def test_sigterm_ends_a_training_with_little_memory_to_share(data: Path, tmp_path: Path) -> None:
    training = Training(tmp_path, mounted("/dev/shm", "1m", command(data, *LONG)))
    training.steps(2)
    training.process.send_signal(signal.SIGTERM)
    code, told = training.ended()
    assert code in (128 + signal.SIGTERM, 2) and "Traceback" not in told, told


@pytest.mark.parametrize("count", [24, 32, 48])
def test_few_open_files(data: Path, tmp_path: Path, count: int) -> None:
    """Tensors are shared otherwise, which is said once; where that does not do, what to do is."""
    code, told = Training(tmp_path, with_few_files(count, command(data, *SHORT))).ended()
    assert code in (0, 2) and "Traceback" not in told, told
    assert told.count("strategy file_system") <= 1
    if code == 2:
        assert "ulimit -n 65536" in sentence(told), told
    else:
        assert len(lines(tmp_path / "exp/run", "train")) == 5


def test_two_interrupts_end_a_training_that_waits_for_data(data: Path, tmp_path: Path) -> None:
    """Its workers are stopped, as by a file system that does not answer."""
    training = Training(tmp_path, command(data, *LONG))
    training.steps(3)
    for worker in training.workers():
        os.kill(worker, signal.SIGSTOP)
    time.sleep(1)  # the batches that are there are used up
    first = time.monotonic()
    for _ in range(2):
        training.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    code, told = training.ended()
    assert code == 130 and "Traceback" not in told, told
    assert time.monotonic() - first < 60, "PATIENCE of the workers, and the machine's other work"
