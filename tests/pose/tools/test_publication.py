"""pose.tools.publication: the same network comes out of the files, and no path of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pose import config as cfg
from pose.errors import UserError, user_facing
from pose.experiment import Experiment, ExperimentConfig, load_config
from pose.model import build_model
from pose.tools import zoo as command
from tests.small_networks import SMALL

PRIVATE = "/home/somebody/secret"


def make_run(name: str, **metrics: Any) -> Experiment:
    config = {
        "input": {"size": [64, 64]},
        "data": {
            "root": PRIVATE,
            "skeleton": "coco17",
            "train": {"annotations": f"{PRIVATE}/train.json", "images": PRIVATE},
        },
        "backbone": {"name": "hourglass", **SMALL["hourglass"]},
        "head": {"name": "tags"},
        "test": {"single": [1e-5, 1.0]},
    }
    Path("run.yaml").write_text(yaml.safe_dump(config))
    built = load_config("run.yaml")
    model = build_model(built.backbone, built.head, built.skeleton, built.input)
    experiment = Experiment.create(name, built)
    torch.save({"model": model.state_dict()}, experiment.path("best.pt"))
    environment = {
        "command": f"train.py {PRIVATE}",
        "python": "3.11.7",
        "cuda": None,
        "gpus": ["H200"],
        "packages": {"torch": "2.6.0", "numpy": "2.0"},
        "git": "abc123",
        "git_changed_files": [PRIVATE],
    }
    experiment.path("environment.jsonl").write_text(json.dumps(environment) + "\n{}\n")
    for stem, content in metrics.items():
        experiment.path(f"metrics-{stem}.json").write_text(json.dumps(content))
    return experiment


def metrics_file(ap: float, scales: str) -> dict[str, Any]:
    numbers = {"AP": ap, "AP50": 0.9, "AP_large": -1.0}
    return {
        "header": {"scales": scales, "flip": "on", "images": "200 of val.json (all)"},
        "scores": {"coco": {"best": "AP", "numbers": numbers}},
        "annotations": f"{PRIVATE}/val.json",
        "settings": {"x": PRIVATE},
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    return make_run("mine", single=metrics_file(0.745, "1"), multi=metrics_file(0.765, "1.25, 1, 0.8"))


def test_the_network_is_the_same_and_paths_stay_here(run: Experiment, capsys: Any) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    assert command.main(["export", "mine", "-o", "out", "--licence", "CC-BY-4.0"]) == 0
    files = ["out/model.safetensors", "out/config.yaml", "out/README.md"]
    assert capsys.readouterr().out.split() == files
    assert sorted(str(file) for file in Path("out").iterdir()) == sorted(files)
    config = cfg.load(ExperimentConfig, Path("out/config.yaml"))
    model = build_model(config.backbone, config.head, config.skeleton, config.input)
    model.load_state_dict(safetensors.load_file("out/model.safetensors"))
    expected = torch.load("exp/mine/best.pt")["model"]
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert config.test == run.config.test and config.skeleton == run.config.skeleton
    for file in files:
        assert b"somebody" not in Path(file).read_bytes(), file


def test_the_card(run: Experiment, capsys: Any) -> None:
    pytest.importorskip("safetensors.torch")
    command.main(["export", "mine", "-o", "out", "--weights", "best"])
    card = Path("out/README.md").read_text(encoding="utf-8")
    lines = [" ".join(line.split()) for line in card.splitlines()]
    assert lines[0] == "# mine"
    for line in (
        "| backbone | hourglass |",
        "| head | tags |",
        "| input | 64 x 64 |",
        "| keypoints | 17 (coco17) |",
        "| trained on | train.json |",
        "| weights | best.pt |",
        "| licence | not stated yet |",
        "By the metric coco:",
        "| multi, scales 1.25, 1, 0.8, flip on | 200 of val.json (all) | 0.765 | 0.900 | - |",
        "| single, scales 1, flip on | 200 of val.json (all) | 0.745 | 0.900 | - |",
        "- python: 3.11.7",
        "- gpus: H200",
        "- packages: torch 2.6.0, numpy 2.0",
        "- git: abc123",
    ):
        assert line in lines, (line, card)
    assert "out states no licence; give one with --licence" in capsys.readouterr().err


def test_a_run_without_tests_or_with_a_file_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    experiment = make_run("new")
    experiment.path("metrics-single.json").write_text('{"header": {')
    experiment.path("environment.jsonl").unlink()
    command.main(["export", "new", "-o", "out"])
    assert "This run has not been tested." in Path("out/README.md").read_text(encoding="utf-8")


def test_what_is_there_is_not_written_over(run: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out").mkdir()
    Path("out/note.txt").write_text("mine")
    Path("file").write_text("mine")
    pytest.importorskip("safetensors.torch")
    for output in ("out", "file"):
        with pytest.raises(UserError, match=f"-o {output} is there already and not an empty folder"):
            command.main(["export", "mine", "-o", output])
    assert [file.name for file in Path("out").iterdir()] == ["note.txt"]


def test_without_the_package(run: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert user_facing(lambda: command.main(["export", "mine", "-o", "out"]))() == 2
    assert "pip install 'bottomup-pose[publish]'" in capsys.readouterr().err
    assert not Path("out").exists()
