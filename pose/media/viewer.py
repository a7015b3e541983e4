"""Everything that happens to what is looked at: predicted, followed, drawn, shown, written down."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tqdm import tqdm

from pose.draw.people import Style
from pose.media.drawings import Drawings, Window, drawer
from pose.media.pipeline import Frame, Stream, frames_of, one_by_one, pool_size
from pose.media.records import Records
from pose.media.sources import Source
from pose.media.tracks import Tracker
from pose.predict.batches import BatchPredictor
from pose.skeleton import Skeleton
from pose.structures import People

LISTED = 20  # problems that are told one by one

Release: TypeAlias = Callable[[Frame], None]


@dataclass
class Tally:
    """What was done."""

    pictures: int = 0
    frames: int = 0
    people: int = 0
    problems: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def add(self, frame: Frame, people: People) -> None:
        self.pictures += frame.source.kind == "picture"
        self.frames += frame.source.kind != "picture"
        self.people += len(people)

    def __str__(self) -> str:
        seconds = max(time.perf_counter() - self.began, 1e-9)
        kinds = [f"pictures: {self.pictures}"] if self.pictures or not self.frames else []
        kinds += [f"frames: {self.frames}"] if self.frames else []
        rate = (self.pictures + self.frames) / seconds
        return f"{', '.join(kinds)}, people: {self.people} ({rate:.1f} pictures/s)"


@dataclass(frozen=True)
class Wishes:
    """What a person wants to have."""

    folder: Path  # of everything that is written
    style: Style = Style()
    pictures: bool = True  # drawn ones
    records: Path | None = None  # COCO results; the OpenPose files go to the folder
    window: bool = False
    tracks: bool = False
    threshold: float = 0.0  # people with a lower score are left out
    limit: int | None = None  # pictures and frames


class Viewer:
    """The parts that are wished for, and what happens to each frame.  `parts` closes them."""

    def __init__(self, batches: BatchPredictor, skeleton: Skeleton, wishes: Wishes, parts: ExitStack) -> None:
        self.batches, self.skeleton, self.wishes = batches, skeleton, wishes
        self.tally = Tally()
        self.tracker: Tracker | None = None
        self.followed: Source | None = None
        self.window: Window | None = None
        self.drawings: Drawings | None = None
        self.records: Records | None = None
        self.pool = parts.enter_context(ThreadPoolExecutor(pool_size()))
        self.draw = drawer(skeleton, wishes.style)
        if wishes.window:
            self.window = Window("people")
            parts.callback(self.window.close)
        if wishes.records is not None:
            self.records = Records(wishes.folder, wishes.records, skeleton)
            parts.callback(self.records.close)
        if wishes.pictures:
            self.drawings = Drawings(wishes.folder, self.draw, self.pool)
            parts.callback(self.drawings.close)

    def run(self, sources: Iterable[Source], stop: Callable[[], bool], total: int | None) -> None:
        """Looks at everything, until the end or until `stop` says so."""
        self.tally.began = time.perf_counter()
        frames = frames_of(sources, self.wishes.limit)
        with (
            tqdm(total=total, unit="img", dynamic_ncols=True, leave=False, disable=None) as bar,
            closing(self._seen(frames, stop)) as seen,
        ):
            for frame, release in seen:
                go_on = self.step(frame, release, stop)
                bar.update(frame.id > 0)
                if stop() or not go_on:
                    return

    def _seen(
        self, frames: Iterable[Frame], stop: Callable[[], bool]
    ) -> Generator[tuple[Frame, Release], None, None]:
        """Frames with people: of what is shown or happening one by one, of files many at a time."""

        def live(frame: Frame) -> bool:
            return self.window is not None or frame.source.kind == "camera"

        for alone, group in itertools.groupby(frames, live):
            if alone:
                for frame in one_by_one(self.batches, group):
                    yield frame, lambda _: None
            else:
                stream = Stream(self.batches, group, self.pool, stop)
                with closing(iter(stream)) as many:
                    for frame in many:
                        yield frame, stream.release
            if stop():
                return

    def step(self, frame: Frame, release: Release, stop: Callable[[], bool]) -> bool:
        """False: the person at the window has seen enough."""
        if frame.problem or frame.people is None or frame.image is None:
            self.tally.problems.append(frame.problem)
            return True
        people, ids, go_on = frame.people.above(self.wishes.threshold), None, True
        if self.wishes.tracks and frame.source.kind != "picture":
            people, ids = self.follow(frame, people)
        self.tally.add(frame, people)
        if self.records is not None:
            self.records.add(frame, people, ids)
        if self.window is not None:
            go_on = self.window.show(frame, self.draw(frame.image, people, ids), stop)
        if self.drawings is not None:
            self.drawings.add(frame, people, ids, release)
        else:
            release(frame)
        return go_on

    def follow(self, frame: Frame, people: People) -> tuple[People, list[int]]:
        if self.tracker is None or self.followed is not frame.source:
            self.tracker, self.followed = Tracker(self.skeleton.sigmas), frame.source
        return self.tracker.update(people, frame.seconds, frame.rate)

    def report(self) -> tuple[list[str], list[str]]:
        """What was done, and what could not be read, as lines for people."""
        problems = self.tally.problems
        bad = [f"could not be read: {text}" for text in problems[:LISTED]]
        if len(problems) > LISTED:
            bad.append(f"could not be read: {len(problems) - LISTED} more")
        done = [str(self.tally)]
        if not (self.tally.pictures or self.tally.frames):
            return ["nothing could be looked at"], bad
        if self.drawings is not None:
            sound = " (videos without their sound)" if self.drawings.videos else ""
            done.append(f"drawn: {self.drawings.folder}{sound}")
        if self.records is not None:
            records = self.records
            done.append(f"records: {records.file}, {records.images_file}, {records.folder}/*_keypoints.json")
        return done, bad
