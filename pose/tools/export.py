"""A run's network as one file for other programs: ONNX or TorchScript, checked against PyTorch.

    python -m pose.tools.export -c quickstart --format onnx
    python -m pose.demo --onnx exp/quickstart/model.onnx PICTURE...

Writes exp/NAME/model.onnx (or model.pt).  The graph takes `images`, (batch, 3, height, width) uint8 RGB, with
any batch and with sides that are multiples of the printed number; normalisation is inside.  It gives the
fields that are decoded, float32 and in physical units.  The file also holds the run's settings, but no paths
of this machine, so that pose.demo and pose.Predictor.from_exported need nothing else.  Before it takes its
place the file is run on random pictures of several sizes; where a field is further from PyTorch's than 1e-4
(times the field's largest value, where that is above 1) nothing is written.  `test.*` and `head.decoder.*`
may be set: the file keeps them.

A TorchScript file is a program: run only those of people you trust.
"""

from __future__ import annotations

import argparse
import sys

from pose.errors import user_facing
from pose.options import TEST_SETTINGS, add_run, add_settings, add_weights, user_path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run(parser)
    parser.add_argument("--format", choices=["onnx", "torchscript"], default="onnx", help="default onnx")
    parser.add_argument(
        "-o", "--output", type=user_path, metavar="FILE", help="default exp/NAME/model.onnx or .pt"
    )
    add_weights(parser)
    add_settings(parser, f"{TEST_SETTINGS}, kept in the file")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    from pose.tools.exporting import export  # with torch

    return export(options)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
