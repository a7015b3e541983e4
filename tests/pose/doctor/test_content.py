"""Keypoints beyond the picture: a careful annotator would not have labelled them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose.annotations.reader import parse
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.doctor.bounds import Bounds, measure
from pose.doctor.checks import check
from pose.doctor.content import Content, content_of
from pose.skeleton import from_dict

COCO = from_dict(read_yaml(config_folder() / "_skeletons" / "coco17.yaml"))
SIZE = 400  # pixels of a picture's sides
TORSO = {
    "nose": (200, 100), "left_shoulder": (240, 130), "right_shoulder": (160, 130), "left_hip": (225, 210),
    "right_hip": (175, 210),
}  # fmt: skip


def read(
    wrist: tuple[float, float, int] | None, width: int = SIZE, height: int = SIZE, **changes: Any
) -> Content:
    """One person in each of 60 pictures; a third of them have this left wrist, another third `changes`.  No
    width: the file does not say how large the pictures are."""
    side = {"width": width, "height": height} if width else {}
    images = [{"id": i + 1, "file_name": f"{i}.jpg", **side} for i in range(60)]
    people = []
    for i in range(60):
        points = np.zeros((17, 3))
        for name, (x, y) in TORSO.items():
            points[COCO.keypoints.index(name)] = (x + i % 7, y + i % 5, 2)
        if wrist is not None and i % 3 == 0:
            points[COCO.keypoints.index("left_wrist")] = wrist
        person = {
            "id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "bbox": [140, 80, 130, 180],
            "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum()),
            "area": 12000,
        }  # fmt: skip
        people.append({**person, **(changes if i % 3 == 1 else {})})
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    data = {"images": images, "annotations": people, "categories": [category]}
    return content_of(parse(data, "x.json"), COCO)


def bounds(wrist: tuple[float, float, int] | None, **changes: Any) -> Bounds:
    content = read(wrist, **changes)
    measured = measure(content, check(content))
    assert measured is not None
    return measured


@pytest.mark.parametrize(
    "wrist", [(SIZE + 200, 200, 2), (-200, 200, 2), (200, SIZE + 200, 1), (200, -200, 1), (SIZE + 1, 200, 2)]
)
def test_keypoints_outside_the_picture_cost(wrist: tuple[float, float, int]) -> None:
    """Nobody who is careful finds them, on whichever side, occluded or not."""
    found = bounds(wrist)
    assert set(found.costs) == {"outside"}
    assert found.costs["outside"] > 0.03
    assert found.as_it_is == pytest.approx(found.mended - found.costs["outside"])


@pytest.mark.parametrize(
    "wrist",
    [(SIZE - 1, 200, 2), (0, 200, 2), (200, SIZE - 1, 2), (200, 0, 2), (0.5, SIZE - 1.5, 1), (SIZE, 200, 2)],
)
def test_keypoints_on_the_last_pixels_and_up_to_one_farther_count(wrist: tuple[float, float, int]) -> None:
    """What another fault costs is all that the file as it is lacks."""
    found = bounds(wrist, area=0)
    assert set(found.costs) == {"area_zero"}  # up to one pixel, which rounding explains, is no fault
    assert found.as_it_is == pytest.approx(found.mended - found.costs["area_zero"])


def test_where_the_size_of_the_picture_is_not_known_nothing_is_beyond_it() -> None:
    found = bounds((SIZE + 200, 200, 2), width=0, area=0)
    assert "outside" not in found.costs
    assert found.as_it_is == pytest.approx(found.mended - found.costs["area_zero"])


@pytest.mark.parametrize(("wrist", "width", "height"), [((700, 200, 2), 800, 400), ((200, 700, 2), 400, 800)])
def test_the_width_and_the_height_of_a_picture_are_told_apart(
    wrist: tuple[float, float, int], width: int, height: int
) -> None:
    inside = bounds(wrist, width=width, height=height, area=0)
    assert inside.as_it_is == pytest.approx(inside.mended - inside.costs["area_zero"])
    assert set(inside.costs) == {"area_zero"}
    assert bounds(wrist, width=height, height=width).costs["outside"] > 0.03


def test_a_person_is_as_large_as_its_keypoints_in_the_picture() -> None:
    """One far beyond it would make the person large, and so easy to find."""
    np.testing.assert_array_equal(read((5000, 200, 2)).extents, read(None).extents)
    within = read((SIZE - 1, 200, 2)).extents
    assert within[0].tolist() == [160, 100, SIZE - 1, 210]
