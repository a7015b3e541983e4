"""Rates and lengths that videos claim, names that patterns match, and limbs as COCO counts them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.media import video
from pose.media.pipeline import Frame
from pose.media.records import Records
from pose.media.sources import Source, find_sources
from pose.media.video import DEFAULT_RATE, VideoFile
from pose.skeleton import Skeleton
from pose.structures import People


class Capture:
    """A video that says of itself what it is told to."""

    def __init__(self, rate: float = 25.0, frames: float = 0.0) -> None:
        self.said = {cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_FRAME_COUNT: frames}

    def get(self, what: int) -> float:
        return self.said[what]

    def set(self, *_: object) -> None:
        pass


def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: Capture) -> VideoFile:
    monkeypatch.setattr(video, "_open", lambda _: capture)
    path = tmp_path / "film.mp4"
    path.touch()
    return VideoFile(path)


@pytest.mark.parametrize(
    ("said", "rate"),
    [(25, 25), (500, 500), (501, DEFAULT_RATE), (90000, DEFAULT_RATE), (0, DEFAULT_RATE), (-1, DEFAULT_RATE),
     (math.nan, DEFAULT_RATE), (math.inf, DEFAULT_RATE)],
)  # fmt: skip
def test_a_rate_that_no_video_has_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: float, rate: float
) -> None:
    assert opened(tmp_path, monkeypatch, Capture(rate=said)).rate == rate


@pytest.mark.parametrize(
    ("promised", "read", "short"),
    [(1000, 1000, False), (1000, 968, False), (1000, 967, True), (3, 1, False), (5, 2, True), (0, 1, False),
     (2**40, 1, False), (1000, 0, True), (0, 0, True)],
)  # fmt: skip
def test_a_video_that_ends_early_is_told_where_it_is_no_matter_of_an_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promised: float, read: int, short: bool
) -> None:
    file = opened(tmp_path, monkeypatch, Capture(frames=promised))
    file.read = read
    assert bool(file.missing) == short
    if short and read:
        assert f"ended after {read} of {promised:g} frames" in str(file.missing)


def test_a_pattern_matches_files_and_no_folders(tmp_path: Path) -> None:
    (tmp_path / "set" / "b.png").mkdir(parents=True)
    for name in ("a.png", "c.png", "b.png/inside.png"):
        cv2.imwrite(str(tmp_path / "set" / name), np.zeros((4, 4, 3), np.uint8))
    found = find_sources([str(tmp_path / "set" / "*.png")], tmp_path / "out")
    assert [source.path.name for source in found] == ["a.png", "c.png"]


def test_limbs_are_counted_from_1(tmp_path: Path) -> None:
    limbs = (("nose", "left_hand"), ("nose", "right_hand"))
    skeleton = Skeleton("hands", ("nose", "left_hand", "right_hand"), limbs=limbs)
    records = Records(tmp_path / "out", tmp_path / "people.json", skeleton)
    records.add(Frame(1, Source("picture", Path("a.png"), Path("a")), size=(4, 6)), People.none(3))
    records.close()
    (category,) = json.loads((tmp_path / "people-images.json").read_text())["categories"]
    assert category["skeleton"] == [[1, 2], [1, 3]]
