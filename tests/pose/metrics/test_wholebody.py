"""COCO-WholeBody's metric: equal to the published evaluator in every part, and its rules one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.annotations.parts import PARTS, part_names
from pose.annotations.reader import parse
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.metrics.base import fitting
from pose.metrics.wholebody import COUNT, LISTS, SIGMAS, WholeBody, WholeBodySettings
from pose.skeleton import Skeleton, from_dict
from pose.structures import People
from tests.published_scores import published, same

BODY = ["nose", *(f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee",
        "ankle") for side in ("left", "right"))]  # fmt: skip
NAMES = (*BODY, *part_names())


def whole(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 300, (COUNT, 2)), np.full((COUNT, 1), 2.0)], 1)


def lists(keypoints: np.ndarray) -> dict[str, list[float]]:
    sizes = [17, *map(len, PARTS.values())]
    parts = np.split(keypoints, np.cumsum(sizes)[:-1])
    return {key: part.ravel().tolist() for key, part in zip(["keypoints", *PARTS], parts, strict=True)}


def person(number: int, keypoints: np.ndarray, image_id: int = 1, **changes: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0}
    own |= {"area": 40000.0, "bbox": [0, 0, 300, 300], "num_keypoints": int((keypoints[:17, 2] > 0).sum())}
    return {**own, **lists(keypoints), **changes}


def content(*people: dict[str, Any]) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in sorted({one["image_id"] for one in people})]
    category = {"id": 1, "name": "person", "keypoints": BODY}
    return {"images": images, "annotations": list(people), "categories": [category]}


def metric(*people: dict[str, Any], skeleton: Skeleton | None = None) -> WholeBody:
    return WholeBody(WholeBodySettings(), parse(content(*people), "whole.json"), skeleton)


def result(keypoints: np.ndarray, score: float = 0.5, image_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "score": score, **lists(keypoints), **more}


@pytest.mark.parametrize("case", ["wholebody_0.3", "wholebody_1.0"])
@pytest.mark.parametrize("backend", ["fast", "pycocotools"])
def test_numbers_are_those_of_the_published_evaluator(real_data: Path, case: str, backend: str) -> None:
    known = published(real_data)
    files = known.cases[case]
    own = known.metric("wholebody", files["gt"], backend=backend)
    scores = own.score(known.folder / files["dt"])
    assert same(scores.numbers, files["wholebody"])
    for part in LISTS:
        assert same(scores.details["parts"][part], files[part])
        assert scores.numbers[f"AP_{part}"] == scores.details["parts"][part]["AP"]
    hands = [files[part]["AP"] for part in ("lefthand", "righthand")]
    assert scores.numbers["AP_hand"] == pytest.approx(np.mean(hands), abs=1e-9)
    sampled = own.sampled(known.folder / files["dt"], own.file.image_ids.tolist())
    assert same(sampled.stats(), files["wholebody"])


def test_a_part_that_is_not_labelled_is_not_scored_and_its_people_are_not_missed() -> None:
    keypoints = whole(0)
    keypoints[17:23] = 0  # no feet
    scores = metric(person(1, keypoints)).score([result(keypoints)])
    assert scores.numbers["AP_foot"] == -1 and scores.numbers["AP_body"] == pytest.approx(1)
    assert scores.value == pytest.approx(1)


def test_somebody_found_without_the_part_is_not_wrong_in_it() -> None:
    keypoints, other = whole(0), whole(1)
    other[23:91, 2] = 0  # a face that was not found, ranked first
    scores = metric(person(1, keypoints)).score([result(other, 0.9), result(keypoints, 0.1)])
    assert scores.numbers["AP_face"] == pytest.approx(1)
    assert scores.numbers["AP_foot"] == pytest.approx(0.5) and scores.value == pytest.approx(0.5)


def test_a_part_is_ranked_by_its_own_score() -> None:
    keypoints = whole(0)
    right, wrong = result(keypoints, 0.1, face_score=0.9), result(whole(1), 0.8, face_score=0.2)
    scores = metric(person(1, keypoints)).score([wrong, right])
    assert scores.numbers["AP_face"] == pytest.approx(1) and scores.numbers["AP_body"] == pytest.approx(0.5)


def test_fractions_of_visibility_are_labelled() -> None:
    keypoints = whole(0)
    keypoints[91:, 2] = 0.3
    assert metric(person(1, keypoints)).score([result(keypoints)]).numbers["AP_hand"] == pytest.approx(1)


def test_people_of_a_run_become_five_lists() -> None:
    """In the file's order, whatever the skeleton's; what is not found lies in the middle of its part."""
    keypoints = whole(3)
    skeleton = Skeleton("turned", tuple(reversed(NAMES)))
    own = metric(person(1, keypoints), skeleton=skeleton)
    found = keypoints.astype(np.float32)
    found[:, 2] = 1
    found[20, 2] = 0  # of the feet
    found[23:91, 2] = 0  # the face
    people = {1: People(found[::-1][None], np.ones(1, np.float32))}
    (record,) = own.found(people)
    feet = np.reshape(record["foot_kpts"], (6, 3))
    rest = [k for k in range(6) if k != 3]
    np.testing.assert_allclose(feet[3], [*feet[rest, :2].mean(0), 0], atol=2e-3)
    np.testing.assert_allclose(feet[rest, :2], found[17:23][rest, :2], atol=1e-3)
    assert not any(record["face_kpts"][2::3]) and len(record["keypoints"]) == 51
    scores = own.evaluate(people)
    assert scores.numbers["AP_body"] == pytest.approx(1) and scores.numbers["AP_face"] == 0
    assert scores.numbers["AP_lefthand"] == pytest.approx(1)


def test_a_run_without_the_parts_is_scored_by_cocos_metric() -> None:
    file = parse(content(person(1, whole(0))), "x.json")
    assert [one.name for one in fitting(file, Skeleton("whole", NAMES))][0] == "wholebody"
    names = [one.name for one in fitting(file, Skeleton("body", tuple(BODY)))]
    assert names[0] == "coco" and "wholebody" not in names


def test_the_skeleton_has_the_metrics_names_and_sigmas() -> None:
    skeleton = from_dict(read_yaml(config_folder() / "_skeletons" / "coco_wholebody133.yaml"))
    assert skeleton.keypoints == NAMES
    assert skeleton.sigmas == pytest.approx([sigma for part in SIGMAS.values() for sigma in part])


def test_sigmas_are_the_published_ones(real_data: Path) -> None:
    known = published(real_data)
    assert [sigma for part in SIGMAS.values() for sigma in part] == list(known.sigmas["coco_wholebody"])
