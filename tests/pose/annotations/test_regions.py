"""What is masked costs little, however it is described."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pose.annotations.regions import region, usable_box, usable_mask

BOX = np.array([2.0, 3, 10, 5])
NO_BOX = np.full(4, np.nan)


def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = coco_mask.frPyObjects

    def boxes_only(given: Any, height: int, width: int) -> Any:
        assert isinstance(given, np.ndarray), "a mask was drawn"
        return draw(given, height, width)

    monkeypatch.setattr(coco_mask, "frPyObjects", boxes_only)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 60_000, 60_000] * 5_000],  # 300 million pixels of edges
        [[0, 0, 60, 40] * 200],
        {"size": [40, 60], "counts": "o" * 1_000_000},  # a number of five million bits
        {"size": [40, 60], "counts": [10**400, 1]},
        {"size": [65536, 65536], "counts": [2**32]},
    ],
)
def test_a_mask_that_would_cost_much_gives_the_box(
    monkeypatch: pytest.MonkeyPatch, segmentation: Any
) -> None:
    no_drawing(monkeypatch)
    assert not usable_mask(segmentation, (40, 60))
    assert region(segmentation, NO_BOX, (40, 60)) is None
    box = region(segmentation, BOX, (40, 60))
    assert box is not None and coco_mask.area(box) == 50


@pytest.mark.parametrize(
    ("segmentation", "usable"),
    [
        ([[1, 1, 9, 1, 9, 9]], True),
        ([[1, 1, 9, 1, 9, "9"]], False),
        ([[1, 1, 9, 1, 9, float("nan")]], False),
        ([[1, 1, 9, 1, 9, 1e300], [1, 1, 9, 1, 9, 9]], True),
        ({"size": [40, 60], "counts": [2400]}, True),
        ({"size": [60, 40], "counts": [2400]}, False),
        ("x", False),
        (None, False),
    ],
)
def test_whether_a_mask_is_usable_is_whether_it_is_drawn(segmentation: Any, usable: bool) -> None:
    assert usable_mask(segmentation, (40, 60)) == usable
    assert (region(segmentation, NO_BOX, (40, 60)) is not None) == usable


def test_whether_boxes_are_usable_is_whether_they_are_drawn() -> None:
    boxes = np.array([BOX, NO_BOX, [0, 0, 1e300, 1], [0, 0, -1, 5], [2.0**63, 0, 1, 1], [50, 30, 100, 100]])
    assert usable_box(boxes).tolist() == [region(None, box, (40, 60)) is not None for box in boxes]
    assert usable_box(boxes).tolist() == [True, False, False, False, False, True]
