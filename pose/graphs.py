"""A network as an ONNX graph: what pose.tools.export writes, and what `--runtime` runs."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pose.errors import UserError

OPSET = 18  # of ONNX: 2022, the first that both of torch's exporters write
IMAGES = "images"  # the graph's input
TRACED = (2, 3, 2)  # batch, height, width; sides in multiples of the network's
TRIED = ((1, 2, 3), (3, 3, 1), (2, 1, 1), (1, 5, 4))  # none of them what was traced


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of torch's exporters, which are about code and not about the user's network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def random_images(multiple: int, size: tuple[int, int, int]) -> Tensor:
    """(B, 3, H, W) uint8; size: batch, and height and width in multiples of `multiple`."""
    generator = torch.Generator().manual_seed(0)
    batch, height, width = size
    shape = (batch, 3, height * multiple, width * multiple)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def to_graph(module: nn.Module, outputs: Sequence[str], multiple: int, instead: str) -> bytes:
    """`module`, images (B, 3, H, W) uint8 -> a tuple of maps named `outputs`, for any batch and any sides
    that are multiples of `multiple`.

    By the first of torch's two exporters that can: which of them a release of torch has, and what they need,
    differs.  Raises `UserError`, which advises `instead`."""
    failures = []
    for exporter in (trace_onnx, export_onnx):
        try:
            with quiet(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
                return exporter(module, outputs, multiple)
        except Exception as error:  # torch's exporters raise nearly everything
            failures.append(f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}")
    raise UserError(
        f"torch {torch.__version__} cannot export this network ({'; '.join(failures)}); try {instead}"
    )


def trace_onnx(module: nn.Module, outputs: Sequence[str], multiple: int) -> bytes:
    """By tracing: quick, in every torch up to now, and to go one day."""
    content = io.BytesIO()
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in outputs}
    axes[IMAGES] = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        module, (random_images(multiple, TRACED),), content, dynamo=False,  # type: ignore[arg-type]
        input_names=[IMAGES], output_names=list(outputs), dynamic_axes=axes, opset_version=OPSET,
    )  # fmt: skip
    return content.getvalue()


def export_onnx(module: nn.Module, outputs: Sequence[str], multiple: int) -> bytes:
    """By torch.export, which needs onnxscript."""
    size = torch.export.Dim
    shape = {0: size("batch"), 2: multiple * size("rows"), 3: multiple * size("columns")}
    program = torch.onnx.export(
        module, (random_images(multiple, TRACED),), dynamo=True, verbose=False,
        input_names=[IMAGES], output_names=list(outputs), dynamic_shapes=(shape,), opset_version=OPSET,
        external_data=False,
    )  # fmt: skip
    assert program is not None
    return program.model_proto.SerializeToString()
