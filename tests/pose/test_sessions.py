"""Panels in the course of a training: always the same samples, and nothing of the training changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pose.draw.sheets import MARGIN
from pose.experiment import load_config
from pose.model import PoseModel
from pose.sessions import PANEL_SIDE, PANELS, PanelDrawer, panel_drawer, prepare_data
from pose.structures import Fields, FieldSpec, People
from tests.training_fixtures import (
    CPU,
    command,
    differences,
    drawn,
    lines,
    settings,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("drawn"))


TINY = [
    "data.skeleton=coco17",
    "data.train={annotations: annotations/person_keypoints_train.json, images: train}",
    "data.val={annotations: annotations/person_keypoints_val.json, images: val}",
    "backbone.name=hourglass",
    "backbone.stacks=1",
    "train.validate_every=0",
]


class Pictures:
    """A log that keeps pictures."""

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}

    def image(self, name: str, step: int, picture: np.ndarray) -> None:
        self.kept[name] = picture


def boards(run: Path) -> dict[str, list[int]]:
    """Tags of the pictures in TensorBoard, and their steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    return {tag: [e.step for e in accumulator.Images(tag)] for tag in accumulator.Tags()["images"]}


@pytest.mark.slow
def test_panels_change_nothing_of_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = settings(data, "train.epochs=1", "train.validate_every=0", batch_norm="before")
    for name, every in (("without", 0), ("with", 2)):
        assert command(monkeypatch, "-e", name, *plain, f"train.panels_every={every}", "--device", "cpu") == 0
    states = [torch.load(Path("exp", name, "last.pt"), weights_only=True) for name in ("without", "with")]
    assert differences(*states) == []
    assert lines(Path("exp/without")) == lines(Path("exp/with"))
    assert boards(Path("exp/without")) == {}
    assert boards(Path("exp/with")) == {f"panels/{i}": [1, 2, 4] for i in range(PANELS)}


def model_and_drawer(data: Path, *more: str) -> tuple[PoseModel, PanelDrawer]:
    config = load_config(None, settings(data, *TINY, *more))
    torch.manual_seed(0)
    model = config.build_model()
    drawer = panel_drawer(config, prepare_data(config, CPU), CPU)
    assert drawer is not None
    return model, drawer


@pytest.mark.slow
@pytest.mark.parametrize("head", ["tags", "paf", "pairwise"])
def test_every_head_is_drawn_from_the_same_samples(data: Path, head: str) -> None:
    model, drawer = model_and_drawer(data, f"head.name={head}")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generators = torch.get_rng_state(), np.random.get_state(legacy=False)
    log = Pictures()
    model.train()
    drawer(model, 1, log)  # type: ignore[arg-type]
    assert list(log.kept) == [f"panels/{i}" for i in range(PANELS)]
    for picture in log.kept.values():
        assert picture.shape[0] < 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert drawer.batches is not None
    with torch.no_grad():
        again = drawer.draw(model, drawer.read(int(drawer.positions()[1])))
    np.testing.assert_array_equal(again, log.kept["panels/1"])
    assert len({picture.tobytes() for picture in log.kept.values()}) == PANELS
    assert differences(before, dict(model.state_dict())) == []
    assert torch.equal(generators[0], torch.get_rng_state())
    assert repr(generators[1]) == repr(np.random.get_state(legacy=False))


def test_targets_and_predictions_are_drawn_alike(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that answers the targets, both rows of the heatmap are one picture."""
    model, drawer = model_and_drawer(data, "head.name=tags")
    head, batch = model.head, drawer.read(0)
    targets = head.target_fields(head.targets(batch, 4))
    monkeypatch.setattr(head, "readout", lambda stages: {name: targets[name] for name in head.fields})
    picture = drawer.draw(model.eval(), batch)
    half = (picture.shape[0] - MARGIN) // 2
    bar, column = half - PANEL_SIDE, slice(PANEL_SIDE + MARGIN, 2 * PANEL_SIDE + MARGIN)
    above, below = picture[bar:half, column], picture[half + MARGIN + bar :, column]
    assert above.max() > 150
    np.testing.assert_array_equal(above, below)


def test_samples_with_several_people_are_preferred(data: Path) -> None:
    _, drawer = model_and_drawer(data, "head.name=tags")
    dataset, stream = drawer.training
    several = [(dataset.people(stream[p], p)[..., 2] > 0).any(1).sum() > 1 for p in range(len(stream))]
    assert drawer.positions() == [p for p, more in enumerate(several) if more][:PANELS]
    assert drawer.batches is None  # nothing is read before it is needed


def test_whole_pictures_are_drawn_on_their_own_canvas(data: Path) -> None:
    whole = "data.augment={crop: whole, whole_scale: [0.7, 0.7], whole_multiple: 32}"
    model, drawer = model_and_drawer(data, "head.name=tags", whole)
    log = Pictures()
    drawer(model, 1, log)  # type: ignore[arg-type]
    assert drawer.batches is not None
    assert {tuple(batch.image.shape[2:]) for batch in drawer.batches} == {(64, 96)}  # multiples of 32


def test_no_panels_no_drawer(data: Path) -> None:
    config = load_config(None, settings(data, *TINY, "head.name=tags", "train.panels_every=0"))
    assert panel_drawer(config, prepare_data(config, CPU), CPU) is None


def test_a_field_that_nobody_knows_ends_no_training(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, drawer = model_and_drawer(data, "head.name=tags")
    head, plain = model.head, Pictures()
    drawer(model, 1, plain)  # type: ignore[arg-type]
    secret = FieldSpec(3, (0, 1, 2), (1.0,) * 3)
    monkeypatch.setattr(head, "fields", {**head.fields, "secret": secret})
    readout = head.readout

    def more(stages: Sequence[Fields]) -> Fields:
        return readout([{**stage, "secret": stage["heatmap"][:, :3]} for stage in stages])

    monkeypatch.setattr(head, "readout", more)
    monkeypatch.setattr(head, "decode", lambda fields, stride: [People.none(17)])
    log = Pictures()
    drawer(model, 1, log)  # type: ignore[arg-type]
    for name, picture in log.kept.items():
        assert picture.shape[1] == plain.kept[name].shape[1] + PANEL_SIDE + MARGIN
