"""Configs as a whole: skeletons that the annotations bring along."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from pose.experiment import load_config
from pose.metrics.coco_eval import COCO_SIGMAS


def config_for(folder: Path, names: list[str]) -> list[str]:
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
    content = {"images": [], "annotations": [], "categories": [category]}
    (folder / "a.json").write_text(json.dumps(content))
    return [f"data.root={folder}", "data.train.annotations=a.json", "data.skeleton=annotations"]


def test_cocos_own_file_gets_cocos_sigmas(tmp_path: Path):
    """Its `categories` name keypoints and limbs, but AP must be COCO's."""
    coco = load_config("coco/ae_small.yaml").skeleton
    config = load_config("coco/ae_small.yaml", config_for(tmp_path, list(coco.keypoints)))
    assert config.skeleton.sigmas == coco.sigmas == COCO_SIGMAS
    assert config.skeleton.grouping_order == coco.grouping_order


def test_unknown_sigmas_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "pose"):
        config = load_config("coco/ae_small.yaml", config_for(tmp_path, ["head", "tail"]))
    assert config.skeleton.has_default_sigmas
    assert "no sigmas" in caplog.text
