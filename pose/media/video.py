"""Videos and cameras, frame by frame, and drawn videos."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from pose.errors import UserError

DEFAULT_RATE = 30.0  # frames per second, where a file or a camera does not say
FASTEST = 500.0  # a higher rate is a container's clock, not the frames'
SLOWEST = 0.01  # frames per second, of a file that is written
FINE = 65.5  # frames per second, up to which MPEG-4 (whose clock has 16 bits) holds thousandths of them
LONGEST_STILL = 10.0  # seconds that one frame may stand: more is a broken time stamp
PATIENCE = 5.0  # seconds without a frame after which a camera is gone
LARGEST = 8190  # pixels of a side: MPEG-4's limit
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # off; OpenCV asks once, at its first video


class VideoFrame(NamedTuple):
    image: np.ndarray  # (H, W, 3) uint8 RGB, upright
    seconds: float  # since the first frame


class VideoFile:
    """A file that OpenCV reads, turned upright as its metadata say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture = _open(str(path)) if path.is_file() else None
        if self._capture is None:
            raise UserError(f"{path} is damaged or no video that OpenCV reads")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        self.rate = _rate(self._capture)
        promised = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.promised = int(promised) if 0 < promised < 2**31 else None  # frames, as the file says
        self.read = 0

    def __iter__(self) -> Iterator[VideoFrame]:
        capture, first = self._capture, None
        assert capture is not None
        with contextlib.closing(self):
            while True:
                there, frame = _read(capture)
                if not there:
                    return
                seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                first = seconds if first is None else first
                self.read += 1
                yield VideoFrame(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame), seconds - first)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()

    @property
    def missing(self) -> str | None:
        """A sentence where the file, read to its end, ended before its time.  Some containers only estimate
        their length."""
        if self.read == 0:
            return f"{self.path} has no frame that OpenCV reads: it is damaged, cut off or empty"
        if self.promised is None or self.read >= 0.97 * self.promised - 2:
            return None
        return f"{self.path} ended after {self.read} of {self.promised} frames: it is damaged or cut off"


class Camera:
    """The newest frame of a camera: those that nobody had time for are dropped."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._capture = _open(number)
        if self._capture is None:
            raise UserError(
                f"no camera {number}, or another program uses it; camera:0 is the first one of this computer"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.rate = _rate(self._capture)
        self._news = threading.Condition()
        self._newest: tuple[np.ndarray, float] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._watch, daemon=True, name="camera")

    def __iter__(self) -> Iterator[VideoFrame]:
        first: float | None = None
        with contextlib.closing(self):
            self._thread.start()
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._newest is not None or self._closed, PATIENCE)
                    newest, self._newest = self._newest, None
                if newest is None:
                    raise UserError(
                        f"camera {self.number} gives no pictures any more; is it still plugged in?"
                    )
                frame, moment = newest
                first = moment if first is None else first
                yield VideoFrame(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), moment - first)

    def _watch(self) -> None:
        while not self._closed:
            there, frame = _read(self._capture)
            with self._news:
                if there:
                    self._newest = (frame, time.monotonic())
                else:
                    self._closed = True
                self._news.notify()

    def close(self) -> None:
        self._closed = True
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        if self._capture is not None:
            self._capture.release()


def _open(source: str | int) -> Any:
    """An open `cv2.VideoCapture`, or None; what the libraries have to say to that helps nobody."""
    with quiet():
        try:
            capture = cv2.VideoCapture(source if isinstance(source, int) else for_opencv(source))
        except cv2.error:
            return None
        return capture if capture.isOpened() else None


def _read(capture: Any) -> tuple[bool, np.ndarray]:
    try:
        there, frame = capture.read()
    except cv2.error:  # a frame that the decoder cannot make sense of
        return False, np.zeros((0, 0, 3), np.uint8)
    return bool(there and frame is not None and frame.size), frame


def for_opencv(path: Path | str) -> str:
    """A name that OpenCV takes for the file: relative, `12:30.mp4` would be an address with a protocol.

    Raises `UserError` for bytes that are no UTF-8, of which OpenCV dies."""
    name = os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise UserError(f"{shown} has a name that is no UTF-8, which OpenCV cannot open; rename it") from None
    return name


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """OpenCV's own log is off meanwhile."""
    log = getattr(cv2.utils, "logging", None)
    before = log.setLogLevel(log.LOG_LEVEL_SILENT) if log else None
    try:
        yield
    finally:
        if log:
            log.setLogLevel(before)


def _rate(capture: Any) -> float:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return float(rate) if math.isfinite(rate) and 0 < rate <= FASTEST else DEFAULT_RATE


class VideoWriter:
    """An MP4 (MPEG-4 part 2, which every OpenCV writes), whole or not there at all.

    Frames that come late by their time stamps stand as long as they did: a video of changing rate keeps its
    pace.  Odd sides lose their last column or row, which the format cannot hold; sound is left out."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path = path
        self.rate = max(SLOWEST, rate if rate <= FINE else round(rate, 2))
        self.written = 0
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
        self._writer: Any = None
        self._last: np.ndarray | None = None
        self._size = (0, 0)

    def add(self, image: np.ndarray, seconds: float) -> None:
        """image (H, W, 3) uint8 RGB; seconds: when it is shown."""
        if self._writer is None:
            self._start(image)
        if image.shape[:2] != self._size:  # a stream may change its size on the way
            image = cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_AREA)
        late = round(seconds * self.rate) - self.written
        frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        still = [self._last] * late if self._last is not None and late <= LONGEST_STILL * self.rate else []
        for one in (*still, frame):
            self._writer.write(one)
        self.written += len(still) + 1
        self._last = frame

    def _start(self, image: np.ndarray) -> None:
        height, width = self._size = image.shape[:2]
        if not 2 <= min(height, width) <= max(height, width) <= LARGEST:
            raise UserError(
                f"{self.path}: no video of {width} x {height} pixels can be written; leave the pictures out "
                "with --no-pictures"
            )
        name = for_opencv(self._temporary)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from None
        code = cv2.VideoWriter.fourcc(*"mp4v")
        with quiet():
            self._writer = cv2.VideoWriter(name, code, self.rate, (width, height))
        if not self._writer.isOpened():
            self.discard()
            raise UserError(f"this OpenCV cannot write {self.path}: pip install opencv-python-headless")

    def close(self) -> None:
        """Raises `UserError` where not everything arrived, as on a full disk."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        capture = _open(str(self._temporary))
        arrived = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture is not None else 0
        if capture is not None:
            capture.release()
        if arrived != self.written:
            self.discard()
            raise UserError(
                f"{self.path} could not be written ({arrived} of {self.written} frames arrived): is the disk "
                "full?"
            )
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:  # a folder has the name
            self.discard()
            raise UserError(f"cannot write {self.path}: {error.strerror}") from None

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._temporary.unlink(missing_ok=True)
