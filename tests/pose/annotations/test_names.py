"""Keypoints of a file and of a skeleton are matched by their names."""

from __future__ import annotations

from typing import Any

import pytest

from pose.annotations.names import match_keypoints, renamed
from pose.annotations.reader import parse
from pose.errors import UserError
from pose.skeleton import Skeleton

SKELETON = Skeleton("three", ("nose", "left_eye", "right_eye"))


def file(names: list[str] | None, count: int = 3) -> Any:
    category: dict[str, Any] = {"id": 1, "name": "person"}
    if names is not None:
        category["keypoints"] = names
    return parse(
        {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 60, "height": 40}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [5, 6, 2] * count}],
            "categories": [category],
        },
        "x.json",
    )


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["nose", "left_eye", "right_eye"], (0, 1, 2)),
        (["right_eye", "nose", "left_eye"], (1, 2, 0)),
        (["Nose", "Left Eye", " RIGHT-EYE "], (0, 1, 2)),
        (None, (0, 1, 2)),  # no names: those of the skeleton, in its order
    ],
)
def test_places_of_a_skeletons_keypoints(names: list[str] | None, places: tuple[int, ...]) -> None:
    assert match_keypoints(file(names), SKELETON).places == places


def test_other_names_in_the_same_places_are_the_same_keypoints() -> None:
    match = match_keypoints(file(["snout", "left_eye", "right_eye"]), SKELETON)
    assert match.places == (0, 1, 2) and renamed(match, SKELETON) == [("snout", "nose")]


@pytest.mark.parametrize("names", [["snout", "right_eye", "left_eye"], ["nose", "left_eye"]])
def test_other_keypoints_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match="data.skeleton must be that of this file"):
        match_keypoints(file(names, len(names)), SKELETON)


def test_without_names_the_number_must_fit() -> None:
    with pytest.raises(UserError, match="names of the 4 keypoints, and the skeleton 'three' has 3"):
        match_keypoints(file(None, 4), SKELETON)


def test_a_set_of_a_mixture_may_lack_some_and_have_others() -> None:
    match = match_keypoints(file(["tail", "nose"], 2), SKELETON, partial=True)
    assert match.places == (1, None, None) and match.order == [None, 0]
    with pytest.raises(UserError, match="only in the file: tail"):
        match_keypoints(file(["tail"], 1), SKELETON, partial=True)
