"""Peaks of maps, where arrows begin."""

from __future__ import annotations

import numpy as np

from pose.draw.arrows import MOST, peaks


def test_of_a_flat_top_and_of_neighbours_there_is_one_peak() -> None:
    maps = np.zeros((2, 12, 16), np.float32)
    maps[0, 4:6, 4:6] = 1
    maps[0, 4, 12] = 0.5
    maps[1, 5, 5] = 0.8
    found = peaks(maps, 0.1)
    assert [place[0] for place in found] == [0, 1, 0]
    assert found[1:] == [(1, 5, 5), (0, 4, 12)], "the highest first; maps do not hide each other's"
    assert len(peaks(np.ones((1, 400, 400), np.float32), 0.5)) == MOST
