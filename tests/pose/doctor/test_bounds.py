"""What faults in annotations cost in AP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose.annotations.reader import parse
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.doctor.bounds import measure
from pose.doctor.checks import check
from pose.doctor.content import Content, content_of
from pose.skeleton import from_dict

COCO = from_dict(read_yaml(config_folder() / "_skeletons" / "coco17.yaml"))
TORSO = {
    "left_shoulder": (40, 30),
    "right_shoulder": (-40, 30),
    "left_hip": (25, 110),
    "right_hip": (-25, 110),
}
TORSO |= {"left_elbow": (50, 70), "right_elbow": (-50, 70), "nose": (0, 0)}


def content(count: int = 60, **changes: Any) -> dict[str, Any]:
    """One person in each picture, whom a third of `changes` are made to."""
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "width": 400, "height": 400} for i in range(count)]
    people = []
    for i in range(count):
        points = np.zeros((17, 3))
        for name, (x, y) in TORSO.items():
            points[COCO.keypoints.index(name)] = (200 + x + i % 7, 100 + y + i % 5, 2)
        person = {
            "id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "num_keypoints": len(TORSO),
            "keypoints": points.ravel().tolist(), "bbox": [140, 80, 130, 180], "area": 12000,
        }  # fmt: skip
        people.append({**person, **(changes if i % 3 == 0 else {})})
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    return {"images": images, "annotations": people, "categories": [category]}


def read(data: dict[str, Any]) -> Content:
    return content_of(parse(data, "x.json"), COCO)


def costs(data: dict[str, Any]) -> Any:
    parsed = read(data)
    return measure(parsed, check(parsed))


def test_nothing_is_measured_where_nothing_is_wrong() -> None:
    assert costs(content()) is None


def test_people_with_area_0_are_lost_and_nobody_else_is() -> None:
    bounds = costs(content(area=0))
    assert bounds.people == bounds.images == 60
    assert bounds.mended > 0.9
    assert bounds.as_it_is < 0.72 * bounds.mended, "a third of the people can never be found"
    assert bounds.costs["area_zero"] == pytest.approx(bounds.mended - bounds.as_it_is)


def test_too_large_an_area_flatters() -> None:
    bounds = costs(content(area=10**6))
    assert bounds.costs["area_box"] < 0


def test_exchanged_shoulders_cost() -> None:
    data = content()
    left, right = (COCO.keypoints.index(f"{side}_shoulder") for side in ("left", "right"))
    for person in data["annotations"][::3]:
        points = np.array(person["keypoints"]).reshape(-1, 3)
        points[[left, right]] = points[[right, left]]
        person["keypoints"] = points.ravel().tolist()
    bounds = costs(data)
    assert bounds.costs["sides_person"] > 0.1
    assert bounds.as_it_is == pytest.approx(bounds.mended - bounds.costs["sides_person"])


def test_copies_and_lies_about_num_keypoints() -> None:
    data = content(num_keypoints=0)
    ignored = costs(data).costs["num_keypoints_zero"]
    assert abs(ignored) < 0.05, "ignored people are neither found nor missed"
    data = content()
    data["annotations"] += [{**one, "id": 1000 + one["id"]} for one in data["annotations"][::3]]
    assert costs(data).costs["copies"] > 0.1


def test_each_fault_has_its_own_cost() -> None:
    data = content(area=0)
    data["annotations"] += [{**one, "id": 1000 + one["id"]} for one in data["annotations"][1::3]]
    bounds = costs(data)
    assert set(bounds.costs) == {"area_zero", "copies"}
    assert all(cost > 0.1 for cost in bounds.costs.values())
    assert bounds.as_it_is < bounds.mended - max(bounds.costs.values())


def test_people_beyond_a_number_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(area=0)
    for person in data["annotations"]:
        person["image_id"] = 1
    assert costs(data).people == 60
    for people in (25, 1):
        monkeypatch.setattr("pose.doctor.bounds.PEOPLE", people)
        assert costs(data).people == people


@pytest.mark.parametrize("wrong", [{"bbox": [1e300] * 4}, {"area": 1e300}, {"bbox": [0, 0, 1e308, 10]}])
def test_absurd_boxes_and_areas_are_measured_like_others(wrong: dict[str, Any]) -> None:
    found = costs(content(**{"area": 0, **wrong}))
    assert found is not None and all(0 < ap <= 1 for ap in (found.as_it_is, found.mended))
