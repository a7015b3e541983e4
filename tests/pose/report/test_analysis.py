"""Crowds, people without labels and people found twice, in errors, groups and the worst pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose.report.analysis import Analysis, analyse
from pose.report.errors import KINDS
from pose.report.groups import overlapping
from pose.skeleton import Skeleton

NAMES = ("head", "left_hand", "right_hand", "left_foot", "right_foot", "hip")
SKELETON = Skeleton("six", NAMES)
SHAPE = np.array([[0.5, 0], [1, 0.4], [0, 0.4], [0.8, 1], [0.2, 1], [0.5, 0.5]])
SIDE = 100.0  # pixels of a box

Records = list[dict[str, Any]]


def person(image: int, shift: tuple[float, float] = (0, 0), **changes: Any) -> dict[str, Any]:
    xy = SIDE * SHAPE + shift
    return {
        "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": 6, "area": SIDE**2,
        "keypoints": np.column_stack([xy, np.full(6, 2.0)]).ravel().tolist(),
        "bbox": [*shift, SIDE, SIDE], **changes,
    }  # fmt: skip


def crowd(image: int, shift: tuple[float, float] = (0, 0)) -> dict[str, Any]:
    """With keypoints, as some files have them."""
    return person(image, shift, iscrowd=1)


def found(one: dict[str, Any], score: float, **places: tuple[float, float]) -> dict[str, Any]:
    """Somebody annotated is found; places: of keypoints that are elsewhere."""
    points = np.array(one["keypoints"]).reshape(-1, 3)
    for name, place in places.items():
        points[NAMES.index(name), :2] = place
    return {**{key: one[key] for key in ("image_id", "category_id")}, "keypoints": points.ravel().tolist(),
            "score": score}  # fmt: skip


def analysed(annotated: Records, results: Records, images: int = 3) -> Analysis:
    annotations = {
        "images": [{"id": i} for i in range(1, images + 1)],
        "annotations": [{**one, "id": i} for i, one in enumerate(annotated, start=1)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES)}],
    }
    return analyse(annotations, results, SKELETON, sigmas=[0.05] * 6)


@pytest.mark.parametrize("of_a_crowd", [False, True])
def test_a_keypoint_at_the_place_of_a_crowds_is_missed_and_not_swapped(of_a_crowd: bool) -> None:
    """Nobody in a crowd is a person with whom it could be exchanged."""
    one, other = person(1), (crowd if of_a_crowd else person)(1, (400, 0))
    head = tuple(np.array(other["keypoints"])[:2])
    kinds = analysed([one, other], [found(one, 0.9, head=head)]).errors.kind[0]
    assert KINDS[kinds[NAMES.index("head")]] == ("miss" if of_a_crowd else "swap")
    assert [KINDS[kind] for kind in kinds[1:]] == ["good"] * 5


def test_whoever_is_taken_for_a_crowd_is_taken_for_nobody() -> None:
    one, many = person(1), crowd(1, (400, 0))
    errors = analysed([one, many], [found(one, 0.9), found(many, 0.8)]).errors
    assert (errors.person >= 0).tolist() == [True, False]
    assert errors.oks.tolist() == [1, 0]
    assert (errors.kind[1] == -1).all()
    assert not (errors.background | errors.double).any()
    assert not errors.missed.any()


def test_a_crowd_overlaps_nobody() -> None:
    beside = [person(1), person(1, (50, 0)), crowd(1, (0, 50)), person(2), crowd(2, (10, 0))]
    truth = analysed(beside, [found(beside[0], 0.5)]).matches.pairing.truth
    alone = {int(i): n for i, n in zip(np.arange(len(truth.cell)), overlapping(truth)) if not truth.crowd[i]}
    assert sorted(alone.values()) == [0, 1, 1]


@pytest.mark.parametrize(("shift", "near"), [(81, 1), (82.5, 0)])
def test_boxes_overlap_by_the_share_of_what_both_cover(shift: float, near: int) -> None:
    """Of two squares side by side, s of a side apart, (1 - s) / (1 + s): 0.1 at s = 9 / 11 = 0.818."""
    two = [person(1), person(1, (shift, 0))]
    truth = analysed(two, [found(two[0], 0.5)]).matches.pairing.truth
    assert overlapping(truth).tolist() == [near, near]


def test_people_found_twice_make_a_picture_bad_like_those_in_the_background() -> None:
    three = [person(i) for i in (1, 2, 3)]
    right = [found(one, 0.5) for one in three]
    twice, stray = found(three[0], 0.4), found(person(2, (900, 900)), 0.4)
    for wrong, image, what in ((twice, 1, "found twice"), (stray, 2, "in the background")):
        # a better score than that of one of the three: a third of them is outranked
        results = [*right[:2], {**right[2], "score": 0.3}, wrong]
        (worst,) = analysed(three, results).worst
        assert worst.image_id == image
        assert worst.loss == pytest.approx(1 / 3)
        assert worst.sentence == f"1 of 1 found with a mean OKS of 1.00; 1 {what}"


def test_whoever_does_not_count_is_not_counted_among_those_to_be_found() -> None:
    annotated = [person(1), person(1, (400, 0)), crowd(1, (800, 0))]
    annotated.append(person(1, (0, 400), num_keypoints=0, keypoints=[0.0] * 18))
    (worst,) = analysed(annotated, [found(annotated[0], 0.5)]).worst
    assert worst.loss == pytest.approx(1)
    assert worst.sentence == "1 of 2 found with a mean OKS of 1.00"


def test_in_a_dense_image_people_are_compared_with_those_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [person(1) for _ in range(9)]
    truth = analysed(many, [found(many[0], 0.5)]).matches.pairing.truth
    assert overlapping(truth).tolist() == [8] * 9
    monkeypatch.setattr("pose.report.groups.NEIGHBOURS", 2)
    assert overlapping(truth).tolist() == [2, 3, 4, 4, 4, 4, 4, 3, 2]
