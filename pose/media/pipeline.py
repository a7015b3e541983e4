"""Frames -> people, in order, with reading, the network and decoding beside each other."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pose.errors import UserError
from pose.images import UnreadableImage, read_image
from pose.media.sources import Source
from pose.media.video import Camera, VideoFile
from pose.predict.batches import BatchPredictor
from pose.predict.canvas import Prepared
from pose.structures import People

IDLE = 0.1  # seconds without a new picture after which a batch goes as it is: a pipe may be slow, or endless
BEHIND = 4  # batches: no picture waits longer for others of its canvas size
QUICK = 0.5  # seconds: batches of a small network take less
MEMORY = 768e6  # bytes of pictures that are held at once
GUESS = 36e6  # bytes of a picture that is not read yet, at least: 12 megapixels
END = object()


@dataclass
class Frame:
    """One picture, or one frame of a video or a camera."""

    id: int  # counted from 1 through everything that is looked at
    source: Source
    number: int = 0  # of a frame in its video
    seconds: float = 0.0  # since the first frame
    rate: float = 0.0  # frames per second of its video
    image: np.ndarray | None = None  # (H, W, 3) uint8 RGB; None: not read yet, or not readable
    people: People | None = None  # None: not found yet, or never
    problem: str = ""  # why it has no people, or why its video has no more frames
    size: tuple[int, int] = (0, 0)  # height, width


def frames_of(sources: Iterable[Source], limit: int | None = None) -> Iterator[Frame]:
    """Every frame of every source, at most `limit`, numbered.  A video that cannot be read, or not to its
    end, gives a frame with a problem, whose id is 0.  Raises `UserError` for a camera that is not there."""
    count = 0
    for source in sources:
        still = [Frame(0, source, problem=source.problem)] if source.kind == "picture" else None
        for frame in still or _moving(source):
            if not frame.problem:
                count += 1
                frame.id = count
            yield frame
            if count == limit:  # the next one may be long in coming
                return


def _moving(source: Source) -> Iterator[Frame]:
    """The frames of a video or camera, without ids."""
    clip: Camera | VideoFile
    try:
        clip = Camera(source.camera) if source.kind == "camera" else VideoFile(source.path)
    except UserError as error:
        if source.kind == "camera":
            raise
        yield Frame(0, source, problem=str(error))
        return
    for number, (image, seconds) in enumerate(clip):
        yield Frame(0, source, number, seconds, clip.rate, image)
    if isinstance(clip, VideoFile) and clip.missing:
        yield Frame(0, source, problem=clip.missing)


def load(frame: Frame) -> None:
    """Reads the picture of a frame that has none; what cannot be read becomes its problem."""
    if frame.image is None and not frame.problem:
        try:
            frame.image = read_image(frame.source.path)
        except UnreadableImage as error:
            frame.problem = str(error)
    if frame.image is not None:
        frame.size = (frame.image.shape[0], frame.image.shape[1])


def one_by_one(
    batches: BatchPredictor, frames: Iterable[Frame], stop: Callable[[], bool] = lambda: False
) -> Iterator[Frame]:
    """The frames with their people, each before the next one is asked for: for a camera, whose next frame is
    then the newest."""
    for frame in frames:
        load(frame)
        if frame.image is not None:
            frame.people = batches(frame.image)
        yield frame
        if stop():
            return


class Stream:
    """The frames with their people, in order, from many at a time.

    Threads of the pool read and letterbox, others run the network and decode.  What is held is bounded, in
    pictures and in bytes: whoever takes a frame says `release` when its picture is no longer needed."""

    def __init__(
        self,
        batches: BatchPredictor,
        frames: Iterable[Frame],
        pool: ThreadPoolExecutor,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.batches = batches
        self.batch_size = batches.settings.batch_size
        self._frames = frames
        self._pool = pool
        self._stop = stop
        self._ended = threading.Event()
        self._ready: queue.Queue[Any] = queue.Queue(self.batch_size + 2)
        self._memory = threading.Condition()
        self._held, self._unread, self._largest = 0, 0, GUESS
        self._pace = float("inf")  # seconds of the quickest batch so far

    def __iter__(self) -> Generator[Frame, None, None]:
        reader = threading.Thread(target=self._read, daemon=True, name="reader")
        reader.start()
        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(2, "network") as network:
                yield from self._people(network, threads)
        finally:
            self._ended.set()
            torch.set_num_threads(threads)

    def release(self, frame: Frame) -> None:
        """The picture of a frame is forgotten."""
        with self._memory:
            self._held -= 0 if frame.image is None else frame.image.nbytes
            frame.image = None
            self._memory.notify()

    # ---- in the reading thread ----

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if not self._room():
                    return
                self._put(self._pool.submit(self._prepare, frame))
            self._put(END)
        except BaseException as error:  # handed to the thread that iterates, which raises it
            self._put(error)

    def _room(self) -> bool:
        """Waits until one more picture may be held; False: nobody wants it any more."""

        def free() -> bool:
            return self._unread + self._held == 0 or (
                self._held + (self._unread + 1) * self._largest <= MEMORY
            )

        with self._memory:
            while not self._memory.wait_for(free, IDLE):
                if self._ended.is_set():
                    return False
            self._unread += 1
        return not self._ended.is_set()

    def _put(self, item: Any) -> None:
        while not self._ended.is_set():
            try:
                return self._ready.put(item, timeout=IDLE)
            except queue.Full:
                continue

    # ---- in the pool ----

    def _prepare(self, frame: Frame) -> tuple[Frame, Prepared | None]:
        load(frame)
        size = 0 if frame.image is None else frame.image.nbytes
        with self._memory:
            self._unread -= 1
            self._held += size
            self._largest = max(self._largest, size)
        return frame, None if frame.image is None else self.batches.prepare(frame.image, frame.id)

    # ---- in the thread that iterates ----

    def _people(self, network: ThreadPoolExecutor, threads: int) -> Iterator[Frame]:
        """On a CPU, batches of a small network go through it two at a time, each on half of the threads: they
        wait for each other less than the threads of one batch do, and for those that read and draw.  Those
        of a large one would only push each other's maps out of the caches."""
        waiting = _Waiting(self.batch_size)
        order: deque[Frame] = deque()  # read, but not handed out
        running: deque[Future[None]] = deque()
        over = False
        while not (over and not waiting and not running):
            if self._stop():
                return
            item = IDLE if over else self._next()
            over = over or item is END
            if isinstance(item, tuple):
                order.append(item[0])
                waiting.add(*item)
            batch = waiting.batch(idle=not isinstance(item, tuple))
            if batch:
                streams = 2 if self.batches.device.type == "cpu" and threads > 1 and self._pace < QUICK else 1
                while len(running) > (2 if streams == 2 else 0):
                    running.popleft().result()
                running.append(network.submit(self._find, batch, threads // streams))
            while running and not batch and not isinstance(item, tuple):
                running.popleft().result()
            while order and (order[0].people is not None or order[0].problem):
                yield order.popleft()

    def _next(self) -> Any:
        """(frame, prepared), END, or IDLE where none comes in time."""
        try:
            item = self._ready.get(timeout=IDLE)
        except queue.Empty:
            return IDLE
        if isinstance(item, BaseException):
            raise item
        return item.result() if isinstance(item, Future) else item

    # ---- in the threads of the network ----

    def _find(self, batch: Sequence[tuple[Frame, Prepared]], threads: int) -> None:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        prepared = [one for _, one in batch]
        fields, stride = self.batches.fields([one.canvases for one in prepared])
        people = dict(self.batches.decode(fields, stride, prepared))
        for frame, _ in batch:
            frame.people = people[frame.id]
        self._pace = min(self._pace, time.perf_counter() - start)


@dataclass
class _Waiting:
    """Prepared pictures by the sizes of their canvases."""

    batch_size: int
    groups: dict[tuple[Any, ...], list[tuple[Frame, Prepared]]] = field(default_factory=dict)
    newest: int = 0

    def __bool__(self) -> bool:
        return bool(self.groups)

    def add(self, frame: Frame, prepared: Prepared | None) -> None:
        if prepared is not None:
            shapes = tuple(canvas.shape for canvas in prepared.canvases)
            self.groups.setdefault(shapes, []).append((frame, prepared))
            self.newest = frame.id

    def batch(self, idle: bool) -> list[tuple[Frame, Prepared]]:
        """Those whose turn it is: a full batch, or what waits for too long, or if `idle` the oldest."""
        for shapes, group in self.groups.items():  # first, or it would go on growing
            if len(group) == self.batch_size:
                return self.groups.pop(shapes)
        for shapes, group in self.groups.items():  # in the order of their oldest pictures
            if idle or self.newest - group[0][0].id >= BEHIND * self.batch_size:
                return self.groups.pop(shapes)
        return []


def pool_size() -> int:
    """Threads that read, draw and write."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return max(2, min(8, cores))
