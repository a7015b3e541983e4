"""Videos in and out: rate, size, length, pace, damage, and a camera that drops what is old."""

from __future__ import annotations

import math
import os
import struct
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose.errors import UserError
from pose.media import video
from pose.media.video import DEFAULT_RATE, Camera, VideoFile, VideoWriter


def picture(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def write(path: Path, count: int, rate: float = 10.0, size: tuple[int, int] = (48, 64)) -> Path:
    writer = VideoWriter(path, rate)
    for i in range(count):
        writer.add(picture(10 * i % 250, size), i / rate)
    writer.close()
    return path


@pytest.mark.parametrize("rate", [10.0, 29.97, 23.976, 60.0])
def test_what_is_written_is_read(tmp_path: Path, rate: float) -> None:
    clip = VideoFile(write(tmp_path / "a.mp4", 12, rate))
    frames = list(clip)
    assert clip.rate == pytest.approx(rate, rel=1e-4)
    assert clip.promised == len(frames) == 12 and clip.missing is None
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 12
    assert [frame.seconds for frame in frames] == pytest.approx([i / rate for i in range(12)], abs=1e-3)
    assert [int(frame.image.mean().round()) for frame in frames] == pytest.approx(
        [10 * i for i in range(12)], abs=6
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_colours_keep_their_places(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    red = picture(0)
    red[..., 0] = 200
    writer.add(red, 0.0)
    writer.close()
    (frame,) = VideoFile(tmp_path / "a.mp4")
    assert frame.image.reshape(-1, 3).mean(0) == pytest.approx([200, 0, 0], abs=12)


def test_a_late_frame_lets_the_one_before_stand(tmp_path: Path) -> None:
    """So that a video of changing rate keeps its pace; a mad time stamp does not make an endless one."""
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    for i, seconds in enumerate((0.0, 0.1, 0.5, 0.6, 1e9, 0.0)):
        writer.add(picture(40 * i), seconds)
    writer.close()
    shown = [int(frame.image.mean().round()) for frame in VideoFile(tmp_path / "a.mp4")]
    assert shown == pytest.approx([0, 40, 40, 40, 40, 80, 120, 160, 200][: len(shown)], abs=9)
    assert len(shown) == 9


def test_odd_sides_lose_a_pixel_and_impossible_ones_are_refused(tmp_path: Path) -> None:
    clip = VideoFile(write(tmp_path / "a.mp4", 3, size=(49, 65)))
    assert next(iter(clip)).image.shape == (48, 64, 3)
    for size in ((1, 1), (16, 9000)):
        with pytest.raises(UserError, match="--no-pictures"):
            VideoWriter(tmp_path / "b.mp4", 10).add(picture(0, size), 0)
    assert not (tmp_path / "b.mp4").exists()


def test_a_phones_video_is_turned_upright(tmp_path: Path) -> None:
    """The turn stands as a matrix in the header of the track."""
    picture_ = picture(30)
    picture_[:12, :16] = 220  # upper left; a quarter turn clockwise brings it to the upper right
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    for i in range(3):
        writer.add(picture_, i / 10)
    writer.close()
    content = (tmp_path / "a.mp4").read_bytes()
    one, minus, zero = (struct.pack(">i", value) for value in (1 << 16, -1 << 16, 0))
    place = content.index(one + 3 * zero + one, content.index(b"tkhd"))
    turned = zero + one + zero + minus + zero
    (tmp_path / "a.mp4").write_bytes(content[:place] + turned + content[place + len(turned) :])
    for frame in VideoFile(tmp_path / "a.mp4"):
        assert frame.image.shape == (64, 48, 3)
        assert frame.image[:16, -12:].mean() > 180 and frame.image[20:].mean() < 60


def test_a_video_that_was_cut_off_says_how_far_it_came(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    for frame in noise:
        writer.write(frame)
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    clip = VideoFile(path)
    count = len(list(clip))
    assert 10 < count < 30
    assert clip.missing == f"{path} ended after {count} of 40 frames: it is damaged or cut off"


def test_what_is_no_video_is_one_sentence(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(UserError, match="damaged or no video"):
            VideoFile(tmp_path / name)
    assert "moov" not in capfd.readouterr().err


def test_a_frame_that_does_not_arrive_is_noticed(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    writer.add(picture(0), 0)
    writer.written += 1
    with pytest.raises(UserError, match="1 of 2 frames arrived"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        VideoWriter(tmp_path / "out/a.mp4", 10).add(picture(0), 0)


class Ticking:
    """A camera whose frames say when they were taken: one each 10 ms, `last` in all."""

    def __init__(self, last: int) -> None:
        self.count, self.last = 0, last

    def isOpened(self) -> bool:
        return True

    def get(self, key: int) -> float:
        return 100.0 if key == cv2.CAP_PROP_FPS else 0.0

    def set(self, key: int, value: float) -> bool:
        return True

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.01)
        self.count += 1
        return (False, None) if self.count > self.last else (True, picture(self.count))

    def release(self) -> None:
        pass


def test_a_camera_gives_the_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: Ticking(10_000))
    camera = Camera(0)
    taken, ages = [], []
    for frame in camera:
        now = camera._capture.count
        taken.append(int(frame.image[0, 0, 0]))
        ages.append(now - taken[-1])
        if len(taken) == 5:
            break
        time.sleep(0.1)  # a slow network
    camera.close()
    assert all(later - earlier >= 4 for earlier, later in zip(taken, taken[1:], strict=False))  # old: dropped
    assert max(ages) <= 3


def test_a_camera_that_is_pulled_out_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: Ticking(3))
    with pytest.raises(UserError, match="still plugged in"):
        for _ in Camera(0):
            pass


def test_no_camera_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no camera 99"):
        Camera(99)


@pytest.mark.parametrize("rate", [119.917, 66.667, 240.04, 0.0004])
def test_rates_that_mpeg_4_has_no_clock_for_are_written_nearly(tmp_path: Path, rate: float) -> None:
    """119.917: a phone's slow motion."""
    clip = VideoFile(write(tmp_path / "a.mp4", 3, rate))
    assert clip.rate == pytest.approx(rate, rel=1e-3, abs=0.01)
    assert len(list(clip)) == 3


def test_a_name_is_a_file_not_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(list(VideoFile(write(Path("12:30:00.mp4"), 3)))) == 3


def test_a_name_that_is_no_utf_8_is_one_sentence(tmp_path: Path) -> None:
    """OpenCV would die of it."""
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    try:
        path.write_bytes(write(tmp_path / "a.mp4", 1).read_bytes())
    except OSError:
        pytest.skip("this system has no such names")
    with pytest.raises(UserError, match="no UTF-8"):
        VideoFile(path)
    with pytest.raises(UserError, match="no UTF-8"):
        write(path, 1)


def test_a_video_whose_frames_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "a.mp4", 2).read_bytes())
    begin, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[begin:end] = bytes(end - begin)
    (tmp_path / "a.mp4").write_bytes(content)
    clip = VideoFile(tmp_path / "a.mp4")
    assert list(clip) == []
    assert "no frame" in (clip.missing or "")


def test_a_folder_in_the_way_of_a_video_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*a.mp4"):
        write(tmp_path / "a.mp4", 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_a_frame_of_another_size_is_fitted(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 10)
    writer.add(picture(50), 0.0)
    writer.add(picture(150, (90, 70)), 0.1)
    writer.close()
    frames = [frame.image for frame in VideoFile(tmp_path / "a.mp4")]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 2
    assert frames[1].mean() == pytest.approx(150, abs=9)


# ------------------------------------------------------------------------------------------------------------
# Rates and lengths that videos claim.


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
