"""What is masked costs little, however it is described."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pose.annotations.regions import AT_ONCE, region, regions, usable_box, usable_mask

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


def test_many_together_are_drawn_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    given: list[Any] = []
    sizes, boxes = [], []
    for i in range(3 * AT_ONCE):
        polygons = [
            array("d", rng.uniform(-20, 90, 2 * int(rng.integers(3, 9))))
            for _ in range(rng.choice([1, 1, 2, 3]))
        ]
        odd: list[Any] = [
            None, [], [[1, 2, 3]], [array("h", [1, 2, 3, 4, 5])], [array("h", [1, 1, 9, 1, 9, 9])], "text",
            [*polygons, array("d", [1, np.nan, 3, 4, 5, 6])], [array("d", [1e9, 2, 3, 4, 5, 6])],
            [*polygons, None],
            [array("h", [0, 0, 60, 40] * 200)], {"size": [40, 60], "counts": [2300, 100]},
            {"size": [40, 60], "counts": array("i", [2300, 100])},
            [[1, 1, 9, 1, 9, 9]],  # as it is where the content of a file was given
        ]  # fmt: skip
        given.append(odd[int(rng.integers(len(odd)))] if i % 3 == 0 else polygons)
        sizes.append([[40, 60], [60, 40], [33, 33]][int(rng.integers(3))] if i % 5 else [40, 60])
        boxes.append(BOX if i % 2 else NO_BOX)
    size, box = np.array(sizes), np.array(boxes)
    single = [region(one, box[i], (sizes[i][0], sizes[i][1])) for i, one in enumerate(given)]
    assert regions(given, box, size) == single
    assert 0 < sum(one is None for one in single) < len(given) / 2
    assert regions([], np.zeros((0, 4)), np.zeros((0, 2), np.int64)) == []
