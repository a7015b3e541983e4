"""Training samples as images: the sheet and the page of pose.tools.browse."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from pose.data.augment import AugmentSettings, DeviceAugment, told_color
from pose.data.dataset import KeypointDataset
from pose.data.loader import ShardedBatchSampler, collate
from pose.data.mixture import MixedDataset, Training, training_data
from pose.data.shapes import ShapedBatchSampler
from pose.draw import pages
from pose.draw.samples import LEGEND, SIDE, draw_annotations
from pose.draw.sheets import Panel, captioned, contact_sheet
from pose.engine.distributed import Processes
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig, load_config
from pose.files import write_picture, write_text
from pose.heads.base import Head
from pose.options import run_settings
from pose.panels import Painter, as_bytes, of_first
from pose.registry import HEADS
from pose.sessions import draw_synthetic
from pose.structures import People, Sample

CELL = 400  # pixels of a sample on the sheet
COLUMNS = 4  # of the sheet
WIDTH = 340  # pixels of an image on the page: three stand side by side

Key = tuple[int, int] | tuple[int, int, tuple[int, int]]


@dataclass(frozen=True)
class Shown:
    """A sample as it goes to the sheet and to the page."""

    tile: np.ndarray  # what is trained on, with keypoints, mask and a line of text
    title: str
    section: str  # HTML


def keys(config: ExperimentConfig, training: Training, start: int, count: int) -> Iterator[Key]:
    """What the data set is asked for at `count` positions from `start` on, in the order of the training."""
    size = config.train.batch_size
    sampler = ShapedBatchSampler if training.dataset.whole else ShardedBatchSampler
    batches = sampler(training.stream, size, start_step=start // size, dataset=training.dataset)
    skipped = start % size
    for batch in batches:
        for key in batch[skipped:]:
            if count == 0:
                return
            yield key
            count -= 1
        skipped = 0


# ---------------------------------------------------------------------------- one sample


class Samples:
    """Samples of a config's training by their keys, as images."""

    def __init__(self, config: ExperimentConfig, training: Training) -> None:
        self.config = config
        self.dataset = training.dataset
        self.skeleton = config.skeleton
        self.head: Head = HEADS.build(config.head, self.skeleton, config.input.layout)
        self.painter = Painter(self.head.fields, self.skeleton)
        with torch.device("meta"):  # only its strides are asked for
            self.strides = sorted({*config.build_model().strides})

    def __call__(self, key: Key) -> Shown | str:
        """A sentence instead where the image cannot be read."""
        part, index = within(self.dataset, key[0])
        item = self.dataset[key]
        if item.unreadable is not None:
            return item.unreadable
        batch = collate([item]).batch
        image = colored(batch, self.config.data.augment)
        keypoints, mask = item.sample.keypoints.numpy(), item.sample.loss_mask.numpy()
        sample = draw_annotations(image, keypoints, self.skeleton, mask=mask)
        path, annotated = part.picture(index)
        stored = part.read(index)
        original = draw_annotations(stored, annotated, self.skeleton, mask=_counts(part, index))
        labelled = keypoints[..., 2] > 0
        on = ((keypoints[..., :2] >= -0.5) & (keypoints[..., :2] < np.array(mask.shape[::-1]) - 0.5)).all(-1)
        people = int(labelled.any(1).sum())
        count = "1 person" if people == 1 else f"{people} people"
        which = f", {part.annotations.source.name}" if isinstance(self.dataset, MixedDataset) else ""
        facts = [
            f"image {int(item.sample.image_id)}, {path}{which}",
            f"{count}, {labelled.sum()} keypoints labelled, {(labelled & on).sum()} of them on the canvas",
            f"{mask.mean():.0%} of the canvas counts in the loss",
            *changes(part, index, key[1], key[2] if len(key) == 3 else self.config.input.size),
        ]
        pictures = [Panel("", original, "picture"), Panel("", sample, "training sample")]
        return Shown(
            tile=captioned(square(sample, CELL), f"{key[1]}: {path.name}, {count}"),
            title=f"position {key[1]}: {path.name}{which}",
            section=section(facts, [pictures, *self._targets(batch, image)]),
        )

    def _targets(self, batch: Sample, image: np.ndarray) -> list[list[Panel]]:
        """A row of panels of what the head draws for each stride."""
        keypoints = batch.keypoints[0].numpy().copy()
        keypoints[..., 2] = np.where(keypoints[..., 2] > 0, 1, 0)
        people = People(keypoints, np.ones(len(keypoints), np.float32))
        rows = []
        for stride in self.strides:
            fields = of_first(self.head.target_fields(self.head.targets(batch, stride)))
            panels = self.painter.panels(image, fields, people, zoom=SIDE / max(image.shape[:2]))
            first = Panel(
                panels[0].name, panels[0].picture, f"targets at stride {stride}: {panels[0].caption}"
            )
            rows.append([first, *panels[1:]])
        return rows


def within(dataset: KeypointDataset | MixedDataset, index: int) -> tuple[KeypointDataset, int]:
    """The set of an index, and the index there."""
    return dataset.within(index) if isinstance(dataset, MixedDataset) else (dataset, index)


def _counts(part: KeypointDataset, index: int) -> np.ndarray | None:
    ignored = part.annotations.ignore_mask(index)
    return None if ignored is None else ignored == 0


def colored(batch: Sample, settings: AugmentSettings) -> np.ndarray:
    """The image of a batch of one, (H, W, 3) uint8 RGB, with colours as in the training step."""
    images = DeviceAugment(settings)(batch.image, batch.color)
    return as_bytes(images)


def changes(part: KeypointDataset, index: int, position: int, canvas: tuple[int, int]) -> list[str]:
    """What was done to the image, in words."""
    matrix, flip, color = part.changes(index, position, canvas)
    turn = matrix[:, :2] * np.array([[-1.0], [1.0]]) if flip else matrix[:, :2]
    scale = math.sqrt(abs(float(np.linalg.det(turn))))
    angle = math.degrees(math.atan2(turn[0, 1], turn[0, 0]))
    height, width = part.annotations.size(index)
    shape = f"{width} x {height} -> {canvas[1]} x {canvas[0]} pixels"
    where = [
        shape,
        f"scale {scale:.2f}",
        f"turned {round(angle):+d} degrees",
        "mirrored" if flip else "not mirrored",
    ]
    return [", ".join(where), told_color(part.augment, color)]


def square(picture: np.ndarray, side: int) -> np.ndarray:
    """The image in the middle of a white square."""
    zoom = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * zoom)), max(1, round(picture.shape[0] * zoom)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    result = np.full((side, side, 3), 255, np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    result[top : top + size[1], left : left + size[0]] = small
    return result


# ---------------------------------------------------------------------------- the page


def report(source: str, config: ExperimentConfig, shown: Sequence[Shown], bad: Sequence[str]) -> str:
    lead = (
        f"<p>{len(shown)} training samples of {pages.text(source)}: head {pages.text(config.head.name)}, "
        f"backbone {pages.text(config.backbone.name)}, batches of {config.train.batch_size}.</p>"
        f"<p class=note>{pages.text(LEGEND)}</p>"
    )
    sections = [(one.title, one.section) for one in shown]
    if bad:
        listed = "".join(f"<li>{pages.text(sentence)}</li>" for sentence in bad)
        sections.insert(0, (f"{len(bad)} pictures that cannot be read", f"<ul>{listed}</ul>"))
    return pages.page(f"Training samples: {source}", sections, lead)


def section(facts: Sequence[str], rows: Sequence[Sequence[Panel]]) -> str:
    """Facts line by line, then rows of images."""
    text = "<br>".join(pages.text(fact) for fact in facts)
    lines = ["".join(_figure(panel.picture, panel.caption) for panel in row) for row in rows]
    return f"<p>{text}</p>" + "".join(f"<div>{line}</div>" for line in lines)


def _figure(picture: np.ndarray, caption: str) -> str:
    """As wide as the others' longer side: images of one sample stand in one line."""
    width = round(WIDTH * picture.shape[1] / max(picture.shape[:2]))
    return pages.picture(picture, caption, width=max(width, WIDTH // 2))


@torch.no_grad()
def browse(options: argparse.Namespace) -> int:
    """Writes samples.png and samples.html."""
    if options.name is not None:
        experiment = Experiment.open(options.name, overrides=run_settings(options.settings, data=True))
        config, folder = experiment.config, options.output or experiment.folder
    else:
        config = load_config(options.config, options.settings)
        folder = options.output or Path("samples")
    draw_synthetic(config, Processes(torch.device("cpu")))
    seed = config.train.seed if options.seed is None else options.seed
    training = training_data(config.data, config.input, config.skeleton, seed=seed)
    samples = Samples(config, training)
    shown: list[Shown] = []
    bad: list[str] = []
    for key in tqdm(
        list(keys(config, training, options.start, options.number)), desc="samples", leave=False, disable=None
    ):
        one = samples(key)
        if isinstance(one, Shown):
            shown.append(one)
        else:
            bad.append(one)
    if not shown:
        raise UserError(f"none of the {len(bad)} pictures can be read (first: {bad[0]})")
    tiles = [one.tile for one in shown]
    write_picture(folder / "samples.png", contact_sheet(tiles, columns=COLUMNS, cell=max(tiles[0].shape[:2])))
    source = str(options.config or options.name)
    write_text(folder / "samples.html", report(source, config, shown, bad))
    print(folder / "samples.png", folder / "samples.html", sep="\n")
    for sentence in bad:
        print(f"left out of training: {sentence}", file=sys.stderr)
    return 0
