"""Drawings are written beside everything else, and closed after everything that was begun."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pose.media.drawings import Drawings
from pose.media.pipeline import Frame
from pose.media.sources import Source
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
