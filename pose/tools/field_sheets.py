"""Pictures with what the network answers and should answer: the sheets of pose.tools.visualize."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pose import geometry
from pose.annotations.annotations import Annotations, load_annotations
from pose.archives import is_file
from pose.data.augment import unchanged_color
from pose.data.dataset import Item
from pose.data.images import read_of_size
from pose.data.loader import collate
from pose.data.selection import open_annotations, validation_images
from pose.data.settings import SetFiles, set_files, training_files
from pose.draw.people import Style
from pose.engine.distributed import pick_device
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig
from pose.files import write_picture
from pose.images import read_image
from pose.model import PoseModel, autocast
from pose.options import run_settings
from pose.panels import Painter, of_first, target_of
from pose.predict.batches import BatchPredictor
from pose.predict.canvas import Prepared
from pose.published.zoo_runs import run_of
from pose.sessions import load_model
from pose.structures import Fields, People, Sample

SMALLEST = 384  # pixels of a panel's long side: smaller canvases are enlarged


# ------------------------------------------------------------------------------------------------ annotations


@dataclass(frozen=True)
class Place:
    """One image of annotated ones."""

    annotations: Annotations
    index: int


@dataclass
class Annotated:
    """Sets of annotated images, of which each is found by its path, or else by its name and size."""

    sets: list[tuple[Annotations, Path]]  # with the folder of the images

    def __post_init__(self) -> None:
        self.by_name: dict[str, list[tuple[Place, Path]]] = {}
        for one, folder in self.sets:
            for index in range(len(one)):
                name = one.file_name(index)
                place = (Place(one, index), folder / name)
                self.by_name.setdefault(Path(name).name, []).append(place)

    def find(self, file: Path) -> Place | None:
        same_name = self.by_name.get(file.name, [])
        for place, path in same_name:
            if path.resolve() == file.resolve():
                return place
        if not same_name or not is_file(file):
            return None
        sizes = {read_image(file, orientation=how).shape[:2] for how in ("stored", "exif")}
        return next((place for place, _ in same_name if place.annotations.size(place.index) in sizes), None)


def annotated(config: ExperimentConfig, file: Path | None) -> Annotated:
    """The images of the file, or of the run's validation and training sets as far as they exist."""
    if file is not None:
        return Annotated([(load_annotations(file, config.skeleton), Path())])
    sets: list[SetFiles] = [set_files(config.data, "val"), *training_files(config.data)]
    there = [one for one in dict.fromkeys(sets) if one.annotations.is_file()]
    return Annotated([(open_annotations(config.data, one, config.skeleton), one.images) for one in there])


def sample_of(place: Place, image: Tensor, matrix: np.ndarray, config: ExperimentConfig) -> Sample:
    """image (3, H, W): the network's canvas; matrix (2, 3): image -> canvas."""
    annotations, index = place.annotations, place.index
    canvas = (int(image.shape[1]), int(image.shape[2]))
    keypoints = annotations.keypoints(index)[: config.data.max_people].copy()
    keypoints[..., :2] = geometry.apply(matrix, keypoints[..., :2])
    keypoints[keypoints[..., 2] == 0] = 0
    ignored = annotations.ignore_mask(index)
    mask = np.ones(canvas, bool) if ignored is None else None
    if ignored is not None:
        mask = geometry.warp(ignored, matrix, canvas, nearest=True) == 0
    return Sample(
        image=image,
        loss_mask=torch.from_numpy(mask),
        keypoints=torch.from_numpy(keypoints),
        areas=torch.from_numpy(annotations.areas(index)[: config.data.max_people].copy()),
        color=torch.tensor(unchanged_color()),
        image_id=torch.tensor(int(annotations.image_ids[index])),
        labelled=torch.from_numpy(annotations.labelled.copy()),
    )


def chosen(options: argparse.Namespace, config: ExperimentConfig) -> list[Path]:
    """The images that are named, and those of the validation set that are asked for."""
    files: list[Path] = list(options.files)
    if options.ids:
        by_id = {str(number): path for number, path, _ in validation_images(config.data, config.skeleton)}
        if absent := [text for text in options.ids if text not in by_id]:
            some = ", ".join(list(by_id)[:5])
            raise UserError(f"--ids: {absent[0]!r} is no picture of the validation set (it has {some}, ...)")
        files += [by_id[text] for text in options.ids]
    if options.n is not None:
        if options.n < 1:
            raise UserError(f"-n {options.n}: ask for 1 picture or more")
        files += [path for _, path, _ in validation_images(config.data, config.skeleton, limit=options.n)]
    if not files:
        raise UserError("no picture given; name some, or take -n 4 of the validation set")
    if folders := [file for file in files if file.is_dir()]:
        raise UserError(f"{folders[0]} is a folder; name its pictures ({folders[0]}/*)")
    return list(dict.fromkeys(files))


# ---------------------------------------------------------------------------------------------------- sheets


@dataclass
class Sheets:
    """Draws the sheets of one run."""

    predictor: BatchPredictor
    config: ExperimentConfig
    annotated: Annotated
    keypoints: bool
    stages: bool
    max_side: int
    style: Style

    def __call__(self, file: Path) -> np.ndarray:
        place = self.annotated.find(file)
        if place is None:
            image = read_image(file, orientation="exif")
        else:  # as its annotations mean it
            image = read_of_size(file, place.annotations.size(place.index), self.config.data.orientation)
        prepared = self.predictor.prepare(image)
        canvas = prepared.canvases[0]
        height, width = canvas.shape[1:]
        zoom = float(max(1, round(SMALLEST / max(height, width))))
        zoom = min(zoom, self.max_side / max(height, width))
        target = None
        if place:
            batch = collate([Item(sample_of(place, canvas, prepared.matrix, self.config), None)]).batch
            target = target_of(self.model.head, batch.to(self.predictor.device), self.model.strides[-1])
        return Painter(self.model.head.fields, self.config.skeleton).sheet(
            canvas.permute(1, 2, 0).numpy(),
            self._prediction(prepared),
            target,
            stages=list(self._stages(canvas)) if self.stages else (),
            zoom=zoom,
            each=self.keypoints,
            style=self.style,
        )

    @property
    def model(self) -> PoseModel:
        return self.predictor.model

    def _prediction(self, prepared: Prepared) -> tuple[Fields, People]:
        fields, stride = self.predictor.fields([prepared.canvases])
        return of_first(fields), self.model.head.decode(fields, stride)[0]

    def _stages(self, canvas: Tensor) -> Iterator[Fields]:
        with autocast(self.predictor.device, self.predictor.precision):
            stages = self.model(canvas[None].to(self.predictor.device))
        return map(of_first, self.model.head.readout_each(stages))


def sheets(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The sheet of each image -> the image; `UserError` for two images with one sheet."""
    found: dict[Path, Path] = {}
    for file in files:
        output = folder / f"{file.stem}-fields.png"
        if found.setdefault(output, file) != file:
            raise UserError(
                f"{found[output]} and {file} would both be drawn to {output}; take them one at a time, each "
                "with a folder of its own (-o)"
            )
    return found


@torch.no_grad()
def visualize(options: argparse.Namespace) -> int:
    """Writes a sheet for each image."""
    settings = run_settings(options.settings, data=True)
    if options.max_side < 64:
        raise UserError(f"--max-side {options.max_side}: a panel needs 64 pixels or more")
    if not (options.files or options.ids or options.n is not None):
        raise UserError("no picture given; name some, or take -n 4 of the validation set")
    experiment = Experiment.open(run_of(options.name), overrides=settings)
    config = experiment.config
    files = chosen(options, config)
    model, _ = load_model(experiment, options.weights, pick_device(options.device, 0))
    folder = options.output or experiment.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    outputs = sheets(files, folder)
    paint = Sheets(
        BatchPredictor(model, config.test, options.mode),
        config,
        annotated(config, options.annotations),
        options.keypoints,
        options.stages,
        options.max_side,
        Style(min_score=options.min_score),
    )
    for output, file in outputs.items():
        write_picture(output, paint(file))
        print(output)
    return 0
