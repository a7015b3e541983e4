"""Where the time of a training step and of a tested image goes, and what a step costs beyond the network.

    python -m benchmarks.steps [CONFIG] [key.sub=value ...] [--smallest]

Uses the config's network, head, colours, memory format, precision and optimiser (with its clipping, moving
average and parts of a batch) on drawn images, on the GPU where there is one.  The overhead compares the whole
step with bare forward and backward of the same network on the same batch, in turns.  On a GPU it also checks
that a step never waits for the device (torch's sync debug mode raises where it would).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.timing import Row, Times, command_line, one_thread, taken
from pose.data.loader import Loaded, train_loader
from pose.data.mixture import training_data
from pose.engine.allocator import keep_freed_memory
from pose.engine.trainer import seed_everything
from pose.engine.update import Updater, split
from pose.errors import user_facing
from pose.experiment import ExperimentConfig, load_config
from pose.model import TrainStep, autocast, resolve_precision
from pose.predict.batches import BatchPredictor
from pose.structures import Batch
from pose.synthetic.dataset import SyntheticConfig, synthesize

CONFIG = "synthetic/ae_small.yaml"


class Effort(NamedTuple):
    """How much is measured."""

    warm_up: int = 5  # steps before the clock starts
    steps: int = 20
    images: int = 64  # in the training set


SMALLEST = Effort(warm_up=1, steps=1, images=2)
SMALLEST_SETTINGS = ["train.batch_size=1", "data.workers=0"]


class Clock:
    """Seconds by part; on a GPU each part is ended by a synchronisation, so parts do not leak into each
    other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start

    def table(self, title: str, count: int) -> str:
        total = sum(self.seconds.values())
        lines = [f"{title}: {1e3 * total / count:.1f} ms"]
        lines += [
            f"    {name:<22}{1e3 * value / count:9.2f} ms {value / total:6.1%}"
            for name, value in self.seconds.items()
        ]
        return "\n".join(lines)


def data_config(config: ExperimentConfig, folder: Path, images: int) -> ExperimentConfig:
    """The config on a small drawn data set, images as large as COCO's."""
    size = 640 if max(config.input.size) > 320 else 320
    synthesize(folder, SyntheticConfig(train=images, val=1, size=size), progress=False)
    sets = {
        name: config.data.train.model_copy(
            update={"annotations": f"annotations/person_keypoints_{name}.json", "images": name}
        )
        for name in ("train", "val")
    }
    data = config.data.model_copy(update={"root": str(folder), **sets})
    return config.model_copy(update={"data": data})


def training_step(config: ExperimentConfig, device: torch.device) -> Updater:
    """What a training with this config calls, in training mode."""
    seed_everything(config.train.seed)
    model = config.build_model().to(device)
    last = config.train.channels_last
    if last or (last is None and device.type == "cuda"):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = resolve_precision(config.train.precision, device)
    step = TrainStep(model, precision=precision, augment=config.data.augment)
    step.train()
    return Updater(step, step, config.train, device, steps_per_epoch=1000)


def training_parts(
    config: ExperimentConfig, device: torch.device, batches: list[Batch], effort: Effort
) -> str:
    """A step taken apart: the sum is more than a real step, where the device runs ahead of the host."""
    updater = training_step(config, device)
    step: TrainStep = updater.wrapped  # type: ignore[assignment]
    model, strides, settings = updater.model, updater.model.strides, config.train
    clock = Clock(device)
    for i, host in enumerate(itertools.islice(itertools.cycle(batches), effort.warm_up + effort.steps)):
        if i == effort.warm_up:
            clock.seconds.clear()
        with clock.part("copy to the device"):
            batch = host.to(device)
        before = updater.buffers.copy()
        for part in split(batch, settings.accumulate):
            with clock.part("colours"):
                images = step.augment(part.image, part.color)
            with clock.part("targets"):
                drawn = {stride: model.head.targets(part, stride) for stride in set(strides)}
            with clock.part("forward"), autocast(device, step.precision):
                stages = model(images)
            with clock.part("loss"):
                terms = model.head.loss(stages, [drawn[stride] for stride in strides])
                loss = torch.stack([v for name, v in terms.items() if not name.startswith("stat/")]).sum()
            with clock.part("backward"):
                updater.scaler.scale(loss / settings.accumulate).backward()
        with clock.part("optimiser, clip, average"):
            updater.apply(before)
    parameters = sum(p.numel() for p in model.parameters())
    title = (
        f"a training step, batch {len(batches[0].image_id)} at {config.input.size[0]} x "
        f"{config.input.size[1]}, {parameters / 1e6:.1f} M parameters, {step.precision}"
    )
    return clock.table(title, effort.steps)


def overhead(
    config: ExperimentConfig, device: torch.device, batches: list[Batch], runs: int
) -> tuple[Times, Times]:
    """Bare forward and backward, and the whole step: the same network on the same batches, in turns."""
    if device.type == "cpu":
        keep_freed_memory()  # as training does; else chance decides which side pays for page faults
    updater = training_step(config, device)
    network = copy.deepcopy(updater.model)
    precision = resolve_precision(config.train.precision, device)
    here = [batch.to(device) for batch in batches]
    numbers = itertools.cycle(range(len(here)))

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def bare(batch: Batch) -> None:
        for part in split(batch, config.train.accumulate):
            with autocast(device, precision):
                maps = [field for stage in network(part.image) for field in stage.values()]
            torch.autograd.backward(maps, [torch.full_like(field, 1e-3) for field in maps])
        network.zero_grad(set_to_none=True)
        finish()

    def whole(batch: Batch) -> None:
        updater.update(batch)
        finish()

    sides: list[list[list[np.ndarray]]] = [[[], []], [[], []]]
    for turn in range(2 * runs + 2):
        batch = here[next(numbers)]
        cold = turn % 2 == 1
        for side, call in zip(sides, (bare, whole), strict=True):
            time_ = taken(partial(call, batch), 1, cold=cold)
            if turn > 1:  # after the first of each
                side[cold].append(time_)
    one, other = (
        Times(*(ms for times in side for ms in np.median(np.concatenate(times), 0).tolist()))
        for side in sides
    )
    return one, other


def overhead_text(bare: Times, whole: Times) -> str:
    lines = ["the whole step beyond bare forward and backward, which take"]
    for name, one, other in zip(bare._fields, bare, whole, strict=True):
        lines.append(f"    {name.replace('_', ', '):<22}{one:9.2f} ms  {other / one - 1:+6.1%}")
    return "\n".join(lines)


def rows(smallest: bool = False) -> list[Row]:
    """The quickstart's step on the CPU and one thread, against bare forward and backward."""
    effort, more = (SMALLEST, SMALLEST_SETTINGS) if smallest else (Effort(), ["data.workers=0"])
    config = load_config(CONFIG, more)
    with tempfile.TemporaryDirectory() as folder, one_thread():
        config = data_config(config, Path(folder) / "data", effort.images)
        batches = first_batches(config, torch.device("cpu"))
        bare, whole = overhead(config, torch.device("cpu"), batches, effort.steps)
    return [Row("quickstart's training step; literal: bare forward + backward", bare, whole)]


def first_batches(config: ExperimentConfig, device: torch.device) -> list[Batch]:
    loader = loader_of(config, device)
    return [loaded.batch for loaded in itertools.islice(loader(0), 4)]


def loader_of(config: ExperimentConfig, device: torch.device) -> Callable[[int], Any]:
    """The training's batches, from a step on."""
    dataset, stream = training_data(config.data, config.input, config.skeleton)
    size, workers = config.train.batch_size, config.data.workers
    return lambda start: train_loader(dataset, stream, size, start_step=start, workers=workers, device=device)


def whole_steps(
    config: ExperimentConfig, device: torch.device, loader: Callable[[int], Any], effort: Effort
) -> str:
    """The real loop's step, data included: images per second, and the share of time waiting for data."""
    updater = training_step(config, device)
    clock, wait, images = Clock(device), 0.0, 0
    stream = iter(loader(0))
    start = 0.0
    for i in range(effort.warm_up + effort.steps):
        if i == effort.warm_up:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("error")
            start, wait, images = clock.now(), 0.0, 0
        before = time.perf_counter()
        loaded: Loaded = next(stream)
        wait += time.perf_counter() - before
        updater.update(loaded.batch)
        images += len(loaded.batch.image_id)
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("default")
    seconds = clock.now() - start
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
    checked = "; no step waited for the device" if device.type == "cuda" else ""
    return (
        f"whole steps with the loader: {images / seconds:.1f} images/s, "
        f"{wait / seconds:.1%} of the time waiting for data{memory}{checked}"
    )


def testing_parts(config: ExperimentConfig, device: torch.device) -> str:
    """Images through the predictor: forward and decode overlap in use, here they are timed apart."""
    model = config.build_model().to(device)
    predictor = BatchPredictor(model, config.test)
    clock = Clock(device)
    rng = np.random.default_rng(0)
    count = 4
    for i in range(3):
        if i == 1:
            clock.seconds.clear()
        with clock.part("letterbox"):
            images = [rng.integers(0, 255, (425, 640, 3), np.uint8) for _ in range(count)]
            batch = [predictor.prepare(image, k) for k, image in enumerate(images)]
        with clock.part("forward (flip) + fuse"):
            fields, stride = predictor.fields([item.canvases for item in batch])
        with clock.part("decode"):
            predictor.decode(fields, stride, batch)
    return clock.table("a tested image, single scale", 2 * count)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line("benchmarks.steps", __doc__)
    parser.add_argument("config", nargs="*", help=f"a config file (default {CONFIG}), and settings")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    effort, fixed = (SMALLEST, SMALLEST_SETTINGS) if options.smallest else (Effort(), [])
    files = [text for text in options.config if "=" not in text] or [CONFIG]
    config = load_config(files[0], [*(text for text in options.config if "=" in text), *fixed])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = f"CPU, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name() if device.type == "cuda" else threads
    print(f"{files[0]} on {name}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        config = data_config(config, Path(folder) / "data", effort.images)
        batches = first_batches(config, device)
        print(training_parts(config, device, batches, effort))
        print(overhead_text(*overhead(config, device, batches, effort.steps)))
        print(whole_steps(config, device, loader_of(config, device), effort))
    print(testing_parts(config, device))


if __name__ == "__main__":
    sys.exit(user_facing(main)())
