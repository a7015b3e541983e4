"""How a trained network computes on this machine: the memory order of its maps, and its arithmetic."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from pose import cpu
from pose.errors import UserError
from pose.exported import fingerprint
from pose.files import cache_folders, read_text, write_json
from pose.geometry import round_up
from pose.model import PoseModel, resolve_precision
from pose.predict.settings import TestSettings
from pose.structures import Fields
from pose.synthetic.dataset import SyntheticConfig, draw_picture

X86 = ("x86_64", "amd64")
GAIN = 1.2  # bf16 is chosen where it is so many times as quick
DIFFERENCE = 0.02  # and moves no field by more than this part of its largest value
TURNS = 5
SIDE = 256  # pixels; larger networks' inputs are measured at this size

log = logging.getLogger("pose")


# ---- memory order


def for_inference(model: PoseModel) -> PoseModel:
    """The model itself, arranged for inference on its device.  Not for a network in training, whose steps
    would round differently afterwards."""
    if channels_last_wins(model.device):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def channels_last_wins(device: torch.device) -> bool:
    """Whether convolutions are quicker channels last.

    A rule, as measured by `benchmarks.runtimes`: oneDNN's convolutions on x86-64 were 1.04 to 1.46 times as
    quick with each of the backbones, and never slower.  Other machines keep torch's own order."""
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return device.type == "cpu" and bool(onednn) and platform.machine().lower() in X86


# ---- arithmetic


@dataclass(frozen=True)
class Comparison:
    """What bf16 does to a network on this machine."""

    gain: float  # times as quick as float32
    difference: float  # the largest of a field, as a part of its largest value

    @property
    def wins(self) -> bool:
        return self.gain >= GAIN and self.difference <= DIFFERENCE

    @property
    def told(self) -> str:
        """What was chosen, for people."""
        measured = f"{self.gain:.1f}x as quick here, fields within {self.difference:.1%}"
        if self.wins:
            return f"precision: bf16 ({measured}); test.precision=fp32 for float32"
        return f"precision: fp32 (bf16: {measured})"


COMPARISONS = TypeAdapter(dict[str, Comparison])


def choose_precision(model: PoseModel, settings: TestSettings, folder: Path) -> tuple[TestSettings, str]:
    """The settings with the precision in place of `auto`, and a sentence about a choice ("" for none).

    `auto` is as in training, but for CPUs that compute in bf16: there both are compared, once for these
    weights on this machine; the outcome is kept in the cache of `folder`, that of the run."""
    precision, told = resolve_precision(settings.precision, model.device), ""
    if settings.precision == "auto" and model.device.type == "cpu" and cpu.has_bf16():
        compared = _kept_comparison(model, settings, folder)
        precision, told = ("bf16" if compared.wins else "fp32"), compared.told
    return settings.model_copy(update={"precision": precision}), told


def _kept_comparison(model: PoseModel, settings: TestSettings, folder: Path) -> Comparison:
    images = probe_images(model, settings)
    machine = (cpu.name(), cpu.instruction_set(), torch.get_num_threads(), str(torch.__version__))
    weights = fingerprint(model.state_dict(), model.head.constants())
    key = hashlib.sha256(json.dumps([machine, weights, images.shape]).encode()).hexdigest()[:16]
    files = [place / "precision.json" for place in cache_folders(folder.resolve())]
    for file in files:
        if key in (known := _read(file)):
            return known[key]
    compared = compare(model, images)
    if not math.isfinite(compared.difference):  # broken weights; no number for JSON
        return compared
    for file in files:
        kept = {name: asdict(one) for name, one in _read(file).items()}
        try:
            write_json(file, {**kept, key: asdict(compared)})
            break
        except UserError as error:  # the next place, or measured again next time
            log.debug("%s", error)
    return compared


def _read(file: Path) -> dict[str, Comparison]:
    """Nothing where there is no such file, or not one of ours."""
    try:
        return COMPARISONS.validate_json(read_text(file))
    except (OSError, UnicodeDecodeError, ValidationError):
        return {}


def probe_images(model: PoseModel, settings: TestSettings) -> Tensor:
    """A drawn image with people, and its mirror image where they are tested too: (B, 3, H, W) uint8."""
    size = settings.input_size or model.input.size
    height, width = (round_up(min(side, SIDE), model.size_multiple) for side in size)
    drawn, _ = draw_picture(0, "val", SyntheticConfig(size=SIDE, max_people=3))
    canvas = torch.from_numpy(cv2.resize(drawn, (width, height))).permute(2, 0, 1)[None]
    return torch.cat([canvas, canvas.flip(-1)]) if settings.flip else canvas


@torch.inference_mode()
def compare(model: PoseModel, images: Tensor) -> Comparison:
    """bf16 against float32, in turns, so that what else the machine does slows both; the first turn is not
    counted."""
    expected, found = model.read(images, "fp32"), model.read(images, "bf16")
    ratios = []
    for _ in range(TURNS):
        start = time.perf_counter()
        model.read(images, "fp32")
        between = time.perf_counter()
        model.read(images, "bf16")
        ratios.append((between - start) / max(time.perf_counter() - between, 1e-9))
    return Comparison(statistics.median(ratios), difference(found, expected))


def difference(found: Fields, expected: Fields) -> float:
    """The largest of any field, as a part of that field's largest value; infinite where one is no number."""
    worst = 0.0
    for name, maps in expected.items():
        largest = float(maps.abs().max())
        apart = float((found[name] - maps).abs().max())
        part = apart / largest if largest else apart
        worst = max(worst, part if part == part else float("inf"))
    return worst
