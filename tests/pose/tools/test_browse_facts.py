"""What the page of browse tells of a sample, where canvases are no squares and not everything counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pose.data.mixture import Training, training_data
from pose.experiment import ExperimentConfig, load_config
from pose.tools import browse
from tests.dot_people import SKELETON, write_set
from tests.small_networks import SMALL

SIZES = [(48, 64), (64, 48), (48, 48), (64, 64), (40, 80)]
STILL = {"rotation": 0, "flip": 0, "shift": 0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, SIZES)
    return tmp_path


def training_of(augment: dict[str, Any], size: tuple[int, int]) -> tuple[ExperimentConfig, Training]:
    files = {"annotations": "dots.json", "images": "dots"}
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    data = {"root": ".", "train": files, "val": files, "skeleton": skeleton, "workers": 0, "augment": augment}
    content = {
        "input": {"size": list(size)}, "data": data, "head": {"name": "tags"}, "train": {"batch_size": 3},
        "backbone": {"name": "hourglass", **SMALL["hourglass"]},
    }  # fmt: skip
    Path("run.yaml").write_text(yaml.safe_dump(content))
    config = load_config("run.yaml")
    return config, training_data(config.data, config.input, config.skeleton, seed=config.train.seed)


@pytest.mark.parametrize("size", [(64, 128), (128, 64)])
def test_keypoints_on_the_canvas_are_counted_by_its_width_and_its_height(
    folder: Path, size: tuple[int, int]
) -> None:
    config, training = training_of({**STILL, "scale": [0.6, 0.6]}, size)
    painter = browse.Painter(config, training)
    beyond_the_shorter_side = left_out = 0
    for key in browse.keys(config, training, 0, 5):
        shown = painter(key)
        assert isinstance(shown, browse.Shown)
        points = training.dataset[key].sample.keypoints.numpy().reshape(-1, 3)
        x, y = points[points[:, 2] > 0, :2].T
        on = (x >= -0.5) & (y >= -0.5) & (x < size[1] - 0.5) & (y < size[0] - 0.5)
        assert f"{len(x)} keypoints labelled, {on.sum()} of them on the canvas" in shown.section
        beyond_the_shorter_side += int((on & (np.maximum(x, y) > 64)).sum())
        left_out += int((~on).sum())
    assert beyond_the_shorter_side and left_out, "else nothing was tested"


def test_a_whole_picture_is_told_with_the_size_of_its_own_canvas(folder: Path) -> None:
    config, training = training_of({"crop": "whole", "whole_multiple": 32}, (64, 64))
    painter = browse.Painter(config, training)
    sizes = set()
    for key in browse.keys(config, training, 0, 5):
        shown = painter(key)
        assert isinstance(shown, browse.Shown)
        height, width = training.dataset[key].sample.image.shape[-2:]
        told = re.search(r"-&gt; (\d+) x (\d+) pixels", shown.section)
        assert told is not None and (int(told[1]), int(told[2])) == (width, height)
        sizes.add((width, height))
    assert len(sizes) > 1


def test_what_does_not_count_is_marked_on_the_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(Path("dots.json").read_text())
    corner = {"iscrowd": 0, "num_keypoints": 0, "keypoints": [0] * 9, "area": 100, "bbox": [0, 0, 12, 10]}
    first = content["images"][0]
    content["annotations"].append(
        {**corner, "id": 99, "category_id": 1, "image_id": first["id"],
         "segmentation": [[0, 0, 12, 0, 12, 10, 0, 10]]}
    )  # fmt: skip
    Path("dots.json").write_text(json.dumps(content))
    masks: dict[tuple[int, ...], list[np.ndarray | None]] = {}

    def noted(image: np.ndarray, *_: object, mask: np.ndarray | None = None) -> np.ndarray:
        masks.setdefault(image.shape[:2], []).append(mask)
        return image

    monkeypatch.setattr(browse, "draw_annotations", noted)
    config, training = training_of(STILL, (96, 96))
    for key in browse.keys(config, training, 0, 5):
        browse.Painter(config, training)(key)
    (mask,) = masks[48, 64]
    assert mask is not None and mask.dtype == bool
    counts = np.ones((48, 64), bool)
    counts[:10, :12] = False
    assert (mask == counts).mean() > 0.98, "but for the edge"
    assert not mask[:9, :11].any() and mask[12:, 14:].all()
    assert [masks[size] for size in SIZES[1:]] == [[None]] * 4
