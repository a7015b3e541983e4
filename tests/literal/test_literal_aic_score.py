"""AI Challenger's official score: the literal loops, and ours for all pairs at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.aic_score import scene
from pose.annotations.aic import KEYPOINTS, read_official, to_official
from pose.config import read_yaml
from pose.metrics import aic_eval
from tests.literal.reference import aic_score as literal

SKELETONS = Path(__file__).parents[2] / "configs" / "_skeletons"


def entry(people: list[Any], boxes: list[Any] | None = None, image_id: str = "a") -> dict[str, Any]:
    """One image of an official list; people are (14, 3)."""
    names = [f"human{i + 1}" for i in range(len(people))]
    keypoints = [np.asarray(person).ravel().tolist() for person in people]
    made = {"image_id": image_id, "keypoint_annotations": dict(zip(names, keypoints, strict=True))}
    return made if boxes is None else {**made, "human_annotations": dict(zip(names, boxes, strict=True))}


def both(annotations: list[Any], predictions: list[Any], folder: Path) -> tuple[float, float]:
    """The score of the literal loops on the content, and ours on the files."""
    for name, content in (("a", annotations), ("p", predictions)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    truth, _ = read_official(folder / "a.json", boxes=True, strict=True)
    found, _ = read_official(folder / "p.json", boxes=False, strict=True)
    return literal.evaluate(annotations, predictions)[0], aic_eval.evaluate(truth, found).score


def person(v: int = 1, shift: float = 0.0, joints: Any = slice(None)) -> np.ndarray:
    """Joints on a line, all with the same v; `joints` moved by `shift` pixels."""
    points = np.stack([np.arange(14) * 5.0, np.arange(14) * 10.0, np.full(14, v)], axis=1)
    points[joints, 0] += shift
    return points


BOX = [0, 0, 100, 200]


def test_the_official_example_gives_the_official_number(real_data: Path) -> None:
    files = [real_data / f"aic/keypoint_{name}_example.json" for name in ("annotations", "predictions")]
    expected = 0.9967403114813471
    assert literal.evaluate(*(json.loads(file.read_text()) for file in files))[0] == pytest.approx(
        expected, abs=1e-12, rel=0
    )
    truth, found = (read_official(file, boxes=boxes)[0] for file, boxes in zip(files, (True, False)))
    scores = aic_eval.evaluate(truth, found)
    assert scores.score == pytest.approx(expected, abs=1e-12, rel=0)
    assert (scores.images, scores.people, scores.predictions) == (1000, 2761, 2752)
    assert (scores.images_without_predictions, scores.images_not_in_list) == (3, 3)


@pytest.mark.parametrize(
    ("visible", "expected"), [([0], 0.444494), ([6], 0.902833), (range(14), 0.597479)], ids=str
)
def test_oks_is_of_the_visible_keypoints_and_the_box(tmp_path: Path, visible: Any, expected: float) -> None:
    """5 pixels off in a box of 100 x 200; occluded keypoints may be anywhere."""
    annotated, found = person(v=2), person(shift=5.0)
    annotated[list(visible), 2] = 1
    found[annotated[:, 2] == 2, :2] += 400
    (table,) = literal.oks_table(entry([annotated], [BOX]), entry([found])["keypoint_annotations"])
    assert table == pytest.approx([expected], abs=5e-7)
    slow, fast = both([entry([annotated], [BOX])], [entry([found])], tmp_path)
    assert slow == fast == pytest.approx(np.mean(expected > np.linspace(0.5, 0.95, 10)))


def test_one_person_and_three_predictions_give_a_third(tmp_path: Path) -> None:
    far = person(shift=500.0)
    found = entry([far, person(), far])
    assert both([entry([person()], [BOX])], [found], tmp_path) == pytest.approx((1 / 3, 1 / 3), abs=1e-15)


def test_one_prediction_may_serve_two_people(tmp_path: Path) -> None:
    annotated = entry([person(), person(shift=0.5)], [BOX, BOX])
    assert both([annotated], [entry([person()])], tmp_path) == (1, 1)


def test_a_person_without_visible_keypoints_counts_and_cannot_be_found(tmp_path: Path) -> None:
    assert both([entry([person(v=2)], [BOX])], [entry([person()])], tmp_path) == (0, 0)
    two = entry([person(v=2), person()], [BOX, BOX])
    assert both([two], [entry([person(), person()])], tmp_path) == (0.5, 0.5)


def test_an_oks_of_exactly_the_threshold_is_no_hit(tmp_path: Path) -> None:
    """Half of the visible keypoints exact, the others anywhere: 0.5."""
    found = person(shift=1e6, joints=slice(7, None))
    (table,) = literal.oks_table(entry([person()], [BOX]), entry([found])["keypoint_annotations"])
    assert table.tolist() == [0.5]
    assert both([entry([person()], [BOX])], [entry([found])], tmp_path) == (0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_ours_is_the_literal_score_on_random_people(seed: int) -> None:
    """With images without people, without predictions, missing from the list, unknown, and out of order."""
    rng = np.random.default_rng(seed)
    truth, found = scene(*rng.integers(0, 5, 2).tolist(), images=80, seed=seed)
    found = [found[n] for n in rng.permutation(len(found))]
    truth, found = truth[:70], found[:70]
    content = to_official(truth, boxes=True), to_official(found, boxes=False)
    expected, per_threshold = literal.evaluate(*content)
    scores = aic_eval.evaluate(truth, found)
    assert scores.score == expected
    assert list(scores.ap.values()) == per_threshold

    listed = {entry["image_id"]: entry["keypoint_annotations"] for entry in content[1]}
    tables = [literal.oks_table(entry, listed.get(entry["image_id"], {})) for entry in content[0]]
    ours = aic_eval._pairs(aic_eval._align(truth, found)).oks
    np.testing.assert_allclose(ours, np.concatenate([table.ravel() for table in tables]), rtol=0, atol=1e-15)


def test_the_sigmas_are_those_of_the_skeleton() -> None:
    skeleton = read_yaml(SKELETONS / "aic14.yaml")
    assert tuple(skeleton["sigmas"]) == aic_eval.SIGMAS == tuple(literal.SIGMAS)
    assert tuple(skeleton["keypoints"]) == KEYPOINTS
