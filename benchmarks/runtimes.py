"""Ways to run a trained network on a CPU, in turns: time, ratio to the first one, and how far the fields are.

    python -m benchmarks.runtimes [CONFIG ...] [--size PIXELS] [--batch N] [--rounds R] [--compile]
    python -m benchmarks.runtimes --smallest

The networks of the configs have random weights.  One thread, processor time of the process, the median of
the rounds of each way and of the ratios within a round; a first call of each way is not counted.  The
difference is the largest in any field, as a part of that field's largest value.  ONNX Runtime and OpenVINO
are left out where they are not installed, and torch.compile, which takes minutes, without --compile.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Row, Times, clocks, command_line, one_thread
from pose import cpu
from pose.errors import UserError, user_facing
from pose.experiment import ExperimentConfig, load_config
from pose.inference import difference, for_inference
from pose.model import PoseModel
from pose.runtimes import Runtime, known_runtime, with_runtime
from pose.structures import Fields

CONFIGS = (
    "synthetic/ae_small.yaml",
    "coco/ae_hourglass.yaml",
    "coco/ae_hrnet_w32.yaml",
    "coco/paf_vgg19.yaml",
    "coco/deepercut_resnet101.yaml",
)


class Way(NamedTuple):
    """A way to run a network."""

    name: str
    read: Callable[[Tensor], Fields]


def ways(config: ExperimentConfig, model: PoseModel, folder: Path, compiled: bool) -> list[Way]:
    """The first one is what the others are compared with.  folder: for exported networks."""
    last = for_inference(copy.deepcopy(model))
    found = [
        Way("torch", model.read),
        Way("channels last", last.read),
        Way("bf16", lambda images: model.read(images, "bf16")),
        Way("channels last, bf16", lambda images: last.read(images, "bf16")),
    ]
    runtimes: tuple[Runtime, ...] = ("onnx", "openvino", *(("compile",) if compiled else ()))
    for runtime in runtimes:
        try:
            known_runtime(runtime)
        except UserError as error:  # not installed
            print(f"  left out: {error}")
            continue
        own = for_inference(copy.deepcopy(model))
        found.append(Way(f"--runtime {runtime}", with_runtime(runtime, own, config, folder).read))
    return found


class Measured(NamedTuple):
    """What a way costs and gives."""

    name: str
    times: Times
    ratio: float  # of the first way's time to its own, the median of the turns
    apart: float  # the largest difference from the first way's fields


def measure(compared: Sequence[Way], images: Tensor, rounds: int) -> list[Measured]:
    """Each way in turns."""
    with torch.inference_mode():
        expected = compared[0].read(images)
        differences = [difference(way.read(images), expected) for way in compared]
        times: list[list[np.ndarray]] = [[] for _ in compared]
        for _ in range(rounds):
            for way, own in zip(compared, times, strict=True):
                start = clocks()
                way.read(images)
                own.append(clocks() - start)
    return [
        Measured(
            way.name,
            Times(*np.median(own, axis=0)),
            statistics.median(first[0] / one[0] for first, one in zip(times[0], own, strict=True)),
            apart,
        )
        for way, own, apart in zip(compared, times, differences, strict=True)
    ]


def of_config(name: str, size: int | None, batch: int, rounds: int, compiled: bool) -> list[Measured]:
    """The ways of a config's network, with random weights; size: of the sides, None: the config's."""
    torch.manual_seed(0)
    config = load_config(name, [])
    height, width = (size, size) if size else config.input.size
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        return measure(ways(config, config.build_model().eval(), Path(folder), compiled), images, rounds)


def rows(smallest: bool = False) -> list[Row]:
    """Two networks, against float32 in torch's own memory order."""
    result = []
    for name, size in ((CONFIGS[0], 64),) if smallest else ((CONFIGS[0], None), (CONFIGS[2], 256)):
        first, *others = of_config(name, size, 1 if smallest else 2, 1 if smallest else 7, False)
        result += [Row(f"network of {name}: {one.name}", first.times, one.times) for one in others]
    return result


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line("benchmarks.runtimes", __doc__)
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help=f"default {' '.join(CONFIGS)}")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="of the sides (default: input.size)")
    parser.add_argument("--batch", type=int, default=2, help="images in a call (default 2: with its mirror)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way (default 7)")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    options = parser.parse_args(arguments)
    options.configs = options.configs or list(CONFIGS)
    if options.smallest:
        options.configs, options.size, options.batch, options.rounds = list(CONFIGS[:1]), 64, 1, 1
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    print(f"{cpu.name()}: {cpu.instruction_set()}; torch {torch.__version__}, one thread")
    for name in options.configs:
        print(f"{name}: {options.batch} images")
        for one in of_config(name, options.size, options.batch, options.rounds, options.compile):
            print(
                f"  {one.name:<28}{one.times.cpu:>9.1f} ms{one.ratio:>8.2f}x   difference {one.apart:.0e}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(user_facing(main)())
