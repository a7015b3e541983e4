"""Many pictures at a time: each with its own people, in order, whatever its size; bounded; ends when told."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.errors import UserError
from pose.media import pipeline
from pose.media.pipeline import Frame, Stream, frames_of, one_by_one
from pose.media.sources import Source, find_sources
from pose.media.video import VideoWriter
from pose.predict.batches import BatchPredictor
from pose.predict.settings import TestSettings
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
    assert "damaged.png is damaged or no picture" in frames.pop(3).problem
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
