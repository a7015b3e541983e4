"""The loss on validation pictures is the mean over pictures, whoever works it out, and leaves no trace."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose.annotations.annotations import load_annotations
from pose.data.augment import no_augmentation
from pose.data.dataset import KeypointDataset
from pose.data.images import SetImage
from pose.data.loader import collate
from pose.data.settings import set_files
from pose.engine.settings import TrainSettings
from pose.engine.validation_loss import mean_loss
from pose.experiment import load_config
from pose.model import PoseModel, TrainStep
from pose.sessions import TrainingData, validation_loss
from tests.training_fixtures import (
    CPU,
    command,
    differences,
    drawn,
    lines,
    settings,
    tiny_step,
    train_settings,
)

VALIDATION = [
    "backbone.name=hourglass",
    "head.name=tags",
    "data.train={annotations: annotations/person_keypoints_train.json, images: train}",
    "data.val={annotations: annotations/person_keypoints_val.json, images: val}",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


def validation(root: Path) -> KeypointDataset:
    config = load_config(None, ["data.skeleton=coco17", *settings(root), *VALIDATION])
    files = set_files(config.data, "val")
    annotations = load_annotations(files.annotations, config.skeleton)
    plain = config.data.model_copy(update={"augment": no_augmentation()})
    return KeypointDataset(annotations, files.images, plain, config.input, config.skeleton)


def model() -> PoseModel:
    """With statistics of batch norm that are not those of any one batch."""
    step = tiny_step()
    for _ in range(3):
        step.model(torch.rand(4, 3, 64, 64))
    return step.model


def measured(one: PoseModel, dataset: KeypointDataset, indices: list[int], **more: Any) -> float:
    plain = {"batch_size": 4, "workers": 0, "precision": "fp32"}
    return mean_loss(one, dataset, indices, CPU, **{**plain, **more})


def by_hand(one: PoseModel, dataset: KeypointDataset, indices: list[int]) -> float:
    step = TrainStep(one).eval()
    with torch.no_grad():
        return float(np.mean([step(collate([dataset[i, 0]]).batch)["loss"].item() for i in indices]))


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 0), (4, 2), (100, 0)])
def test_it_is_the_mean_over_pictures(data: Path, batch_size: int, workers: int) -> None:
    dataset, one = validation(data), model()
    indices = [0, 1, 2, 3, 4]  # 4 + 1: the last batch weighs less
    expected = by_hand(one, dataset, indices)
    found = measured(one, dataset, indices, batch_size=batch_size, workers=workers)
    assert found == pytest.approx(expected, rel=1e-5)
    assert by_hand(one, dataset, [0]) != pytest.approx(expected, rel=1e-2)


def test_unreadable_pictures_do_not_count(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pose.images import UnreadableImage

    dataset, one = validation(data), model()
    expected = by_hand(one, dataset, [0, 2, 5])
    real = KeypointDataset.read

    def read(self: KeypointDataset, index: int) -> np.ndarray:
        if index in (1, 3, 4):
            raise UnreadableImage("it is gone")
        return real(self, index)

    monkeypatch.setattr(KeypointDataset, "read", read)
    found = measured(one, dataset, [0, 1, 2, 3, 4, 5], batch_size=2)
    assert found == pytest.approx(expected, rel=1e-5)
    assert np.isnan(measured(one, dataset, [1, 3]))


def numpy_state() -> np.ndarray:
    """Of NumPy's global generator."""
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    return np.array(state["state"]["key"])


@pytest.mark.parametrize("workers", [0, 2])
def test_it_leaves_no_trace(data: Path, workers: int) -> None:
    dataset, one = validation(data), model()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    states = (random.getstate(), torch.get_rng_state(), numpy_state())
    measured(one, dataset, [0, 1, 2, 3, 4], workers=workers)
    assert differences(before, dict(one.state_dict())) == []
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    assert np.array_equal(numpy_state(), states[2])
    assert all(p.grad is None for p in one.parameters())


def test_it_is_worked_out_where_it_is_asked_for() -> None:
    assert not TrainSettings().needs_validation_loss
    assert TrainSettings(validate_loss=True).needs_validation_loss
    assert train_settings(schedule="plateau", plateau_metric="loss").needs_validation_loss
    assert not train_settings(schedule="plateau", plateau_metric="best").needs_validation_loss
    assert not train_settings(schedule="step", plateau_metric="loss").needs_validation_loss


def test_a_session_takes_the_pictures_of_the_validation(data: Path) -> None:
    config = load_config(None, ["data.skeleton=coco17", *settings(data), *VALIDATION])
    dataset, one = validation(data), model()
    ids = dataset.annotations.image_ids
    chosen: Any = TrainingData(config, None, [SetImage(int(ids[i]), Path("unused")) for i in (4, 1)])  # type: ignore[arg-type]
    found = validation_loss(config, chosen, CPU)(one)
    assert found == pytest.approx(by_hand(one, dataset, [1, 4]), rel=1e-5)


@pytest.mark.slow
def test_a_run_is_the_same_with_and_without_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm, moving average and a worker; only the log has one number more."""
    monkeypatch.chdir(tmp_path)
    more = settings(data, "train.epochs=2", "data.workers=1")
    for name, wanted in (("with", "true"), ("without", "false")):
        assert command(monkeypatch, "-e", name, *more, f"train.validate_loss={wanted}") == 0
    one, other = (tmp_path / "exp" / name for name in ("with", "without"))
    assert differences(torch.load(one / "last.pt"), torch.load(other / "last.pt")) == []
    assert lines(one, "train") == lines(other, "train")
    records = lines(one, "validation")
    assert [record.pop("loss") > 0 for record in records] == [True, True]
    assert records == lines(other, "validation")
