"""Other programs than PyTorch that run a network: the same fields and people, and what they leave behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.testing import assert_close

import pose
from pose import runtimes
from pose.errors import UserError
from pose.experiment import Experiment, load_config
from pose.model import PoseModel
from pose.options import device_for
from pose.predict.batches import BatchPredictor
from pose.predict.settings import TestSettings
from pose.runtimes import KEPT, known_runtime, settings_for, with_runtime
from pose.sessions import load_model
from pose.skeleton import to_dict
from tests.dot_people import SKELETON, assert_same_people, dot_model, dots, write_set
from tests.small_networks import networks
from tests.training_fixtures import environment

NETWORKS = networks()
CPU = torch.device("cpu")


def installed(runtime: str) -> None:
    for module in runtimes.NEEDS[runtime]:
        pytest.importorskip(module)


def make_run(folder: Path, network: str = "hourglass", head: str = "tags", **test: Any) -> Experiment:
    """A run with random weights whose maps are neither flat nor huge."""
    config = {
        "input": {"size": [64, 64], "normalization": "bgr_256"},
        "data": {"root": ".", "skeleton": to_dict(SKELETON)},
        **NETWORKS[network],
        "head": {"name": head},
        "test": test,
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    experiment = Experiment.create("run", load_config(file), folder / "exp")
    torch.manual_seed(0)
    model = experiment.config.build_model()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight)
    torch.save({"model": model.state_dict()}, experiment.path("best.pt"))
    return experiment


def ready(experiment: Experiment, runtime: Any) -> tuple[PoseModel, PoseModel]:
    """The run's network by PyTorch, and by the runtime."""
    model, _ = load_model(experiment, None, CPU)
    return model, with_runtime(runtime, model, experiment.config, experiment.folder)


def graphs(experiment: Experiment) -> list[str]:
    """The exported files, and nothing half written beside them."""
    names = sorted(path.name for path in experiment.path(".cache").iterdir())
    assert not [name for name in names if name.startswith(".") and not name.endswith(".lock")]
    return [name for name in names if name.endswith(".onnx")]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("network", "head"),
    [
        ("hourglass", "tags"),
        ("vgg19_cpm", "paf"),
        ("resnet deconv", "tags"),
        ("hrnet higher_resolution", "tags"),
    ],
)  # fmt: skip
def test_the_same_fields_at_any_size_and_by_every_rule(
    network: str, head: str, runtime: str, tmp_path: Path
) -> None:
    installed(runtime)
    plain, other = ready(make_run(tmp_path, network, head), runtime)
    assert (other.strides, other.size_multiple) == (plain.strides, plain.size_multiple)
    generator = torch.Generator().manual_seed(3)
    for batch, height, width in ((1, 1, 1), (3, 2, 4), (2, 5, 3)):
        size = (batch, 3, height * plain.size_multiple, width * plain.size_multiple)
        images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
        for rule in ("finest", "grid", "several"):
            with torch.inference_mode():
                expected = plain.read_levels(images, level_mean=rule)  # type: ignore[arg-type]
                found = other.read_levels(images, level_mean=rule)  # type: ignore[arg-type]
            assert len(found) == len(expected)
            for level, other_level in zip(expected, found, strict=True):
                assert level.keys() == other_level.keys()
                for name, maps in level.items():
                    limit = 1e-4 * float(maps.abs().max())
                    assert_close(other_level[name], maps, rtol=0, atol=limit, msg=f"{rule} {name}")


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("mode", ["single", "multi"])
def test_the_same_people(runtime: Any, mode: Any, tmp_path: Path) -> None:
    """The dots that were drawn, also after what runs the network was used for another size."""
    installed(runtime)
    config = make_run(tmp_path).config
    other = with_runtime(runtime, dot_model(), config, tmp_path)
    plain = BatchPredictor(dot_model(), TestSettings(), mode)
    quick = BatchPredictor(other, TestSettings(), mode)
    for size in ((150, 200), (203, 311), (150, 200)):
        image, truth = dots(size, 2)
        expected, found = plain(image), quick(image)
        assert_same_people(found, truth)
        assert_close(found.keypoints, expected.keypoints, rtol=0, atol=1e-2)
        assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)


def test_exported_once_for_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("onnx")
    experiment = make_run(tmp_path)
    made: list[int] = []
    honest = runtimes.to_graph

    def spy(*arguments: Any) -> bytes:
        made.append(1)
        return honest(*arguments)

    monkeypatch.setattr(runtimes, "to_graph", spy)
    for _ in range(2):
        ready(experiment, "onnx")
    (file,) = graphs(experiment)
    assert len(made) == 1
    path = experiment.path(".cache") / file
    path.write_bytes(path.read_bytes()[:1000])  # cut off: made again
    ready(experiment, "onnx")
    assert len(made) == 2 and graphs(experiment) == [file]
    for number in range(KEPT + 1):  # other weights: another file; the oldest ones go
        state = torch.load(experiment.path("best.pt"))
        next(iter(state["model"].values())).add_(0.1)
        torch.save(state, experiment.path("best.pt"))
        ready(experiment, "onnx")
        assert len(made) == 3 + number
    assert len(graphs(experiment)) == KEPT and file not in graphs(experiment)


def test_several_at_once_export_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("onnx")
    experiment = make_run(tmp_path)
    made: list[int] = []
    honest = runtimes.to_graph

    def spy(*arguments: Any) -> bytes:
        made.append(1)
        return honest(*arguments)

    monkeypatch.setattr(runtimes, "to_graph", spy)
    found: list[PoseModel] = []
    threads = [threading.Thread(target=lambda: found.append(ready(experiment, "onnx")[1])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(made) == 1 and len(graphs(experiment)) == 1


def test_a_run_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("onnx")
    experiment = make_run(tmp_path)
    experiment.path(".cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    ready(experiment, "onnx")
    assert len(list((tmp_path / "home").rglob("onnx-*.onnx"))) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(experiment.path(".cache")))
    with pytest.raises(UserError, match="neither can be written; free some space, or set XDG_CACHE_HOME"):
        ready(experiment, "onnx")


def test_what_differs_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("onnx")
    experiment = make_run(tmp_path)
    honest = runtimes.Stages.forward

    def shifted(self: Any, images: torch.Tensor) -> Any:
        return tuple(maps + 0.5 for maps in honest(self, images))

    monkeypatch.setattr(runtimes.Stages, "forward", shifted)
    with pytest.raises(UserError, match="gives other fields than PyTorch .* take --runtime torch"):
        ready(experiment, "onnx")
    assert graphs(experiment) == []


# ---- what may be asked for


@pytest.mark.parametrize(("runtime", "extra"), [("onnx", "export"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_its_extra(
    runtime: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{runtime} needs .*pip install 'bottomup-pose\[{extra}\]'"):
        known_runtime(runtime)
    assert [known_runtime(name) for name in ("torch", "compile")] == ["torch", "compile"]
    with pytest.raises(UserError, match="runtime 'tensorrt': expected torch, onnx, openvino, compile"):
        known_runtime("tensorrt")


def test_devices() -> None:
    for runtime in ("onnx", "openvino"):
        assert [device_for(runtime, device) for device in ("auto", "cpu")] == ["cpu", "cpu"]
        with pytest.raises(UserError, match=f"{runtime} runs on the CPU; leave out --device cuda:1"):
            device_for(runtime, "cuda:1")
    assert [device_for("compile", device) for device in ("auto", "cuda")] == ["auto", "cuda"]


def test_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs compute in float32, also where bf16 would be chosen for PyTorch."""
    monkeypatch.setattr("pose.cpu.has_bf16", lambda: True)
    monkeypatch.setattr("pose.inference.compare", lambda *_: pose.inference.Comparison(3.0, 0.0))
    chosen = {
        runtime: settings_for(runtime, dot_model(), TestSettings(), tmp_path)[0].precision
        for runtime in ("torch", "compile", "onnx", "openvino")  # type: ignore[arg-type]
    }
    assert chosen == {"torch": "bf16", "compile": "bf16", "onnx": "fp32", "openvino": "fp32"}
    with pytest.raises(UserError, match="test.precision=bf16: --runtime onnx computes in float32"):
        settings_for("onnx", dot_model(), TestSettings(precision="bf16"), tmp_path)


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(function: Any) -> Any:
        def call(*_: Any) -> Any:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in ('g++',)")

        return call

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler.*No working C\+\+.*another --runtime"):
        with_runtime("compile", dot_model(), make_run(tmp_path).config, tmp_path)


@pytest.mark.slow
def test_no_compiler_is_one_sentence(tmp_path: Path) -> None:
    """By torch's own words, in a process that finds none."""
    program = (
        "import torch\nfrom pose.errors import user_facing\nfrom pose.runtimes import check_compiler\n"
        "raise SystemExit(user_facing(lambda: check_compiler(torch.device('cpu')))())"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    variables = {**environment(), "PATH": str(empty), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    variables.pop("CXX", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "--runtime compile needs a C++ compiler" in errors[0]
    assert "Traceback" not in done.stderr


# ---- through the commands


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A run whose network sees the dots, and a data set of them."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, [(120, 160), (140, 140), (101, 203)])
    experiment = make_run(tmp_path)
    monkeypatch.setattr("pose.sessions.load_model", load_dots)
    monkeypatch.setattr("pose.predictor.load_model", load_dots)
    return experiment


def load_dots(experiment: Experiment, choice: str | None, device: torch.device) -> Any:
    assert device.type == "cpu"
    return dot_model(), experiment.path("best.pt")


def test_a_predictor(run: Experiment) -> None:
    installed("onnx")
    image, truth = dots((150, 200), 2)
    predictor = pose.Predictor.from_run("run", runtime="onnx")
    assert isinstance(predictor.batches.model, runtimes.GraphModel)
    assert_same_people(predictor(image), truth)


def test_the_demo(run: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    from pose import demo

    installed("onnx")
    found = {}
    for runtime in ("torch", "onnx"):
        arguments = ["-c", "run", "dots", "--json", "-o", runtime, "--runtime", runtime]
        assert demo.main(arguments) == 0
        found[runtime] = yaml.safe_load(Path(runtime, "people.json").read_text())
    assert len(found["torch"]) == len(found["onnx"]) > 3
    for one, other in zip(found["torch"], found["onnx"], strict=True):
        assert one["image_id"] == other["image_id"]
        assert_close(np.array(one["keypoints"]), np.array(other["keypoints"]), rtol=0, atol=1e-2)
    with pytest.raises(UserError, match="--onnx FILE says what runs it; leave --runtime onnx out"):
        demo.parse(["--onnx", "model.onnx", "dots", "--runtime", "onnx"])


@pytest.mark.parametrize(
    ("arguments", "images", "missing", "expected"),
    [
        (["dots"], 3, False, None),  # not worth it
        (["dots"], 100, False, "with the same people\n"),
        (["dots"], 100, True, "it needs pip install 'bottomup-pose[export]'\n"),
        (["dots", "--runtime", "onnx"], 100, False, None),
        (["dots", "test.precision=bf16"], 100, False, None),
    ],
)
def test_the_demo_says_once_what_is_quicker(
    run: Experiment,
    arguments: Sequence[str],
    images: int,
    missing: bool,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pose import demo

    if "onnx" in arguments:
        installed("onnx")
    monkeypatch.setattr(demo, "count", lambda *_: images)
    real = demo.importlib.util.find_spec
    monkeypatch.setattr(
        demo.importlib.util, "find_spec", lambda name: None if missing and "onnx" in name else real(name)
    )
    if not missing:
        monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: object())
    assert demo.main(["-c", "run", *arguments]) == 0
    printed = capsys.readouterr().err
    assert printed.count("--runtime onnx was") == (expected is not None)
    assert expected is None or expected in printed


def test_the_test(run: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    from pose import test as command
    from pose.engine.distributed import processes

    installed("onnx")
    files = ["data.val.annotations=dots.json", "data.val.images=dots", "data.workers=0"]
    stats = {}
    for runtime in ("torch", "onnx"):
        options = command.parse(["-c", "run", "--runtime", runtime, "--tag", runtime, *files])
        with processes(options.device) as group:
            assert command.test(options, group) == 0
        metrics = yaml.safe_load(run.path(f"metrics-single-{runtime}.json").read_text())
        stats[runtime] = metrics["stats"]
        assert metrics["header"].get("runtime", "torch") == runtime
    assert stats["torch"]["AP"] > 0.9
    assert stats["onnx"]["AP"] == pytest.approx(stats["torch"]["AP"], abs=1e-3)


def test_the_web_page_takes_the_option() -> None:
    from pose.tools import web

    assert web.parse(["-c", "run", "--runtime", "openvino"]).runtime == "openvino"
