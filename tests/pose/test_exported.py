"""Exported networks in use: the same people from the file alone, and one sentence for every file that is
not this run's."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import pose
from pose.errors import UserError
from pose.experiment import Experiment, load_config
from pose.exported import NOTES, fingerprint, load_exported
from pose.tools import export
from tests.dot_people import SKELETON, dots
from tests.small_networks import SMALL

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


def make_run(name: str, seed: int = 0, **network: Any) -> None:
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    config = {
        "input": {"size": [64, 64]},
        "data": {"root": ".", "skeleton": skeleton},
        "backbone": {"name": "hourglass", **SMALL["hourglass"], **network},
        "head": {"name": "tags"},
    }
    Path("run.yaml").write_text(yaml.safe_dump(config))
    built = load_config("run.yaml")
    torch.manual_seed(seed)
    model = built.build_model()
    with torch.no_grad():
        model.backbone.stacks[-1].prediction.bias.fill_(0.3)  # type: ignore[index, union-attr]
        model.backbone.stacks[-1].prediction.weight.mul_(10)  # type: ignore[index, union-attr]
    torch.save({"model": model.state_dict()}, Experiment.create(name, built).path("last.pt"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `one`, `twin` (other weights) and `wide`, and the files of `one`."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_run("one")
        make_run("twin", seed=1)
        make_run("wide", width=24)
        for kind in ("onnx", "torchscript"):
            export.main(["-c", "one", "--format", kind])
    return folder


@pytest.fixture
def at_work(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(exported / "exp", tmp_path / "exp")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["model.onnx", "model.pt"])
@pytest.mark.parametrize("with_run", [True, False])
@pytest.mark.parametrize("mode", ["single", "multi"])
def test_people_are_those_of_the_run(at_work: Path, file: str, with_run: bool, mode: Any) -> None:
    image = dots((90, 130), 2)[0]
    expected = pose.Predictor.from_run("one", mode=mode, device="cpu")(image)
    shutil.move(f"exp/one/{file}", file)
    if not with_run:
        shutil.rmtree("exp")
    predictor = pose.Predictor.from_exported(file, mode=mode, name="one" if with_run else None, device="cpu")
    found = predictor(image)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.02)
    assert predictor.skeleton.keypoints == SKELETON.keypoints


def test_settings_count_above_those_of_the_file(at_work: Path) -> None:
    settings = ["test.flip=false", "head.decoder.detection_threshold=0.9"]
    predictor = pose.Predictor.from_exported("exp/one/model.onnx", settings=settings)
    assert predictor.batches.settings.flip is False
    assert predictor.batches.model.head.decoder.settings.detection_threshold == 0.9  # type: ignore[union-attr]
    with pytest.raises(UserError, match="cannot be changed for a trained run"):
        pose.Predictor.from_exported("exp/one/model.onnx", settings=["input.size=[32,32]"])


def rewrite(file: str, **changes: str) -> None:
    """The ONNX file with other metadata; an empty text removes one."""
    graph = onnx.load(file)
    kept = {one.key: one.value for one in graph.metadata_props} | changes
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {k: v for k, v in kept.items() if v})
    onnx.save(graph, file)


WRONG_NOTES: dict[str, dict[str, Any]] = {
    "no_config": {"config": ""},
    "no_head": {"config": "backbone: {}"},
    "odd_config": {"config": 3},
    "odd_fields": {"fields": 3},
    "no_strides": {"strides": []},
    "no_multiple": {"size_multiple": 0},
    "odd_statistics": {"statistics": 4},
    "more": {"color": "red"},
}


def damaged(file: str, damage: str) -> str:
    """A file that is not what it should be."""
    content = Path(file).read_bytes()
    notes = {"format": "1", "name": "one"}
    made = Path(f"{damage}{Path(file).suffix}")
    made.write_bytes(content)
    if damage == "cut":
        made.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        made.write_bytes(b"")
    elif damage == "text":
        made.write_text("not a network at all\n")
    elif damage == "foreign":
        rewrite(str(made), **{NOTES: ""})
    elif damage == "garbled":
        rewrite(str(made), **{NOTES: json.dumps(notes)})
    elif damage in WRONG_NOTES:
        whole = json.loads({one.key: one.value for one in onnx.load(str(made)).metadata_props}[NOTES])
        rewrite(str(made), **{NOTES: json.dumps({**whole, **WRONG_NOTES[damage]})})
    elif damage == "later":
        rewrite(str(made), **{NOTES: json.dumps({**notes, "format": "99", "version": "7.0"})})
    elif damage == "opset":
        graph = onnx.load(str(made))
        graph.opset_import[0].version = 99
        onnx.save(graph, str(made))
    elif damage == "ir":
        graph = onnx.load(str(made))
        graph.ir_version = 99
        made.write_bytes(graph.SerializeToString())
    return str(made)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("model.onnx", "cut", "is not an ONNX file, or was cut off"),
        ("model.onnx", "empty", "is not an ONNX file, or was cut off"),
        ("model.onnx", "text", "is not an ONNX file, or was cut off"),
        ("model.onnx", "foreign", "was not written by pose.tools.export"),
        ("model.onnx", "garbled", "holds notes that cannot be read; export it again"),
        *[("model.onnx", one, "holds notes that cannot be read; export it again") for one in WRONG_NOTES],
        ("model.onnx", "later", r"of another version of this package \(7.0\)"),
        ("model.onnx", "opset", "is of a newer ONNX than onnxruntime .* runs; pip install -U onnxruntime"),
        ("model.onnx", "ir", "is of a newer ONNX than onnxruntime .* runs; pip install -U onnxruntime"),
        ("model.pt", "cut", "is not a TorchScript file, or was cut off"),
        ("last.pt", "whole", "a run's weights .* need no export"),
    ],
)
def test_a_file_that_cannot_be_run_gets_one_sentence(
    at_work: Path, file: str, damage: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_exported(damaged(f"exp/one/{file}", damage))
    assert "\n" not in str(error.value)


def test_there_must_be_a_file(at_work: Path) -> None:
    for path in ("nowhere.onnx", "exp"):
        with pytest.raises(UserError, match=f"cannot read the exported network {path}"):
            load_exported(path)


@pytest.mark.parametrize("file", ["model.onnx", "model.pt"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("twin", r"was exported from one with other weights \(last.pt\) than twin has now; export this one "),
        (
            "wide",
            r"was exported from another run \(one\), whose backbone differs; export this one .* -c wide",
        ),
    ],
)
def test_a_file_of_another_run_is_refused(at_work: Path, file: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pose.Predictor.from_exported(f"exp/one/{file}", name=name)


def test_a_run_that_trained_on_is_noticed_and_one_without_weights_believed(at_work: Path) -> None:
    shutil.copy("exp/twin/last.pt", "exp/one/last.pt")
    with pytest.raises(UserError, match="than one has now"):
        pose.Predictor.from_exported("exp/one/model.onnx", name="one")
    Path("exp/one/last.pt").unlink()
    pose.Predictor.from_exported("exp/one/model.onnx", name="one")


def test_onnx_without_its_runtime_says_what_to_install(
    at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'bottomup-pose\[export\]'"):
        load_exported("exp/one/model.onnx")
    load_exported("exp/one/model.pt")


def test_the_fingerprint_is_of_names_values_and_statistics() -> None:
    weights = {"a": torch.ones(2), "b": torch.zeros(3)}
    one = fingerprint(weights, "")
    assert one == fingerprint({"module.b": torch.zeros(3), "a": torch.ones(2)}, "")
    assert one != fingerprint({"a": torch.ones(2), "c": torch.zeros(3)}, "")
    assert one != fingerprint({**weights, "a": torch.tensor([1.0, 1.0001])}, "")
    assert one != fingerprint(weights, "{}")


@pytest.mark.parametrize("file", ["model.onnx", "model.pt"])
def test_a_file_tells_nothing_of_the_machine_that_wrote_it(at_work: Path, file: str) -> None:
    run = Path("exp/one/config.yaml")
    run.write_text(run.read_text().replace("root: .", "root: /home/somebody/secret", 1))
    assert "/home/somebody/secret" in run.read_text()
    export.main(["-c", "one", "--format", "onnx" if file.endswith("onnx") else "torchscript"])
    content = Path(f"exp/one/{file}").read_bytes()
    assert b"detection_threshold" in content, "what it holds can be read"
    assert b"somebody" not in content and b"epochs" not in content
    pose.Predictor.from_exported(f"exp/one/{file}", name="one", device="cpu")


def change_config(name: str, **sections: Any) -> None:
    file = Path("exp", name, "config.yaml")
    config = yaml.safe_load(file.read_text())
    for section, values in sections.items():
        config[section].update(values)
    file.write_text(yaml.safe_dump(config))


def test_another_skeleton_is_another_run_even_with_as_many_keypoints(at_work: Path) -> None:
    skeleton = yaml.safe_load(Path("exp/one/config.yaml").read_text())["data"]["skeleton"]
    renamed = json.loads(json.dumps(skeleton).replace("nose", "chin"))
    change_config("one", data={"skeleton": renamed})
    with pytest.raises(UserError, match="another run .*data.skeleton differs"):
        pose.Predictor.from_exported("exp/one/model.onnx", name="one")


def test_what_the_network_does_not_depend_on_may_change_in_the_run(at_work: Path) -> None:
    change_config("one", input={"size": [128, 96]}, test={"flip": False})
    assert pose.Predictor.from_exported("exp/one/model.onnx", name="one")


def test_onnx_files_run_on_the_cpu_only(at_work: Path) -> None:
    with pytest.raises(UserError, match="ONNX files run on the CPU; for cuda export with --format torch"):
        load_exported(Path("exp/one/model.onnx"), device="cuda")
