"""The restated COCO evaluation: the same numbers as both libraries, over all images or any choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.errors import UserError
from pose.metrics import coco_eval
from pose.metrics.matching import Matches, match

SIGMAS = np.linspace(0.03, 0.12, 5).tolist()


def drawn(seed: int, *, categories: int = 1, images: int = 14) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every kind of ground truth, and results with equal scores, strays, misses and crowds of detections."""
    rng = np.random.default_rng(seed)
    people: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in (7 * rng.permutation(images)).tolist():
        for _ in range(int(rng.choice([0, 1, 3, 6]))):
            size = float(rng.choice([20, 80, 250]))
            xy = rng.uniform(0, 300, 2) + rng.uniform(0, size, (5, 2))
            kind = rng.choice(["plain", "crowd", "unlabelled"], p=[0.7, 0.15, 0.15])
            seen = rng.integers(0, 3, 5) * (kind != "unlabelled")
            category = int(rng.integers(1, categories + 1))
            own = {"image_id": image_id, "category_id": category}
            low, extent = xy.min(0), np.ptp(xy, axis=0)
            people.append(
                {
                    **own,
                    "id": len(people) + 1,
                    "keypoints": np.column_stack([xy, seen]).ravel().tolist(),
                    "num_keypoints": int((seen > 0).sum()),
                    "bbox": [*low.tolist(), *extent.tolist()],
                    "area": 0.5 * float(extent.prod()),
                    "iscrowd": int(kind == "crowd"),
                }
            )
            for noise in rng.choice([0.0, 1.0, 5.0, 60.0], int(rng.integers(0, 9))):
                moved = np.column_stack([xy + rng.normal(0, noise, (5, 2)), np.ones(5)])
                results.append(
                    {**own, "keypoints": moved.ravel().tolist(), "score": float(rng.integers(0, 6)) / 5}
                )
    described = [{"id": i + 1, "name": str(i)} for i in range(categories)]
    listed = [{"id": 7 * i} for i in range(images)]
    return {"images": listed, "annotations": people, "categories": described}, results


def assert_as_coco(annotations: Any, results: Any, **options: Any) -> Matches:
    matches = match(annotations, results, **options)
    for backend in ("fast", "pycocotools"):
        expected = coco_eval.evaluate(annotations, results, backend=backend, **options).stats  # type: ignore[arg-type]
        assert matches.stats() == pytest.approx(expected, abs=1e-12, rel=0)
    return matches


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("categories", [1, 2])
def test_equals_both_libraries(seed: int, categories: int) -> None:
    annotations, results = drawn(seed, categories=categories)
    counts = np.bincount([record["image_id"] for record in results])
    assert counts.max() > coco_eval.MAX_PEOPLE or seed
    for image_ids in (None, [0, 21, 35, 42]):
        assert_as_coco(annotations, results, sigmas=SIGMAS, image_ids=image_ids)
    equal = [{**record, "score": 0.5} for record in results]
    assert_as_coco(annotations, equal, sigmas=SIGMAS)
    boxed = [{**record, "bbox": [0, 0, 30.0 * i % 200, 90]} for i, record in enumerate(results)]
    assert_as_coco(annotations, boxed, sigmas=SIGMAS)


def test_nothing_found_and_nobody_annotated() -> None:
    annotations, results = drawn(1)
    assert assert_as_coco(annotations, [], sigmas=SIGMAS).stats()["AP"] == 0
    empty = next(
        image["id"]
        for image in annotations["images"]
        if not any(person["image_id"] == image["id"] for person in annotations["annotations"])
    )
    stranger = {**results[0], "image_id": empty}
    alone = assert_as_coco(annotations, [stranger], sigmas=SIGMAS, image_ids=[empty])
    assert set(alone.stats().values()) == {-1.0}
    assert (alone.precision() == -1).all()


@pytest.mark.parametrize("case", ["val250", "crowd_one_image"])
def test_equals_coco_on_real_annotations(real_data: Path, case: str) -> None:
    folder = real_data / "coco_eval"
    if not folder.is_dir():
        pytest.skip("no COCO results beside the checkout")
    expected = json.loads((folder / "expected_stats.json").read_text())["cases"][case]
    annotations = json.loads((folder / expected["gt"]).read_text())
    results = json.loads((folder / expected["dt"]).read_text())
    assert_as_coco(annotations, results)
    rng = np.random.default_rng(0)
    noisy = []
    for record in results:
        for noise in rng.choice([0.0, 2.0, 10.0, 40.0], rng.integers(0, 6)):
            points = np.array(record["keypoints"]).reshape(-1, 3)
            points[:, :2] += rng.normal(0, noise, (len(points), 2))
            score = round(record["score"] * rng.uniform(0.3, 1), 1)  # with many equals
            noisy.append(
                {**record, "keypoints": points.ravel().tolist(), "score": float(score), "bbox": None}
            )
    assert_as_coco(annotations, noisy)


def test_images_picked_again_and_again_count_again() -> None:
    """As if they stood in the annotations as often."""
    annotations, results = drawn(2, categories=2)
    rng = np.random.default_rng(0)
    results = [{**record, "score": record["score"] + rng.uniform(0, 1e-3)} for record in results]
    matches = match(annotations, results, sigmas=SIGMAS)
    for _ in range(5):
        picked = rng.integers(0, len(matches.image_ids), 20)
        copied: dict[str, Any] = {**annotations, "images": [], "annotations": []}
        found = []
        for number, place in enumerate(picked.tolist()):
            chosen = matches.image_ids[place]
            copied["images"].append({"id": number})
            copied["annotations"] += [
                {**person, "image_id": number, "id": 1000 * (number + 1) + person["id"]}
                for person in annotations["annotations"]
                if person["image_id"] == chosen
            ]
            found += [{**r, "image_id": number} for r in results if r["image_id"] == chosen]
        expected = coco_eval.evaluate(copied, found, sigmas=SIGMAS).stats
        assert matches.stats(picked) == pytest.approx(expected, abs=1e-12, rel=0)
        assert matches.stats(np.sort(picked)) == matches.stats(picked)
    assert matches.stats(np.arange(len(matches.image_ids))) == matches.stats()


def test_curves_are_those_whose_mean_is_ap() -> None:
    matches = match(*drawn(3), sigmas=SIGMAS)
    curves, stats = matches.precision(), matches.stats()
    assert curves.shape == (10, 101)
    assert curves.mean() == pytest.approx(stats["AP"])
    assert curves[5].mean() == pytest.approx(stats["AP75"])
    assert (np.diff(curves, axis=1) <= 0).all()


def test_inputs_are_left_alone_and_mistakes_named() -> None:
    annotations, results = drawn(4)
    before = json.dumps([annotations, results])
    match(annotations, results, sigmas=SIGMAS)
    assert json.dumps([annotations, results]) == before
    with pytest.raises(UserError, match="sigmas"):
        match(annotations, results)
