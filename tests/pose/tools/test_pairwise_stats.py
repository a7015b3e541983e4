"""Pairwise statistics from a config, from a training, and with the models of a trained run."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pose import checkpoint
from pose.decoders import pairwise_statistics
from pose.decoders.multicut import Multicut
from pose.decoders.pairwise_statistics import PairwiseStatistics
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.heads.pairwise import PairwiseHead
from pose.predict.batches import BatchPredictor
from pose.sessions import load_model
from pose.test import main as pose_test
from pose.tools import pair_statistics, pairwise_stats
from tests.training_fixtures import command, differences, drawn, settings

pytestmark = pytest.mark.slow  # most of them train

PAIRWISE = [
    "head={name: pairwise, radius: 6.0, foreground_weight: 9.0, decoder: {nms_radius: 1.0}}",
    "train.validate_images=3",
]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pairwise_stats", *arguments])
    return user_facing(pairwise_stats.main)() or 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exp/one, trained for a few steps."""
    folder = tmp_path_factory.mktemp("pairwise")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command(patch, "-e", "one", *settings(drawn(folder), *PAIRWISE)) == 0
    return folder


def known_by(name: str, weights: str = "last") -> PairwiseStatistics:
    """What the weights of a run know of the data set."""
    head = load_model(Experiment.open(name), weights, torch.device("cpu"))[0].head
    assert isinstance(head, PairwiseHead)
    return head.statistics


def test_a_training_keeps_the_statistics_of_its_samples(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    experiment = Experiment.open("one")
    assert experiment.config.head.statistics is None and not Path("exp/one/pairwise.json").exists()
    found = known_by("one")
    hips = [experiment.config.skeleton.keypoints.index(f"{side}_hip") for side in ("left", "right")]
    knee = experiment.config.skeleton.keypoints.index("left_knee")
    assert found.mean[hips[0], knee, 1] > 3  # pixels of a 64-pixel input: knees are below hips
    np.testing.assert_allclose(found.mean[hips[0], hips[1]], -found.mean[hips[1], hips[0]], atol=1e-4)
    dataset, stream = pair_statistics.opened(experiment.config).training
    samples = [dataset.people(stream[p], p) for p in range(len(stream))]
    known = pairwise_statistics.gather(samples, experiment.config.skeleton)
    np.testing.assert_allclose(found.mean, known.mean)
    np.testing.assert_array_equal(found.std, known.std)


def test_a_config_gives_the_same(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(trained)
    given = settings(drawn(trained), *PAIRWISE)
    assert run(monkeypatch, "--config", "synthetic/ae_small.yaml", "-o", "made.json", *given) == 0
    made = json.loads(Path("made.json").read_text())
    assert (
        made == pairwise_statistics.to_json(known_by("one"))
        and "17 keypoints, mean deviation of an offset" in capsys.readouterr().out
    )
    assert command(monkeypatch, "-e", "named", *given, "head.statistics=made.json", "train.epochs=1") == 0
    Path("made.json").unlink()  # the run has them in its weights
    assert pairwise_statistics.to_json(known_by("named")) == made
    assert Experiment.open("named").config.head.statistics is None


def test_models_are_added_to_a_run_and_tested_with(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(trained)
    shutil.copytree("exp/one", "exp/modelled")
    before = pairwise_statistics.to_json(known_by("one"))
    low = ["head.decoder.detection_threshold=0.02"]
    assert run(monkeypatch, "-c", "modelled", "--pictures", "20", *low) == 0
    after = json.loads(Path("exp/modelled/pairwise.json").read_text())
    assert {**after, "models": []} == before and after["models"]
    told = capsys.readouterr()
    assert f"{len(after['models'])} models" in told.out
    head = load_model(Experiment.open("modelled"), "last", torch.device("cpu"))[0].head
    assert isinstance(head, PairwiseHead) and isinstance(head.decoder, Multicut)
    assert head.decoder.modelled.sum() == len(after["models"])
    monkeypatch.setattr(sys, "argv", ["pose.test", "-c", "modelled", "--limit", "2"])
    assert user_facing(pose_test)() == 0


def test_models_are_fitted_in_pixels_of_the_canvas(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    seen = []
    monkeypatch.setattr(pair_statistics, "examples", lambda _, keypoints, *__: seen.append(keypoints))
    experiment = Experiment.open("one")
    model, _ = load_model(experiment, "last", torch.device("cpu"))
    predictor = BatchPredictor(model, experiment.config.test, "single")
    assert isinstance(model.head, PairwiseHead)
    assert list(pair_statistics.detections_of(predictor, model.head, experiment.config, 8)) == [None] * 8
    labelled = np.concatenate([one[one[..., 2] > 0] for one in seen])
    assert 40 < labelled[:, :2].max() < 64  # of 128-pixel pictures in a canvas of 64


def as_before(folder: str, *, converted: bool = False) -> None:
    """exp/one as an older version left it: the statistics in a file that the config names, not in the
    weights.  converted: without any, as published weights come."""
    known = known_by("one")
    shutil.copytree("exp/one", folder)
    file = Path(folder, "config.yaml")
    if not converted:
        Path(folder, "pairwise.json").write_text(json.dumps(pairwise_statistics.to_json(known)))
        text = file.read_text().replace("statistics: null", "statistics: exp/one/pairwise.json")
        assert "exp/one/pairwise.json" in text
        file.write_text(text)
    for weights in Path(folder).glob("*.pt"):
        state = checkpoint.load(weights)
        for part in ("model", "ema"):
            if state.get(part):
                state[part] = {k: v for k, v in state[part].items() if not k.startswith("head.")}
        checkpoint.save(state, weights)


def test_an_older_run_uses_its_own_file_wherever_it_lies(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    known = pairwise_statistics.to_json(known_by("one"))
    as_before(str(tmp_path / "exp" / "other"))
    monkeypatch.chdir(tmp_path)
    assert pairwise_statistics.to_json(known_by("other")) == known
    assert command(monkeypatch, "-c", "other") == 0
    file = Path("exp/other/config.yaml")
    file.write_text(re.sub(r"epochs: 3\b", "epochs: 4", file.read_text()))
    assert command(monkeypatch, "-c", "other") == 0  # from now on the weights hold them
    state = checkpoint.load(Path("exp/other/last.pt"))
    assert pairwise_statistics.to_json(known_by("other")) == known and "head.offset_mean" in state["model"]
    Path("exp/other/pairwise.json").unlink()
    monkeypatch.setattr(sys, "argv", ["pose.test", "-c", "other"])
    assert user_facing(pose_test)() == 2
    assert "cannot read the pairwise statistics exp/one/pairwise.json" in capsys.readouterr().err


def test_a_run_that_came_without_statistics_gets_them_when_it_is_continued(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    as_before("exp/bare", converted=True)
    file = Path("exp/bare/config.yaml")
    file.write_text(re.sub(r"epochs: 3\b", "epochs: 4", file.read_text()))
    assert command(monkeypatch, "-c", "bare") == 0
    assert pairwise_statistics.to_json(known_by("bare")) == pairwise_statistics.to_json(known_by("one"))


def test_models_are_not_fitted_on_offsets_of_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    as_before("exp/fitted", converted=True)
    low = ["head.decoder.detection_threshold=0.02"]
    assert run(monkeypatch, "-c", "fitted", "--pictures", "2", *low) == 0
    made = json.loads(Path("exp/fitted/pairwise.json").read_text())
    assert made["pairs"] == pairwise_statistics.to_json(known_by("one"))["pairs"]


def test_a_stopped_run_goes_on_to_the_same_weights(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    given = settings(drawn(trained), *PAIRWISE, "train.schedule.name=constant", "train.validate_every=0")
    assert command(monkeypatch, "-e", "part", *given, "train.epochs=1") == 0
    file = Path("exp/part/config.yaml")
    file.write_text(file.read_text().replace("epochs: 1\n", "epochs: 3\n"))
    assert command(monkeypatch, "-c", "part") == 0
    assert command(monkeypatch, "-e", "whole", *given) == 0
    part, whole = (torch.load(f"exp/{name}/last.pt", weights_only=True) for name in ("part", "whole"))
    assert differences(part["model"], whole["model"]) == []


def test_mistakes_are_told(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(trained)
    given = settings(drawn(trained), "train.epochs=1")
    assert command(monkeypatch, "-e", "tags", *given) == 0
    for arguments, words in [
        (["-c", "tags"], "has the head 'tags', not pairwise"),
        (["--config", "synthetic/ae_small.yaml", "-o", "x.json"], "'tags' takes no pairwise statistics"),
        (["-c", "one", "--pictures", "0"], "expected 1 or more"),
        (["-c", "none"], "no run 'none'"),
        (["--config", "synthetic/deepercut_small.yaml", "-o", "."], "-o . is a folder"),
        (["-c", "one", "head.decoder={name: single_person}"], "makes no pairs of detections"),
    ]:
        capsys.readouterr()
        assert run(monkeypatch, *arguments) == 2
        assert words in capsys.readouterr().err
    assert load_config("coco/deepercut_resnet101.yaml").head.statistics is None
