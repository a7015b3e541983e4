"""A tiny data set, a tiny network and the training command in this process, for tests of training."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pose.config import Merged, validate
from pose.data.augment import AugmentSettings
from pose.data.loader import Loaded
from pose.engine.distributed import Processes
from pose.engine.settings import TrainSettings
from pose.engine.trainer import Trainer, seed_everything
from pose.engine.validation import Judge
from pose.errors import user_facing
from pose.experiment import load_config
from pose.metrics.base import Scores
from pose.model import TrainStep
from pose.synthetic import dataset as synthetic
from pose.train import main
from tests.batches import noise

torch.set_num_threads(1)  # sums depend on the number of threads, and a tiny network is no faster with more

DRAWN = {"train": 24, "val": 6, "seed": 3, "size": 128, "max_people": 3}
CPU = Processes(torch.device("cpu"))
TIMES = {"images_per_second", "data_wait", "memory_gib"}  # of a log line: never the same twice


def drawn(folder: Path) -> Path:
    """The drawn data set below `folder`, made on first use."""
    root = folder / "tiny"
    synthetic.ensure(root, synthetic.SyntheticConfig(**DRAWN), processes=1, progress=False)
    return root


def settings(root: Path | str, *more: str, batch_norm: str = "before") -> list[str]:
    """Command-line settings of a tiny run on the CPU: 3 epochs of 5 steps, every line of the log."""
    return [
        f"data.root={root}",
        f"data.synthetic={json.dumps(DRAWN)}",
        "data.workers=0",
        "data.augment={scale: [0.8, 1.2], rotation: 15, shift: 0.05, flip: 0.5, hue: 0.1, "
        "saturation: [0.8, 1.2], brightness: 0.1, contrast: [0.8, 1.2]}",
        "input.size=[64, 64]",
        "backbone.width=8",
        "backbone.growth=4",
        "backbone.stem_width=4",
        "backbone.depth=2",
        f"backbone.batch_norm={batch_norm}",
        "train.batch_size=4",
        "train.optimizer.name=adamw",
        "train.optimizer.lr=0.004",
        "train.schedule.name=cosine",
        "train.epochs=3",
        "train.steps_per_epoch=5",
        "train.schedule.warmup_steps=3",
        "train.log_every=1",
        "train.ema=0.9",
        *more,
    ]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """`python -m pose.train ARGUMENTS` in this process and folder; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["pose.train", *arguments])
    return user_facing(main)()


def environment() -> dict[str, str]:
    """Of a subprocess that imports this checkout and works on one thread."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def scores(**numbers: float) -> Scores:
    """What a validation by COCO's metric gave."""
    return Scores("coco", numbers, "AP", ("AP",))


def lines(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of log.jsonl without what depends on the clock."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in record.items() if k not in TIMES}
        for record in records
        if kind is None or record["kind"] == kind
    ]


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two nests of plain data and tensors are not bit-identical."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))
        return [] if same else [where]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for key in a for d in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{where}/{i}")]
    return [] if type(a) is type(b) and a == b else [f"{where}: {a!r} != {b!r}"]


# ------------------------------------------------------------------------------ a trainer without any files


BRIGHTNESS = AugmentSettings(hue=0.0, saturation=(1.0, 1.0))


def tiny_step(
    *more: str,
    batch_norm: str = "before",
    precision: str = "fp32",
    seed: int = 0,
    augment: AugmentSettings = BRIGHTNESS,
) -> TrainStep:
    """`more` are further settings."""
    config = load_config(
        None, ["data.skeleton=coco17", *settings("unused", batch_norm=batch_norm), *NAMES, *more]
    )
    seed_everything(seed)
    model = config.build_model()
    return TrainStep(model, precision=precision, augment=augment)


NAMES = ["backbone.name=hourglass", "backbone.stacks=1", "head.name=tags", "head.push_weight=0.01"]


def batches(count: int, size: int = 4, *, people: int = 3, seed: int = 0) -> list[Loaded]:
    """Batches of noise with people anywhere; image ids count from 100."""
    g = torch.Generator().manual_seed(seed)
    color = (0.0, 1.0, 0.05, 1.1)
    made = [noise(g, size, people, (64, 64), color=color, first_id=100 + i * size) for i in range(count)]
    return [Loaded(batch, ()) for batch in made]


def train_settings(**given: Any) -> TrainSettings:
    """As from a file: also by the flat names of former versions, such as `lr` for `optimizer: {lr: ...}`."""
    merged = Merged(TrainSettings)
    merged.put(given, "a test")
    return validate(TrainSettings, merged)


def trainer(
    folder: Path,
    loaded: Sequence[Loaded],
    *,
    step: TrainStep | None = None,
    wrapped: torch.nn.Module | None = None,
    steps_per_epoch: int | None = None,
    validate: Judge | None = None,
    **train: Any,
) -> Trainer:
    """A trainer on `loaded`, one epoch of as many steps; `train` are further settings."""
    step = step or tiny_step()
    plain = {"batch_size": len(loaded[0].batch.image_id), "epochs": 1, "log_every": 1, "validate_every": 0}
    return Trainer(
        step=step,
        wrapped=wrapped or step,
        settings=train_settings(**{**plain, **train}),
        group=CPU,
        loader=lambda start: loaded[start:],
        steps_per_epoch=steps_per_epoch or len(loaded),
        folder=folder,
        validate=validate,
    )
