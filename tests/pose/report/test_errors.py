"""Errors of each kind, put into perfect results, are found again, with what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose.metrics.coco_eval import COCO_SIGMAS
from pose.report.analysis import Analysis, analyse
from pose.report.errors import FIXES, KINDS
from pose.skeleton import Skeleton

SIDED = ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
NAMES = ("nose", *(f"{side}_{part}" for part in SIDED for side in ("left", "right")))
SKELETON = Skeleton("people", NAMES)
NOSE, WRIST, KNEE = NAMES.index("nose"), NAMES.index("left_wrist"), NAMES.index("left_knee")
JITTERING = (NOSE, WRIST, KNEE, KNEE + 1)
SCALE = 100.0  # pixels: root of everybody's area
IMAGES = 4

Records = list[dict[str, Any]]


def perfect() -> tuple[dict[str, Any], Records]:
    """Two people in each of 4 pictures, far apart, whose keypoints are 100 pixels from each other; the
    results are the annotations."""
    grid = 100.0 * np.stack(np.meshgrid(np.arange(3), np.arange(6)), -1).reshape(-1, 2)[:17]
    annotations: Records = []
    for number in range(2 * IMAGES):
        xy = grid + (1000.0 * (number % 2), 40.0 * number)
        annotations.append(
            {
                "id": number + 1,
                "image_id": number // 2,
                "category_id": 1,
                "keypoints": np.column_stack([xy, np.full(17, 2.0)]).ravel().tolist(),
                "num_keypoints": 17,
                "area": SCALE**2,
                "bbox": [*xy.min(0).tolist(), 200.0, 500.0],
                "iscrowd": 0,
            }
        )
    results = [
        {**{key: one[key] for key in ("image_id", "category_id", "keypoints")}, "score": 0.5 + 0.01 * i}
        for i, one in enumerate(annotations)
    ]
    data = {"images": [{"id": i} for i in range(IMAGES)], "annotations": annotations}
    return {**data, "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES)}]}, results


def points(record: dict[str, Any]) -> np.ndarray:
    return np.array(record["keypoints"]).reshape(-1, 3)


def moved(record: dict[str, Any], xy: dict[int, np.ndarray]) -> dict[str, Any]:
    changed = points(record)
    for k, place in xy.items():
        changed[k, :2] = place
    return {**record, "keypoints": changed.ravel().tolist()}


def jittered(results: Records) -> Records:
    """Four keypoints of the first three people have a similarity of 0.7."""
    far = np.sqrt(-2 * np.log(0.7)) * SCALE * 2 * np.array(COCO_SIGMAS)
    return [
        moved(r, {k: points(r)[k, :2] + (far[k], 0) for k in JITTERING}) if i < 3 else r
        for i, r in enumerate(results)
    ]


def inverted(results: Records) -> Records:
    """Left and right wrists and knees of the first three people have changed places."""

    def exchange(record: dict[str, Any]) -> dict[str, Any]:
        own = points(record)
        return moved(record, {k: own[SKELETON.flip_index[k], :2] for k in (WRIST, WRIST + 1, KNEE, KNEE + 1)})

    return [exchange(r) if i < 3 else r for i, r in enumerate(results)]


def swapped(results: Records) -> Records:
    """The first person has the nose of the second, and for its left wrist that one's right wrist."""
    other = points(results[1])
    return [moved(results[0], {NOSE: other[NOSE, :2], WRIST: other[WRIST + 1, :2]}), *results[1:]]


def far_off(results: Records) -> Records:
    """The noses and left knees of the first three people are nowhere."""
    return [
        moved(r, {k: np.full(2, 5e4) for k in (NOSE, KNEE)}) if i < 3 else r for i, r in enumerate(results)
    ]


def changes(name: str, results: Records) -> Records:
    if name == "background":  # people where nobody is, better than half of the others
        stray = moved(results[0], {k: points(results[0])[k, :2] + 9000 for k in range(17)})
        return [*results, {**stray, "score": 0.545}, {**stray, "image_id": 2, "score": 0.545}]
    if name == "missed":
        return results[:3] + results[5:]
    if name == "score":  # people found a second time, with a better score than others have
        return [*results, {**results[7], "score": 0.545}, {**results[6], "score": 0.525}]
    return {"jitter": jittered, "inversion": inverted, "swap": swapped, "miss": far_off}[name](results)


EXPECTED: dict[str, dict[int, int]] = {  # which keypoints, how many of each
    "jitter": dict.fromkeys(JITTERING, 3),
    "inversion": dict.fromkeys((WRIST, WRIST + 1, KNEE, KNEE + 1), 3),
    "swap": {NOSE: 1, WRIST: 1},
    "miss": {NOSE: 3, KNEE: 3},
}


def analysed(results: Records) -> Analysis:
    return analyse(perfect()[0], results, SKELETON)


def test_perfect_results_have_no_errors() -> None:
    annotations, results = perfect()
    analysis = analyse(annotations, results, SKELETON)
    assert analysis.stats["AP"] == pytest.approx(1)
    counts = analysis.errors.counts()
    assert (counts[:, 0] == 2 * IMAGES).all() and (counts[:, 1:] == 0).all()
    for people in (analysis.errors.background, analysis.errors.double, analysis.errors.missed):
        assert not people.any()
    for cost in analysis.costs:
        assert cost.alone == pytest.approx(1) and cost.together == pytest.approx(1)
    assert analysis.worst == []


@pytest.mark.parametrize("name", [*EXPECTED, "background", "missed", "score"])
def test_an_error_is_found_again_and_costs_what_ap_lost(name: str) -> None:
    analysis = analysed(changes(name, perfect()[1]))
    errors, before = analysis.errors, analysis.stats["AP"]
    assert before < 0.98
    expected = np.zeros((17, len(KINDS)), np.int64)
    expected[:, 0] = 2 * IMAGES - 2 * (name == "missed")
    for k, number in EXPECTED.get(name, {}).items():
        expected[k, KINDS.index(name)] = number
        expected[k, 0] -= number
    np.testing.assert_array_equal(errors.counts(), expected)
    assert errors.background.sum() == 2 * (name == "background")
    assert errors.missed.sum() == 2 * (name == "missed")
    assert errors.double.sum() == 2 * (name == "score")
    last = before
    for cost in analysis.costs:
        assert cost.together - last == pytest.approx((1 - before) * (cost.fix == name), abs=1e-9)
        last = cost.together
        if (name, cost.fix) != ("background", "score"):  # ranked last, they would not count either
            assert cost.alone == pytest.approx(1 if cost.fix == name else before)
    assert [cost.fix for cost in analysis.costs] == list(FIXES)


@pytest.mark.parametrize("away", [None, 1e5])
def test_where_everybody_is_missed_that_is_what_it_costs(away: float | None) -> None:
    """Nobody found, or all far off: without missed people there is nobody left, not an AP of -1."""
    stray = [moved(r, {k: np.array((away, away)) for k in range(17)}) for r in perfect()[1] if away]
    costs = {cost.fix: cost for cost in analysed(stray).costs}
    assert costs["missed"].alone == 1 and costs["background"].together == 0
    assert [costs[fix].together for fix in ("missed", "score", "good")] == [1, 1, 1]


def test_the_most_similar_is_the_one_who_should_have_the_best_score() -> None:
    """Somebody found twice, the worse one with the better score: ranked by OKS, the other one counts."""
    results = perfect()[1]
    off = np.sqrt(-2 * np.log(0.7)) * SCALE * 2 * np.array(COCO_SIGMAS)
    worse = moved(results[0], {k: points(results[0])[k, :2] + (off[k], 0) for k in range(17)})
    analysis = analysed([*results, {**worse, "score": 0.9}])
    assert analysis.stats["AP"] < 0.95
    costs = {cost.fix: cost.alone for cost in analysis.costs}
    assert costs["score"] == pytest.approx(1)


def test_errors_of_all_kinds_at_once_end_at_one() -> None:
    results = perfect()[1]
    for name in ("jitter", "inversion", "score", "background"):
        results = changes(name, results)
    off = np.sqrt(-2 * np.log(0.9)) * SCALE * 2 * np.array(COCO_SIGMAS)  # good, not exact
    near = [moved(r, {k: points(r)[k, :2] + (0, off[k]) for k in range(17)}) for r in results[1:]]
    steps = [cost.together for cost in analysed(near).costs]
    assert steps == sorted(steps)
    assert steps[-2] < 0.95 and steps[-1] == pytest.approx(1)


def test_a_keypoint_that_is_its_own_mirror_image_is_not_inverted() -> None:
    """And one that only the other side has labelled can still be inverted."""
    annotations, results = perfect()
    unlabelled = points(annotations["annotations"][0])
    unlabelled[[KNEE, NOSE], 2] = 0
    annotations["annotations"][0]["keypoints"] = unlabelled.ravel().tolist()
    annotations["annotations"][0]["num_keypoints"] = 15
    changed = moved(results[0], {KNEE + 1: points(results[0])[KNEE, :2], NOSE: np.zeros(2)})
    counts = analyse(annotations, [changed, *results[1:]], SKELETON).errors.counts()
    assert counts[KNEE + 1].tolist() == [7, 0, 0, 0, 1]  # the left knee's place is not known
    assert counts[KNEE].tolist() == counts[NOSE].tolist() == [7, 0, 0, 0, 0]


def test_what_is_taken_for_a_crowd_is_no_error() -> None:
    annotations, results = perfect()
    annotations["annotations"][0].update(iscrowd=1, keypoints=[0.0] * 51, num_keypoints=0)
    errors = analyse(annotations, [*results, {**results[0], "score": 0.9}], SKELETON).errors
    assert not errors.background.any() and not errors.double.any() and not errors.missed.any()
    assert (errors.counts()[:, 0] == 7).all()


def test_the_worst_pictures_come_first_and_say_what_is_wrong() -> None:
    results = perfect()[1]
    gone = [moved(results[2], {k: np.full(2, 5e4) for k in range(2, 9)}), *results[3:7]]
    stray = {**moved(results[7], {k: np.full(2, 9e3 + k) for k in range(17)}), "score": 0.99}
    worst = analysed([*results[:2], *gone, stray]).worst
    assert [one.image_id for one in worst] == [3, 1]  # one missed and one too many; 7 of 17 gone
    assert worst[0].loss == pytest.approx(2)
    assert worst[0].sentence == "1 of 2 found with a mean OKS of 1.00; 1 in the background"
    assert worst[1].loss == pytest.approx(7 / 17)
    assert "keypoints: 7 miss (right eye, left ear, right ear, ...)" in worst[1].sentence
