"""Runs of benchmarks.gpu: training with the loader, DDP of one process, testing, decoding, quickstart."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.steps import first_batches, loader_of, training_step
from pose.data.images import SetImage
from pose.engine.distributed import Processes, wrap
from pose.errors import UserError
from pose.experiment import ExperimentConfig
from pose.predict.batches import BatchPredictor
from pose.predict.images import predict_images
from pose.predict.settings import Mode
from pose.structures import Batch
from tests.training_fixtures import free_port

ROOT = Path(__file__).parents[1]
TINY = [
    "train.batch_size=2",
    "data.workers=0",
    "backbone.width=8",
    "backbone.growth=4",
    "input.size=[64, 64]",
]


def settings(smallest: bool) -> list[str]:
    """Settings of the small network with which whole runs are made."""
    return TINY if smallest else ["train.batch_size=32"]


def rate(call: Callable[[], object], device: torch.device, *, seconds: float, warm_up: int = 3) -> float:
    """Calls per second over at least `seconds`, one call where these are 0."""
    for _ in range(warm_up if seconds else 1):
        call()
    finish(device)
    count, spent, start = 0, 0.0, time.perf_counter()
    while not count or spent < seconds:
        for _ in range(max(1, count)):  # rare waits for the device
            call()
            count += 1
        finish(device)
        spent = time.perf_counter() - start
    return count / spent


def finish(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Runs:
    """config: with drawn data below `folder`; seconds: of each measurement, 0: one step."""

    config: ExperimentConfig
    device: torch.device
    folder: Path
    seconds: float

    def rate(self, call: Callable[[], object]) -> float:
        return rate(call, self.device, seconds=self.seconds)

    def steps_without_waits(self) -> str:
        """Three training steps in torch's sync debug mode, which raises where one waits."""
        updater = training_step(self.config, self.device)
        batches = [batch.to(self.device) for batch in first_batches(self.config, self.device)]
        updater.update(batches[0])  # cudnn and the optimiser's state begin
        if self.device.type != "cuda":
            return "nothing to wait for on a CPU"
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in batches[:3]:
                updater.update(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return "yes"

    def with_the_loader(self) -> dict[str, float]:
        """Images per second of steps on one batch, and of steps with the loader; their ratio is how busy the
        device is."""
        updater = training_step(self.config, self.device)
        size = self.config.train.batch_size
        (batch, *_) = first_batches(self.config, self.device)
        alone = batch.to(self.device)
        bare = size * self.rate(lambda: updater.update(alone))
        with closing(iter(loader_of(self.config, self.device)(0))) as stream:  # type: ignore[type-var]
            fed = size * self.rate(lambda: updater.update(next(stream).batch))
        return {"images/s of one batch": bare, "images/s with the loader": fed, "busy": min(1.0, fed / bare)}

    def ddp_of_one(self) -> dict[str, float]:
        """Images per second of a plain step, and of one in DDP."""
        plain = training_step(self.config, self.device)
        size = self.config.train.batch_size
        batch = first_batches(self.config, self.device)[0].to(self.device)
        rates = [size * self.rate(lambda: plain.update(batch))]
        dist.init_process_group(
            "nccl" if self.device.type == "cuda" else "gloo",
            init_method=f"tcp://127.0.0.1:{free_port()}",
            rank=0,
            world_size=1,
        )
        try:
            rates.append(size * self.rate_of_ddp(batch))
        finally:
            gc.collect()  # DDP holds the group, too
            dist.destroy_process_group()
        return {"images/s plain": rates[0], "images/s in DDP": rates[1], "ratio": rates[1] / rates[0]}

    def rate_of_ddp(self, batch: Batch) -> float:
        updater = training_step(self.config, self.device)
        # `wrap` makes DDP for more than one
        updater.wrapped = wrap(updater.wrapped, Processes(self.device, 0, 2), gpus=1)
        return self.rate(lambda: updater.update(batch))

    def predictor(self, mode: Mode) -> BatchPredictor:
        torch.manual_seed(0)
        model = self.config.build_model().to(self.device)
        return BatchPredictor(model, self.config.test, mode)

    def images(self) -> list[SetImage]:
        files = sorted((self.folder / "data").glob("train/*.jpg"))
        content = json.loads((self.folder / "data/annotations/person_keypoints_train.json").read_text())
        sizes = {one["file_name"]: (one["height"], one["width"]) for one in content["images"]}
        return [SetImage(number, file, sizes[file.name]) for number, file in enumerate(files)]

    def testing(self, mode: Mode) -> dict[str, float]:
        """Images per second of the forward passes alone, and of the whole test, decoding beside them."""
        predictor = self.predictor(mode)
        images = self.images()
        shape = images[0].size or (320, 320)
        noise = np.zeros((*shape, 3), np.uint8)
        batch = [predictor.prepare(noise, number).canvases for number in range(self.config.test.batch_size)]
        bare = len(batch) * self.rate(lambda: predictor.fields(batch))
        start = time.perf_counter()
        workers = self.config.data.workers
        predict_images(
            [predictor.model], images, self.config.test, mode=mode,
            workers=workers if workers is not None else 4, strict=True, progress=False,
        )  # fmt: skip
        whole = len(images) / (time.perf_counter() - start)
        return {
            "images/s of the forward pass": bare,
            "images/s of the whole test": whole,
            "ratio": whole / bare,
        }

    def decoders(self) -> dict[str, float]:
        """Milliseconds to decode an image from maps on the device, and from the same maps on the CPU."""
        predictor = self.predictor("single")
        noise = np.zeros((320, 320, 3), np.uint8)
        prepared = [predictor.prepare(noise, number) for number in range(self.config.test.batch_size)]
        fields, stride = predictor.fields([one.canvases for one in prepared])
        on_cpu = {name: maps.cpu() for name, maps in fields.items()}
        per_image = 1000 / len(prepared)
        return {
            "ms from the device": per_image / self.rate(lambda: predictor.decode(fields, stride, prepared)),
            "ms from the CPU": per_image / self.rate(lambda: predictor.decode(on_cpu, stride, prepared)),
        }

    def quickstart(self, smallest: bool) -> dict[str, float]:
        """AP of the quickstart's config, trained in bf16 and tested at one scale."""
        run = ["-e", "gpu", "--config", str(ROOT / "configs/synthetic/ae_small.yaml"), "train.precision=bf16"]
        run += [f"data.root={self.folder / 'quickstart'}", "train.validate_every=0", "train.panels_every=0"]
        if smallest:
            run += [*TINY, "data.synthetic={train: 4, val: 2, size: 96}", "train.epochs=1"]
            run += ["train.steps_per_epoch=2"]
        device = ["--device", str(self.device.type)]
        start = time.perf_counter()
        self.command("pose.train", *run, *device)
        seconds = time.perf_counter() - start
        self.command("pose.test", "-c", "gpu", "-m", "single", *device)
        metrics = json.loads((self.folder / "exp/gpu/metrics-single.json").read_text())
        return {"AP": average_precision(metrics), "seconds of training": seconds}

    def command(self, module: str, *arguments: str) -> None:
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise UserError(f"python -m {module} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def average_precision(metrics: dict[str, Any]) -> float:
    """COCO's AP in what pose.test wrote."""
    found = metrics.get("AP")
    if found is None:
        found = next(one["AP"] for one in metrics.values() if isinstance(one, dict) and "AP" in one)
    return float(found)
