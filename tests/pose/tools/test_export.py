"""python -m pose.tools.export: what it writes is what PyTorch computes, for every network and head."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pose import graphs
from pose.decoders.pairwise_statistics import PairwiseStatistics
from pose.errors import UserError, user_facing
from pose.experiment import Experiment, load_config
from pose.exported import load_exported
from pose.heads.pairwise import PairwiseHead
from pose.model import PoseModel
from pose.predict.batches import BatchPredictor
from pose.predictor import Predictor
from pose.sessions import load_model
from pose.tools import export, exporting
from tests.dot_people import SKELETON, dots
from tests.small_networks import networks, pairs

HEADS = ("tags", "paf", "pairwise")
NETWORKS = networks()
CPU = torch.device("cpu")
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])


def make_run(
    folder: Path, backbone: str, head: str, name: str = "run", seed: int = 0, **network: Any
) -> Experiment:
    """A run with random weights whose maps are neither flat nor huge."""
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    parts = NETWORKS[backbone]
    config = {
        "input": {"size": [64, 64], "normalization": "bgr_256"},
        "data": {"root": ".", "skeleton": skeleton},
        **parts,
        "backbone": {**parts["backbone"], **network},
        "head": {"name": head},
        "test": {"flip": True},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    experiment = Experiment.create(name, load_config(file), folder / "exp")
    torch.manual_seed(seed)
    built = Experiment.open(name, folder / "exp").config
    model = built.build_model()
    if isinstance(model.head, PairwiseHead):
        rng = np.random.default_rng(seed)
        square = (len(SKELETON), len(SKELETON), 2)
        mean, std = rng.normal(0, 9, square), rng.uniform(2, 9, square)
        model.head.use_statistics(PairwiseStatistics(SKELETON.keypoints, mean, std))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, 0, 0.5)  # so that something is seen
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    torch.save({"model": model.state_dict()}, experiment.path("last.pt"))
    return experiment


@pytest.fixture(autouse=True)
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_same_fields(one: PoseModel, other: PoseModel) -> None:
    """On a batch and a size that export never tries."""
    images = torch.from_numpy(
        np.stack([dots((64 * 2, 64 * 3), 1 + n)[0] for n in range(2)]).transpose(0, 3, 1, 2)
    )
    with torch.inference_mode():
        expected, found = one.read(images), other.read(images)
    assert [*expected] == [*found]
    for name, maps in expected.items():
        scale = max(1.0, float(maps.abs().max()))
        assert float(maps.std()) > 1e-3, "flat maps would agree with anything"
        assert found[name].dtype == torch.float32
        assert float((found[name] - maps).abs().max()) < 1e-4 * scale


def assert_same_people(one: PoseModel, other: PoseModel, config: Any) -> None:
    image = dots((150, 110), 3)[0]
    expected, found = (BatchPredictor(model, config.test, "single")(image) for model in (one, other))
    assert len(expected) == len(found) > 0
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.02)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "head"), pairs(HEADS))
def test_fields_and_people_are_those_of_pytorch(at_work: Path, backbone: str, head: str) -> None:
    kinds = ["onnx", "torchscript"] if importlib.util.find_spec("onnxruntime") else ["torchscript"]
    run = make_run(at_work, backbone, head)
    for kind in kinds:
        assert export.main(["-c", "run", "--format", kind, "-o", kind]) == 0
    model, _ = load_model(Experiment.open("run"), None, CPU)
    run.path("last.pt").unlink()  # the file alone is enough
    for kind in kinds:
        exported, config = load_exported(kind)
        assert exported.size_multiple == model.size_multiple
        assert exported.coarsest_stride == model.coarsest_stride
        assert_same_fields(model, exported)
        assert_same_people(model, exported, config)


@pytest.mark.parametrize("network", [{"padding": "same", "stride_style": "msra"}, {"batch_norm": "frozen"}])
def test_the_other_kinds_of_resnet_too(at_work: Path, network: dict[str, Any]) -> None:
    pytest.importorskip("onnxruntime")
    make_run(at_work, "resnet", "tags", **network)
    assert export.main(["-c", "run"]) == 0
    model, _ = load_model(Experiment.open("run"), None, CPU)
    assert_same_fields(model, load_exported("exp/run/model.onnx")[0])


@pytest.mark.slow
@pytest.mark.skipif(TORCH < (2, 9), reason="the newer exporter of this torch cannot do it alone")
def test_torch_without_the_older_exporter(at_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is to be removed from torch one day."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def gone(*_: Any) -> bytes:
        raise TypeError("unexpected keyword argument 'dynamo'")

    monkeypatch.setattr(graphs, "trace_onnx", gone)
    make_run(at_work, "hourglass_swish", "tags", stacks=1, depth=1)
    assert export.main(["-c", "run"]) == 0
    model, _ = load_model(Experiment.open("run"), None, CPU)
    assert_same_fields(model, load_exported("exp/run/model.onnx")[0])


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_what_differs_is_not_written(
    at_work: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    make_run(at_work, "vgg19_cpm", "paf")
    output = Path("network")
    output.write_text("the older one")
    honest = exporting.Readout.forward

    def shifted(self: exporting.Readout, images: torch.Tensor) -> Any:
        return tuple(maps + 2e-3 for maps in honest(self, images))

    monkeypatch.setattr(exporting.Readout, "forward", shifted)
    assert user_facing(lambda: export.main(["-c", "run", "--format", kind, "-o", "network"]))() == 2
    error = capsys.readouterr().err
    assert "differs from PyTorch's by 2.0e-03" in error and "is not written" in error
    assert output.read_text() == "the older one"
    assert [path.name for path in at_work.glob(".*")] == []


def test_what_is_printed_and_kept(at_work: Path, capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
    pytest.importorskip("onnxruntime")
    make_run(at_work, "vgg19_cpm", "paf")
    assert export.main(["-c", "run", "test.flip=false", "head.decoder.max_peaks=7"]) == 0
    printed, errors = capfd.readouterr()
    assert printed.startswith("exp/run/model.onnx: exp/run/last.pt as onnx, ")
    assert "paf        (batch, 4, height / 8, width / 8)" in printed
    assert "sides multiples of 8" in printed
    assert errors == "" and list(recwarn) == []
    config = Predictor.from_exported("exp/run/model.onnx").experiment.config
    assert config.test.flip is False and config.head.decoder.max_peaks == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "other"], "no run 'other'"),
        (["-c", "run", "--weights", "best"], "no weights exp/run/best.pt"),
        (["-c", "run", "-o", "exp"], "-o exp is a folder; give a file in it, such as exp/model.onnx"),
        (["-c", "run", "-o", "exp/run/last.pt"], "holds the run's weights"),
        (["-c", "run", "backbone.width=3"], "cannot be changed for a trained run"),
    ],
)
def test_mistakes_get_one_sentence(at_work: Path, capsys: Any, arguments: list[str], message: str) -> None:
    make_run(at_work, "vgg19_cpm", "tags")
    assert user_facing(lambda: export.main(arguments))() == 2
    assert message in capsys.readouterr().err


def test_a_missing_package_is_named(at_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    pytest.importorskip("onnx")
    make_run(at_work, "vgg19_cpm", "tags")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'bottomup-pose\[export\]'"):
        export.main(["-c", "run"])
