"""Drawn pictures and videos, made beside everything else, and the window that shows them."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from pose.draw.people import Style, draw_people
from pose.errors import UserError
from pose.files import write_picture
from pose.media.pipeline import Frame
from pose.media.sources import Source, outputs
from pose.media.video import VideoWriter
from pose.skeleton import Skeleton
from pose.structures import People

SCREEN = (1280, 800)  # pixels, width and height, that most screens have; a window begins within them
BLINK = 0.03  # seconds between two looks at the keyboard
QUIT = (ord("q"), 27)  # q and Esc

Draw = Callable[[np.ndarray, People, Sequence[int] | None], np.ndarray]


def drawer(skeleton: Skeleton, style: Style) -> Draw:
    """Draws people; who is followed keeps its colour and its number."""

    def draw(image: np.ndarray, people: People, ids: Sequence[int] | None) -> np.ndarray:
        return draw_people(image, people, skeleton, style, None if ids is None else [one - 1 for one in ids])

    return draw


class Drawings:
    """A file for every picture, written by the threads of `pool`, and a video for every video, frame after
    frame."""

    def __init__(self, folder: Path, draw: Draw, pool: ThreadPoolExecutor, depth: int = 8) -> None:
        self.folder, self.draw, self.pool, self.depth = folder, draw, pool, depth
        self._in_order = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()
        self._video: VideoWriter | None = None
        self._source: Source | None = None
        self.files = self.videos = 0

    def add(
        self, frame: Frame, people: People, ids: Sequence[int] | None, done: Callable[[Frame], None]
    ) -> None:
        """`done` is called when the frame's picture is no longer needed.  Raises `UserError` of this frame or
        an earlier one that cannot be written."""
        if self._video is not None and frame.source is not self._source:
            self.end()
        self._source = frame.source
        target = outputs(frame.source, self.folder)
        if frame.source.kind == "picture":
            self.files += 1
            job = self.pool.submit(self._picture, target, frame, people, ids, done)
        else:
            if self._video is None:
                self._video = VideoWriter(target, frame.rate)
                self.videos += 1
            drawn = self.pool.submit(self._drawn, frame, people, ids, done)
            job = self._in_order.submit(self._frame, self._video, drawn, frame.seconds)
        self._pending.append(job)
        while len(self._pending) > self.depth:
            self._pending.popleft().result()

    def _drawn(
        self, frame: Frame, people: People, ids: Sequence[int] | None, done: Callable[[Frame], None]
    ) -> np.ndarray:
        assert frame.image is not None
        drawn = self.draw(frame.image, people, ids)
        done(frame)
        return drawn

    def _picture(
        self,
        target: Path,
        frame: Frame,
        people: People,
        ids: Sequence[int] | None,
        done: Callable[[Frame], None],
    ) -> None:
        write_picture(target, self._drawn(frame, people, ids, done))

    def _frame(self, video: VideoWriter, drawn: Future[np.ndarray], seconds: float) -> None:
        video.add(drawn.result(), seconds)

    def end(self) -> None:
        """What was begun is written, the video closed."""
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            video, self._video = self._video, None
            if video is not None:  # after the frames that may still be on their way, whatever was raised
                self._in_order.submit(video.close).result()

    def close(self) -> None:
        try:
            self.end()
        finally:
            self._in_order.shutdown()


class Window:
    """Shows drawn pictures.  Raises `UserError` where there is no display or OpenCV has no windows."""

    def __init__(self, title: str) -> None:
        self.title = title
        screens = ("DISPLAY", "WAYLAND_DISPLAY")
        if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screens):
            raise UserError(
                "--show needs a display, and there is none here; leave it out and look at the files"
            )
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except (cv2.error, AttributeError):
            raise UserError(
                "--show needs an OpenCV with windows: pip uninstall opencv-python-headless, then pip install "
                "opencv-python"
            ) from None
        self._began: tuple[Source, float] | None = None

    def show(self, frame: Frame, drawn: np.ndarray, stop: Callable[[], bool] = lambda: False) -> bool:
        """False: the person pressed q or Esc, or closed the window.  A picture stays until a key is pressed,
        a frame of a video until its time is over."""
        if self._began is None:  # later the person may have chosen another size
            height, width = drawn.shape[:2]
            ratio = min(1.0, SCREEN[0] / width, SCREEN[1] / height)
            cv2.resizeWindow(self.title, max(1, round(width * ratio)), max(1, round(height * ratio)))
        cv2.imshow(self.title, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        now = time.monotonic()
        if self._began is None or self._began[0] is not frame.source:
            self._began = (frame.source, now - frame.seconds)
        over = self._began[1] + frame.seconds + (1 / frame.rate if frame.rate > 0 else 0)
        until = {"picture": float("inf"), "camera": now, "video": over}
        while not stop():
            left = until[frame.source.kind] - time.monotonic()
            key = cv2.waitKey(max(1, int(1000 * min(BLINK, left)))) & 0xFF
            if key in QUIT or self._closed():
                return False
            if key != 0xFF and frame.source.kind == "picture" or left <= 0:
                return True
        return False

    def _closed(self) -> bool:
        """Some of OpenCV's window systems say so, others no longer know the window."""
        try:
            return bool(cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1)
        except cv2.error:
            return True

    def close(self) -> None:
        cv2.destroyAllWindows()
