"""python -m pose.tools.visualize: a sheet for every picture, from any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from dot_people import SKELETON, write_set
from small_networks import SMALL

from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.model import build_model
from pose.tools import visualize

FIELDS = {"tags": 2, "paf": 2}  # panels beside the people


@pytest.fixture(params=sorted(FIELDS))
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of each head, with random weights -> its head and its pictures."""
    monkeypatch.chdir(tmp_path)
    pictures = write_set(tmp_path, [(48, 64), (64, 48)])
    files = {"annotations": "dots.json", "images": "dots"}
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    config = {
        "input": {"size": [64, 64]},
        "data": {"root": ".", "train": files, "val": files, "skeleton": skeleton},
        "backbone": {"name": "vgg19_cpm", **SMALL["vgg19_cpm"]},
        "head": {"name": request.param},
    }
    Path("run.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create("run", load_config("run.yaml"))
    built = experiment.config
    model = build_model(built.backbone, built.head, built.skeleton, built.input)
    torch.save({"model": model.state_dict()}, experiment.path("last.pt"))
    return request.param, pictures


def test_people_and_every_field_stand_side_by_side(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    head, pictures = run
    assert visualize.main(["-c", "run", *map(str, pictures), "test.flip=false"]) == 0
    written = capsys.readouterr().out.split()
    assert written == [f"exp/run/{picture.stem}-fields.png" for picture in pictures]
    sheet = cv2.imread(written[0])
    panels = 1 + FIELDS[head]
    side = 6 * 64  # enlarged to visualize.SMALLEST
    assert sheet.shape == (side, panels * side + (panels - 1) * visualize.GAP, 3)
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "run", "nowhere.png"], "no picture nowhere.png"),
        (["-c", "run", "test.flip=false"], "no picture given"),
        (["-c", "run", "a.png", "backbone.width=3"], "cannot be changed for a trained run"),
        (["-c", "other", "a.png"], "no run 'other'"),
        (["-c", "run", "a.png", "b/a.jpg"], "a.png and b/a.jpg would both be drawn to exp/run/a-fields.png"),
        (["-c", "run", "a.png", "-o", "run.yaml"], "cannot make the folder run.yaml"),
        (["-c", "run", "a.png", "--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_mistakes_get_one_sentence(run: Any, capsys: Any, arguments: list[str], message: str) -> None:
    assert user_facing(lambda: visualize.main(arguments))() == 2
    assert message in capsys.readouterr().err
