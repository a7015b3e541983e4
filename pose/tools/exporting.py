"""A run's network as ONNX or TorchScript, checked against PyTorch: the work of pose.tools.export."""

from __future__ import annotations

import argparse
import contextlib
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
from pose.exported import (
    IMAGES,
    NOTES,
    Notes,
    config_to_keep,
    fingerprint,
    load_exported,
    quiet,
    to_text,
)
from pose.files import write_bytes
from pose.model import PoseModel
from pose.options import run_settings
from pose.published.zoo_runs import run_of
from pose.sessions import load_model

OPSET = 18  # of ONNX: 2022, the first that both of torch's exporters write
TOLERANCE = 1e-4
TRACED = (2, 3, 2)  # batch, height, width; sides in multiples of the network's
TRIED = ((1, 2, 3), (3, 3, 1), (2, 1, 1), (1, 5, 4))  # none of them what was traced


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


def pictures(model: PoseModel, batch: int, height: int, width: int) -> Tensor:
    """Random images (B, 3, H, W) uint8; height and width in multiples of the network's."""
    generator = torch.Generator().manual_seed(0)
    side = model.size_multiple
    return torch.randint(
        0, 256, (batch, 3, height * side, width * side), generator=generator, dtype=torch.uint8
    )


def to_torchscript(model: PoseModel, notes: Notes) -> bytes:
    content = io.BytesIO()
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(Readout(model), pictures(model, *TRACED), check_trace=False)
        torch.jit.save(traced, content, _extra_files={NOTES: to_text(notes)})
    return content.getvalue()


def to_onnx(model: PoseModel, notes: Notes) -> bytes:
    """By the first of torch's two exporters that can: which of them a release of torch has, and what they
    need, differs; what they wrote is checked either way."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 -- for the check
    except ImportError as error:
        raise UserError(f"--format onnx needs {error.name}: pip install 'bottomup-pose[export]'") from None
    failures = []
    for exporter in (trace_onnx, export_onnx):
        try:
            with quiet(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
                content = exporter(model, notes.fields)
            graph = onnx.load_model_from_string(content)
            break
        except Exception as error:  # torch's exporters raise nearly everything
            failures.append(f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}")
    else:
        raise UserError(
            f"torch {torch.__version__} cannot export this network ({'; '.join(failures)}); try "
            "--format torchscript"
        )
    onnx.helper.set_model_props(graph, {NOTES: to_text(notes), "about": about(model, notes)})
    graph.producer_name, graph.producer_version = "bottomup-pose", pose.__version__
    return graph.SerializeToString()


def trace_onnx(model: PoseModel, fields: list[str]) -> bytes:
    """By tracing: quick, in every torch up to now, and to go one day."""
    content = io.BytesIO()
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in fields}
    axes[IMAGES] = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        Readout(model), (pictures(model, *TRACED),), content, dynamo=False,  # type: ignore[arg-type]
        input_names=[IMAGES], output_names=fields, dynamic_axes=axes, opset_version=OPSET,
    )  # fmt: skip
    return content.getvalue()


def export_onnx(model: PoseModel, fields: list[str]) -> bytes:
    """By torch.export, which needs onnxscript."""
    size = torch.export.Dim
    side = model.size_multiple
    shape = {0: size("batch"), 2: side * size("rows"), 3: side * size("columns")}
    program = torch.onnx.export(
        Readout(model), (pictures(model, *TRACED),), dynamo=True, verbose=False,
        input_names=[IMAGES], output_names=fields, dynamic_shapes=(shape,), opset_version=OPSET,
        external_data=False,
    )  # fmt: skip
    assert program is not None
    return program.model_proto.SerializeToString()


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
        images = pictures(model, *size)
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
