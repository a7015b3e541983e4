"""What happens to each frame on its way, and what is told at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.media.pipeline import Frame
from pose.media.sources import Kind, Source
from pose.media.viewer import LISTED, Viewer, Wishes
from pose.skeleton import Skeleton
from pose.structures import People

SKELETON = Skeleton("hands", ("nose", "left_hand", "right_hand"), limbs=())
ONE = People(np.array([[[10, 10, 1], [30, 40, 1], [5, 40, 1]]], np.float32), np.ones(1, np.float32))


class Listed:
    """Stands for the records: the ids of each frame."""

    def __init__(self) -> None:
        self.ids: list[Sequence[int] | None] = []

    def add(self, frame: Frame, people: People, ids: Sequence[int] | None) -> None:
        self.ids.append(ids)


@pytest.fixture
def parts() -> Iterator[ExitStack]:
    with ExitStack() as parts:
        yield parts


def viewer(parts: ExitStack, batches: Any = None, **wishes: Any) -> Viewer:
    return Viewer(batches, SKELETON, Wishes(Path("out"), pictures=False, **wishes), parts)


def frames(kind: Kind, name: str, count: int, shift: int = 0) -> list[Frame]:
    """With one person, `shift` pixels from where it is in others."""
    source, people = Source(kind, Path(name), Path(name)), People(ONE.keypoints + (shift, 0, 0), ONE.scores)
    return [
        Frame(i + 1, source, i, i / 10, 10.0, np.zeros((60, 99, 3), np.uint8), people=people)
        for i in range(count)
    ]


def test_every_video_counts_its_people_from_1_and_a_picture_follows_nobody(parts: ExitStack) -> None:
    one = viewer(parts, tracks=True)
    one.records = records = Listed()  # type: ignore[assignment]
    looked_at = [*frames("video", "a", 2), *frames("video", "b", 2, shift=60), *frames("picture", "c", 1)]
    for frame in looked_at:
        assert one.step(frame, lambda _: None, lambda: False)
    assert records.ids == [[1], [1], [1], [1], None]


@pytest.mark.parametrize("live", ["window", "camera"])
def test_of_what_is_watched_no_frame_is_asked_for_before_the_one_before_is_seen(
    parts: ExitStack, live: str
) -> None:
    """Else a person would look at the past."""
    one = viewer(parts, batches=lambda image: ONE)
    if live == "window":
        one.window = object()  # type: ignore[assignment]
    asked: list[int] = []

    def counted() -> Iterator[Frame]:
        for frame in frames("camera" if live == "camera" else "video", "a", 5):
            asked.append(frame.id)
            yield frame

    for frame, _ in one._seen(counted(), lambda: False):
        assert asked == list(range(1, frame.id + 1))
    assert len(asked) == 5


@pytest.mark.parametrize("count", [0, 1, LISTED, LISTED + 1, LISTED + 30])
def test_problems_are_told_one_by_one_up_to_a_number(parts: ExitStack, count: int) -> None:
    one = viewer(parts)
    source = Source("picture", Path("a.png"), Path("a"))
    for i in range(count):
        one.step(Frame(i + 1, source, problem=f"{i}.png is damaged"), lambda _: None, lambda: False)
    done, bad = one.report()
    assert done == ["nothing could be looked at"]
    more = [f"could not be read: {count - LISTED} more"] if count > LISTED else []
    assert bad == [f"could not be read: {i}.png is damaged" for i in range(min(count, LISTED))] + more


def test_pictures_frames_and_people_are_counted(parts: ExitStack) -> None:
    one = viewer(parts)
    released: list[int] = []
    for frame in [*frames("picture", "a", 1), *frames("video", "b", 3)]:
        one.step(frame, lambda done: released.append(done.id), lambda: False)
    assert one.report()[0][0].startswith("pictures: 1, frames: 3, people: 4 (")
    assert released == [1, 1, 2, 3], "nobody needs their pictures any more"
