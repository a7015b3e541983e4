"""Training and testing on a GPU: images per second, MFU and peak memory of the published networks by
precision, memory format and compilation; whether the data keep up; AP of the quickstart in bf16.

    python -m benchmarks.gpu [--minutes 7] [--output DIR] [--device cpu] [--smallest]

Needs no data: people are drawn.  Ends within the minutes, leaves out what does not fit, and says so.  Writes
gpu.json and gpu.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_runs, machine
from benchmarks.gpu_runs import rate
from benchmarks.steps import data_config
from benchmarks.timing import command_line
from pose.engine.distributed import pick_device
from pose.engine.trainer import seed_everything
from pose.engine.update import Updater
from pose.errors import UserError, user_facing
from pose.experiment import ExperimentConfig, load_config
from pose.model import TrainStep
from pose.predict.settings import Mode
from pose.structures import Batch

NO_FILES = ("data.skeleton=coco17", "backbone.pretrained=null")
NETWORKS = {  # config, settings, images of a step
    "hourglass-4 512": ("coco/ae_hourglass.yaml", NO_FILES[:1], 8),
    "VGG19-CPM 368": ("coco/paf_vgg19.yaml", NO_FILES[:1], 16),
    "ResNet-101 512": ("coco/deepercut_resnet101.yaml", (*NO_FILES, "input.size=[512, 512]"), 8),
    "HRNet-W32 512": ("coco/ae_hrnet_w32.yaml", (*NO_FILES,), 8),
}
SMALLEST_NETWORKS = {
    "hourglass-1 64": ("synthetic/ae_small.yaml", (NO_FILES[0], "input.size=[64, 64]", "backbone.width=8"), 2)
}
PEOPLE = 5  # of an image
MODES: tuple[Mode, ...] = ("single", "multi")


class Variant(NamedTuple):
    """How a network is trained."""

    name: str
    precision: str = "fp32"
    tf32: bool = False
    channels_last: bool = False
    benchmark: bool = False  # cudnn tries its algorithms
    compile: bool = False


VARIANTS = (
    Variant("fp32"),
    Variant("TF32, channels last", tf32=True, channels_last=True, benchmark=True),
    Variant("bf16", "bf16"),
    Variant("bf16, channels last", "bf16", channels_last=True),
    Variant("bf16, channels last, cudnn.benchmark", "bf16", channels_last=True, benchmark=True),
    Variant("fp16, channels last, cudnn.benchmark", "fp16", channels_last=True, benchmark=True),
    Variant("bf16, channels last, compiled", "bf16", channels_last=True, benchmark=True, compile=True),
)
SMALLEST_VARIANTS = (Variant("fp32"), Variant("bf16, channels last", "bf16", channels_last=True))


@dataclass
class Report:
    """What was found; `deadline` is a moment of time.monotonic()."""

    deadline: float
    found: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def part(self, name: str, call: Callable[[], Any], *, seconds: float = 0.0) -> None:
        """Keeps what `call` gives; leaves it out where fewer than the `seconds` that it takes are left, or
        where the device's memory is too small."""
        if time.monotonic() + seconds > self.deadline:
            self.left_out.append(f"{name}: no time left")
            return
        start = time.monotonic()
        try:
            self.found[name] = call()
        except torch.cuda.OutOfMemoryError:
            self.left_out.append(f"{name}: the device has too little memory")
            torch.cuda.empty_cache()
            return
        print(f"{name} ({time.monotonic() - start:.1f} s): {shown(self.found[name])}", flush=True)


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{shown(one)} {key}" for key, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def peaks(device: torch.device, side: int) -> dict[str, float]:
    """TFLOP/s of a large product of matrices: what the card gives, whatever its data sheet says."""
    measured = {}
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False), ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False), ("fp16", torch.float16, False),
    ):  # fmt: skip
        if device.type == "cpu" and name in ("tf32", "fp16"):
            continue
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        product = torch.empty_like(a)
        per_second = rate(partial(torch.mm, a, b, out=product), device, seconds=0.3, warm_up=3)
        measured[name] = 2.0 * side**3 * per_second / 1e12
    torch.set_float32_matmul_precision("highest")
    return measured


def made_up(config: ExperimentConfig, images: int, device: torch.device) -> Batch:
    """A batch of noise with people in it, on the device."""
    height, width = config.input.size
    kinds = len(config.skeleton)
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(images, PEOPLE, kinds, 2, generator=generator) * torch.tensor([width, height])
    batch = Batch(
        image=torch.randint(0, 256, (images, 3, height, width), generator=generator, dtype=torch.uint8),
        loss_mask=torch.ones(images, height, width, dtype=torch.bool),
        keypoints=torch.cat([xy, torch.full((images, PEOPLE, kinds, 1), 2.0)], -1),
        areas=torch.full((images, PEOPLE), height * width / 20),
        color=torch.tensor([0.05, 1.1, 0.05, 1.1]).repeat(images, 1),
        image_id=torch.arange(images),
        labelled=torch.ones(images, kinds, dtype=torch.bool),
    )
    return batch.to(device)


def updater_of(config: ExperimentConfig, variant: Variant, device: torch.device) -> Updater:
    seed_everything(0)
    model = config.build_model().to(device)
    if variant.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if variant.compile:
        model.compile_network()
    step = TrainStep(model, precision=variant.precision, augment=config.data.augment).train()
    return Updater(step, step, config.train, device, steps_per_epoch=1000)


def arithmetic(config: ExperimentConfig) -> float:
    """FLOP of forward and backward for one image."""
    with torch.device("meta"):
        model = config.build_model().eval()
        images = torch.empty(1, 3, *config.input.size, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(images)
    return 3.0 * counter.get_total_flops()


def training_rate(
    config: ExperimentConfig,
    variant: Variant,
    images: int,
    device: torch.device,
    peak: dict[str, float],
    seconds: float,
) -> dict[str, float]:
    """The whole step on one batch that lies on the device."""
    torch.backends.cudnn.benchmark = variant.benchmark
    torch.backends.cudnn.allow_tf32 = variant.tf32
    torch.set_float32_matmul_precision("high" if variant.tf32 else "highest")
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        updater, batch = updater_of(config, variant, device), made_up(config, images, device)
        warm_up = 3 if device.type == "cuda" else 1
        speed = images * rate(lambda: updater.update(batch), device, seconds=seconds, warm_up=warm_up)
    finally:
        torch.backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision("highest")
        torch.compiler.reset()
    flops = speed * arithmetic(config) / 1e12
    best = peak.get("tf32" if variant.tf32 else variant.precision)
    result = {"images/s": speed, "TFLOP/s": flops}
    if best:
        result["MFU"] = flops / best
    if device.type == "cuda":
        result["peak GiB"] = torch.cuda.max_memory_allocated(device) / 2**30
    return result


def networks(options: argparse.Namespace) -> Iterator[tuple[str, ExperimentConfig, int]]:
    for name, (file, settings, images) in (SMALLEST_NETWORKS if options.smallest else NETWORKS).items():
        yield name, load_config(file, [*settings]), images


def measure(options: argparse.Namespace, device: torch.device, report: Report) -> None:
    seconds = 0.0 if options.smallest else 2.0
    report.part("large products, TFLOP/s", lambda: peaks(device, 64 if options.smallest else 8192))
    peak = report.found.get("large products, TFLOP/s", {})
    with tempfile.TemporaryDirectory() as folder:
        small = load_config("synthetic/ae_small.yaml", gpu_runs.settings(options.smallest))
        small = data_config(small, Path(folder) / "data", 2 if options.smallest else 512)
        parts = gpu_runs.Runs(small, device, Path(folder), seconds)
        report.part("no step waits for the device", parts.steps_without_waits)
        report.part("with the loader", parts.with_the_loader, seconds=10 * seconds)
        report.part("DDP of one process", parts.ddp_of_one, seconds=10 * seconds)
        report.part("decoders", parts.decoders, seconds=5 * seconds)
        for mode in MODES:
            report.part(f"test, {mode}", partial(parts.testing, mode), seconds=10 * seconds)
        quickstart = 0.0 if options.smallest else 150.0
        report.part("quickstart in bf16", lambda: parts.quickstart(options.smallest), seconds=quickstart)
    variants = SMALLEST_VARIANTS if options.smallest else VARIANTS
    # all networks by each variant before the next one: what is left out at the end is the least common
    for variant in variants:
        for name, config, images in networks(options):
            report.part(
                f"{name}: {variant.name}",
                partial(training_rate, config, variant, images, device, peak, seconds),
                seconds=0.0 if options.smallest else 90.0 if variant.compile else 8.0,
            )


def markdown(report: Report, title: str) -> str:
    """The report as a table for the docs."""
    lines = [f"# {title}", ""]
    rows = {name: value for name, value in report.found.items() if ": " in name}
    for name, value in report.found.items():
        if name not in rows:
            lines.append(f"- {name}: {shown(value)}")
    lines += ["", "| network | how | images/s | MFU | peak memory |", "|---|---|---|---|---|"]
    for name, value in rows.items():
        network, _, how = name.partition(": ")
        mfu = f"{value['MFU']:.1%}" if "MFU" in value else "-"
        memory = f"{value['peak GiB']:.1f} GiB" if "peak GiB" in value else "-"
        lines.append(f"| {network} | {how} | {value['images/s']:.1f} | {mfu} | {memory} |")
    if report.left_out:
        lines += ["", "Left out:", "", *(f"- {one}" for one in report.left_out)]
    return "\n".join(lines) + "\n"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line("benchmarks.gpu", __doc__)
    parser.add_argument("--minutes", type=float, default=7.0, help="in which to end (default 7)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of gpu.json and gpu.md (default: only printed)"
    )
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N or cpu (default auto: a GPU)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.device == "auto" and not torch.cuda.is_available() and not options.smallest:
        raise UserError("no GPU is visible here; --device cpu --smallest shows on a CPU that everything runs")
    device = pick_device(options.device, 0)
    report = Report(time.monotonic() + 60 * options.minutes)
    found = machine.describe()
    name = found.gpu if device.type == "cuda" else found.processor
    print(f"{name}, torch {torch.__version__}, at most {options.minutes:g} minutes")
    measure(options, device, report)
    text = markdown(report, f"{name}, torch {torch.__version__}")
    print(text)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        record = {
            "device": name,
            "torch": torch.__version__,
            "found": report.found,
            "left_out": report.left_out,
        }
        (options.output / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (options.output / "gpu.md").write_text(text, encoding="utf-8")
        print(f"written: {options.output / 'gpu.json'}, {options.output / 'gpu.md'}")


if __name__ == "__main__":
    sys.exit(user_facing(main)())
