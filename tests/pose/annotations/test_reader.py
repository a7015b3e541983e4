"""Files that are damaged in ways that a reader may stumble over."""

from __future__ import annotations

from typing import Any

import pytest

from pose.annotations.categories import own_skeleton
from pose.annotations.names import match_keypoints
from pose.annotations.parts import PARTS, part_names
from pose.annotations.reader import parse
from pose.annotations.training import Reading, to_arrays
from pose.errors import UserError


def people(*annotations: Any, **category: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 60, "height": 40}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, **entry} for i, entry in enumerate(annotations, 1)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "tail"], **category}],
    }


BODY = {"keypoints": [1, 2, 2, 0, 0, 0]}
WHOLE = {**BODY, **{key: [3, 4, 1] * len(names) for key, names in PARTS.items()}}


@pytest.mark.parametrize("first", [{}, {"keypoints": 5}, BODY])
def test_further_lists_count_though_the_first_person_has_none(first: dict[str, Any]) -> None:
    file = parse(people(first, WHOLE), "whole.json")
    assert file.names == ("nose", "tail", *part_names())
    assert file.labelled[1].sum() == 1 + len(part_names())


@pytest.mark.parametrize("junk", [5, 1.5, "x" * 63, {"a": 1}, True])
@pytest.mark.parametrize("key", ["keypoints", "lefthand_kpts"])
def test_a_further_list_that_is_none_is_an_issue(key: str, junk: Any) -> None:
    file = parse(people(WHOLE, {**WHOLE, key: junk}), "whole.json")
    issue = file.issue("keypoint_length")
    assert issue is not None and issue.rows.tolist() == [1]
    assert file.people.tolist() == [True, False]


def test_names_of_a_category_that_has_all_keypoints_are_not_added_again() -> None:
    names = ["nose", *part_names()]
    file = parse(people({"keypoints": [1, 1, 2] * len(names), "foot_kpts": []}, keypoints=names), "all.json")
    assert file.names == tuple(names) and file.people.all()


@pytest.mark.parametrize("names", [["nose", "nose"], ["Left Eye", "left_eye"]])
def test_two_keypoints_of_one_name_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match="twice.json: category 'person' names the keypoint '.*' twice"):
        parse(people(BODY, keypoints=names), "twice.json")


@pytest.mark.parametrize("names", [[None, "tail"], [True, "tail"], [["nose"], "tail"], "nose", 5])
def test_names_are_names(names: Any) -> None:
    with pytest.raises(UserError, match="names.json: category 'person': keypoints must be a list of names"):
        parse(people(BODY, keypoints=names), "names.json")


def test_what_a_category_lacks_for_a_skeleton_is_said_with_the_file() -> None:
    with pytest.raises(UserError, match="^sigmas.json: skeleton 'person': sigmas"):
        own_skeleton(parse(people(BODY, sigmas=["x", "y"]), "sigmas.json"))


@pytest.mark.parametrize(
    ("width", "height", "huge"),
    [
        (13_000, 13_000, False),
        (14_000, 13_000, True),
        (2**20, 1, False),
        (1, 2**20 + 1, True),
        (60_000, 60_000, True),
        (65_536, 65_536, True),
        (2_000_000_000, 2, True),
        (2**31 - 1, 2**31 - 1, True),
    ],
)
def test_images_that_cannot_be_read_have_no_masks(width: int, height: int, huge: bool) -> None:
    data = people(BODY, {"iscrowd": 1, "bbox": [0, 0, width, height]}, {"bbox": [0, 0, 5, 5]})
    data["images"][0].update(width=width, height=height)
    file = parse(data, "huge.json")
    assert (file.issue("huge_image") is not None) == huge
    arrays, _ = to_arrays(file, Reading(own_skeleton(file)), match_keypoints(file, own_skeleton(file)))
    assert len(arrays["image_ids"]) == (0 if huge else 1)
