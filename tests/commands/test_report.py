"""python -m pose.test --report and python -m pose.tools.score coco --report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pose import test as test_command
from pose.engine.distributed import processes
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.tools import score
from tests.dot_people import SKELETON, dot_model, write_set

NET = {"name": "hourglass", "stacks": 1, "width": 8, "growth": 4, "depth": 2, "stem_width": 4}


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of 6 pictures and a run `tiny` whose network sees the dots."""
    write_set(tmp_path, [(120, 160), (160, 120), (140, 140), (101, 203), (120, 160), (97, 128)], category=5)
    content = json.loads((tmp_path / "dots.json").read_text())
    for i, entry in enumerate(content["annotations"][:3]):  # people whom nobody can see
        away = (np.array(entry["keypoints"]).reshape(-1, 3) + (500, 0, 0)).ravel().tolist()
        content["annotations"].append({**entry, "id": 100 + i, "keypoints": away})
    (tmp_path / "dots.json").write_text(json.dumps(content))
    files = {"annotations": "dots.json", "images": "dots"}
    data: dict[str, Any] = {"root": ".", "train": files, "val": files, "workers": 0}
    data["skeleton"] = {
        "name": "dots",
        "keypoints": list(SKELETON.keypoints),
        "limbs": [list(limb) for limb in SKELETON.limbs],
    }
    config = {"input": {"size": [160, 160]}, "data": data, "backbone": NET, "head": {"name": "tags"}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create("tiny", load_config(tmp_path / "tiny.yaml"), runs=tmp_path / "exp")
    experiment.path("last.pt").write_bytes(b"")

    def load(experiment: Experiment, choice: str, device: torch.device) -> Any:
        return dot_model(size=160), experiment.weights(choice)

    monkeypatch.setattr("pose.sessions.load_model", load)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    def main() -> int:
        options = test_command.parse(["-c", "tiny", *arguments, "--device", "cpu"])
        with processes(options.device) as group:
            return test_command.test(options, group)

    return user_facing(main)()


def ap_of(page: str) -> float:
    found = re.search(r'<td class="text">AP</td><td>([\d.]+)</td>', page)
    assert found
    return float(found[1])


def test_the_report_is_of_the_tested_pictures(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--report", "--limit", "5", "--tag", "low", "test.input_size=[96, 96]") == 0
    assert "report: exp/tiny/report-single-low-limit5.html" in capsys.readouterr().out
    page = (at_work / "exp/tiny/report-single-low-limit5.html").read_text()
    metrics = json.loads((at_work / "exp/tiny/metrics-single-low-limit5.json").read_text())
    assert 0.5 < metrics["stats"]["AP"] < 0.95
    assert ap_of(page) == pytest.approx(metrics["stats"]["AP"], abs=6e-4)
    for text in ("What errors cost", "left hand", "5 of dots.json", "data:image/jpeg", "test.input_size"):
        assert text in page


def test_without_the_option_there_is_no_report(at_work: Path) -> None:
    assert run("--limit", "1") == 0
    assert not list((at_work / "exp/tiny").glob("*.html"))


def test_a_folder_of_pictures_has_no_report(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--report", "--images", "dots") == 2
    assert "--report needs annotated images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_results_file_is_enough(at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a run; the worst pictures are drawn where their folder is given."""
    assert run("--report") == 0
    by_run = (at_work / "exp/tiny/report-single.html").read_text()
    content = json.loads((at_work / "dots.json").read_text())
    content["categories"][0]["sigmas"] = list(SKELETON.sigmas)
    (at_work / "own.json").write_text(json.dumps(content))
    files = ["coco", "--annotations", "own.json", "--results", "exp/tiny/results-single.json"]
    score.main([*files, "--report", "bare.html"])
    assert "report: bare.html" in capsys.readouterr().out
    bare = Path("bare.html").read_text()
    assert ap_of(bare) == ap_of(by_run)
    assert "image/jpeg" not in bare and "Worst pictures" in bare
    score.main([*files, "--report", "drawn.html", "--images", "dots"])
    pictures = Path("drawn.html").read_text().count("image/jpeg")
    assert pictures == by_run.count("image/jpeg") > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "dots"], "--report FILE"),
        (["--images", "nowhere", "--report", "a.html"], "no folder nowhere"),
        (["--report", "dots.json/a.html"], "cannot write"),
    ],
)
def test_mistakes_are_named(
    at_work: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run() == 0
    files = ["coco", "--annotations", "dots.json", "--results", "exp/tiny/results-single.json"]
    sigmas = ["--sigmas", ",".join(["0.05"] * 3)]
    assert user_facing(lambda: score.main([*files, *sigmas, *options]))() == 2
    assert message in capsys.readouterr().err
