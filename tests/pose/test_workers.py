"""Worker processes that have no memory, die, cannot send or never answer."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pose import workers
from pose.data.loader import ShardedBatchSampler, TrainStream, train_loader
from pose.engine.signals import signals_for_this_process_only
from pose.errors import UserError
from pose.workers import one_sentence, prepare_worker, start, waiting_for, worker_death

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")


class Numbers(Dataset[Any]):
    """A data set of small tensors; each item is made by a function."""

    strict = False

    def __init__(self, make: Any = lambda: torch.zeros(3)) -> None:
        self.make = make

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: Any) -> Any:
        return self.make()


def loader(make: Any, collate: Any = None) -> DataLoader[Any]:
    return DataLoader(
        Numbers(make), batch_size=None, num_workers=1, collate_fn=collate, worker_init_fn=prepare_worker,
        multiprocessing_context="fork",
    )  # fmt: skip


def killed() -> None:
    """As by a system that is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def complaining() -> None:
    raise UserError("the annotations are gone; start again")


class Stopped(Exception):
    pass


def first(items: Iterator[Any]) -> Any:
    with one_sentence():
        return next(items)


def test_a_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"DataLoader worker .*ran out of memory; lower data.workers"):
        next(iter(train_loader(Numbers(killed), TrainStream([1]), 2, workers=1)))


@pytest.mark.parametrize("count", [0, 1])
def test_a_users_error_in_a_worker_keeps_its_sentence(count: int) -> None:
    with pytest.raises(UserError) as error:
        next(iter(train_loader(Numbers(complaining), TrainStream([1]), 2, workers=count)))
    assert str(error.value) == "the annotations are gone; start again"


def test_other_errors_stay_what_they_are() -> None:
    assert worker_death(RuntimeError("shapes differ")) is None
    assert worker_death(ValueError("DataLoader worker")) is None
    own = UserError("as it is")
    with pytest.raises(UserError) as error, one_sentence():
        raise own
    assert error.value is own


def test_files_that_are_all_open_are_one_sentence() -> None:
    error = worker_death(RuntimeError("Too many open files. Communication with the workers is no longer ..."))
    assert "ulimit -n" in str(error)


def test_no_shared_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's small /dev/shm."""

    def full(self: Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left (28)")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    shared = loader(lambda: [torch.zeros(2**18)], workers.in_shared_memory)
    says = r"^a data worker cannot place 1.0 MiB in shared memory \(No space left \(28\)\); .*--shm-size"
    with pytest.raises(UserError, match=says):
        first(start(shared))


def test_a_death_interrupts_nothing_but_the_wait_for_a_batch() -> None:
    """PyTorch's handler raises in whatever the main thread does: in a save, it was told as a full disk."""
    items = start(loader(lambda: torch.zeros(3)))
    first(items)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while worker.exitcode is None and time.monotonic() < deadline:
        time.sleep(0.05)  # here it was raised
    with pytest.raises(UserError, match=r"^DataLoader worker \(pid \d+\) is killed by signal: Killed"):
        first(items)


class ByName:
    """Sent where tensors are shared by names of files; before, it has no file left."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        if torch.multiprocessing.get_sharing_strategy() != "file_system":
            raise OSError(errno.EMFILE, "Too many open files")
        return int, (self.value,)


class Positions(Numbers):
    def __getitem__(self, key: Any) -> Any:
        position = key[1] if isinstance(key, tuple) else key
        return position if position < 4 else ByName(position)


@pytest.mark.parametrize("endless", [False, True])
def test_too_many_open_files_are_shared_otherwise(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], endless: bool
) -> None:
    """Once, from the batch on that could not be handed over."""
    before = torch.multiprocessing.get_sharing_strategy()
    batches: Any = ShardedBatchSampler(TrainStream(range(8)), 2) if endless else [[0, 1], [2, 3], [4, 5], [6]]
    given: DataLoader[Any] = DataLoader(
        Positions(), batch_sampler=batches, num_workers=2, collate_fn=list, worker_init_fn=prepare_worker,
        multiprocessing_context="fork",
    )  # fmt: skip
    try:
        items = start(given)
        assert [next(items) for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
        assert next(items) == ([6, 7] if endless else [6])
        items.close()
        assert torch.multiprocessing.get_sharing_strategy() == "file_system"
        assert capfd.readouterr().err.count("sharing strategy file_system") == 1
    finally:
        torch.multiprocessing.set_sharing_strategy(before)


def test_what_a_worker_cannot_send_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    """Instead of a wait for ever."""
    with pytest.raises(UserError, match="DataLoader worker .* lower data.workers"):
        first(start(loader(lambda: threading.Lock())))
    assert "cannot send what it made" in capfd.readouterr().err


def test_workers_that_live_and_give_nothing_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sentence names what can be seen to be short."""
    monkeypatch.setattr(workers, "PATIENCE", 0.2)
    stream = TrainStream(range(8))
    stuck = train_loader(
        Numbers(lambda: time.sleep(60)), stream, 2, workers=1, context="fork", timeout=0.5
    )  # fmt: skip
    start_time = time.monotonic()
    with pytest.raises(
        UserError, match=r"timed out after 0\.5 seconds \(data\.timeout\) while its workers live: "
    ):
        next(iter(stuck))
    assert time.monotonic() - start_time < 30
    assert waiting_for() == "the file system of the images may not answer"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (32, 32))
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=2, f_frsize=2**20))
    assert waiting_for() == "only 32 files may be open (ulimit -n 65536) and /dev/shm has 2 MiB left"


def test_no_room_for_workers_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(DataLoader, "__iter__", refuse)
    with pytest.raises(UserError, match="data workers cannot be started .* lower data.workers"):
        start(loader(None))


def test_what_is_shared_is_the_same() -> None:
    given = [torch.arange(5.0), torch.zeros(0, 3), torch.arange(6).view(2, 3).T]
    shared: DataLoader[Any] = DataLoader(
        Numbers(lambda: given), batch_size=None, num_workers=1, collate_fn=workers.in_shared_memory
    )
    for one, other in zip(next(iter(shared)), given, strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype


@pytest.mark.slow
def test_a_stuck_worker_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    with signals_for_this_process_only():
        items = start(loader(lambda: time.sleep(600)))
    thread = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGUSR1))

    def stop(*_: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGUSR1, stop)
    thread.start()
    started = time.monotonic()
    try:
        with pytest.raises(Stopped):
            next(items)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - started < 10


def test_workers_end_with_the_iterator() -> None:
    items = start(loader(lambda: torch.zeros(3)))
    assert len(list(islice(items, 2))) == 2
    items.close()  # type: ignore[attr-defined]
    assert next(items, None) is None


LAST = """
from pose.workers import _until_closed

class Items:

    def __iter__(self):
        return self

    def __next__(self):
        return 1

    def _shutdown_workers(self):
        print("ended", end="")

kept = _until_closed(Items(), [], lambda: None)
next(kept)
"""


def test_an_iterator_that_is_kept_to_the_end_of_python_holds_nothing_up() -> None:
    """No thread starts any more: up to 3.11 it would be waited for without an end, later it is an error."""
    done = subprocess.run([sys.executable, "-c", LAST], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended", "")


OPEN = """
import torch
from torch.utils.data import DataLoader
from pose.engine.signals import signals_for_this_process_only
from pose.workers import prepare_worker, start

loader = DataLoader(list(range(1000)), num_workers=2, worker_init_fn=prepare_worker)
with signals_for_this_process_only():
    kept = start(loader)
next(kept)
circle = [kept]
circle.append(circle)
"""


@pytest.mark.parametrize("rest", ["", "del kept, circle", "raise SystemExit(3)", "raise ValueError"])
def test_workers_of_an_iterator_that_is_open_at_the_end_of_python_are_ended(rest: str) -> None:
    """They do not get multiprocessing's SIGTERM, and it waits for them without a limit."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", OPEN + rest], capture_output=True, text=True, timeout=60)
    assert done.returncode == {"": 0, "d": 0, "S": 3, "V": 1}[rest.removeprefix("raise ")[:1]]
    assert ("Traceback" in done.stderr) == (rest == "raise ValueError") and "DataLoader" not in done.stderr
    assert time.monotonic() - started < 30


HANG_UP = """
import socket, sys, time
from multiprocessing import resource_sharer
from pose.workers import prepare_worker

prepare_worker(0)
for call in (0, 1):
    address = resource_sharer.DupFd(1)._id[0]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
    time.sleep(0.5)
sys.excepthook(ValueError, ValueError("another error"), None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="tensors are fetched by sockets of Linux")
def test_a_worker_says_nothing_when_the_main_process_hangs_up() -> None:
    done = subprocess.run([sys.executable, "-c", HANG_UP], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "ValueError: another error\n"
