"""Files that are damaged in ways that a reader may stumble over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pose.annotations.names import match_keypoints
from pose.annotations.parts import PARTS, part_names
from pose.annotations.reader import parse, read
from pose.annotations.skeletons import own_skeleton
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


def codes(content: dict[str, Any]) -> set[str]:
    return {issue.code for issue in parse(content, "x.json").issues}


def test_nested_keypoints_are_one_list() -> None:
    content = people({"keypoints": [[1, 2, 2], [3, 4, 1]]}, BODY)
    file = parse(content, "x.json")
    assert file.keypoints[0].tolist() == [[1, 2, 2], [3, 4, 1]]
    issue = file.issue("nested")
    assert issue is not None and issue.rows.tolist() == [0]
    assert content["annotations"][0]["keypoints"] == [[1, 2, 2], [3, 4, 1]]  # left as it is


@pytest.mark.parametrize(
    ("keypoints", "says"),
    [
        ([[1, 2], [3, 4]], "4 numbers, 6 are needed .*x, y without v"),
        ([[1, 2, 2], [3, 4]], "2 numbers, 6 are needed"),
        ({"nose": [1, 2, 2]}, "a dict, 6 are needed .*write one list x, y, v"),
        ("1 2 2", "a str, 6 are needed"),
    ],
)
def test_lists_that_do_not_fit_are_told(keypoints: Any, says: str) -> None:
    issue = parse(people({"keypoints": keypoints}), "x.json").issue("keypoint_length")
    assert issue is not None and re.search(says, issue.details[0])


@pytest.mark.parametrize("key", ["keypoints_2", "points"])
def test_another_list_that_fits_is_named(tmp_path: Path, key: str) -> None:
    content = people({"keypoints": [1, 2, 2] * 3, key: [1, 2, 2] * 2}, {key: [1, 2, 2] * 2})
    (tmp_path / "x.json").write_text(json.dumps(content))
    file = read(tmp_path / "x.json")
    length, other = file.issue("keypoint_length"), file.issue("keypoints_key")
    assert length is not None and f"its {key!r} would fit" in length.details[0]
    assert other is not None and other.rows.tolist() == [1] and other.details == (f"its {key!r}",)


@pytest.mark.parametrize("value", ["person", None, 1.5, [1], True])
def test_a_category_id_that_is_none_is_told(value: Any) -> None:
    issue = parse(people({**BODY, "category_id": value}), "x.json").issue("annotation_entry")
    assert issue is not None and issue.details == (f"category_id {value!r}",)


def crowd_of(scale: float, size: int) -> dict[str, Any]:
    """Twenty people all over an image, whose coordinates are shares times `scale`."""
    shares = [((7 * i) % 20 / 20 + 0.013, (3 * i) % 20 / 20 + 0.017) for i in range(20)]
    content = people(*({"keypoints": [x * scale, y * scale, 2, 0, 0, 0]} for x, y in shares))
    content["images"][0].update(width=size, height=size)
    return content


def test_shares_and_percent_are_told_from_pixels() -> None:
    assert "shares" in codes(crowd_of(1, 500)) and "percent" not in codes(crowd_of(1, 500))
    assert "percent" in codes(crowd_of(100, 500)) and "shares" not in codes(crowd_of(100, 500))
    for sound in (crowd_of(500, 500), crowd_of(100, 100), crowd_of(40, 500)):
        assert not {"shares", "percent"} & codes(sound)


@pytest.mark.parametrize("key", ["path", "filename", "image", "coco_url", "url"])
def test_the_name_of_a_file_may_be_in_another_key(key: str) -> None:
    content = people(BODY)
    content["images"][0][key] = content["images"][0].pop("file_name")
    file = parse(content, "x.json")
    assert file.file_names == ("1.jpg",) and file.people.all()
    assert codes(content) == {"file_name_key"}


def test_repeated_images_count_once() -> None:
    content = people(BODY)
    content["images"] *= 3
    file = parse(content, "x.json")
    assert file.images.tolist() == [True, False, False] and codes(content) == {"same_image"}
