"""A run's network as ONNX or TorchScript, checked against PyTorch: the work of pose.tools.export."""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import pose
from pose.errors import UserError
from pose.experiment import Experiment
from pose.exported import NOTES, Notes, config_to_keep, fingerprint, load_exported, to_text
from pose.files import write_bytes
from pose.graphs import IMAGES, TRACED, TRIED, quiet, random_images, to_graph
from pose.model import PoseModel
from pose.options import run_settings
from pose.published.zoo_runs import run_of
from pose.sessions import load_model

TOLERANCE = 1e-4


class Readout(nn.Module):
    """images (B, 3, H, W) uint8 -> the fields, as a tuple in the order of the head."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model
        self.eval()  # the exporters bring the whole to the mode of this module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        fields = self.model.head.readout(self.model(images))
        return tuple(fields[name] for name in self.model.head.fields)


class Difference(NamedTuple):
    """The largest between a file's maps and PyTorch's."""

    value: float  # relative to the field's largest value where that is above 1
    field: str


def notes_of(experiment: Experiment, model: PoseModel, weights: Path) -> Notes:
    constants = model.head.constants()
    return Notes(
        name=experiment.folder.name,
        config=config_to_keep(experiment.config),
        statistics=constants,
        fields=[*model.head.fields],
        strides=list(model.strides),
        size_multiple=model.size_multiple,
        weights=weights.name,
        sha256=fingerprint(experiment.read_weights(weights), constants),
        version=pose.__version__,
    )


# ------------------------------------------------------------------------------------------------- the graphs


def to_torchscript(model: PoseModel, notes: Notes) -> bytes:
    content = io.BytesIO()
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(
            Readout(model), random_images(model.size_multiple, TRACED), check_trace=False
        )
        torch.jit.save(traced, content, _extra_files={NOTES: to_text(notes)})
    return content.getvalue()


def to_onnx(model: PoseModel, notes: Notes) -> bytes:
    """The graph with its notes; what torch wrote is checked afterwards."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 -- for the check
    except ImportError as error:
        raise UserError(f"--format onnx needs {error.name}: pip install 'bottomup-pose[export]'") from None
    content = to_graph(Readout(model), notes.fields, model.size_multiple, "--format torchscript")
    graph = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(graph, {NOTES: to_text(notes), "about": about(model, notes)})
    graph.producer_name, graph.producer_version = "bottomup-pose", pose.__version__
    return graph.SerializeToString()


def about(model: PoseModel, notes: Notes) -> str:
    """What a program in another language must know, in the file itself."""
    return json.dumps(
        {
            "input": f"{IMAGES}: (batch, 3, height, width) uint8 RGB; sides are multiples of "
            f"{notes.size_multiple}",
            "outputs": {name: spec.channels for name, spec in model.head.fields.items()},
            "keypoints": list(model.head.skeleton.keypoints),  # type: ignore[arg-type, union-attr]
        }
    )


# -------------------------------------------------------------------------------------------------- the check


def largest_difference(read: Callable[[Tensor], dict[str, Tensor]], model: PoseModel) -> Difference:
    """Between `read` and the model, over random images of sizes and batches that were not traced."""
    worst = Difference(0.0, next(iter(model.head.fields)))
    for size in TRIED:
        images = random_images(model.size_multiple, size)
        with torch.inference_mode():
            expected, found = model.read(images), read(images)
        for name, maps in expected.items():
            if found[name].shape != maps.shape:
                return Difference(float("inf"), name)
            value = float((found[name] - maps).abs().max() / maps.abs().max().clamp(min=1))
            if not value <= worst.value:  # also where it is no number
                worst = Difference(value, name)
    return worst


def write_checked(content: bytes, output: Path, model: PoseModel) -> Difference:
    """`output` appears when the file has been run and agrees.  Raises `UserError`."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        write_bytes(temporary, content)
        exported, _ = load_exported(temporary)
        worst = largest_difference(exported.read, model)
        if not worst.value <= TOLERANCE:
            raise UserError(
                f"the exported network differs from PyTorch's by {worst.value:.1e} in {worst.field!r} "
                f"(at most {TOLERANCE:g} is right), so {output} is not written; try the other --format"
            )
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    return worst


def export(options: argparse.Namespace) -> int:
    """Writes the exported file, and tells what is in it."""
    experiment = Experiment.open(run_of(options.name), overrides=run_settings(options.settings))
    kind = {"onnx": "model.onnx", "torchscript": "model.pt"}[options.format]
    output = options.output or experiment.path(kind)
    if output.is_dir():
        raise UserError(f"-o {output} is a folder; give a file in it, such as {output / kind}")
    model, weights = load_model(experiment, options.weights, torch.device("cpu"))
    if output.exists() and output.resolve() == weights.resolve():
        raise UserError(f"-o {output} holds the run's weights; give another file")
    notes = notes_of(experiment, model, weights)
    content = (to_onnx if options.format == "onnx" else to_torchscript)(model, notes)
    worst = write_checked(content, output, model)
    print(f"{output}: {weights} as {options.format}, {len(content) / 1e6:.1f} MB")
    print(f"  {IMAGES:<10} (batch, 3, height, width) uint8 RGB, sides multiples of {notes.size_multiple}")
    stride = notes.strides[-1]
    for name, spec in model.head.fields.items():
        print(f"  {name:<10} (batch, {spec.channels}, height / {stride}, width / {stride})")
    print(
        f"  checked on {len(TRIED)} sizes: at most {worst.value:.1e} from PyTorch (in {worst.field}; the "
        f"limit is {TOLERANCE:g})"
    )
    return 0
