"""Many pictures on one."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.sheets import contact_sheet


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_a_sheet_shows_every_picture_whole(count):
    shapes = [(30, 40), (400, 200), (1, 2000), (2000, 1), (320, 320)] * 2
    pictures = [np.full((*shape, 3), 10 * (i + 1), np.uint8) for i, shape in enumerate(shapes[:count])]
    sheet = contact_sheet(pictures, columns=4, cell=100)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] <= 4 * 110
    for i, picture in enumerate(pictures):
        spots = np.argwhere((sheet == 10 * (i + 1)).all(2))
        extent = np.ptp(spots, axis=0) + 1
        ratio = 100 / max(picture.shape[:2])
        np.testing.assert_allclose(extent, np.maximum(np.array(picture.shape[:2]) * ratio, 1), atol=1)
