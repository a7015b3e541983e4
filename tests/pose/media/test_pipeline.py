"""Many pictures at a time: each with its own people, in order, whatever its size; bounded; ends when told."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.errors import UserError
from pose.media import pipeline
from pose.media.pipeline import BEHIND, Frame, Stream, frames_of, one_by_one
from pose.media.sources import Source, find_sources
from pose.media.video import VideoWriter
from pose.predict.batches import BatchPredictor
from pose.predict.settings import TestSettings
from pose.structures import People
from tests.dot_people import assert_same_people, dot_model, dots, write_set

SIZES = [(120, 160), (160, 120), (140, 140), (97, 128), (120, 160), (200, 90), (120, 160)]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def batches(**settings: Any) -> BatchPredictor:
    return BatchPredictor(dot_model(size=160), TestSettings(batch_size=3, **settings))


@pytest.mark.parametrize("resize", ["letterbox", "long_side"])
def test_everybody_is_found_on_his_own_picture_in_order(
    tmp_path: Path, pool: ThreadPoolExecutor, resize: str
) -> None:
    paths = write_set(tmp_path, SIZES)
    paths.insert(3, tmp_path / "damaged.png")
    paths[3].write_bytes(b"no picture")
    sources = find_sources([str(path) for path in paths], tmp_path / "out")
    frames = list(Stream(batches(resize=resize), frames_of(sources), pool))
    assert [frame.source.path for frame in frames] == paths
    assert [frame.id for frame in frames] == list(range(1, 9))
    assert "damaged.png is corrupt or no image" in frames.pop(3).problem
    for i, (frame, size) in enumerate(zip(frames, SIZES, strict=True)):
        assert frame.size == size and not frame.problem
        assert frame.people is not None
        assert_same_people(frame.people, dots(size, 1 + i % 3, seed=i)[1], 1.0)


def test_frames_of_videos_and_pictures_are_numbered_together(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    pictures = write_set(tmp_path, [(120, 160)] * 2)
    writer = VideoWriter(tmp_path / "film.mp4", 10)
    for i in range(7):
        writer.add(dots((120, 160), 1 + i % 3, seed=i)[0], i / 10)
    writer.close()
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    given = [pictures[0], tmp_path / "broken.mp4", tmp_path / "film.mp4", pictures[1]]
    sources = find_sources([str(path) for path in given], tmp_path / "out")
    frames = list(Stream(batches(), frames_of(sources), pool))
    assert [frame.id for frame in frames] == [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [frame.number for frame in frames[2:9]] == list(range(7))
    assert [len(frame.people) for frame in frames[2:9] if frame.people is not None] == [1, 2, 3, 1, 2, 3, 1]
    assert [frame.seconds for frame in frames[2:9]] == pytest.approx([i / 10 for i in range(7)])
    assert "broken.mp4" in frames[1].problem
    some = list(Stream(batches(), frames_of(sources, limit=4), pool))
    assert [frame.id for frame in some] == [1, 0, 2, 3, 4]


def endless(started: list[int], size: tuple[int, int] = (60, 80)) -> Iterator[Frame]:
    source = Source("video", Path("film.mp4"), Path("film"))
    for number in itertools.count(1):
        started.append(number)
        yield Frame(number, source, image=np.zeros((*size, 3), np.uint8), rate=10.0)


def test_no_more_is_read_than_can_be_used(pool: ThreadPoolExecutor) -> None:
    """In pictures, and in bytes as long as nobody lets go of them."""
    started: list[int] = []
    stream = iter(Stream(batches(), endless(started), pool))
    next(stream)
    time.sleep(0.3)
    assert len(started) < 20
    stream.close()  # type: ignore[attr-defined]


def test_what_is_held_is_bounded_in_bytes(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch goes as it is where there is no memory for a whole one."""
    size = 60 * 80 * 3
    monkeypatch.setattr(pipeline, "MEMORY", 2 * size)
    monkeypatch.setattr(pipeline, "GUESS", size)
    started: list[int] = []
    stream = Stream(batches(), endless(started), pool)
    frames = iter(stream)
    held = []
    for _ in range(3):
        held.append(next(frames))
        if len(held) == 2:
            time.sleep(0.3)
            assert len(started) == 3  # the third waits outside
            stream.release(held[0])
            assert held[0].image is None
    frames.close()  # type: ignore[attr-defined]


def test_a_slow_pipe_is_not_kept_waiting_for_a_whole_batch(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    paths = write_set(tmp_path, [(120, 160)] * 2)
    more = threading.Event()

    def slow() -> Iterator[Frame]:
        yield from frames_of(find_sources([str(paths[0])], tmp_path / "out"))
        assert more.wait(20), "the first picture never came"
        yield Frame(2, Source("picture", paths[1], Path("b")))

    frames = iter(Stream(batches(), slow(), pool))
    first = next(frames)
    more.set()
    assert [first.id, *(frame.id for frame in frames)] == [1, 2]


def test_it_ends_when_told(pool: ThreadPoolExecutor) -> None:
    seen: list[int] = []
    stream = Stream(batches(), endless([]), pool, stop=lambda: len(seen) >= 4)
    for frame in stream:
        seen.append(frame.id)
        stream.release(frame)
    assert 4 <= len(seen) < 12 and seen == list(range(1, len(seen) + 1))


def test_mistakes_of_the_reading_thread_arrive(pool: ThreadPoolExecutor) -> None:
    def broken() -> Iterator[Frame]:
        yield from itertools.islice(endless([]), 2)
        raise UserError("the camera is gone")

    with pytest.raises(UserError, match="the camera is gone"):
        list(Stream(batches(), broken(), pool))


def test_one_by_one_asks_for_a_frame_when_the_one_before_is_done(tmp_path: Path) -> None:
    """And finds the same people."""
    paths = write_set(tmp_path, SIZES[:3])
    asked: list[int] = []

    def counted() -> Iterator[Frame]:
        for frame in frames_of(find_sources([str(path) for path in paths], tmp_path / "out")):
            asked.append(frame.id)
            yield frame

    for i, frame in enumerate(one_by_one(batches(), counted())):
        assert len(asked) == i + 1
        assert frame.people is not None
        assert_same_people(frame.people, dots(SIZES[i], 1 + i % 3, seed=i)[1], 1.0)


def test_nothing_is_asked_for_beyond_the_limit() -> None:
    """The next name of a pipe may never come."""

    def pipe() -> Iterator[Source]:
        yield Source("picture", Path("a.png"), Path("a"))
        raise AssertionError("asked for a second one")

    assert [frame.id for frame in frames_of(pipe(), limit=1)] == [1]


# ------------------------------------------------------------------------------------------------------------
# Which pictures go through the network together, and how many batches at once, with a network that only
# notes them down.


SIZE = 3  # of a batch
THREADS = 4
PATIENCE = 30  # seconds: for what must come


class Notes:
    """Stands for a `BatchPredictor`: the ids of each batch, and what `during` says of it meanwhile.

    Of two threads that run batches on a CPU either may come first, so that `batches` is in the order of the
    frames with one thread only (on a GPU); batches are numbered by their ids, for frames of one size."""

    def __init__(self, during: Callable[[int], Any] = lambda number: None, device: str = "cpu") -> None:
        self.settings = SimpleNamespace(batch_size=SIZE)
        self.device = torch.device(device)
        self.during = during
        self.batches: list[list[int]] = []
        self.told: dict[int, Any] = {}

    def prepare(self, image: np.ndarray, index: int) -> Any:
        canvas = torch.zeros(image.shape[:2], dtype=torch.int64)
        canvas[0, 0] = index
        return SimpleNamespace(position=index, canvases=[canvas])

    def fields(self, canvases: Sequence[Sequence[Tensor]]) -> tuple[dict[str, Tensor], int]:
        ids = [int(one[0][0, 0]) for one in canvases]
        number = (ids[0] - 1) // SIZE
        self.batches.append(ids)
        self.told[number] = self.during(number)
        return {}, 4

    def decode(self, fields: Any, stride: int, batch: Sequence[Any]) -> list[tuple[int, People]]:
        return [(one.position, People.none(3)) for one in batch]


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
    notes = Notes(device="cuda")  # one batch after the other
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
