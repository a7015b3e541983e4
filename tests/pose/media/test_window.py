"""The window keeps the pace of a video, and holds up nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pose.media import drawings
from pose.media.drawings import BLINK, Window
from pose.media.pipeline import Frame
from pose.media.sources import Kind, Source

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
