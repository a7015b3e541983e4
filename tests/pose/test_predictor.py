"""A run in a few lines of Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import pose
from pose import predictor as module
from pose.errors import UserError
from pose.experiment import Experiment, load_config
from pose.skeleton import to_dict
from tests.dot_people import SKELETON, assert_same_people, dot_model, dots, write_set
from tests.small_networks import SMALL


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A run with random weights."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, [(48, 64)])
    files = {"annotations": "dots.json", "images": "dots"}
    config = {
        "input": {"size": [64, 64]},
        "data": {"root": ".", "train": files, "val": files, "skeleton": to_dict(SKELETON)},
        "backbone": {"name": "vgg19_cpm", **SMALL["vgg19_cpm"]},
        "head": {"name": "tags"},
    }
    Path("run.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create("run", load_config("run.yaml"))
    built = experiment.config
    model = built.build_model()
    for name in ("best.pt", "last.pt"):
        torch.nn.init.constant_(next(model.parameters()), 0.1 if name == "best.pt" else 0.2)
        torch.save({"model": model.state_dict()}, experiment.path(name))
    return experiment


def first_weight(predictor: pose.Predictor) -> float:
    return next(predictor.batches.model.parameters()).flatten()[0].item()


def test_weights_mode_and_settings_are_those_asked_for(run: Experiment) -> None:
    plain = pose.Predictor.from_run("run")
    assert first_weight(plain) == pytest.approx(0.1)
    assert plain.batches.scales == run.config.test.single and plain.batches.settings.flip
    assert plain.skeleton == run.config.skeleton
    other = pose.Predictor.from_run(
        "run", weights="last", mode="multi", device="cpu", settings=["test.flip=false"], runs=Path("exp")
    )
    assert first_weight(pose.Predictor.from_run("run", weights=run.path("last.pt"))) == pytest.approx(0.2)
    assert first_weight(other) == pytest.approx(0.2)
    assert other.batches.scales == run.config.test.multi and not other.batches.settings.flip


def test_the_network_is_arranged_for_inference(run: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in (True, False):
        monkeypatch.setattr("pose.inference.channels_last_wins", lambda device, rule=rule: rule)
        predictor = pose.Predictor.from_run("run", device="cpu")
        kernels = [one for one in predictor.batches.model.parameters() if one.dim() == 4 and one.shape[1] > 1]
        last = [one.is_contiguous(memory_format=torch.channels_last) for one in kernels if one.shape[2] > 1]
        assert set(last) == {rule}


def test_a_path_an_array_and_a_pil_picture_give_the_same_people(
    run: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "load_model", lambda *_: (dot_model(), Path("best.pt")))
    predictor = pose.Predictor.from_run("run")
    image, truth = dots((150, 200), 2)
    cv2.imwrite("a.png", image[..., ::-1])
    alpha = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    for picture in ("a.png", tmp_path / "a.png", image, alpha, Image.fromarray(image)):
        people = predictor(picture)
        assert_same_people(people, truth)
        assert (np.diff(people.scores) <= 0).all()
    drawn = predictor.draw("a.png", predictor("a.png"))
    assert drawn.shape == image.shape and (drawn != image).any()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ran", {}, "no run 'ran'.*did you mean 'run'"),
        ("run", {"weights": "first"}, "no weights exp/run/first.pt; there are best.pt, last.pt"),
        ("run", {"settings": ["train.optimizer.lr=1"]}, "cannot be changed for a trained run"),
        ("run", {"mode": "triple"}, "mode 'triple': expected single or multi"),
        ("run", {"settings": "train.optimizer.lr=1"}, "'train.optimizer.lr=1' cannot be changed"),
        ("run", {"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_mistakes_get_one_sentence(run: Experiment, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        pose.Predictor.from_run(name, **options)


@pytest.mark.slow
def test_the_package_is_imported_without_what_predicts() -> None:
    program = (
        "import pose, sys; assert 'torch' not in sys.modules; pose.Predictor; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pose.Nothing
