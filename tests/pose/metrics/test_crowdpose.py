"""CrowdPose's metric: equal to the published evaluator, and its rules one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.annotations.reader import parse
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.errors import UserError
from pose.metrics.base import bind, fitting
from pose.metrics.crowdpose import NAMES, SIGMAS, CrowdPose, CrowdPoseSettings
from pose.metrics.matching import keypoint_similarity
from pose.skeleton import from_dict
from tests.published_scores import published, same

KEYPOINTS = [*NAMES, "head", "neck"]


def person(number: int, image_id: int, keypoints: np.ndarray, **changes: Any) -> dict[str, Any]:
    low, high = keypoints[:, :2].min(0), keypoints[:, :2].max(0)
    own: dict[str, Any] = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0}
    own |= {"keypoints": keypoints.ravel().tolist(), "bbox": [*low.tolist(), *(high - low).tolist()]}
    return {**own, "num_keypoints": int((keypoints[:12, 2] > 0).sum()), **changes}


def content(people: list[dict[str, Any]], index: dict[int, float], **changes: Any) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i}.jpg", "crowdIndex": value} for i, value in index.items()]
    category = {"id": 1, "name": "person", "keypoints": KEYPOINTS}
    return {"images": images, "annotations": people, "categories": [category], **changes}


def metric(data: dict[str, Any], **options: Any) -> CrowdPose:
    return CrowdPose(CrowdPoseSettings(**options), parse(data, "crowd.json"))


def spots(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 200, (14, 2)), np.full((14, 1), 2.0)], 1)


def found(people: list[dict[str, Any]], shift: float = 0.0) -> list[dict[str, Any]]:
    return [
        {**{key: one[key] for key in ("image_id", "category_id")}, "score": 1 - i / 100,
         "keypoints": (np.reshape(one["keypoints"], (14, 3)) + [shift, 0, 0]).ravel().tolist()}
        for i, one in enumerate(people)
    ]  # fmt: skip


@pytest.mark.parametrize("case", ["crowdpose_0.5", "crowdpose_1.0", "crowdpose_2.0", "crowdpose_nohard"])
@pytest.mark.parametrize("backend", ["fast", "pycocotools"])
def test_numbers_are_those_of_the_published_evaluator(real_data: Path, case: str, backend: str) -> None:
    known = published(real_data)
    files = known.cases[case]
    own = known.metric("crowdpose", files["gt"], backend=backend)
    results = known.folder / files["dt"]
    assert same(own.score(results).numbers, files["crowdposetools"])
    assert same(own.sampled(results, own.file.image_ids.tolist()).stats(), files["crowdposetools"])


@pytest.mark.parametrize(
    ("moved", "similarity"), [("left_shoulder", 0.953861), ("head", 0.953861), ("left_wrist", 0.926173)]
)
def test_five_pixels_cost_what_the_rule_says(moved: str, similarity: float) -> None:
    """A box of 100 x 200 pixels has an area of 10 600 for OKS, whatever area the file gives."""
    sigmas = np.array(metric(content([person(1, 1, spots(0))], {1: 0.5})).sigmas)
    distance = np.zeros((14, 2))
    k = KEYPOINTS.index(moved)
    distance[k, 0] = 5
    assert keypoint_similarity(distance, np.array(10600.0), sigmas)[k] == pytest.approx(similarity, abs=1e-6)
    everything = keypoint_similarity(np.full((14, 2), [5.0, 0]), np.array(10600.0), sigmas).mean()
    assert everything == pytest.approx(0.954065, abs=1e-6)


def test_areas_of_the_file_do_not_count() -> None:
    people = [person(i + 1, 1, spots(i)) for i in range(3)]
    plain = metric(content(people, {1: 0.5})).score(found(people, 12.0))
    tiny = [{**one, "area": 1.0} for one in people]
    assert metric(content(tiny, {1: 0.5})).score(found(people, 12.0)).numbers == plain.numbers
    assert 0 < plain.value < 1 and "area missing" not in plain.table()


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
def test_of_head_and_neck_alone_nobody_must_be_found_and_nobody_is_wrong(counted: bool) -> None:
    """`num_keypoints` leaves them out, in the file and where we count."""
    head = spots(5)
    head[:12] = 0
    people = [person(1, 1, spots(0)), person(2, 1, head)]
    for one in people if not counted else []:
        del one["num_keypoints"]
    own = metric(content(people, {1: 0.5}))
    first = {"image_id": 1, "category_id": 1, "score": 1.0, "keypoints": people[1]["keypoints"]}
    scores = own.score([first, *found(people[:1])])
    assert scores.value == pytest.approx(1) and scores.numbers["AR"] == 1, "neither missed nor wrong"


def test_groups_are_those_of_the_code_and_an_empty_one_is_nothing() -> None:
    index = {1: 0.1, 2: 0.2, 3: 0.79, 4: 0.15, 5: 0.0}
    people = [person(i, i, spots(i)) for i in index]
    own = metric(content(people, index))
    scores = own.score(found([people[0], people[1]]))
    assert scores.details["groups"] == {"AP_easy": 3, "AP_medium": 2, "AP_hard": 0}
    # one of three and one of two found: precision is 1 at the recalls 0 to 1/3 and 0 to 1/2
    assert scores.numbers["AP_easy"] == round(34 / 101, 4)
    assert scores.numbers["AP_medium"] == round(51 / 101, 4)
    assert scores.numbers["AP_hard"] == -1
    only = own.score(found([people[0], people[1]]), [1, 2])
    assert (only.numbers["AP_easy"], only.numbers["AP_medium"], only.value) == (1, 1, pytest.approx(1))
    assert "crowd=  easy" in only.table() and "medium |" not in only.table().replace("crowd=medium|", "")


def test_numbers_over_other_choices_of_images_are_those_of_a_file_with_these() -> None:
    index = {i: (0.1, 0.5, 0.9)[i % 3] for i in range(1, 13)}
    people = [person(10 * i + j, i, spots(10 * i + j)) for i in index for j in range(1 + i % 3)]
    own, results = metric(content(people, index)), found(people, 9.0)
    sampled = own.sampled(results, list(index))
    assert sampled.stats() == pytest.approx(own.score(results).numbers, abs=1e-9)
    for ids in ([1, 2, 3], [4, 7, 10], [2, 5, 12]):
        expected = own.score(results, ids).numbers
        picked = np.array([sampled.image_ids.index(i) for i in ids])
        assert sampled.stats(picked) == pytest.approx(expected, abs=1e-9)


def test_it_stands_in_for_cocos_where_images_have_an_index() -> None:
    file = parse(content([person(1, 1, spots(0))], {1: 0.5}), "x.json")
    assert [one.name for one in fitting(file)][0] == "crowdpose"
    assert "coco" not in [one.name for one in bind(file, None)]
    assert [one.name for one in fitting(file, wanted="coco")][:2] == ["coco", "crowdpose"]
    plain = parse(content([person(1, 1, spots(0))], {1: 0.5}, images=[{"id": 1}]), "x.json")
    assert [one.name for one in fitting(plain)][0] == "coco"
    with pytest.raises(UserError, match="crowdpose does not fit: x.json has no image with a crowdIndex"):
        bind(plain, None, "crowdpose")


def test_the_skeleton_has_the_metrics_sigmas() -> None:
    skeleton = from_dict(read_yaml(config_folder() / "_skeletons" / "crowdpose14.yaml"))
    assert skeleton.keypoints == tuple(KEYPOINTS) and skeleton.sigmas == pytest.approx(SIGMAS)
