"""What faults in a file of annotations cost: AP of predictions that know what a careful annotator meant.

The predictions are the mended people, each keypoint off by half the deviation between annotators that the
sigmas stand for, so that AP is that of an excellent but human reader.  They are scored against the mended
file, against the file as it is, and against the mended file with one kind of fault put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pose.annotations.json_file import packed
from pose.annotations.regions import BOX_TO_AREA, usable_box
from pose.doctor.checks import Fault
from pose.doctor.content import Content
from pose.doctor.sides import find_exchanged, pair_index
from pose.metrics import coco_eval
from pose.metrics.results import results_json

OFF = 0.5  # of the annotators' deviation
IMAGES = 2000  # that are scored; more cost seconds and add no digit
PEOPLE = 10_000  # of them, the same
SEED = 0

# Kind -> what the mended file changes
CHANGES = {
    "sides_file": "keypoints", "sides_person": "keypoints", "sides_face": "keypoints", "origin": "keypoints",
    "outside": "keypoints", "visibility": "keypoints", "num_keypoints_zero": "num_keypoints",
    "num_keypoints_empty": "num_keypoints", "area_zero": "area", "area_box": "area", "area_extent": "area",
    "copies": "presence",
}  # fmt: skip


@dataclass(frozen=True)
class Bounds:
    """AP of careful predictions.  -1: nothing to score."""

    mended: float
    as_it_is: float
    costs: dict[str, float]  # kind -> what it alone takes from the AP of the mended file
    images: int  # that were scored
    people: int


@dataclass
class _People:
    """Rows of the content, as they should be: arrays of all annotations, ours to change."""

    keypoints: np.ndarray  # (N, K, 3)
    areas: np.ndarray  # (N,)
    num_keypoints: np.ndarray  # (N,)
    present: np.ndarray  # (N,) bool


def measure(content: Content, faults: Sequence[Fault]) -> Bounds | None:
    """None where no fault changes what is scored."""
    relevant = [fault for fault in faults if fault.kind in CHANGES and fault.level != "note"]
    if not relevant:
        return None
    wrong, meant = _as_it_is(content), _mended(content, relevant)
    chosen = _chosen(content, relevant)
    if not len(chosen):
        return None
    predictions = _predictions(content, meant, chosen)

    def score(truth: _People) -> float:
        return _score(content, truth, predictions, chosen)

    best = score(meant)
    costs = {fault.kind: best - score(_with_fault(meant, wrong, fault)) for fault in relevant}
    images = len(np.unique(content.file.image[chosen]))
    return Bounds(best, score(wrong), costs, images, len(chosen))


def _as_it_is(content: Content) -> _People:
    given = np.zeros_like(content.keypoints)
    for k, place in enumerate(content.places):
        if place is not None:
            given[:, k] = np.where(content.file.finite[:, place, None], content.file.keypoints[:, place], 0)
    counted = (given[..., 2] > 0).sum(1)
    said = np.where(np.isfinite(content.file.num_keypoints), content.file.num_keypoints, counted)
    areas = np.where(content.file.areas >= 0, content.file.areas, _likely_areas(content))
    return _People(given, areas, said, np.ones(len(given), bool))


def _likely_areas(content: Content) -> np.ndarray:
    """(N,) 0.53 of the box of the annotation, of the keypoints where that is none."""
    sides = content.extents[:, 2:] - content.extents[:, :2]
    usable = usable_box(content.file.boxes)
    sides = np.where(usable[:, None], content.file.boxes[:, 2:], np.maximum(np.nan_to_num(sides), 1))
    return BOX_TO_AREA * sides.prod(1)


def _mended(content: Content, faults: Sequence[Fault]) -> _People:
    """As a careful annotator would have written it, as far as can be known."""
    people = _as_it_is(content)
    people.keypoints = content.keypoints.copy()  # what is unusable counts as not labelled
    people.keypoints[content.outside] = 0
    areas = _likely_areas(content)
    for fault in faults:
        if CHANGES[fault.kind] == "area":
            people.areas[fault.rows] = areas[fault.rows]
        elif fault.kind in ("sides_file", "sides_face"):
            rows = np.arange(len(areas)) if fault.kind == "sides_file" else fault.rows
            people.keypoints[rows] = people.keypoints[rows][:, list(content.skeleton.flip_index)]
        elif fault.kind == "sides_person":
            _exchange_pairs(people.keypoints, fault, content)
        elif fault.kind == "copies":
            people.present[fault.rows] = False
    people.num_keypoints = (people.keypoints[..., 2] > 0).sum(1)
    return people


def _exchange_pairs(keypoints: np.ndarray, fault: Fault, content: Content) -> None:
    found = find_exchanged(content.keypoints[fault.rows], content.skeleton)
    pairs = pair_index(content.skeleton)
    for place, parts in zip(found.people.tolist(), found.parts, strict=True):
        row = fault.rows[place]
        for part in parts.replace("shoulder or hip", "shoulder").split(", "):
            left, right = pairs[part]
            keypoints[row, [left, right]] = keypoints[row, [right, left]]


def _with_fault(meant: _People, wrong: _People, fault: Fault) -> _People:
    """The mended people with one fault put back."""
    what = CHANGES[fault.kind]
    rows = np.arange(len(meant.areas)) if fault.kind == "sides_file" else fault.rows
    truth = _People(**{name: value.copy() for name, value in vars(meant).items()})
    if what == "keypoints":
        truth.keypoints[rows] = wrong.keypoints[rows]
        truth.num_keypoints[rows] = (truth.keypoints[rows][..., 2] > 0).sum(1)
    elif what == "area":
        truth.areas[rows] = wrong.areas[rows]
    elif what == "num_keypoints":
        truth.num_keypoints[rows] = wrong.num_keypoints[rows]
    else:
        truth.present[rows] = True
    return truth


def _chosen(content: Content, faults: Sequence[Fault]) -> np.ndarray:
    """Rows of the people, and of those who only seem to be some, of at most IMAGES images and at most
    PEOPLE."""
    counted = content.file.people.copy()
    for fault in faults:
        counted[fault.rows] |= ~content.file.crowd[fault.rows] & (content.file.image[fault.rows] >= 0)
    images = np.unique(content.file.image[counted])
    drawn = np.random.default_rng(SEED).permutation(images)[:IMAGES]
    rows = np.flatnonzero(counted & np.isin(content.file.image, drawn))
    return rows if len(rows) <= PEOPLE else np.sort(np.random.default_rng(SEED).permutation(rows)[:PEOPLE])


def _predictions(content: Content, meant: _People, chosen: np.ndarray) -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    sigmas = np.array(content.skeleton.sigmas)
    found: dict[int, tuple[list[np.ndarray], list[float]]] = {}
    for row in chosen.tolist():
        person = meant.keypoints[row].astype(np.float64)
        noise = rng.normal(size=(len(person), 2)) * (OFF * sigmas * np.sqrt(meant.areas[row]))[:, None]
        if not meant.present[row] or not person[:, 2].any():
            continue
        person[:, :2] += noise
        people, scores = found.setdefault(int(content.file.image[row]), ([], []))
        people.append(person)
        scores.append(float(rng.random()))
    return results_json(
        {place: (np.array(people), np.array(scores)) for place, (people, scores) in found.items()}
    )


def _score(
    content: Content, truth: _People, predictions: Sequence[Mapping[str, Any]], chosen: np.ndarray
) -> float:
    """The AP of predictions against some rows of the truth; images are known by their place."""
    boxes = np.nan_to_num(content.file.boxes)
    annotations = [
        {
            "id": number, "image_id": int(content.file.image[row]), "category_id": 1, "iscrowd": 0,
            "keypoints": packed(truth.keypoints[row].ravel().tolist()), "bbox": boxes[row].tolist(),
            "area": float(truth.areas[row]), "num_keypoints": int(truth.num_keypoints[row]),
        }
        for number, row in enumerate(chosen.tolist(), start=1)
        if truth.present[row]
    ]  # fmt: skip
    if not annotations:  # of thousands in one image all that were drawn may be copies
        return -1.0
    images = [{"id": place} for place in np.unique(content.file.image[chosen]).tolist()]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    return coco_eval.evaluate(data, predictions, sigmas=content.skeleton.sigmas).stats["AP"]
