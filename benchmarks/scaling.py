"""How training should scale over many GPUs, on paper: bytes that are exchanged in a step, and what waits for
them.

    python -m benchmarks.scaling [--images N] [--teraflops 100] [--smallest]

Nothing is measured here but bytes and arithmetic of the networks.  docs/scaling.md has the formula, the
assumptions and the table that this command prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import command_line
from pose.experiment import load_config

CONFIGS = (
    "synthetic/ae_small.yaml",
    "coco/ae_hourglass.yaml",
    "coco/paf_vgg19.yaml",
    "coco/deepercut_resnet101.yaml",
    "coco/higherhrnet_w32.yaml",
)
GPUS = (8, 16, 32, 64, 128, 256)
NETWORKS = (25, 100, 400)  # gigabits a second and machine
PER_MACHINE = 8  # GPUs
INSIDE = 2400.0  # gigabits a second between the GPUs of a machine
EFFICIENCY = 0.8  # of the network's rate that a ring reaches
LATENCY = 10e-6  # seconds of one of the ring's 2 (n - 1) messages
BACKWARD = 2 / 3  # of a step, during which gradients can travel
BUCKET = 25 * 2**20  # bytes that DDP sends at once: the last one has nothing left to hide behind
IMAGES, TERAFLOPS = 8, 100.0  # of a GPU: images in a step, arithmetic that it sustains


class Network(NamedTuple):
    """What a step of a config exchanges and computes."""

    name: str
    gradients: int  # bytes for each process, float32
    buffers: int  # bytes that DDP sends from process 0 before each forward
    flops: float  # of forward and backward, for one image


def network(name: str) -> Network:
    config = load_config(name, ["data.skeleton=coco17", *(_small(name))])
    with torch.device("meta"):
        model = config.build_model().train()
        images = torch.empty(1, 3, *config.input.size, dtype=torch.uint8)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(images)
    return Network(
        name=name.removesuffix(".yaml"),
        gradients=sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad),
        buffers=sum(b.numel() * b.element_size() for b in model.buffers()),
        flops=3.0 * counter.get_total_flops(),  # backward: by weights and by inputs, each as much as forward
    )


def _small(name: str) -> Sequence[str]:
    """Settings without which a config asks for files."""
    return ("backbone.pretrained=null",) if "resnet" in name or "vgg" in name else ()


def transfer(size: float, gpus: int, gigabits: float) -> float:
    """Seconds of a ring all-reduce of `size` bytes: each process sends and receives 2 (n - 1) / n of them."""
    rate = (INSIDE if gpus <= PER_MACHINE else gigabits) * 1e9 / 8 * EFFICIENCY
    return 2 * (gpus - 1) / gpus * size / rate + 2 * (gpus - 1) * LATENCY


def efficiency(gradients: float, step: float, gpus: int, gigabits: float, *, factor: float = 1) -> float:
    """The part of n single GPUs' speed that n GPUs reach, each with as many images: step / (step + waiting).

    gradients: bytes in float32; step: seconds of a GPU alone; factor: what compression makes of the bytes."""
    size = factor * gradients
    last = transfer(factor * min(gradients, BUCKET), gpus, gigabits)
    waiting = max(transfer(size, gpus, gigabits) - BACKWARD * step, last)
    return step / (step + waiting)


def table(names: Sequence[str], images: int, teraflops: float) -> Iterator[str]:
    """Markdown, line by line."""
    networks = [network(name) for name in names]
    steps = [one.flops * images / (teraflops * 1e12) for one in networks]
    yield "| config | gradients, fp32 / bf16 | buffers | arithmetic of an image | assumed step of a GPU |"
    yield "|---|---|---|---|---|"
    for one, step in zip(networks, steps, strict=True):
        yield (
            f"| {one.name} | {one.gradients / 1e6:.1f} / {one.gradients / 2e6:.1f} MB | "
            f"{one.buffers / 1e6:.2f} MB | {one.flops / 1e9:.0f} GFLOP | {1000 * step:.1f} ms |"
        )
    for one, step in zip(networks, steps, strict=True):
        yield ""
        yield f"{one.name}, fp32 / bf16:"
        yield ""
        yield "| GPUs | " + " | ".join(f"{rate} Gb/s" for rate in NETWORKS) + " |"
        yield "|---" * (1 + len(NETWORKS)) + "|"
        for gpus in GPUS:
            cells = (
                " / ".join(
                    f"{efficiency(one.gradients, step, gpus, rate, factor=factor):.0%}" for factor in (1, 0.5)
                )
                for rate in NETWORKS
            )
            yield f"| {gpus} | " + " | ".join(cells) + " |"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_line("benchmarks.scaling", __doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"of a GPU in a step (default {IMAGES})")
    parser.add_argument(
        "--teraflops",
        type=float,
        default=TERAFLOPS,
        help=f"that a GPU sustains in training; measure it with benchmarks.gpu (default {TERAFLOPS:g})",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    names = CONFIGS[:1] if options.smallest else CONFIGS
    print(*table(names, options.images, options.teraflops), sep="\n")


if __name__ == "__main__":
    main()
