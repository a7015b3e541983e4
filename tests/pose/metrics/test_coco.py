"""COCO's metric behind the door: areas, sigmas and what headers say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.annotations.reader import parse
from pose.errors import UserError
from pose.metrics import coco_eval
from pose.metrics.coco import Coco, CocoSettings, with_areas
from pose.metrics.matching import keypoint_similarity
from pose.skeleton import Skeleton, rule_sigma
from pose.tools.score import main


def content(**category: Any) -> dict[str, Any]:
    """One animal in a box of 120 x 80 pixels; its keypoints span 100 x 60."""
    animal = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 120, 80], "area": 3000.0,
        "keypoints": [10, 10, 2, 110, 40, 1, 60, 70, 2, 0, 0, 0],
    }  # fmt: skip
    own = {"id": 1, "name": "mouse", "keypoints": ["a", "b", "c", "d"], **category}
    return {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [animal], "categories": [own]}


@pytest.mark.parametrize(("areas", "area"), [("file", 3000), ("keypoints", 6000), ("box", np.nan)])
def test_the_area_may_be_another_than_the_files(areas: str, area: float) -> None:
    found = with_areas(parse(content(), "x.json"), areas).areas
    np.testing.assert_array_equal(found, [area])


@pytest.mark.parametrize(("rule", "similarity"), [("dlc", 0.949250), ("sleap", 0.434598)])
def test_animal_tools_judge_the_same_error_differently(rule: str, similarity: float) -> None:
    """Five pixels where the keypoints span 100 x 60."""
    area = with_areas(parse(content(), "x.json"), "keypoints").areas
    distance = np.array([[[5.0, 0.0]]])
    close = keypoint_similarity(distance, area, np.array([rule_sigma(rule, 1)]))
    assert close.item() == pytest.approx(similarity, abs=1e-6)


@pytest.mark.parametrize(("count", "similarity"), [(5, 0.969233), (15, 0.754840), (20, 0.606531)])
def test_one_over_the_number_of_keypoints(count: int, similarity: float) -> None:
    """Ten pixels, an area of 10 000."""
    sigmas = np.array([rule_sigma("ultralytics", count)])
    close = keypoint_similarity(np.array([[10.0, 0.0]]), np.array(10000.0), sigmas)
    assert close.item() == pytest.approx(similarity, abs=1e-6)


@pytest.mark.parametrize(
    ("skeleton", "category", "label"),
    [
        ({"sigma_rule": "dlc"}, {}, "dlc (0.1 for all)"),
        ({"sigma_rule": "uniform:0.05"}, {}, "uniform:0.05 (0.05 for all)"),
        ({}, {}, "0.05 for all"),
        ({"sigmas": (0.1, 0.2, 0.3, 0.4)}, {}, "mouse4"),
        ({"sigmas": (0.1, 0.2, 0.3, 0.4)}, {"sigmas": [0.1, 0.2, 0.3, 0.4]}, "mouse4"),
        ({"sigma_rule": "dlc"}, {"sigmas": [0.1, 0.2, 0.3, 0.4]}, "those of x.json"),
        ({"sigma_rule": "dlc"}, {"sigmas": "sleap"}, "those of x.json"),
    ],
)
def test_headers_say_whose_sigmas_count(skeleton: Any, category: Any, label: str) -> None:
    """A file's own come first: a name may mean another precision in another set."""
    own = Skeleton("mouse4", ("a", "b", "c", "d"), **skeleton)
    metric = Coco(CocoSettings(), parse(content(**category), "/data/x.json"), own)
    assert metric.header() == {"sigmas": label}
    expected = [0.025] * 4 if category.get("sigmas") == "sleap" else category.get("sigmas")
    assert metric.sigmas == (expected or list(own.sigmas))


def test_a_file_is_refused_when_a_metric_is_bound_to_it() -> None:
    with pytest.raises(UserError, match="other keypoints than the skeleton"):
        Coco(CocoSettings(), parse(content(), "x.json"), Skeleton("two", ("a", "z")))
    data = content()
    data["annotations"][0]["keypoints"][0] = "near"
    with pytest.raises(UserError, match="not a finite number"):
        Coco(CocoSettings(), parse(data, "x.json"))


def test_a_library_that_is_not_installed_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(coco_eval.PACKAGES, "hotcoco", "no_such_coco")
    with pytest.raises(UserError, match="this backend needs no-such-coco: pip install no-such-coco"):
        Coco(CocoSettings(backend="hotcoco"), parse(content(), "x.json"))


def test_rules_and_areas_are_options_of_the_command(tmp_path: Path, capsys: Any) -> None:
    files: dict[str, Any] = {"truth": content(), "results": [{**content()["annotations"][0], "score": 1.0}]}
    files["results"][0]["keypoints"] = [15, 10, 1, 115, 40, 1, 65, 70, 1, 0, 0, 0]
    del files["results"][0]["bbox"]
    for name, data in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    own = ["--annotations", str(tmp_path / "truth.json"), "--results", str(tmp_path / "results.json")]
    values = {}
    for rule in ("dlc", "sleap"):
        output = tmp_path / f"{rule}.json"
        main(["coco", *own, "--sigmas", rule, "--areas", "keypoints", "-o", str(output)])
        printed = capsys.readouterr().out
        assert f"sigmas: {rule}" in printed and "areas: keypoints" in printed
        values[rule] = json.loads(output.read_text())["numbers"]["AP"]
    # an OKS of 0.949 passes nine thresholds, one of 0.435 none
    assert values == {"dlc": pytest.approx(0.9), "sleap": 0}
