"""Files -> training samples: one picture read, one affine, one warp; the rest happens on the device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from pose import geometry
from pose.annotations.annotations import Annotations
from pose.annotations.image_files import locate, where_instead
from pose.archives import SUFFIXES, is_file, is_folder
from pose.data.augment import draw_color, unchanged_color
from pose.data.images import read_annotated
from pose.data.selection import open_annotations
from pose.data.settings import DataSettings, SetFiles
from pose.data.warps import (
    PERSON_AREA,
    PERSON_KEYPOINTS,
    draw_affine,
    draw_person_affine,
    draw_whole_affine,
    whole_factor,
)
from pose.errors import UserError
from pose.images import UnreadableImage
from pose.skeleton import Skeleton
from pose.structures import InputSettings, Sample

FIRST = 20  # images whose files are looked for before a training
WHOLE_TAG = 4  # keeps the generators of whole pictures' sizes apart from those of samples


class Item(NamedTuple):
    """A sample, and the sentence about the picture when it could not be read and the sample is blank."""

    sample: Sample
    unreadable: str | None


Key = tuple[int, int] | tuple[int, int, tuple[int, int]]


class KeypointDataset(Dataset[Item]):
    """Training samples by (index of the image, position in the endless training stream), or by these and the
    size of the canvas (height, width), which else is `input.size`.

    Everything random about a sample comes from `seed` and the position, so neither the number of workers or
    processes nor an interruption changes it."""

    def __init__(
        self,
        annotations: Annotations,
        images: Path,
        settings: DataSettings,
        input: InputSettings,
        skeleton: Skeleton,
        *,
        seed: int = 0,
    ) -> None:
        self.annotations = annotations
        self.images = Path(images)
        self.augment = settings.augment
        self.max_people = settings.max_people
        self.strict = settings.strict
        self.orientation = settings.orientation
        self.input = input
        self.flip_index = list(skeleton.flip_index)
        self.annotated = list(skeleton.annotated_index)
        self.labelled = annotations.labelled
        self.seed = seed

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: Key) -> Item:
        index, position = key[:2]
        canvas = key[2] if len(key) == 3 else self.input.size
        matrix, flip, color = self.changes(index, position, canvas)
        try:
            image = self.read(index)
        except UnreadableImage as error:
            return Item(self._blank(index, canvas), str(error))
        keypoints, areas = self._people(index, matrix, flip)
        warped = geometry.warp(image, matrix, canvas, border=self.input.pad_value)
        sample = Sample(
            image=torch.from_numpy(warped).permute(2, 0, 1),  # a view: collating copies anyway
            loss_mask=torch.from_numpy(self._loss_mask(index, matrix, canvas)),
            keypoints=torch.from_numpy(keypoints),
            areas=torch.from_numpy(areas),
            color=torch.from_numpy(color),
            image_id=torch.tensor(int(self.annotations.image_ids[index])),
            labelled=torch.from_numpy(self.labelled[self.flip_index] if flip else self.labelled.copy()),
        )
        return Item(sample, None)

    @property
    def whole(self) -> bool:
        """Whether batches have shapes of their own."""
        return self.augment.crop == "whole"

    def factor(self, index: int, position: int) -> float:
        """By what a whole picture is enlarged; from a generator of its own, as it decides what is batched."""
        rng = np.random.default_rng([self.seed, position, WHOLE_TAG])
        return whole_factor(rng, self.augment, self.annotations.size(index), self.input.size)

    def drawn_size(self, index: int, position: int) -> tuple[float, float]:
        """Height and width of a whole picture in the batch."""
        height, width = self.annotations.size(index)
        factor = self.factor(index, position)
        return height * factor, width * factor

    def picture(self, index: int) -> tuple[Path, np.ndarray]:
        """The file of a picture, and its people's keypoints (P, K, 3) in the picture's pixels."""
        path = locate(self.images, self.annotations.file_name(index))
        return path, self.annotations.keypoints(index).copy()

    def read(self, index: int) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB itself, as its annotations mean it.  Raises `UnreadableImage`."""
        name, size = self.annotations.file_name(index), self.annotations.size(index)
        if max(size) > geometry.LARGEST_SOURCE:
            raise UnreadableImage(
                f"{locate(self.images, name)} is {size[1]} x {size[0]} pixels; a side of at most "
                f"{geometry.LARGEST_SOURCE} is drawn: make it smaller, with its annotations"
            )
        return read_annotated(self.images, name, size, self.orientation)

    def people(self, index: int, position: int) -> np.ndarray:
        """keypoints (P, K, 3) of a sample, in pixels of the input; no picture is read."""
        canvas = self.input.size
        matrix, flip, _ = self.changes(index, position, canvas)
        return self._people(index, matrix, flip)[0]

    def changes(
        self, index: int, position: int, canvas: tuple[int, int]
    ) -> tuple[np.ndarray, bool, np.ndarray]:
        """What is done to a picture: matrix (2, 3), whether it mirrors, colour (4,).

        What a crop round a person or a whole picture needs is drawn last, so that everything else stays as
        it is without."""
        rng = np.random.default_rng([self.seed, position])
        frame = (self.annotations.size(index), canvas, self.input.pixel_center)
        matrix, flip = draw_affine(rng, self.augment, *frame)
        color = draw_color(rng, self.augment)
        if self.augment.crop == "person":
            boxes = self._boxes(index)
            if len(boxes):
                matrix, flip = draw_person_affine(rng, self.augment, boxes, *frame)
        elif self.whole:
            matrix, flip = draw_whole_affine(rng, self.augment, self.factor(index, position), *frame)
        return matrix, flip, color

    def _boxes(self, index: int) -> np.ndarray:
        """(N, 4) x, y, width, height of the people who are large enough to crop a sample round them."""
        people = slice(self.max_people)
        labelled = self.annotations.keypoints(index)[people, self.annotated, 2] > 0
        large = self.annotations.areas(index)[people] >= PERSON_AREA
        return self.annotations.boxes(index)[people][(labelled.sum(1) >= PERSON_KEYPOINTS) & large]

    def _people(self, index: int, matrix: np.ndarray, flip: bool) -> tuple[np.ndarray, np.ndarray]:
        """keypoints (P, K, 3) and areas (P,) in input pixels.  Keypoints outside the input keep their v."""
        keypoints = self.annotations.keypoints(index)[: self.max_people].copy()
        keypoints[..., :2] = geometry.apply(matrix, keypoints[..., :2])
        if flip:
            keypoints = keypoints[:, self.flip_index]
        keypoints[keypoints[..., 2] == 0] = 0
        areas = self.annotations.areas(index)[: self.max_people]
        return keypoints, areas * np.float32(abs(np.linalg.det(matrix[:, :2])))

    def _loss_mask(self, index: int, matrix: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        """(H, W) bool, False on the ignore region.  The border round the picture is background."""
        ignored = self.annotations.ignore_mask(index)
        if ignored is None:
            return np.ones(canvas, bool)
        return geometry.warp(ignored, matrix, canvas, nearest=True) == 0

    def _blank(self, index: int, canvas: tuple[int, int]) -> Sample:
        return Sample(
            image=torch.zeros(3, *canvas, dtype=torch.uint8),
            loss_mask=torch.zeros(canvas, dtype=torch.bool),
            keypoints=torch.zeros(0, len(self.flip_index), 3),
            areas=torch.zeros(0),
            color=torch.tensor(unchanged_color()),
            image_id=torch.tensor(int(self.annotations.image_ids[index])),
            labelled=torch.from_numpy(self.labelled.copy()),
        )


def load_training_set(
    settings: DataSettings, files: SetFiles, input: InputSettings, skeleton: Skeleton, *, seed: int = 0
) -> KeypointDataset:
    """The data set of some training files; a missing folder of pictures is found here and not in a worker."""
    annotations = open_annotations(settings, files, skeleton)
    check_images(annotations, files.images, range(len(annotations)))
    return KeypointDataset(annotations, files.images, settings, input, skeleton, seed=seed)


def check_images(annotations: Annotations, images: Path, indices: Sequence[int]) -> None:
    """Raise `UserError` when the folder is missing or does not have the first pictures."""
    check_files(images, [annotations.file_name(i) for i in indices[:FIRST]], annotations.source)


def check_files(folder: Path, names: Sequence[str], source: Path) -> None:
    """As `check_images`, by the names of the first images."""
    if not is_folder(folder):
        raise UserError(
            f"the folder of images {folder} {_missing(folder)}; check data.root and the paths below it"
        )
    if names and not any(_exists(locate(folder, name)) for name in names):
        raise UserError(
            f"{folder} has none of the first {len(names)} images of {source} (first: {names[0]}"
            f"{where_instead(folder, names[0])}); check data.root and the paths below it"
        )


def _exists(path: Path) -> bool:
    return is_file(path) or os.path.exists(path)


def _missing(folder: Path) -> str:
    """What is there instead of a folder of images."""
    if os.path.exists(folder):
        return "is no folder and no .zip or .tar archive"
    packed = [folder.with_name(folder.name + suffix) for suffix in SUFFIXES]
    there = next((one.name for one in packed if os.path.isfile(one)), None)
    return "is missing" + (f" ({there} is there, which can be named instead)" if there else "")
