"""A metric is one file: nothing else names it, and every command picks it up."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import pose.metrics
from pose import test as test_command
from pose.engine.distributed import processes
from pose.errors import user_facing
from pose.registry import METRICS
from pose.tools import compare, score
from pose.tools import list as list_command
from tests.image_files import read_rgb
from tests.test_contributing import EXAMPLES
from tests.training_fixtures import command, drawn, settings

SHORT = ["train.epochs=2", "train.steps_per_epoch=2", "train.validate_every=1", "data.skeleton=coco17"]


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metric of CONTRIBUTING.md as a file beside the others."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "count.py").write_text(EXAMPLES["pose/metrics/count.py"], encoding="utf-8")
    METRICS.names()
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr(METRICS, "_imported", False)
    monkeypatch.setattr(pose.metrics, "__path__", [*pose.metrics.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, "pose.metrics.count", raising=False)
    monkeypatch.setattr(pose.metrics, "count", None, raising=False)  # removed again with the module
    assert "count" in METRICS.names()


def run(*arguments: str) -> int:
    def main() -> int:
        options = test_command.parse([*arguments, "--device", "cpu"])
        with processes(options.device) as group:
            return test_command.test(options, group)

    return user_facing(main)()


@pytest.mark.slow
def test_every_command_knows_a_new_metric(
    count: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    root = drawn(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "-e", "one", *settings(root, *SHORT, "test.metric=count")) == 0
    printed = capsys.readouterr().err
    assert "right " in printed and "best count right" in printed, "it chooses the best checkpoint"
    folder = tmp_path / "exp/one"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    validations = [record for record in log if record["kind"] == "validation"]
    assert [(one["metric"], one["best"]) for one in validations] == [("count", "right")] * 2
    assert read_rgb(folder / "curves.png").shape[1] > 300

    assert run("-c", "one", "test.flip=false") == 0
    printed = capsys.readouterr().out
    assert "right number of people = " in printed and "Average Precision  (AP)" in printed
    metrics = json.loads((folder / "metrics-single.json").read_text())
    assert metrics["metric"] == "count" and list(metrics["scores"]) == ["count", "coco"]
    assert metrics["stats"] == metrics["scores"]["count"]["numbers"] and "stats" in metrics["coco"]

    truth, results = root / "annotations/person_keypoints_val.json", folder / "results-single.json"
    files = ["--annotations", str(truth), "--results", str(results)]
    score.main(["count", *files, "-o", "out.json"])
    assert json.loads(Path("out.json").read_text())["numbers"] == metrics["stats"]
    score.main(["count", *files, "--tolerance", "1000", "-o", "out.json"])
    assert json.loads(Path("out.json").read_text())["numbers"] == {"right": 1.0}

    shutil.copytree(folder, tmp_path / "exp/two")
    assert list_command.main([]) == 0 and "count right" in capsys.readouterr().out
    assert compare.main(["one", "two", "--rounds", "100"]) == 0
    printed = capsys.readouterr().out
    assert "The share of images with the right number of people, times 100." in printed
    assert f"{100 * metrics['stats']['right']:.1f}" in printed and "not known" in printed


def test_a_metric_that_does_not_fit_is_refused_before_anybody_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    root = drawn(tmp_path)
    monkeypatch.chdir(tmp_path)
    more = settings(root, *SHORT, "test.metric=crowdpose")
    assert command(monkeypatch, "-e", "run", *more) == 2
    error = capsys.readouterr().err
    assert "crowdpose does not fit" in error and "has no image with a crowdIndex (fitting: coco)" in error
    assert not (tmp_path / "exp/run/last.pt").exists()
    assert command(monkeypatch, "-e", "run", *settings(root, *SHORT, "test.metric=crowdpos")) == 2
    assert "did you mean 'crowdpose'" in capsys.readouterr().err


def test_images_without_annotations_have_results_and_nothing_to_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As COCO's test-dev: the results have the ids of the file."""
    root = drawn(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "-e", "run", *settings(root, *SHORT)) == 0
    truth = root / "annotations/person_keypoints_val.json"
    content = json.loads(truth.read_text())
    for image in content["images"]:
        image["id"] += 5000
    (root / "annotations/info.json").write_text(json.dumps({**content, "annotations": []}))
    capsys.readouterr()
    info = "data.val.annotations=annotations/info.json"
    assert run("-c", "run", "test.flip=false", "head.decoder.detection_threshold=0.0", info) == 0
    assert "nothing to score" in capsys.readouterr().out
    results = json.loads((tmp_path / "exp/run/results-single.json").read_text())
    assert results and {record["image_id"] for record in results} <= {one["id"] for one in content["images"]}
    assert not (tmp_path / "exp/run/metrics-single.json").exists()
    assert run("-c", "run", info, "--report") == 2
    assert "--report needs annotated images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_with_crowd_indices_is_scored_by_crowdposes_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    root = drawn(tmp_path)
    monkeypatch.chdir(tmp_path)
    truth = root / "annotations/person_keypoints_val.json"
    content = json.loads(truth.read_text())
    for i, image in enumerate(content["images"]):
        image["crowdIndex"] = i / len(content["images"])
    truth.write_text(json.dumps(content))
    assert command(monkeypatch, "-e", "run", *settings(root, *SHORT)) == 0
    assert "best crowdpose AP" in capsys.readouterr().err
    low = ["test.flip=false", "head.decoder.detection_threshold=0.0"]
    assert run("-c", "run", "--report", *low) == 0
    printed = capsys.readouterr().out
    assert "crowd=  easy" in printed and "area=medium" not in printed
    metrics = json.loads((tmp_path / "exp/run/metrics-single.json").read_text())
    assert metrics["metric"] == "crowdpose" and {"AP", "AP_easy", "AP_hard"} <= set(metrics["stats"])
    page = (tmp_path / "exp/run/report-single.html").read_text()
    assert "Scores: crowdpose" in page and "AP hard" in page
    assert sum(metrics["groups"].values()) == len(content["images"])
    assert run("-c", "run", *low, "test.metric=coco", "--tag", "coco") == 0
    metrics = json.loads((tmp_path / "exp/run/metrics-single-coco.json").read_text())
    assert list(metrics["scores"]) == ["coco", "crowdpose"] and "APM" in metrics["stats"]
