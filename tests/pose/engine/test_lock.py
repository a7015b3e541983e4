"""pose.engine.lock: one training at a time, and no obstacle left by one that is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pose.engine import lock as module
from pose.engine.lock import NAME, RunLock, begun, machine, read
from pose.errors import UserError
from tests.training_fixtures import command, drawn, environment, lines, settings

ANOTHER = {"host": "node-b", "pid": 77, "machine": "boot pid:[1]", "start": "5"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.05)
    monkeypatch.setattr(module, "STALE", 0.6)


def held_by(folder: Path, age: float = 0.0, **more: Any) -> Path:
    file = folder / NAME
    file.write_text(json.dumps({**ANOTHER, "folder": folder.stat().st_ino, **more}))
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_it_is_there_while_it_is_held_and_alive(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        holder = read(tmp_path / NAME)
        assert holder is not None and holder["pid"] == os.getpid()
        first = (tmp_path / NAME).stat().st_mtime
        deadline = time.monotonic() + 10
        while (tmp_path / NAME).stat().st_mtime == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / NAME).stat().st_mtime > first
        with pytest.raises(UserError, match=rf"is being trained by process {os.getpid()} on "):
            RunLock(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_of_this_machine_is_no_obstacle(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    held_by(tmp_path, pid=int(child.stdout), machine=machine(), start="5")
    with RunLock(tmp_path):
        pass


def test_a_number_that_another_process_has_by_now_is_no_obstacle(tmp_path: Path) -> None:
    held_by(tmp_path, pid=os.getpid(), machine=machine(), start="5")
    with RunLock(tmp_path):
        pass
    held_by(tmp_path, pid=os.getpid(), machine=machine(), start=begun(os.getpid()))
    with pytest.raises(UserError, match="is being trained by"):
        RunLock(tmp_path).__enter__()


def test_another_machine_is_alive_as_long_as_it_beats(tmp_path: Path) -> None:
    file, stop = held_by(tmp_path), threading.Event()

    def beat() -> None:
        while not stop.wait(0.02):
            os.utime(file)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(UserError, match="is being trained by process 77 on node-b; stop that one"):
            RunLock(tmp_path).__enter__()
    finally:
        stop.set()
        thread.join()
    holder = read(file)
    assert holder is not None and holder["host"] == "node-b"


def test_another_machine_that_is_silent_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_by(tmp_path)
    with RunLock(tmp_path):
        holder = read(tmp_path / NAME)
        assert holder is not None and holder["pid"] == os.getpid()
    assert "was trained on node-b until a moment ago; waiting" in capsys.readouterr().err
    held_by(tmp_path, age=100)
    with RunLock(tmp_path):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_lock_that_is_cut_off(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    with RunLock(tmp_path):
        holder = read(tmp_path / NAME)
        assert holder is not None and holder["pid"] == os.getpid()


def test_of_many_one_gets_it(tmp_path: Path) -> None:
    """All at once, with a stale one in the way."""
    held_by(tmp_path, age=100)
    inside, most, got = [0], [0], [0]
    guard, start = threading.Lock(), threading.Barrier(8)

    def take() -> None:
        start.wait()
        try:
            with RunLock(tmp_path):
                with guard:
                    inside[0] += 1
                    got[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.3)
                with guard:
                    inside[0] -= 1
        except UserError:
            pass

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] >= 1 and most[0] == 1


def test_a_lock_that_somebody_else_took_meanwhile_stays(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        held_by(tmp_path)
    holder = read(tmp_path / NAME)
    assert holder is not None and holder["host"] == "node-b"


def test_a_copy_of_a_run_is_free_as_the_message_says(tmp_path: Path) -> None:
    """And a run that was moved is not: who trains it has only another name for it."""
    run, copy, moved = (tmp_path / name for name in ("run", "copy", "moved"))
    run.mkdir()
    with RunLock(run):
        shutil.copytree(run, copy)
        with RunLock(copy):
            pass
        run.rename(moved)
        with pytest.raises(UserError, match="is being trained by"):
            RunLock(moved).__enter__()
        moved.rename(run)
    assert list(run.iterdir()) == list(copy.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`-c` on it fails and changes nothing; testing it works."""
    data = drawn(tmp_path_factory.getbasetemp())
    monkeypatch.chdir(tmp_path)
    more = settings(data, "train.epochs=4000", "train.validate_every=0", "train.save_steps=2")
    training = subprocess.Popen(
        [sys.executable, "-m", "pose.train", "-e", "run", "--device", "cpu", *more],
        env=environment(), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    run = tmp_path / "exp" / "run"
    try:
        deadline = time.monotonic() + 120
        while not (run / "last.pt").exists():
            assert time.monotonic() < deadline and training.poll() is None
            time.sleep(0.05)
        assert command(monkeypatch, "-c", "run", "--device", "cpu") == 2
        said = capsys.readouterr().err
        assert f"exp/run is being trained by process {training.pid} on " in said
        monkeypatch.setattr(sys, "argv", ["pose.test", "-c", "run", "--device", "cpu", "--limit", "2"])
        import pose.test

        assert pose.test.main() == 0
    finally:
        training.terminate()
        training.wait(60)
    steps = [record["step"] for record in lines(run, "train")]
    assert steps == sorted({*steps}) and not (run / NAME).exists()
