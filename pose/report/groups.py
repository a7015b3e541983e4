"""AP of people by size, by how crowded they stand and by how many of their keypoints are labelled.

As COCOeval does for areas, people annotated outside a group are ignored there: who matches them neither
counts as right nor as wrong.  Of those found who match nobody, COCOeval leaves out the ones whose own area is
outside; by crowding and by keypoints, where people found have no group, the ones that are most like somebody
outside are left out, and those like nobody count in every group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose.metrics.matching import AREAS, Pairing, Truth, View, average, by_area, rank
from pose.report.errors import SAME_PERSON, Errors

SIDES = (0, 32, 64, 96, 192, 1e5)  # pixels: square roots of areas, between which people are of one size
NEIGHBOURS = 200  # people of an image whom one is compared with
CROWDED = 0.1  # IoU from which another person's box overlaps
PARTS = (5, 10, 15)  # last numbers of labelled keypoints of a group, for 17 of them


@dataclass(frozen=True)
class Group:
    """A row of a table."""

    name: str
    people: int  # annotated, of this group
    missed: int  # of them
    ap: float  # COCO's, as below; -1 where nobody is in the group
    ap50: float
    ap75: float
    ar: float


def find_groups(pairing: Pairing, errors: Errors) -> dict[str, list[Group]]:
    """By the title of their table."""
    tables = {
        "size, as COCO has it": _by_coco(pairing),
        "size": _by_size(pairing),
        "other people whose box overlaps": _by_crowding(pairing),
        "labelled keypoints": _by_keypoints(pairing),
    }
    chosen = [(title, name, view) for title, table in tables.items() for name, view in table]
    precision, recall = rank(pairing, [view for _, _, view in chosen]).accumulate()
    groups: dict[str, list[Group]] = {title: [] for title in tables}
    for i, (title, name, view) in enumerate(chosen):
        groups[title].append(
            Group(
                name,
                people=int((~view.ignored).sum()),
                missed=int((~view.ignored & errors.missed).sum()),
                ap=average(precision[:, i]),
                ap50=average(precision[:, i, 0]),
                ap75=average(precision[:, i, 5]),
                ar=average(recall[:, i]),
            )
        )
    return groups


Views = list[tuple[str, View]]


def _by_coco(pairing: Pairing) -> Views:
    names = {"all": "all", "medium": "medium: 32² to 96² pixels", "large": "large: from 96²"}
    return [(names[key], by_area(pairing, low, high)) for key, (low, high) in AREAS.items()]


def _by_size(pairing: Pairing) -> Views:
    views = []
    for low, high in zip(SIDES, SIDES[1:]):
        name = f"{low:g}² to {high:g}²" if low else f"under {high:g}²"
        name = name if high < SIDES[-1] else f"from {low:g}²"
        views.append((name, by_area(pairing, low**2, high**2)))
    return views


def _by_crowding(pairing: Pairing) -> Views:
    number = overlapping(pairing.truth)
    ranges = {"none": (0, 0), "1 or 2": (1, 2), "3 or more": (3, np.inf)}
    return [
        (name, _only(pairing, (low <= number) & (number <= high))) for name, (low, high) in ranges.items()
    ]


def _by_keypoints(pairing: Pairing) -> Views:
    number = (pairing.truth.keypoints[..., 2] > 0).sum(axis=1)
    return [
        (f"{low}" if low == high else f"{low} to {high}", _only(pairing, (low <= number) & (number <= high)))
        for low, high in keypoint_ranges(len(pairing.sigmas))
    ]


def keypoint_ranges(num_keypoints: int) -> list[tuple[int, int]]:
    """1-5, 6-10, 11-15, 16-17 for COCO's 17, as many for others, fewer where that leaves nothing for one."""
    last = sorted({max(1, round(part * num_keypoints / 17)) for part in PARTS} | {num_keypoints})
    return [(low + 1, high) for low, high in zip([0, *last], last)]


def _only(pairing: Pairing, chosen: np.ndarray) -> View:
    """chosen (G,) bool: the people annotated who are in the group."""
    ignored = pairing.truth.ignored | ~chosen
    likeness, whom = pairing.best()
    like_somebody = likeness >= SAME_PERSON
    outside = like_somebody & ignored[whom] if len(ignored) else like_somebody
    return View(ignored, outside)


def overlapping(truth: Truth) -> np.ndarray:
    """(G,) how many other people annotated in the same image, crowds aside, have a box with an IoU of more
    than CROWDED.

    A person is compared with the NEIGHBOURS next ones from left to right: in an image with no more, with
    all."""
    order = np.lexsort((truth.boxes[:, 0], truth.cell))
    cell, boxes, crowd = truth.cell[order], truth.boxes[order], truth.crowd[order]
    corners, areas = boxes[:, :2] + boxes[:, 2:], boxes[:, 2:].prod(axis=1)
    number = np.zeros(len(order), np.int64)
    for step in range(1, min(len(order), NEIGHBOURS + 1)):
        one = np.flatnonzero(cell[step:] == cell[:-step])
        if not len(one):
            break
        other = one + step
        low = np.maximum(boxes[one, :2], boxes[other, :2])
        shared = (np.minimum(corners[one], corners[other]) - low).clip(min=0).prod(axis=1)
        near = shared > CROWDED * (areas[one] + areas[other] - shared)
        number[one] += near & ~crowd[other]
        number[other] += near & ~crowd[one]
    found = np.empty_like(number)
    found[order] = number
    return found
