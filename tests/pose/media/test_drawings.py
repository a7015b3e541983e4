"""Drawings are written beside everything else, and closed after everything that was begun."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pose.errors import UserError
from pose.media import drawings
from pose.media.drawings import BLINK, Drawings, Window
from pose.media.pipeline import Frame
from pose.media.sources import Kind, Source
from pose.media.video import VideoFile
from pose.structures import People


def test_a_video_is_closed_after_its_last_frame_though_one_before_failed(tmp_path: Path) -> None:
    film = Source("video", Path("film.avi"), Path("film"))

    def draw(image: np.ndarray, people: People, ids: object) -> np.ndarray:
        if image[0, 0, 0] == 1:
            raise KeyboardInterrupt
        time.sleep(0.05)
        return image

    with ThreadPoolExecutor(2) as pool:
        drawings = Drawings(tmp_path, draw, pool)
        for number in range(6):
            image = np.full((48, 64, 3), number, np.uint8)
            frame = Frame(number + 1, film, number, number / 10, 10.0, image)
            drawings.add(frame, People.none(3), None, lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            drawings.close()
        drawings.close()
    assert list(tmp_path.iterdir()) == [tmp_path / "film.mp4"]  # nothing half-written beside it
    assert len(list(VideoFile(tmp_path / "film.mp4"))) >= 5


# ------------------------------------------------------------------------------------------------------------
# At most `depth` pictures wait to be drawn and written: a full disk is told soon.


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


# ------------------------------------------------------------------------------------------------------------
# The window keeps the pace of a video, and holds up nobody else.


NO_KEY = -1
RATE = 10.0


class Screen:
    """OpenCV's windows and a clock that only they and `work` move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.shown: list[np.ndarray] = []
        self.waits: list[int] = []  # milliseconds
        self.key: Callable[[], int] = lambda: NO_KEY
        self.visible = 1.0
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(drawings, "time", SimpleNamespace(monotonic=lambda: self.now))
        names = {
            "namedWindow": lambda *_: None,
            "resizeWindow": lambda *_: None,
            "imshow": lambda _, image: self.shown.append(image),
            "waitKey": self._wait,
            "getWindowProperty": lambda *_: self.visible,
        }
        for name, stand_in in names.items():
            monkeypatch.setattr(drawings.cv2, name, stand_in, raising=False)

    def _wait(self, milliseconds: int) -> int:
        assert milliseconds > 0, "0 would wait for a key for ever"
        assert len(self.waits) < 1000, "it never ends"
        self.waits.append(milliseconds)
        self.now += milliseconds / 1000
        return self.key()

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(monkeypatch)


IMAGE = np.zeros((4, 6, 3), np.uint8)


def frames(kind: Kind, seconds: list[float], name: str = "a") -> list[Frame]:
    source = Source(kind, Path(name), Path(name))
    return [Frame(n + 1, source, n, moment, RATE, IMAGE) for n, moment in enumerate(seconds)]


def test_a_video_keeps_its_pace_whatever_the_program_takes_of_it(screen: Screen) -> None:
    """Also where its rate changes, and where it does not begin at 0."""
    window = Window("people")
    stamps = [3.0, 3.1, 3.2, 3.6, 3.7, 4.7, 4.8]
    began = screen.now
    for frame, work in zip(frames("video", stamps), [0, 0.05, 0, 0.3, 0.02, 0.9, 0]):
        screen.work(work)
        assert window.show(frame, IMAGE)
        assert screen.now - began == pytest.approx(frame.seconds - 3 + 1 / RATE, abs=0.003)
    assert max(screen.waits) <= 1000 * BLINK, "keys are looked at all the time"


def test_a_slow_program_never_waits_and_a_short_delay_is_made_up_for(screen: Screen) -> None:
    window = Window("people")
    first, *others = frames("video", [n / RATE for n in range(10)])
    window.show(first, IMAGE)  # for its own time
    for frame in others:
        screen.work(0.25)
        before = screen.now
        assert window.show(frame, IMAGE)
        assert screen.now - before <= 0.0011
    # the pace is that of the first frame: after a delay the next ones come at once
    later = frames("video", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], "b")
    began = screen.now
    for n, frame in enumerate(later):
        screen.work(0.35 if n == 1 else 0)
        window.show(frame, IMAGE)
    assert screen.now - began == pytest.approx(0.6, abs=0.003)


def test_every_video_has_its_own_beginning(screen: Screen) -> None:
    window = Window("people")
    for name in ("a", "b"):
        screen.work(5)
        began = screen.now
        for frame in frames("video", [0.0, 0.1, 0.2], name):
            window.show(frame, IMAGE)
        assert screen.now - began == pytest.approx(0.3, abs=0.003)


def test_a_frame_of_a_camera_does_not_wait(screen: Screen) -> None:
    """Its next frame is newer than what would be waited for."""
    window = Window("people")
    for frame in frames("camera", [0.0, 0.1, 0.2, 5.0]):
        before = len(screen.waits)
        assert window.show(frame, IMAGE)
        assert screen.waits[before:] == [1]


def test_a_picture_stays_until_a_key_is_pressed(screen: Screen) -> None:
    window = Window("people")
    keys = iter([NO_KEY] * 50 + [ord(" ")])
    screen.key = lambda: next(keys)
    assert window.show(frames("picture", [0.0])[0], IMAGE)
    assert len(screen.waits) == 51
    assert max(screen.waits) <= 1000 * BLINK


def test_a_key_does_not_hurry_a_video(screen: Screen) -> None:
    window = Window("people")
    screen.key = lambda: ord("x")
    began = screen.now
    for frame in frames("video", [0.0, 0.1, 0.2]):
        assert window.show(frame, IMAGE)
    assert screen.now - began == pytest.approx(0.3, abs=0.003)


@pytest.mark.parametrize("kind", ["picture", "video", "camera"])
@pytest.mark.parametrize("key", [ord("q"), 27, ord("q") | 0x100000])  # GTK sets higher bits with Num Lock
def test_q_and_escape_end_it(screen: Screen, kind: Kind, key: int) -> None:
    window = Window("people")
    screen.key = lambda: key
    assert not window.show(frames(kind, [0.0, 9.0])[1], IMAGE)


@pytest.mark.parametrize("kind", ["picture", "video", "camera"])
def test_a_window_that_is_closed_ends_it(screen: Screen, kind: Kind) -> None:
    window = Window("people")
    screen.visible = 0.0
    assert not window.show(frames(kind, [0.0])[0], IMAGE)


def test_whoever_is_told_to_stop_waits_no_longer(screen: Screen) -> None:
    window = Window("people")
    assert not window.show(frames("picture", [0.0])[0], IMAGE, stop=lambda: len(screen.waits) >= 3)
    assert len(screen.waits) == 3


def test_opencv_is_given_blue_first(screen: Screen) -> None:
    window = Window("people")
    window.show(frames("camera", [0.0])[0], np.full((4, 6, 3), (250, 120, 10), np.uint8))
    assert screen.shown[0][0, 0].tolist() == [10, 120, 250]
