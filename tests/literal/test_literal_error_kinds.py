"""Errors of people and keypoints, and COCO's AP without them, against the rules written out person by person
and keypoint by keypoint (Ronchi and Perona 2017, as `pose.report.errors` states them)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pose.metrics import coco_eval
from pose.report.analysis import analyse, file_skeleton
from pose.report.errors import KINDS

NAMES = ["nose", "left_eye", "right_eye", "left_hip", "right_hip", "top"]
FLIP = [0, 2, 1, 4, 3, 5]
SIGMAS = [0.026, 0.05, 0.05, 0.1, 0.1, 0.08]
K = len(NAMES)
Record = dict[str, Any]


def points(record: Record) -> np.ndarray:
    return np.array(record["keypoints"], np.float64).reshape(K, 3)


def similarity(spot: np.ndarray, place: np.ndarray, k: int, area: float) -> float:
    """0 where the place (x, y, v) is not labelled."""
    if place[2] <= 0:
        return 0.0
    squared = (spot[0] - place[0]) ** 2 + (spot[1] - place[1]) ** 2
    return math.exp(-squared / (2 * (area + np.spacing(1)) * (2 * SIGMAS[k]) ** 2))


def oks(truth: Record, found: np.ndarray) -> float:
    own, area = points(truth), truth["area"]
    labelled = [k for k in range(K) if own[k, 2] > 0]
    if labelled:
        return sum(similarity(found[k], own[k], k, area) for k in labelled) / len(labelled)
    x, y, w, h = truth["bbox"]  # distances from twice the box
    total = 0.0
    for k in range(K):
        dx = max(0, x - w - found[k, 0]) + max(0, found[k, 0] - (x + 2 * w))
        dy = max(0, y - h - found[k, 1]) + max(0, found[k, 1] - (y + 2 * h))
        total += similarity(np.array((dx, dy)), np.array((0, 0, 1)), k, area)
    return total / K


def kind(found: np.ndarray, k: int, own: Record, others: list[Record]) -> int:
    if points(own)[k, 2] <= 0:
        return -1
    here = similarity(found[k], points(own)[k], k, own["area"])
    if here >= 0.5:
        return 0 if here >= 0.85 else 1
    if FLIP[k] != k and similarity(found[k], points(own)[FLIP[k]], k, own["area"]) >= 0.5:
        return 2
    for other in others:
        if any(similarity(found[k], points(other)[j], k, other["area"]) >= 0.5 for j in (k, FLIP[k])):
            return 3
    return 4


Verdict = tuple[str, int, float, list[int]]


def judge(truth: list[Record], found: list[tuple[int, Record]]) -> tuple[dict[int, Verdict], set[int]]:
    """Of one picture: what each result (by its number) is, with whom, OKS and kinds; ids of the missed."""
    taken: set[int] = set()
    verdicts: dict[int, Verdict] = {}
    ignored = [bool(t["iscrowd"]) or t["num_keypoints"] == 0 for t in truth]
    for number, record in sorted(found, key=lambda one: -one[1]["score"])[:20]:
        spots = points(record)
        like = [oks(t, spots) for t in truth]
        near = [i for i in range(len(truth)) if like[i] >= 0.1 and (i not in taken or truth[i]["iscrowd"])]
        near = [i for i in near if not ignored[i]] or near
        if near:
            i = max(near, key=lambda i: (like[i], i))
            taken.add(i)
            others = [t for t in truth if t is not truth[i] and not t["iscrowd"]]
            kinds = [-1] * K if ignored[i] else [kind(spots, k, truth[i], others) for k in range(K)]
            what = "aside" if ignored[i] else "matched"
            verdicts[number] = (what, truth[i]["id"], like[i], kinds)
        else:
            what = "double" if like and max(like) >= 0.1 else "background"
            verdicts[number] = (what, 0, 0.0, [-1] * K)
    return verdicts, {t["id"] for i, t in enumerate(truth) if not ignored[i] and i not in taken}


def scene(rng: np.random.Generator) -> tuple[Record, list[Record]]:
    """People who stand in each other, some crowds, some unlabelled; results with errors of all kinds."""
    images = [{"id": 7 * i} for i in (1, 2, 3)]
    truth: list[Record] = []
    found: list[Record] = []

    def add(image: int, spots: np.ndarray) -> None:
        keypoints = spots.ravel().tolist()
        found.append(
            {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": float(rng.random())}
        )

    for image in (one["id"] for one in images):
        people = []
        for _ in range(rng.integers(1, 5)):
            own = np.full((K, 3), 2.0)
            own[:, :2] = rng.random(2) * 120 + rng.random((K, 2)) * 60
            low, high = own[:, :2].min(0), own[:, :2].max(0)
            own[rng.random(K) < (1 if rng.random() < 0.1 else 0.2)] = 0
            people.append(own)
            truth.append(
                {
                    "id": len(truth) + 1, "image_id": image, "category_id": 1,
                    "keypoints": own.ravel().tolist(), "num_keypoints": int((own[:, 2] > 0).sum()),
                    "area": float((high - low).prod()), "bbox": [*low.tolist(), *(high - low).tolist()],
                    "iscrowd": int(rng.random() < 0.1),
                }
            )  # fmt: skip
        for own in [*people, *people]:
            spots = own.copy()
            spots[:, :2] += rng.normal(size=(K, 2)) * rng.choice([1, 5, 10])
            for a in (1, 3):
                if rng.random() < 0.3:
                    spots[[a, a + 1]] = spots[[a + 1, a]]
            if rng.random() < 0.4:
                k = int(rng.integers(K))
                spots[k] = people[rng.integers(len(people))][(k, FLIP[k])[rng.integers(2)]]
            if rng.random() < 0.65:
                add(image, spots)
        if rng.random() < 0.5:
            add(image, np.c_[rng.random((K, 2)) * 200 + rng.choice([0, 500]), np.ones(K)])
    data = {"images": images, "annotations": truth}
    return {**data, "categories": [{"id": 1, "name": "person", "keypoints": NAMES}]}, found


def test_errors_and_costs_are_those_of_the_rules_written_out() -> None:
    rng = np.random.default_rng(5)
    seen: Counter[str] = Counter()
    for _ in range(14):
        data, results = scene(rng)
        verdicts: dict[int, Verdict] = {}
        missed: set[int] = set()
        for image in data["images"]:
            here = [t for t in data["annotations"] if t["image_id"] == image["id"]]
            found = [one for one in enumerate(results) if one[1]["image_id"] == image["id"]]
            some, without = judge(here, found)
            verdicts |= some
            missed |= without
        analysis = analyse(data, results, file_skeleton(data), sigmas=SIGMAS)
        errors, people = analysis.errors, analysis.matches.pairing.found
        ids = np.array([t["id"] for t in data["annotations"]])  # in the order of their pictures
        assert set(ids[errors.missed].tolist()) == missed
        assert len(people) == len(verdicts)
        for n, source in enumerate(people.source.tolist()):
            what, whom, like, kinds = verdicts[source]
            seen.update([what, *(KINDS[i] for i in kinds if i >= 0)])
            assert (errors.background[n], errors.double[n]) == (what == "background", what == "double")
            assert (errors.person[n] >= 0) == (what == "matched")
            if what == "matched":
                assert ids[errors.person[n]] == whom
                assert errors.oks[n] == pytest.approx(like)
            assert errors.kind[n].tolist() == kinds
        check_costs(data, results, verdicts, missed, {cost.fix: cost.alone for cost in analysis.costs})
    assert len(seen) == 4 + len(KINDS) and min(seen.values()) > 5, seen


def check_costs(
    data: Record,
    results: list[Record],
    verdicts: dict[int, Verdict],
    missed: set[int],
    costs: dict[str, float],
) -> None:
    """By the original evaluation of results and annotations that are put right here."""

    def score(truth: list[Record], found: list[Record]) -> float:
        changed = {**data, "annotations": truth}
        return coco_eval.evaluate(changed, found, sigmas=SIGMAS, backend="pycocotools").stats["AP"]

    truth = data["annotations"]
    by_id = {t["id"]: points(t) for t in truth}
    for i, name in enumerate(KINDS):
        right = []
        for number, record in enumerate(results):
            _, whom, _, kinds = verdicts[number]
            spots = points(record)
            for k in [k for k in range(K) if kinds[k] == i]:
                spots[k, :2] = by_id[whom][k, :2]
            right.append({**record, "keypoints": spots.ravel().tolist()})
        assert costs[name] == pytest.approx(score(truth, right), abs=1e-9), name
    inside = [r for number, r in enumerate(results) if verdicts[number][0] != "background"]
    assert costs["background"] == pytest.approx(score(truth, inside), abs=1e-9)
    without = [{**t, "num_keypoints": 0} if t["id"] in missed else t for t in truth]
    expected = score(without, results)
    assert costs["missed"] == pytest.approx(expected if expected >= 0 else 1, abs=1e-9)
