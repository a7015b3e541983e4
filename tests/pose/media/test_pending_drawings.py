"""At most `depth` pictures wait to be drawn and written: a full disk is told soon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.errors import UserError
from pose.media.drawings import Drawings
from pose.media.pipeline import Frame
from pose.media.sources import Source
from pose.media.video import VideoFile
from pose.structures import People

DEPTH = 3
FILM = Source("video", Path("film.avi"), Path("film"))
NOBODY = People.none(3)


def frame(number: int, kind: str) -> Frame:
    """Of one video, or a picture, which is a source of its own."""
    source = FILM if kind == "video" else Source("picture", Path("a.png"), Path(f"a-{number}"))
    return Frame(number + 1, source, number, number / 10, 10.0, np.full((48, 64, 3), number, np.uint8))


def plain(image: np.ndarray, people: People, ids: Sequence[int] | None) -> np.ndarray:
    return image


class Slow(ThreadPoolExecutor):
    """The slowest pool there can be: what is submitted is done when somebody waits for it."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        class Later(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                return work(*arguments)

        return Later()


def test_pictures_that_wait_are_at_most_depth_and_wait_for_nothing_else(tmp_path: Path) -> None:
    drawn: list[int] = []
    with Slow() as pool:
        drawings = Drawings(tmp_path, plain, pool, DEPTH)
        for number in range(10):
            drawings.add(frame(number, "picture"), NOBODY, None, lambda done: drawn.append(done.number))
            assert drawn == list(range(number + 1 - DEPTH)), "the oldest, and only as many as are too many"
        drawings.close()
    assert drawn == list(range(10))
    assert drawings.files == 10 == len(list(tmp_path.iterdir()))


def test_pictures_are_drawn_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def draw(image: np.ndarray, people: People, ids: object) -> np.ndarray:
        together.wait(20)
        return image

    with ThreadPoolExecutor(2) as pool:
        drawings = Drawings(tmp_path, draw, pool, DEPTH)
        for number in range(4):
            drawings.add(frame(number, "picture"), NOBODY, None, lambda _: None)
        drawings.close()
    assert len(list(tmp_path.iterdir())) == 4


def test_frames_of_a_video_that_wait_are_at_most_depth(tmp_path: Path) -> None:
    drawn: list[int] = []
    with Slow() as pool:
        drawings = Drawings(tmp_path, plain, pool, DEPTH)
        drawings._in_order = Slow()
        for number in range(6):
            drawings.add(frame(number, "video"), NOBODY, None, lambda done: drawn.append(done.number))
            assert drawn == list(range(number + 1 - DEPTH))
        drawings.close()
    assert drawn == list(range(6))


@pytest.mark.parametrize("kind", ["picture", "video"])
def test_what_cannot_be_drawn_is_told_at_most_depth_frames_later(tmp_path: Path, kind: str) -> None:
    def draw(image: np.ndarray, people: People, ids: object) -> np.ndarray:
        if image[0, 0, 0] == 1:
            raise UserError("the disk is full")
        return image

    added: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        drawings = Drawings(tmp_path, draw, pool, DEPTH)
        with pytest.raises(UserError, match="the disk is full"):
            for number in range(20):
                drawings.add(frame(number, kind), NOBODY, None, lambda _: None)
                added.append(number)
        drawings.close()
    assert added == list(range(1 + DEPTH))


def test_a_video_is_closed_before_anything_else_is_begun(tmp_path: Path) -> None:
    """Also where a picture comes after it: two open videos would mix their frames."""
    other = Source("video", Path("other.avi"), Path("other"))
    with ThreadPoolExecutor(2) as pool:
        drawings = Drawings(tmp_path, plain, pool, DEPTH)
        for number in range(3):
            drawings.add(frame(number, "video"), NOBODY, None, lambda _: None)
        drawings.add(frame(3, "picture"), NOBODY, None, lambda _: None)
        assert (tmp_path / "film.mp4").exists()
        for number in range(2):
            one = frame(number, "video")
            one.source = other
            drawings.add(one, NOBODY, None, lambda _: None)
        drawings.close()
    assert drawings.videos == 2 and drawings.files == 1
    assert [len(list(VideoFile(tmp_path / f"{name}.mp4"))) for name in ("film", "other")] == [3, 2]
