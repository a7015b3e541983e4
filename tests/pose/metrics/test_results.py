"""People of a whole set to COCO results and numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pose.annotations.annotations import load_annotations
from pose.annotations.reader import parse, read
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.data.images import SetImage
from pose.errors import UserError
from pose.metrics import coco_eval
from pose.metrics import results as validation
from pose.metrics.coco import Coco, CocoSettings
from pose.predict.predict_set import predict_set
from pose.predict.settings import TestSettings
from pose.skeleton import Skeleton, from_dict
from pose.structures import People
from pose.synthetic import dataset as synthetic
from tests.dot_people import SKELETON, dot_model, write_set

SIZES = [(120, 160), (160, 120), (140, 140), (101, 203), (120, 160), (97, 128), (120, 160)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[SetImage]:
    paths = write_set(tmp_path_factory.mktemp("set"), SIZES, category=5)
    return [SetImage(10 * (i + 1), path) for i, path in enumerate(paths)]


def predict(images: list[SetImage]) -> dict[int, People]:
    settings = TestSettings(batch_size=4)
    return predict_set(
        [dot_model(size=160)], images, settings,
        gather=lambda value: [value], share=(0, 1), mode="single", workers=0, progress=False,
    )[0]  # fmt: skip


def test_what_was_drawn_scores_1_in_the_category_of_the_file(images):
    people = predict(images)
    content = read(images[0].path.parents[1] / "dots.json")
    for backend in ("fast", "pycocotools"):
        scores = Coco(CocoSettings(backend=backend), content, SKELETON).evaluate(people)
        assert scores.value > 0.99
        assert scores.details["num_images"] == len(images)
    assert {record["category_id"] for record in validation.records(people, SKELETON, content)} == {5}
    assert {record["category_id"] for record in validation.records(people, SKELETON)} == {1}


def test_pictures_without_results_count_as_misses_and_others_do_not_count(images):
    people = predict(images[:3])
    annotations = images[0].path.parents[1] / "dots.json"
    ids = [image.id for image in images]
    metric = Coco(CocoSettings(), read(annotations), SKELETON)
    found, missed = (metric.evaluate(people, some).numbers for some in (ids[:3], ids))
    assert found["AR"] == pytest.approx(1)
    truth = json.loads(annotations.read_text())["annotations"]
    share = sum(a["image_id"] in ids[:3] for a in truth) / len(truth)
    assert missed["AR"] == pytest.approx(share)


# ---- other keypoint orders, derived keypoints ----


def skeleton_file(name: str) -> Skeleton:
    return from_dict(read_yaml(config_folder() / "_skeletons" / f"{name}.yaml"))


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations with COCO's 17 keypoints."""
    root = tmp_path_factory.mktemp("drawn") / "set"
    drawing = synthetic.SyntheticConfig(train=0, val=12, seed=2, size=128, max_people=4)
    synthetic.synthesize(root, drawing, processes=1, progress=False)
    return root / "annotations/person_keypoints_val.json"


def noisy_people(file: Path, skeleton: Skeleton) -> dict[int, People]:
    """What is annotated, in the skeleton's order, moved by chance that depends on the keypoint's name."""
    annotations = load_annotations(file, skeleton, cache=False)
    people = {}
    for i, image_id in enumerate(annotations.image_ids.tolist()):
        keypoints = annotations.keypoints(i).copy()
        for k, name in enumerate(skeleton.keypoints):
            rng = np.random.default_rng([image_id, *name.encode()])
            keypoints[:, k, :2] += rng.normal(0, 3, (len(keypoints), 2))
            keypoints[:, k, 2] = rng.uniform(0.1, 1, len(keypoints)) * (keypoints[:, k, 2] > 0)
        scores = np.random.default_rng(image_id).uniform(0, 1, len(keypoints)).astype(np.float32)
        people[image_id] = People(keypoints, scores)
    return people


@pytest.mark.parametrize("name", ["coco18", "coco18_eyes"])
def test_results_are_in_the_order_of_the_annotations(coco_file: Path, name: str) -> None:
    """People in OpenPose's order with a neck give the records and the AP of those in COCO's."""
    plain, other = skeleton_file("coco17"), skeleton_file(name)
    content = read(coco_file)
    one = validation.records(noisy_people(coco_file, plain), plain, content)
    two = validation.records(noisy_people(coco_file, other), other, content)
    assert one == two and len(one) > 15 and {len(record["keypoints"]) for record in one} == {51}
    a, b = (
        Coco(CocoSettings(), content, own).evaluate(noisy_people(coco_file, own)) for own in (plain, other)
    )
    assert a == b and 0.2 < a.value < 0.95
    # by sigmas in the order of the file
    assert a.numbers == coco_eval.evaluate(content, one, sigmas=coco_eval.COCO_SIGMAS).stats


def test_without_annotations_results_have_the_order_of_the_skeleton(coco_file: Path) -> None:
    skeleton = skeleton_file("coco18")
    people = noisy_people(coco_file, skeleton)
    records = validation.records(people, skeleton)
    kept = [k for k, name in enumerate(skeleton.keypoints) if name != "neck"]
    for record in records:
        found = np.reshape(record["keypoints"], (17, 3))
        own = [
            one for one in people[record["image_id"]].keypoints[:, kept]
            if np.allclose(one[one[:, 2] > 0], found[one[:, 2] > 0], atol=1e-3)
        ]  # fmt: skip
        assert len(own) == 1


def test_somebody_of_whom_only_derived_keypoints_are_found_is_nobody(coco_file: Path) -> None:
    skeleton = skeleton_file("coco18")
    keypoints = np.zeros((1, 18, 3), np.float32)
    keypoints[0, skeleton.keypoints.index("neck")] = [5, 6, 1]
    people = {1: People(keypoints, np.ones(1, np.float32))}
    assert validation.records(people, skeleton, read(coco_file)) == []


def test_annotations_of_other_keypoints_are_refused(images: list[SetImage]) -> None:
    content = read(images[0].path.parents[1] / "dots.json")
    with pytest.raises(UserError, match="other keypoints than the skeleton 'coco18'"):
        validation.records({}, skeleton_file("coco18"), content)


def test_only_the_sigmas_of_a_file_count(coco_file: Path) -> None:
    """What else its category says need not fit the names."""
    content = json.loads(coco_file.read_text())
    own = [0.01 * (k + 1) for k in range(17)]
    content["categories"][0] |= {"sigmas": own, "grouping_order": ["Nose"], "skeleton": [[1, 99]]}
    assert validation.file_sigmas(skeleton_file("coco17"), parse(content, "x.json")) == own
    content["categories"][0]["sigmas"] = own[:3]
    with pytest.raises(UserError, match="sigmas"):
        validation.file_sigmas(skeleton_file("coco17"), parse(content, "x.json"))
