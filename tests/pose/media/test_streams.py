"""Which pictures go through the network together, and how many batches at once, with a network that only
notes them down."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.media import pipeline
from pose.media.pipeline import BEHIND, Frame, Stream
from pose.media.sources import Source
from pose.structures import People

SIZE = 3  # of a batch
THREADS = 4
PATIENCE = 30  # seconds: for what must come


class Notes:
    """Stands for a `BatchPredictor`: the ids of each batch, and what `during` says of it meanwhile."""

    def __init__(self, during: Callable[[int], Any] = lambda number: None, device: str = "cpu") -> None:
        self.settings = SimpleNamespace(batch_size=SIZE)
        self.device = torch.device(device)
        self.during = during
        self.batches: list[list[int]] = []
        self.told: dict[int, Any] = {}
        self._lock = threading.Lock()

    def prepare(self, image: np.ndarray, index: int) -> Any:
        canvas = torch.zeros(image.shape[:2], dtype=torch.int64)
        canvas[0, 0] = index
        return SimpleNamespace(position=index, canvases=[canvas])

    def fields(self, canvases: Sequence[Sequence[Tensor]]) -> tuple[dict[str, Tensor], int]:
        with self._lock:
            number = len(self.batches)
            self.batches.append([int(one[0][0, 0]) for one in canvases])
        self.told[number] = self.during(number)
        return {}, 4

    def decode(self, fields: Any, stride: int, batch: Sequence[Any]) -> list[tuple[int, People]]:
        return [(one.position, People.none(3)) for one in batch]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches go when they are full, however slow this computer is."""
    monkeypatch.setattr(pipeline, "IDLE", PATIENCE)


def of_sizes(sizes: Iterable[int]) -> Iterator[Frame]:
    source = Source("video", Path("film.mp4"), Path("film"))
    for number, size in enumerate(sizes, start=1):
        yield Frame(number, source, image=np.zeros((size, 8, 3), np.uint8), rate=10.0)


# ---- who goes together


def test_no_picture_waits_longer_than_behind_batches_for_others_of_its_size(
    pool: ThreadPoolExecutor, patient: None
) -> None:
    notes = Notes()
    frames = list(Stream(notes, of_sizes([9, *[8] * 40, 9, 7]), pool))  # type: ignore[arg-type]
    assert [frame.id for frame in frames] == list(range(1, 44))
    newest = [max(ids) for ids in notes.batches]
    place = notes.batches.index([1])
    assert max(newest[:place]) <= 1 + BEHIND * SIZE <= max(newest[: place + 2])
    assert notes.batches[-3:] == [[41], [42], [43]], "at the end the oldest goes first"


@pytest.mark.parametrize("lonely", [1, 2, 3, 5])
def test_a_batch_is_never_larger_than_it_may_be(pool: ThreadPoolExecutor, patient: None, lonely: int) -> None:
    """Also where one is full in the moment in which pictures of another size have waited too long."""
    notes = Notes()
    frames = list(Stream(notes, of_sizes([*range(20, 20 + lonely), *[8] * 60]), pool))  # type: ignore[arg-type]
    assert [frame.id for frame in frames] == list(range(1, 61 + lonely))
    assert max(map(len, notes.batches)) == SIZE
    assert sum(len(ids) == SIZE for ids in notes.batches) == 20, "nobody goes half full without need"


def test_pictures_of_one_size_fill_their_batches_between_those_of_others(
    pool: ThreadPoolExecutor, patient: None
) -> None:
    notes = Notes()
    list(Stream(notes, of_sizes([7, 8, 9] * 3), pool))  # type: ignore[arg-type]
    assert sorted(notes.batches) == [[1, 4, 7], [2, 5, 8], [3, 6, 9]]


# ---- how many at once


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


class Clock:
    """Each thread's own time, which only `pass_by` moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._local = threading.local()
        monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=self.now))

    def now(self) -> float:
        return getattr(self._local, "now", 0.0)

    def pass_by(self, seconds: float) -> None:
        self._local.now = self.now() + seconds


QUICK_ONES = [9.0, 0.1, *[9.0] * 6]  # the first warms up, the later ones are held up by others
SLOW_ONES = [9.0, 0.6, *[0.51] * 6]


def test_two_batches_of_a_small_network_run_at_once_on_half_of_the_threads_each(
    pool: ThreadPoolExecutor, patient: None, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the quickest batch so far."""
    clock, both = Clock(monkeypatch), threading.Barrier(2)

    def during(number: int) -> int:
        clock.pass_by(QUICK_ONES[number])
        if number >= 4:
            both.wait(PATIENCE)
        return torch.get_num_threads()

    notes = Notes(during)
    list(Stream(notes, of_sizes([8] * SIZE * 8), pool))  # type: ignore[arg-type]
    assert [notes.told[number] for number in (0, 1)] == [THREADS, THREADS], "nothing is known yet"
    assert [notes.told[number] for number in range(3, 8)] == [THREADS // 2] * 5
    assert torch.get_num_threads() == THREADS


@pytest.mark.parametrize(
    ("times", "device", "most"),
    [(SLOW_ONES, "cpu", THREADS), (QUICK_ONES, "cuda", THREADS), (QUICK_ONES, "cpu", 1)],
)
def test_batches_of_a_large_network_follow_each_other_on_all_threads(
    pool: ThreadPoolExecutor,
    patient: None,
    threads: None,
    monkeypatch: pytest.MonkeyPatch,
    times: list[float],
    device: str,
    most: int,
) -> None:
    """So do those on a GPU, and where there is one thread."""
    torch.set_num_threads(most)
    clock, both, met = Clock(monkeypatch), threading.Barrier(2), []

    def during(number: int) -> int:
        clock.pass_by(times[number])
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.1)  # time enough for another one to come, if it may
            met.append(number)
        both.reset()
        return torch.get_num_threads()

    notes = Notes(during, device)
    list(Stream(notes, of_sizes([8] * SIZE * 6), pool))  # type: ignore[arg-type]
    assert met == []
    assert [notes.told[number] for number in range(6)] == [most] * 6


# ---- how much is held


class Held:
    """A stream of pictures whose reading says how many were begun."""

    def __init__(self, pool: ThreadPoolExecutor, sizes: Iterable[int]) -> None:
        self.begun = 0
        self.stream = Stream(Notes(), self._counted(sizes), pool)  # type: ignore[arg-type]

    def _counted(self, sizes: Iterable[int]) -> Iterator[Frame]:
        for frame in of_sizes(sizes):
            self.begun += 1
            yield frame


BYTES = 8 * 8 * 3  # of a picture


def test_what_may_be_held_counts_what_is_being_read_as_the_largest_so_far(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "IDLE", 0.01)
    monkeypatch.setattr(pipeline, "MEMORY", 10 * BYTES)
    monkeypatch.setattr(pipeline, "GUESS", 4 * BYTES)
    stream = Stream(Notes(), [], pool)  # type: ignore[arg-type]
    stream._ended.set()  # nobody waits for room: `_room` answers at once, or not at all

    def room() -> bool:
        """Whether there is any."""
        before = stream._unread
        stream._room()
        return stream._unread > before

    assert [room() for _ in range(3)] == [True, True, False], "each may turn out to have 4"
    frames = list(of_sizes([8, 32]))
    for frame in frames:
        stream._prepare(frame)
    assert (stream._held, stream._unread) == (5 * BYTES, 0)
    assert [room() for _ in range(2)] == [True, False], "5 held, 4 to come"
    stream._prepare(next(of_sizes([40])))
    assert (stream._held, stream._largest) == (10 * BYTES, 5 * BYTES)
    stream.release(frames[1])
    assert frames[1].image is None and stream._held == 6 * BYTES
    assert not room(), "another one of 5 would be too many"
    stream.release(frames[0])
    assert room()
    stream.release(frames[0])
    assert stream._held == 5 * BYTES, "let go of once only"


def test_one_picture_larger_than_the_memory_is_read_when_nothing_else_is_held(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "IDLE", 0.01)
    monkeypatch.setattr(pipeline, "MEMORY", BYTES // 2)
    held = Held(pool, [8] * 6)
    for count, frame in enumerate(held.stream, start=1):
        assert frame.id == count == held.begun - (held.begun > count)  # at most the next one is at the door
        held.stream.release(frame)
    assert held.begun == 6


def test_a_reader_that_waits_for_room_goes_home_at_the_end(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "IDLE", 0.01)
    monkeypatch.setattr(pipeline, "MEMORY", BYTES)
    before = set(threading.enumerate())
    frames = iter(Held(pool, [8] * 6).stream)
    next(frames)  # and it is kept
    (reader,) = (one for one in set(threading.enumerate()) - before if one.name == "reader")
    frames.close()
    reader.join(PATIENCE)
    assert not reader.is_alive()


def test_a_reader_that_waits_for_room_is_woken_when_a_picture_is_let_go(
    pool: ThreadPoolExecutor, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MEMORY", BYTES)
    monkeypatch.setattr(pipeline, "GUESS", BYTES)
    stream = Stream(Notes(), [], pool)  # type: ignore[arg-type]
    (frame,) = of_sizes([8])
    stream._room()
    stream._prepare(frame)
    waiting, entered = threading.Thread(target=stream._room, daemon=True), threading.Event()
    wait_for = stream._memory.wait_for

    def reported(*arguments: Any) -> bool:
        entered.set()
        return wait_for(*arguments)

    monkeypatch.setattr(stream._memory, "wait_for", reported)
    waiting.start()
    assert entered.wait(PATIENCE)
    stream.release(frame)  # needs the lock, which the other thread gives back where it waits
    waiting.join(PATIENCE / 2)
    assert not waiting.is_alive()
