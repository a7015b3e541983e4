"""Sigmas of annotators that are known, found again from what they annotated."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.annotations.reader import parse
from pose.config import read_yaml
from pose.errors import user_facing
from pose.skeleton import from_dict
from pose.tools.score import read_sigmas
from pose.tools.sigmas import estimate, estimates, main, match_files, match_within, people_of, squares

NAMES = ["nose", "left_hand", "right_hand", "tail"]
SIGMAS = np.array([0.02, 0.05, 0.05, 0.1])


def scene(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True places (N, K, 2), two people on each image, and areas."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(200, 300, (people, 1, 2)) + 700 * (np.arange(people) % 2)[:, None, None]
    areas = rng.uniform(60, 140, people) ** 2
    return middle + rng.uniform(-60, 60, (people, len(NAMES), 2)), areas


def annotated(places: np.ndarray, areas: np.ndarray, seed: int, missing: float = 0.1) -> list[dict[str, Any]]:
    """By somebody whose error has E[d^2 / s^2] = sigma^2 in two dimensions."""
    rng = np.random.default_rng(seed)
    error = rng.normal(size=places.shape) * (SIGMAS[:, None] * np.sqrt(areas)[:, None, None] / math.sqrt(2))
    v = np.where(rng.random(places.shape[:2]) < missing, 0, 2)[..., None]
    keypoints = np.concatenate([np.where(v > 0, places + error, 0), v], 2)
    return [
        {"id": i + 1, "image_id": 1 + i // 2, "category_id": 1, "iscrowd": 0, "area": float(area),
         "bbox": [0, 0, 10, 10], "keypoints": one.ravel().tolist()}
        for i, (one, area) in enumerate(zip(keypoints, areas, strict=True))
    ]  # fmt: skip


def data_set(people: list[dict[str, Any]], first: int = 0) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i + first}.jpg"} for i in sorted({one["image_id"] for one in people})]
    category = {"id": 1, "name": "mouse", "keypoints": NAMES}
    return {"images": images, "annotations": people, "categories": [category]}


def found_sigmas(*sets: dict[str, Any], mirror: bool = False) -> list[Any]:
    files = [parse(one, f"{i}.json") for i, one in enumerate(sets)]
    own = [people_of(file, NAMES) for file in files]
    pairs = match_files(own[0], own[1], 0.3) if len(own) == 2 else match_within(own[0], 0.3)
    skeleton = from_dict({"keypoints": NAMES})
    return estimates(squares(own[0], own[-1], pairs), skeleton, mirror)


def test_two_annotators_of_known_precision() -> None:
    places, areas = scene(1500, 0)
    found = found_sigmas(*(data_set(annotated(places, areas, seed)) for seed in (1, 2)))
    for one, sigma in zip(found, SIGMAS, strict=True):
        assert one.sigma == pytest.approx(sigma, abs=4 * one.error) and one.error < 0.03 * sigma
        assert one.median == pytest.approx(sigma, rel=0.1)
        assert one.pairs == pytest.approx(1500 * 0.9**2, rel=0.05)


def test_the_standard_error_is_that_of_repeated_studies() -> None:
    studies = []
    for seed in range(60):
        places, areas = scene(100, seed)
        files = (data_set(annotated(places, areas, 1000 * k + seed, 0.0)) for k in (1, 2))
        studies.append([(one.sigma, one.error) for one in found_sigmas(*files)])
    values = np.array(studies)  # (studies, K, 2)
    assert values[..., 0].mean(0) == pytest.approx(SIGMAS, rel=0.03)
    assert values[..., 0].std(0) == pytest.approx(values[..., 1].mean(0), rel=0.35)


def test_people_annotated_twice_in_one_file() -> None:
    places, areas = scene(800, 3)
    people = [*annotated(places, areas, 4), *annotated(places, areas, 5)]
    people = [{**one, "id": i + 1} for i, one in enumerate(people)]
    found = found_sigmas(data_set(people))
    assert [one.sigma for one in found] == pytest.approx(SIGMAS, rel=0.08)


def test_sides_may_share_a_sigma_and_wrong_ones_show_beside_the_median() -> None:
    places, areas = scene(400, 6)
    first, second = annotated(places, areas, 7, 0.0), annotated(places, areas, 8, 0.0)
    for one in second[::20]:  # exchanged sides
        points = np.reshape(one["keypoints"], (4, 3))
        one["keypoints"] = points[[0, 2, 1, 3]].ravel().tolist()
    found = found_sigmas(data_set(first), data_set(second))
    assert found[1].sigma > 1.12 * found[1].median and found[0].sigma < 1.1 * found[0].median
    pooled = found_sigmas(data_set(first), data_set(second), mirror=True)
    assert pooled[1] == pooled[2] and pooled[1].pairs == found[1].pairs + found[2].pairs


def test_nobody_twice_is_not_known() -> None:
    assert estimate(np.array([np.nan])).pairs == 0 and math.isnan(estimate(np.array([np.nan])).sigma)
    one = estimate(np.array([0.04]))
    assert one.sigma == pytest.approx(0.2) and math.isnan(one.error)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    places, areas = scene(200, 0)
    for name, seed in (("first", 1), ("second", 2)):
        Path(f"{name}.json").write_text(json.dumps(data_set(annotated(places, areas, seed))))
    other = data_set(annotated(places, areas, 3), first=1000)
    Path("elsewhere.json").write_text(json.dumps(other))
    named = {**other, "categories": [{"id": 1, "keypoints": ["a", "b", "c", "d"]}]}
    Path("names.json").write_text(json.dumps(named))
    return tmp_path


def test_the_command_writes_a_skeleton_that_scores_are_made_by(files: Path, capsys: Any) -> None:
    assert main(["first.json", "second.json", "--mirror", "-o", "mouse.yaml"]) == 0
    printed = capsys.readouterr().out
    assert (
        re.search(r"^19\d people annotated twice, on 9\d images$", printed, re.M)
        and "by the median" in printed
    )
    skeleton = from_dict(read_yaml(Path("mouse.yaml")))
    assert skeleton.keypoints == tuple(NAMES) and skeleton.name == "mouse"
    assert skeleton.sigmas == pytest.approx(SIGMAS, rel=0.2)
    assert skeleton.sigmas[1] == skeleton.sigmas[2]
    assert read_sigmas("mouse.yaml") == list(skeleton.sigmas)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first.json"], "nobody is annotated twice in first.json"),
        (["first.json", "elsewhere.json"], "are the images named alike"),
        (["first.json", "none.json"], "none.json"),
        (["first.json", "names.json"], "names.json has no keypoint nose, left_hand"),
        (["first.json", "second.json", "--limit", "0"], "--limit 0: expected a number above 0"),
    ],
)
def test_mistakes_get_one_sentence(files: Path, capsys: Any, arguments: list[str], message: str) -> None:
    assert user_facing(lambda: main(arguments))() == 2
    assert message in capsys.readouterr().err
