"""What runs a trained network: PyTorch, or something quicker on a CPU that gives the same fields.

`onnx` and `openvino` run the network as a graph, in float32 and on the CPU; what belongs to the head stays in
PyTorch, so that every test setting means the same.  The graph takes images of any size and number.  It is
exported once for a run's weights, checked against PyTorch, and kept in the cache of the run."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

import pose
from pose import config as cfg
from pose.errors import UserError
from pose.experiment import ExperimentConfig
from pose.exported import NETWORK, fingerprint, open_onnx
from pose.files import cache_folders, locked
from pose.graphs import IMAGES, TRIED, random_images, to_graph
from pose.heads.base import last_of_each_size
from pose.inference import choose_precision, difference
from pose.model import PoseModel
from pose.options import GRAPHS
from pose.predict.settings import TestSettings
from pose.structures import Fields

Runtime = Literal["torch", "onnx", "openvino", "compile"]
Run: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
NEEDS = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
EXTRA = {"onnx": "export", "openvino": "openvino"}
TOLERANCE = 1e-4  # of a field's largest value
KEPT = 4  # exported graphs of one run and runtime


def known_runtime(runtime: str) -> Runtime:
    """Raises `UserError` for another word, and where what it needs is not installed."""
    if runtime not in get_args(Runtime):
        raise UserError(f"runtime {runtime!r}: expected {', '.join(get_args(Runtime))}")
    for module in NEEDS.get(runtime, ()):
        if importlib.util.find_spec(module) is None:
            extra = EXTRA[runtime]
            raise UserError(f"--runtime {runtime} needs {module}: pip install 'bottomup-pose[{extra}]'")
    return runtime  # type: ignore[return-value]


def settings_for(
    runtime: Runtime, model: PoseModel, settings: TestSettings, folder: Path
) -> tuple[TestSettings, str]:
    """The settings with the precision that the network will have, and a sentence about a choice ("": none).
    folder: of the run."""
    if runtime not in GRAPHS:
        return choose_precision(model, settings, folder)
    if settings.precision not in ("auto", "fp32"):
        raise UserError(
            f"test.precision={settings.precision}: --runtime {runtime} computes in float32; leave one of the "
            "two out"
        )
    return settings.model_copy(update={"precision": "fp32"}), ""


def with_runtime(runtime: Runtime, model: PoseModel, config: ExperimentConfig, folder: Path) -> PoseModel:
    """The network of a run as it will be used; folder: the run's, in whose cache exported graphs are kept.
    Raises `UserError` where the runtime cannot run it."""
    if runtime in GRAPHS:
        return _as_graph(runtime, model, config, folder)
    if runtime == "compile":
        check_compiler(model.device)
        model.compile_network()
    return model


# ---- torch.compile


def check_compiler(device: torch.device) -> None:
    """Raises `UserError` where torch.compile cannot make code."""
    tried = torch.compile(lambda x: (x * 2 + 1).sin())
    try:
        tried(torch.ones(64, device=device))
    except Exception as error:  # inductor's errors have no common public class
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        reason = lines[0][:200] if lines else type(error).__name__
        raise UserError(
            f"--runtime compile needs a C++ compiler, such as g++ or clang++, and torch.compile failed here: "
            f"{reason}; install one, or take another --runtime"
        ) from None


# ---- graphs


class Stages(nn.Module):
    """images (B, 3, H, W) uint8 -> those of the network's maps that are read out, in the order of `names`."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model
        self.names: list[str] = []
        self.eval()  # the exporters bring the whole to the mode of this module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        levels = last_of_each_size(self.model(images))
        self.names = [f"{name}_{i}" for i, level in enumerate(levels) for name in level]
        return tuple(maps for level in levels for maps in level.values())


class Graph(nn.Module):
    """In the place of a backbone: gives the stages that a graph computes."""

    def __init__(self, run: Run, names: Sequence[str], strides: Sequence[int], size_multiple: int) -> None:
        super().__init__()
        self.run = run
        self.places = [(name.rpartition("_")[0], int(name.rpartition("_")[2])) for name in names]
        self.strides = tuple(strides)
        self.size_multiple = size_multiple

    def forward(self, images: Tensor) -> list[Fields]:
        stages: list[Fields] = [{} for _ in range(1 + max(stage for _, stage in self.places))]
        for (name, stage), maps in zip(self.places, self.run(images.contiguous()), strict=True):
            stages[stage][name] = maps
        return stages


class GraphModel(PoseModel):
    """A `PoseModel` whose stages come out of a graph; images are normalised in it."""

    def forward(self, images: Tensor) -> list[Fields]:
        return self.backbone(images)  # type: ignore[no-any-return]


def _as_graph(runtime: str, model: PoseModel, config: ExperimentConfig, folder: Path) -> PoseModel:
    """With the graph from the cache, or a new one that goes there."""
    stages = Stages(model)
    with torch.inference_mode():
        stages(random_images(model.size_multiple, TRIED[0]))  # says the names
    places = cache_folders(folder.resolve())
    name = f"{runtime}-{_key(model, config)}.onnx"
    for place in places:
        if (found := _opened(runtime, place / name, model, stages.names)) is not None:
            return found
    content: list[bytes] = []  # exported once, also where the first place cannot be written
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with locked(place / f".{runtime}.lock", f"waiting for another process that exports to {place}"):
                # made by another process while this one waited
                if (found := _opened(runtime, place / name, model, stages.names)) is not None:
                    return found
                if not content:
                    content.append(to_graph(stages, stages.names, model.size_multiple, "--runtime torch"))
                return _kept(runtime, place / name, content[0], model, stages.names)
        except OSError:  # no folder, or no file, can be made here
            continue
    raise UserError(
        f"--runtime {runtime} keeps the exported network in {' or '.join(map(str, places))}, and neither can "
        "be written; free some space, or set XDG_CACHE_HOME to a folder that can"
    )


def _kept(runtime: str, file: Path, content: bytes, model: PoseModel, names: Sequence[str]) -> PoseModel:
    """The network with a new graph; `file` appears when that has given what PyTorch gives.  Raises `OSError`
    where it cannot be written, and `UserError`."""
    unchecked = file.with_name(f".{os.getpid()}.{file.name}")
    try:
        unchecked.write_bytes(content)
        found = _checked(runtime, unchecked, model, names)
        os.replace(unchecked, file)
    finally:
        unchecked.unlink(missing_ok=True)
    older = sorted(file.parent.glob(f"{runtime}-*.onnx"), key=lambda one: one.stat().st_mtime_ns)
    for one in older[:-KEPT]:  # a process that has one open keeps what it read
        one.unlink(missing_ok=True)
    return found


def _key(model: PoseModel, config: ExperimentConfig) -> str:
    """Digest of everything that the graph depends on."""
    plain = cfg.to_plain(config)
    network = {section: plain[section] for section in NETWORK}
    network["head"] = {key: value for key, value in network["head"].items() if key != "decoder"}
    weights = fingerprint(model.state_dict(), model.head.constants())
    versions = [str(torch.__version__), pose.__version__]
    return hashlib.sha256(json.dumps([weights, network, versions]).encode()).hexdigest()[:16]


def _opened(runtime: str, file: Path, model: PoseModel, names: Sequence[str]) -> PoseModel | None:
    """The network with the graph in a file; None where there is none, or one that cannot be run."""
    if not file.is_file():
        return None
    try:
        run = _open(runtime, file)
    except UserError:  # damaged: it is made again
        return None
    graph = Graph(run, names, model.strides, model.size_multiple)
    return GraphModel(graph, model.head, model.input).eval()


def _checked(runtime: str, file: Path, model: PoseModel, names: Sequence[str]) -> PoseModel:
    """The network with a new graph, which has given what PyTorch gives.  Raises `UserError`."""
    opened = _opened(runtime, file, model, names)
    if opened is None:
        raise UserError(f"--runtime {runtime} cannot run this network; take --runtime torch")
    for size in TRIED:
        images = random_images(model.size_multiple, size)
        with torch.inference_mode():
            apart = difference(opened.read(images), model.read(images))
        if not apart <= TOLERANCE:
            raise UserError(
                f"--runtime {runtime} gives other fields than PyTorch for this network (by {apart:.1e} of "
                "their largest value); take --runtime torch"
            )
    return opened


def _open(runtime: str, file: Path) -> Run:
    """Raises `UserError`."""
    if runtime == "onnx":
        return open_onnx(file, torch.device("cpu"))[0]
    return open_openvino(file)


def open_openvino(file: Path) -> Run:
    """What runs the graph of an ONNX file, in float32.  Raises `UserError`."""
    import openvino

    core = openvino.Core()
    options: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else it is bf16 where the processor has it
    }
    try:
        request = core.compile_model(core.read_model(str(file)), "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise UserError(f"openvino cannot run {file}: {str(error).splitlines()[0][:200]}") from None

    def run(images: Tensor) -> list[Tensor]:
        found = request.infer({IMAGES: images.numpy()})
        return [torch.from_numpy(found[i].copy()) for i in range(len(found))]  # it uses its memory again

    return run
