"""pose-tensorflow's checkpoints and MATLAB files become a run that makes the published maps."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from pose import config as cfg
from pose.config_files import config_folder
from pose.decoders import pairwise_statistics
from pose.decoders.pairwise_statistics import PairwiseStatistics
from pose.errors import UserError
from pose.experiment import Experiment
from pose.heads.pairwise import PairwiseHead
from pose.published import conversion, deepercut
from pose.sessions import load_model
from pose.skeleton import Skeleton, from_dict
from pose.tools import convert
from tests.literal.reference import deepercut_network as literal

COUNT = 17
UNITS = (1, 2, 3, 2)
FIELDS = dict(zip(("heatmap", "locref", "pairwise"), literal.PREDICTIONS))
SKELETON = from_dict(cfg.read_yaml(config_folder() / "_skeletons" / "coco17.yaml"))


@pytest.fixture
def variables() -> dict[str, np.ndarray]:
    return literal.random_variables(literal.variable_shapes(COUNT, 101, UNITS, width=4), seed=3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkpoint_of(variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`snapshot` is read as if TensorFlow had, which need not be there."""
    content = literal.published_checkpoint(variables)
    source = dataclasses.replace(deepercut.SOURCE, read=lambda _: deepercut.tensors(content))
    monkeypatch.setitem(convert.SOURCES, "deepercut", source)


def pair_order() -> np.ndarray:
    return np.array([(a, b) for a in range(COUNT) for b in range(COUNT) if a != b])


def write_statistics(file: Path, first: int = 0, **change: Any) -> dict[str, np.ndarray]:
    """A pairwise_stats.mat whose keypoints count from `first`, in no particular order."""
    rng = np.random.default_rng(0)
    graph = rng.permutation(pair_order())
    content = {
        "graph": graph + first,
        "means": rng.normal(0, 80, (len(graph), 2)),
        "std_devs": rng.uniform(5, 60, (len(graph), 2)),
    }
    content.update(change)
    savemat(file, {name: value for name, value in content.items() if value is not None})
    return {**content, "graph": graph}


def write_model(file: Path, **change: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(str(file)))
    model = {"X_min": rng.random(8), "X_max": 1 + rng.random(8), "w": rng.normal(size=(1, 9)), **change}
    options = {"X_min": model["X_min"], "X_max": model["X_max"], "C": 1.0}
    savemat(file, {"spatial_model": {"training_opts": options, "log_reg": {"w": model["w"], "bias": 1.0}}})
    return model


# ------------------------------------------------------------------------------------------- the whole run


def test_the_converted_run_makes_the_published_maps(
    variables: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint_of(variables, monkeypatch)
    known = write_statistics(folder / "stats.mat")
    (folder / "models").mkdir()
    model = write_model(folder / "models" / "spatial_model_cidx_1_2.mat")
    words = ["deepercut", "snapshot", "-e", "run", "--statistics", "stats.mat", "--models", "models"]
    assert convert.main(words) == 0
    assert "without --statistics" not in capsys.readouterr().err
    experiment = Experiment.open("run")
    settings = experiment.config
    assert (settings.backbone.name, settings.backbone.depth, settings.backbone.blocks) == (
        "resnet",
        101,
        UNITS,
    )
    assert (settings.backbone.stride_style, settings.backbone.padding) == ("msra", "same")
    assert settings.input.pixel_center == 0 and settings.head.decoder.name == "multicut"
    assert settings.head.statistics is None and not Path("exp/run/pairwise.json").exists()

    net, _ = load_model(experiment, "best", torch.device("cpu"))
    image = torch.randint(0, 256, (1, 3, 97, 100), dtype=torch.uint8)
    mean = torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
    with torch.no_grad():
        expected = literal.pose_net(variables, image.float() - mean, 101, UNITS, 2)
        first, last = net(image)
    torch.testing.assert_close(first["heatmap"], expected["intermediate_supervision"], atol=1e-3, rtol=1e-4)
    for field, name in FIELDS.items():
        torch.testing.assert_close(last[field], expected[name], atol=1e-3, rtol=1e-4)
        assert expected[name].std() > 1

    fields = net.head.readout([first, last])
    pairwise = expected["pairwise_pred"]
    for (a, b), mean_, std in zip(known["graph"], known["means"], known["std_devs"], strict=True):
        channel = 2 * ((COUNT - 1) * a + b - (a < b))
        there = pairwise[0, channel : channel + 2].numpy() * std[:, None, None] + mean_[:, None, None]
        np.testing.assert_allclose(fields["pairwise"][0, channel : channel + 2], there, atol=0.1)
    assert isinstance(net.head, PairwiseHead)
    read = net.head.statistics
    assert [*read.models] == [(0, 1)]
    np.testing.assert_array_equal(read.models[0, 1].weights, model["w"][0])


def test_a_red_picture_as_the_network_takes_it(
    variables: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R, G, B from 0 to 255 minus the mean; what surrounds a picture is nearly 0."""
    checkpoint_of(variables, monkeypatch)
    model = conversion.convert(convert.SOURCES["deepercut"], Path("snapshot")).model
    red = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    red[:, 0] = 255
    expected = torch.tensor([131.32, -116.779, -103.939])
    torch.testing.assert_close(model.normalize(red)[0, :, 0, 0], expected, atol=1e-3, rtol=0)
    border = torch.tensor(model.input.pad_value, dtype=torch.uint8).view(1, 3, 1, 1)
    assert model.normalize(border).abs().max() < 0.5


def test_without_statistics_the_run_says_what_it_lacks(
    variables: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint_of(variables, monkeypatch)
    assert convert.main(["deepercut", "snapshot", "-e", "run"]) == 0
    assert "without --statistics pairwise_stats.mat" in capsys.readouterr().err
    assert not load_model(Experiment.open("run"), "best", torch.device("cpu"))[0].head.prepared


def test_settings_are_read_off_the_variables() -> None:
    for depth, units in literal.UNITS.items():
        shapes = literal.variable_shapes(COUNT, depth)
        if depth == 50:
            shapes = {name: shape for name, shape in shapes.items() if "intermediate" not in name}
        empty = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        plan = deepercut.plan_deepercut(empty)
        assert plan.settings == [
            f"backbone.depth={depth}", "backbone.blocks=null", "backbone.width=64",
            f"backbone.intermediate={'false' if depth == 50 else 'true'}",
        ]  # fmt: skip
        assert plan.outputs == {"heatmap": 17, "locref": 34, "pairwise": 544} and sum(units) > 15


# ------------------------------------------------------------------------------------ other networks' files


def without(part: str) -> Any:
    return lambda v: {name: value for name, value in v.items() if part not in name}


BLOCK = "resnet_v1_101/block3/unit_2/bottleneck_v1"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: {}, "not DeeperCut's: it has no resnet_v1_101/conv1/weights, but nothing"),
        (lambda v: {"vgg_16/conv1/weights": np.ones(3)}, "no resnet_v1_101.*, but vgg_16/conv1/weights"),
        (without("pose/"), "it has no pose/part_pred/block4/weights"),
        (without("pairwise_pred"), "no pose/pairwise_pred/block4/weights; networks for single people"),
        (without(f"{BLOCK}/conv2/BatchNorm/moving_mean"), f"has no {BLOCK}/conv2/BatchNorm/moving_mean"),
        (without("block3/unit_2/"), f"has no {BLOCK}/conv1/weights"),
        (without("/unit_"), "has no resnet_v1_101/block1/unit_1/bottleneck_v1/shortcut/weights"),
        (
            lambda v: {**v, "resnet_v1_101/logits/weights": np.ones(3)},
            "its network has no resnet_v1_101/logits",
        ),
        (lambda v: {**v, "pose/next_joint/block4/biases": np.ones(3)}, "its network has no pose/next_joint"),
        (
            lambda v: literal.random_variables(literal.variable_shapes(14, 101, UNITS, width=4)),
            "14 channels of the field 'heatmap'.*'coco17' has 17",
        ),
        (
            lambda v: {**v, f"{BLOCK}/conv2/weights": np.ones((3, 3, 16, 8), np.float32)},
            r"not fill the network.*layer3.1.conv2.weight: file \(8, 16, 3, 3\), network \(16, 16, 3, 3\)",
        ),
        (lambda v: {**v, f"{BLOCK}/conv2/weights": np.float32(1)}, "does not fill the network"),
    ],
)
def test_other_networks_are_told(
    variables: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, message: str
) -> None:
    checkpoint_of(spoil(variables), monkeypatch)
    with pytest.raises(UserError, match=message):
        convert.main(["deepercut", "snapshot", "-e", "run"])
    assert not Path("exp/run").exists()


# ---------------------------------------------------------------------------------------------- MATLAB files


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_keypoints_may_count_from_0_or_1(tmp_path: Path, first: int, kind: Any) -> None:
    known = write_statistics(tmp_path / "stats.mat", first, graph=None)
    known = write_statistics(tmp_path / "stats.mat", first, graph=(known["graph"] + first).astype(kind))
    read = deepercut.pairwise_statistics(tmp_path / "stats.mat", None, SKELETON)
    order = np.random.default_rng(0).permutation(pair_order())
    for (a, b), mean, std in zip(order, known["means"], known["std_devs"], strict=True):
        assert (read.mean[a, b] == mean).all() and (read.std[a, b] == std).all()
    diagonal = np.arange(COUNT)
    assert (read.mean[diagonal, diagonal] == 0).all() and (read.std[diagonal, diagonal] == 1).all()
    assert read.keypoints == SKELETON.keypoints and not read.models


def test_models_of_all_pairs(tmp_path: Path) -> None:
    pairs = [(a, b) for a in range(COUNT) for b in range(a + 1, COUNT)]
    for a, b in pairs:
        write_model(tmp_path / f"spatial_model_cidx_{a + 1}_{b + 1}.mat", w=np.full((1, 9), 100.0 * a + b))
    (tmp_path / "notes.txt").write_text("")
    found = deepercut.pair_models(tmp_path, COUNT)
    assert {pair: model.weights[0] for pair, model in found.items()} == {
        (a, b): 100 * a + b for a, b in pairs
    }
    assert all(model.low.shape == model.high.shape == (8,) for model in found.values())
    assert all((model.low < model.high).all() for model in found.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": None}, "lacks graph, means or std_devs"),
        ({"graph": None}, "lacks graph, means or std_devs"),
        ({"means": "text"}, "lacks graph, means or std_devs"),
        ({"means": np.ones((272, 3))}, "not all N x 2"),
        ({"means": np.ones((271, 2))}, "not all N x 2"),
        ({"means": np.ones(2)}, "not all N x 2"),
        ({"graph": np.zeros((272, 2))}, r"of other keypoints than the skeleton 'coco17': it has 1 ordered"),
        ({"graph": np.arange(544).reshape(272, 2)}, "of other keypoints"),
        ({"std_devs": np.zeros((272, 2))}, "not above 0"),
        ({"means": np.full((272, 2), np.nan)}, "no numbers"),
    ],
)
def test_statistics_of_another_kind(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_statistics(tmp_path / "stats.mat", **change)
    with pytest.raises(UserError, match=rf"stats\.mat .*{message}"):
        deepercut.pairwise_statistics(tmp_path / "stats.mat", None, SKELETON)


def test_statistics_of_another_skeleton(tmp_path: Path) -> None:
    write_statistics(tmp_path / "stats.mat")
    with pytest.raises(
        UserError, match=r"than the skeleton 'two': it has 272 ordered pairs, not each of the 2"
    ):
        deepercut.pairwise_statistics(
            tmp_path / "stats.mat", None, Skeleton("two", ("a", "b"), (("a", "b"),))
        )


@pytest.mark.parametrize("content", [None, b"", b"half a file", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_mat_file_that_is_not_there_or_damaged(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "stats.mat"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        UserError, match=r"(no file|cannot read) .*stats\.mat|stats\.mat is not pairwise_stats"
    ):
        deepercut.pairwise_statistics(file, None, SKELETON)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("spatial_model_cidx_1_2.mat", {"w": np.ones(8)}, r"have \(8, 8, 8\) values"),
        ("spatial_model_cidx_1_2.mat", {"X_min": np.full(8, np.nan)}, "not finite"),
        ("spatial_model_cidx_1_2.mat", {"X_max": "text"}, "lacks training_opts"),
        ("spatial_model_cidx_2_1.mat", {}, "no pair of 17 keypoints has these"),
        ("spatial_model_cidx_1_18.mat", {}, "no pair of 17 keypoints has these"),
        ("other.mat", {}, "not a folder with files spatial_model_cidx_1_2.mat"),
    ],
)
def test_models_of_another_kind(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    write_model(tmp_path / name, **change)
    with pytest.raises(UserError, match=message):
        deepercut.pair_models(tmp_path, COUNT)


def test_models_that_are_no_models(tmp_path: Path, variables: dict[str, Any]) -> None:
    savemat(tmp_path / "spatial_model_cidx_1_2.mat", {"spatial_model": 3})
    with pytest.raises(UserError, match=r"cidx_1_2\.mat is no spatial model: it lacks training_opts"):
        deepercut.pair_models(tmp_path, COUNT)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        deepercut.pair_models(tmp_path / "nowhere", COUNT)
    with pytest.raises(UserError, match="give both"):
        deepercut.plan_deepercut(deepercut.tensors(variables), models=tmp_path)


def test_statistics_survive_being_written(tmp_path: Path) -> None:
    """To the fourth digit of a pixel."""
    write_statistics(tmp_path / "stats.mat")
    made = deepercut.pairwise_statistics(tmp_path / "stats.mat", None, SKELETON)
    (tmp_path / "made.json").write_text(json.dumps(pairwise_statistics.to_json(made)))
    read: PairwiseStatistics = pairwise_statistics.read(tmp_path / "made.json", SKELETON)
    np.testing.assert_allclose(read.mean, made.mean, atol=1e-4)
    np.testing.assert_allclose(read.std, made.std, atol=1e-4)


# ------------------------------------------------------------------------------------------------ TensorFlow


def test_tensorflow_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told only where there is something to read with it."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match="no TensorFlow checkpoint .*snapshot"):
        deepercut.read(tmp_path / "snapshot")
    (tmp_path / "snapshot.index").touch()
    with pytest.raises(UserError, match="pip install tensorflow"):
        deepercut.read(tmp_path / "snapshot")


def test_what_tensorflow_saves_is_read_bit_by_bit(tmp_path: Path) -> None:
    """Variables, slots and step, as the original saves them, by any of the files' names."""
    tf = pytest.importorskip("tensorflow")
    values = literal.random_variables(literal.variable_shapes(2, 50, (1, 1, 1, 1), width=2))
    content = literal.published_checkpoint(values)
    prefix = tmp_path / "snapshot-1030000"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.Variable(value, name=name) for name, value in content.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        assert {one.op.name for one in made} == {*content}
        tf.compat.v1.train.Saver().save(session, str(prefix))
    for file in (prefix, *tmp_path.glob("snapshot-*")):
        read = deepercut.read(file)
        assert read.keys() == values.keys()
        expected = deepercut.tensors(values)
        assert all(torch.equal(value, expected[name]) for name, value in read.items())
    with pytest.raises(UserError, match=r"no TensorFlow checkpoint .*other: there is no other\.index"):
        deepercut.read(tmp_path / "other")
    data = next(tmp_path.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot read the TensorFlow checkpoint"):
        deepercut.read(prefix)
    Path(f"{prefix}.index").write_bytes(b"no table")
    with pytest.raises(UserError, match="cannot read the TensorFlow checkpoint"):
        deepercut.read(prefix)
    (tmp_path / "weights.pth").write_bytes(b"of torch")
    with pytest.raises(UserError, match="cannot read the TensorFlow checkpoint"):
        deepercut.read(tmp_path / "weights.pth")
