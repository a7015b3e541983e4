"""AP of groups of people: a mistake counts in the groups that it belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose.report.analysis import analyse
from pose.report.groups import Group, keypoint_ranges
from pose.skeleton import Skeleton

NAMES = ("head", "left_hand", "right_hand", "left_foot", "right_foot", "hip")
SKELETON = Skeleton("six", NAMES)


def person(number: int, image: int, side: float, labelled: int, shift: float = 0.0) -> dict[str, Any]:
    xy = side * np.array([[0.5, 0], [1, 0.4], [0, 0.4], [0.8, 1], [0.2, 1], [0.5, 0.5]]) + shift
    seen = np.where(np.arange(6) < labelled, 2, 0)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "keypoints": np.column_stack([xy * (seen > 0)[:, None], seen]).ravel().tolist(),
        "num_keypoints": labelled,
        "area": side**2,
        "bbox": [shift, shift, side, side],
        "iscrowd": 0,
    }


PEOPLE = [
    person(1, 1, 50, 6),
    person(2, 1, 120, 6, shift=2000),
    person(3, 2, 120, 4),
    person(4, 2, 120, 2, shift=40),  # beside the one before
]
# the others hide each other: 4 people at one place
PILE = [person(10 + i, 3, 300, 5, shift=10.0 * i) for i in range(4)]


def tables(found: list[dict[str, Any]]) -> dict[str, dict[str, Group]]:
    annotations = {
        "images": [{"id": i} for i in (1, 2, 3, 4)],
        "annotations": PEOPLE + PILE,
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES)}],
    }
    results = []
    for one in found:
        full = person(one["id"], one["image_id"], one["area"] ** 0.5, 6, one["bbox"][0])
        record = {key: full[key] for key in ("image_id", "category_id", "keypoints")}
        results.append({**record, "score": 0.9 if one["id"] == 99 else 0.5})
    analysis = analyse(annotations, results, SKELETON, sigmas=[0.05] * 6)
    return {title: {group.name: group for group in groups} for title, groups in analysis.groups.items()}


SIZE, CROWD, LABELLED = "size", "other people whose box overlaps", "labelled keypoints"


def test_everybody_is_in_a_group_of_each_table() -> None:
    found = tables(PEOPLE + PILE)
    number = {title: {name: g.people for name, g in table.items()} for title, table in found.items()}
    assert number["size, as COCO has it"] == {"all": 8, "medium: 32² to 96² pixels": 1, "large: from 96²": 7}
    assert list(number[SIZE].values()) == [0, 1, 0, 3, 4]
    assert number[CROWD] == {"none": 2, "1 or 2": 2, "3 or more": 4}
    assert number[LABELLED] == {"1 to 2": 1, "3 to 4": 1, "5": 4, "6": 2}
    for table in found.values():
        for group in table.values():
            assert group.ap == pytest.approx(1 if group.people else -1)
            assert group.missed == 0


def test_who_is_missed_counts_in_own_groups_only() -> None:
    """Person 1: small, alone, 6 keypoints."""
    found = tables(PEOPLE[1:] + PILE)
    groups = {(title, name): g for title, table in found.items() for name, g in table.items() if g.people}
    own = {
        ("size, as COCO has it", "all"): 1 / 8,
        ("size, as COCO has it", "medium: 32² to 96² pixels"): 1,
        (SIZE, "32² to 64²"): 1,
        (CROWD, "none"): 1 / 2,
        (LABELLED, "6"): 1 / 2,
    }
    for key, group in groups.items():
        assert group.missed == (key in own)
        assert group.ar == pytest.approx(1 - own.get(key, 0))


def test_a_false_positive_counts_where_its_neighbour_belongs() -> None:
    double = tables([*PEOPLE[:3], PEOPLE[2], PEOPLE[3], *PILE])
    assert double[CROWD]["1 or 2"].ap < 0.99
    assert double[CROWD]["none"].ap == pytest.approx(1) and double[CROWD]["3 or more"].ap == pytest.approx(1)
    assert double[LABELLED]["6"].ap == pytest.approx(1)
    stray = person(99, 4, 120, 6, shift=500)  # like nobody: in every group but the sizes that it has not
    background = tables([stray, *PEOPLE, *PILE])
    for title in (CROWD, LABELLED):
        assert all(group.ap < 0.99 for group in background[title].values())
    below = {name: group.ap < 0.99 for name, group in background[SIZE].items() if group.people}
    assert below == {"32² to 64²": False, "96² to 192²": True, "from 192²": False}


def test_ranges_of_labelled_keypoints_cover_every_number_once() -> None:
    assert keypoint_ranges(17) == [(1, 5), (6, 10), (11, 15), (16, 17)]
    assert keypoint_ranges(14) == [(1, 4), (5, 8), (9, 12), (13, 14)]
    for count in range(1, 30):
        covered = [n for low, high in keypoint_ranges(count) for n in range(low, high + 1)]
        assert covered == list(range(1, count + 1))
