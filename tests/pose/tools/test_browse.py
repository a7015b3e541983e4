"""python -m pose.tools.browse: training samples of every head, just as the training takes them."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pose.data.augment import AugmentSettings, DeviceAugment
from pose.data.loader import train_loader
from pose.data.mixture import MixedDataset, Training, training_data
from pose.errors import user_facing
from pose.experiment import Experiment, ExperimentConfig, load_config
from pose.tools import browse, sample_sheets
from tests.dot_people import SKELETON, write_set
from tests.image_files import read_rgb
from tests.small_networks import SMALL

PANELS = {"tags": 2 + 3, "paf": 2 + 3, "pairwise": 2 + 3}  # picture, sample, and what is drawn of the targets
BACKBONES = {"tags": "hourglass", "paf": "vgg19_cpm", "pairwise": "resnet"}


def write_config(head: str = "tags", file: str = "run.yaml", **data: Any) -> None:
    files = {"annotations": "dots.json", "images": "dots"}
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    name = BACKBONES[head]
    config = {
        "input": {"size": [64, 64]},
        "data": {"root": ".", "train": files, "val": files, "skeleton": skeleton, "workers": 0, **data},
        "backbone": {"name": name, **SMALL[name]},
        "head": {"name": head},
        "train": {"batch_size": 3},
    }
    Path(file).write_text(yaml.safe_dump(config))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, [(48, 64), (64, 48), (48, 48), (64, 64)])
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(PANELS))
def test_a_sheet_and_a_page_of_every_head(
    folder: Path, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(head)
    assert browse.main(["--config", "run.yaml", "-n", "5"]) == 0
    assert capsys.readouterr().out.split() == ["samples/samples.png", "samples/samples.html"]
    sheet = read_rgb("samples/samples.png")
    assert sheet.shape[1] > 4 * sample_sheets.CELL and sheet.shape[0] > 2 * sample_sheets.CELL
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 100
    page = Path("samples/samples.html").read_text()
    assert page.count("<section") == 5
    assert page.count('src="data:image/') >= 5 * PANELS[head] - 5
    assert "targets at stride" in page
    assert "http:" not in page and "https:" not in page and "<script" not in page


@pytest.mark.parametrize("crop", ["image", "whole"])
@pytest.mark.parametrize("start", [0, 3, 7])
def test_the_keys_are_those_of_the_training_steps(folder: Path, crop: str, start: int) -> None:
    write_config(augment={"crop": crop, "whole_multiple": 32})
    config = load_config("run.yaml")
    training = training_data(config.data, config.input, config.skeleton, seed=config.train.seed)
    keys = list(sample_sheets.keys(config, training, start, 5))
    loader = train_loader(training.dataset, training.stream, config.train.batch_size, workers=0)
    batches = [loaded.batch for loaded in itertools.islice(loader, 5)]
    trained = [(batch.image[i], batch.image_id[i]) for batch in batches for i in range(3)][start : start + 5]
    assert len(keys) == 5
    for key, (image, image_id) in zip(keys, trained, strict=True):
        sample = training.dataset[key].sample
        assert torch.equal(sample.image, image) and sample.image_id == image_id


def test_colours_are_those_of_the_training_step(folder: Path) -> None:
    write_config()
    config = load_config("run.yaml")
    training = training_data(config.data, config.input, config.skeleton)
    (key,) = sample_sheets.keys(config, training, 0, 1)
    batch = sample_sheets.collate([training.dataset[key]]).batch
    plain = batch.image[0].permute(1, 2, 0).numpy()
    still = AugmentSettings(hue=0, saturation=(1, 1), brightness=0, contrast=(1, 1))
    np.testing.assert_array_equal(sample_sheets.colored(batch, still), plain)
    jittered = sample_sheets.colored(batch, AugmentSettings())
    expected = DeviceAugment(AugmentSettings())(batch.image, batch.color)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(jittered / 255, expected, atol=0.003)
    assert not np.array_equal(jittered, plain)


@pytest.mark.parametrize("flip", [0, 1])
def test_what_is_told_of_a_sample_is_what_was_done(folder: Path, flip: int) -> None:
    augment = {"rotation": 20, "flip": flip, "shift": 0, "scale": [0.5, 0.5]}
    write_config(augment=augment)
    config = load_config("run.yaml")
    training = training_data(config.data, config.input, config.skeleton)
    dataset = training.dataset
    assert not isinstance(dataset, MixedDataset)
    index = int(np.flatnonzero((dataset.annotations.sizes == 48).all(1))[0])
    told = sample_sheets.changes(dataset, index, 5, (64, 64))[0]
    shape, scale, turned, mirrored = told.split(", ")
    assert shape == "48 x 48 -> 64 x 64 pixels"
    assert scale == f"scale {64 / 24:.2f}"
    assert mirrored == ("mirrored" if flip else "not mirrored")
    rng = np.random.default_rng([0, 5])
    rng.uniform(0.5, 0.5)
    assert turned == f"turned {round(rng.uniform(-20, 20)):+d} degrees"


def test_a_mixture_says_which_set(folder: Path) -> None:
    write_set(folder, [(48, 64)] * 2, name="more")
    one = {"annotations": "dots.json", "images": "dots", "weight": 1}
    write_config(sets=[one, {**one, "annotations": "more.json", "images": "more"}])
    assert browse.main(["--config", "run.yaml", "-n", "6", "-o", "out"]) == 0
    page = Path("out/samples.html").read_text()
    assert ", dots.json</h2>" in page and ", more.json</h2>" in page


def test_pictures_that_cannot_be_read_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config()
    (folder / "dots" / "001.png").write_bytes(b"no picture")
    assert browse.main(["--config", "run.yaml", "-n", "4"]) == 0
    assert "dots/001.png is corrupt" in capsys.readouterr().err
    page = Path("samples/samples.html").read_text()
    assert "1 pictures that cannot be read" in page and page.count("position ") >= 3
    for picture in (folder / "dots").glob("*.png"):
        picture.write_bytes(b"no picture")
    assert user_facing(lambda: browse.main(["--config", "run.yaml", "-n", "4"]))() == 2
    assert "none of the 4 pictures can be read" in capsys.readouterr().err


def test_a_run_shows_its_samples_in_its_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config()
    Experiment.create("run", load_config("run.yaml"))
    assert browse.main(["-c", "run", "-n", "1", "--seed", "4"]) == 0
    assert capsys.readouterr().out.split() == ["exp/run/samples.png", "exp/run/samples.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "run.yaml", "-n", "0"], "expected 1 sample or more"),
        (["--config", "run.yaml", "--from", "-1"], "expected a position"),
        (["--config", "run.yaml", "--seed", "-1"], "--seed -1"),
        (["--config", "nowhere.yaml"], "no config file nowhere.yaml"),
        (["-c", "other"], "no run 'other'"),
        (["--config", "run.yaml", "data.train.images=gone"], "the folder of images gone is missing"),
    ],
)
def test_mistakes_get_one_sentence(folder: Path, capsys: Any, arguments: list[str], message: str) -> None:
    write_config()
    assert user_facing(lambda: browse.main(arguments))() == 2
    assert message in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------
# What the page of browse tells of a sample, where canvases are no squares and not everything counts.


SIZES = [(48, 64), (64, 48), (48, 48), (64, 64), (40, 80)]
STILL = {"rotation": 0, "flip": 0, "shift": 0}


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    sets: Path, size: tuple[int, int]
) -> None:
    config, training = training_of({**STILL, "scale": [0.6, 0.6]}, size)
    painter = sample_sheets.Samples(config, training)
    beyond_the_shorter_side = left_out = 0
    for key in sample_sheets.keys(config, training, 0, 5):
        shown = painter(key)
        assert isinstance(shown, sample_sheets.Shown)
        points = training.dataset[key].sample.keypoints.numpy().reshape(-1, 3)
        x, y = points[points[:, 2] > 0, :2].T
        on = (x >= -0.5) & (y >= -0.5) & (x < size[1] - 0.5) & (y < size[0] - 0.5)
        assert f"{len(x)} keypoints labelled, {on.sum()} of them on the canvas" in shown.section
        beyond_the_shorter_side += int((on & (np.maximum(x, y) > 64)).sum())
        left_out += int((~on).sum())
    assert beyond_the_shorter_side and left_out, "else nothing was tested"


def test_a_whole_picture_is_told_with_the_size_of_its_own_canvas(sets: Path) -> None:
    config, training = training_of({"crop": "whole", "whole_multiple": 32}, (64, 64))
    painter = sample_sheets.Samples(config, training)
    sizes = set()
    for key in sample_sheets.keys(config, training, 0, 5):
        shown = painter(key)
        assert isinstance(shown, sample_sheets.Shown)
        height, width = training.dataset[key].sample.image.shape[-2:]
        told = re.search(r"-&gt; (\d+) x (\d+) pixels", shown.section)
        assert told is not None and (int(told[1]), int(told[2])) == (width, height)
        sizes.add((width, height))
    assert len(sizes) > 1


def test_what_does_not_count_is_marked_on_the_picture(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    monkeypatch.setattr(sample_sheets, "draw_annotations", noted)
    config, training = training_of(STILL, (96, 96))
    for key in sample_sheets.keys(config, training, 0, 5):
        sample_sheets.Samples(config, training)(key)
    (mask,) = masks[48, 64]
    assert mask is not None and mask.dtype == bool
    counts = np.ones((48, 64), bool)
    counts[:10, :12] = False
    assert (mask == counts).mean() > 0.98, "but for the edge"
    assert not mask[:9, :11].any() and mask[12:, 14:].all()
    assert [masks[size] for size in SIZES[1:]] == [[None]] * 4
