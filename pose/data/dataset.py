"""Files -> training samples: one picture read, one affine, one warp; the rest happens on the device."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import Field, model_validator
from torch.utils.data import Dataset

from pose import geometry
from pose.config import Settings
from pose.data.annotations import Annotations, load_annotations
from pose.data.augment import (
    IDENTITY_COLOR,
    PERSON_AREA,
    PERSON_KEYPOINTS,
    AugmentSettings,
    draw_affine,
    draw_color,
    draw_person_affine,
)
from pose.data.coco_json import read_skeleton
from pose.data.synthetic import SyntheticConfig
from pose.errors import UserError
from pose.skeleton import Skeleton, from_dict
from pose.structures import InputSettings, Sample

SUBSET_SEED = 0  # a subset is part of the data set, not of the run: every run sees the same one


class SetSettings(Settings):
    """Where one set lies; relative to data.root, `{year}` stands for data.year."""

    annotations: str
    """COCO keypoint JSON."""
    images: str
    """Folder of the pictures."""


class DerivedSettings(Settings):
    """A keypoint that no annotation has: the middle of others, labelled where all of them are."""

    middle_of: tuple[str, ...]
    """Names of annotated keypoints."""
    visible: Literal["any", "all"] = "any"
    """Visible where any of them or where all of them are, else occluded."""
    rounded: bool = False
    """To whole pixels, halves to the even one, as rtpose does."""


class SkeletonSettings(Settings):
    """The keypoints of the data set, as in `configs/_skeletons/`."""

    name: str = "custom"
    """For messages."""
    keypoints: tuple[str, ...]
    """Names, by which annotations are matched, whatever their order; left and right are read from them."""
    limbs: tuple[tuple[str, str], ...] = ()
    """Pairs of names that are joined."""
    sigmas: tuple[float, ...] | dict[str, float] = ()
    """COCO fall-off per keypoint, as a list or by name; empty: the same for all."""
    grouping_order: tuple[str, ...] = ()
    """Order in which keypoints are grouped to people; empty: along the limbs from the first keypoint."""
    mirror: dict[str, str] = {}
    """Mirror partners where the names do not tell."""
    derived: dict[str, DerivedSettings] = {}
    """Keypoints that the annotations do not have, worked out from others."""
    limb_order: tuple[tuple[str, str], ...] = ()
    """Order in which limbs join keypoints to people; empty: along `grouping_order`."""

    @model_validator(mode="after")
    def _check(self) -> SkeletonSettings:
        self.build()
        return self

    def build(self) -> Skeleton:
        return from_dict(self.model_dump())


class SyntheticSettings(Settings):
    """The drawn data set; see `pose.tools.synthesize`."""

    train: Annotated[int, Field(ge=0)] = 2000
    """Training pictures."""
    val: Annotated[int, Field(ge=0)] = 200
    """Validation pictures."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Of the drawings."""
    size: Annotated[int, Field(ge=64)] = 320
    """Long side in pixels."""
    max_people: Annotated[int, Field(ge=1, le=20)] = 5
    """Most people in one picture."""

    def build(self) -> SyntheticConfig:
        return SyntheticConfig(**self.model_dump())


class DataSettings(Settings):
    """The data set and how it is sampled."""

    synthetic: SyntheticSettings | None = None
    """Draw people into `root` on first use instead of reading photos."""
    root: str = "data/coco"
    """Folder that the paths of the sets are relative to."""
    year: int | None = None
    """Fills `{year}` in the paths of the sets."""
    train: SetSettings = SetSettings(
        annotations="annotations/person_keypoints_train{year}.json", images="train{year}"
    )
    """The training set."""
    val: SetSettings = SetSettings(
        annotations="annotations/person_keypoints_val{year}.json", images="val{year}"
    )
    """The validation set."""
    skeleton: SkeletonSettings | None = None
    """The keypoints; none: as the training annotations describe them."""
    negatives: Annotated[float, Field(ge=0)] = 0.0
    """Pictures without people in each pass, as a fraction of the number of pictures with people."""
    max_people: Annotated[int, Field(gt=0)] = 30
    """People kept per picture, the first in the file."""
    subset: Annotated[int | None, Field(gt=0)] = None
    """Train on this many pictures with people only, the same ones in every run."""
    validation_ids: str | None = None
    """File (text or JSON) of image ids of the training annotations that make up the validation set instead of
    `val`, and are not trained on."""
    validation_people_only: bool = False
    """Validate and test on the pictures with labelled people only; what is found on the others then does not
    count against AP."""
    strict: bool = False
    """Stop at anything wrong with the data instead of repairing, counting and going on."""
    workers: Annotated[int | None, Field(ge=0)] = None
    """Processes that prepare samples, for each training process; none: one less than the cores, at most 8."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes to the training pictures."""
    cache: bool = True
    """Keep the parsed annotations in a folder `.cache` beside the file."""


# ------------------------------------------------------------------------------------------------- paths


class SetFiles(NamedTuple):
    annotations: Path
    images: Path


def set_files(settings: DataSettings, which: Literal["train", "val"]) -> SetFiles:
    """The paths of a set; with `validation_ids` both sets are in the training files."""
    source = settings.train if which == "train" or settings.validation_ids else settings.val
    paths = []
    for key, text in (("annotations", source.annotations), ("images", source.images)):
        if "{year}" in text and settings.year is None:
            raise UserError(
                f"data.{which}.{key} is {text!r}, but data.year is not set; set it, e.g. data.year=2017"
            )
        paths.append(Path(settings.root) / text.replace("{year}", str(settings.year)))
    return SetFiles(*paths)


def resolve_skeleton(settings: DataSettings) -> Skeleton:
    """The skeleton of the settings, or else of the training annotations."""
    if settings.skeleton is not None:
        return settings.skeleton.build()
    return read_skeleton(set_files(settings, "train").annotations)


def read_ids(path: Path) -> list[int]:
    """Image ids in a JSON list or a text (separated by blanks, commas or lines; `#` starts a comment)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.validation_ids: cannot read {path}: {error}") from None
    try:
        values = json.loads(text)
    except ValueError:
        values = re.sub(r"#.*", "", text).replace(",", " ").split()
    values = values if isinstance(values, list) else [values]
    try:
        ids = [int(str(value)) for value in values]
    except ValueError as error:
        raise UserError(f"data.validation_ids: {path} must list image ids, whole numbers ({error})") from None
    if not ids:
        raise UserError(f"data.validation_ids: {path} lists no image id")
    return ids


def validation_indices(settings: DataSettings, annotations: Annotations) -> np.ndarray:
    """Indices of the images that `validation_ids` names; `annotations` are the training annotations."""
    if settings.validation_ids is None:
        return np.zeros(0, np.int64)
    ids = read_ids(Path(settings.validation_ids))
    absent = sorted(set(ids) - set(annotations.image_ids.tolist()))
    if absent:
        raise UserError(
            f"data.validation_ids: {len(absent)} of the {len(set(ids))} ids in {settings.validation_ids} "
            f"(first: {absent[0]}) are not in {annotations.source}; is the file for another year?"
        )
    return annotations.indices_of(ids)


def training_indices(settings: DataSettings, annotations: Annotations) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images with people and of those without that may be trained on."""
    allowed = np.ones(len(annotations), bool)
    allowed[validation_indices(settings, annotations)] = False
    positive = annotations.with_people()
    people = np.zeros(len(annotations), bool)
    people[positive] = True
    positive = positive[allowed[positive]]
    if settings.subset is not None:
        shuffled = np.random.default_rng(SUBSET_SEED).permutation(positive)
        positive = np.sort(shuffled[: settings.subset])
    if not len(positive):
        raise UserError(
            f"{annotations.source}: no image with labelled keypoints is left to train on; "
            "check data.train.annotations" + (" and data.validation_ids" if settings.validation_ids else "")
        )
    return positive, np.flatnonzero(allowed & ~people)


def validation_images(
    settings: DataSettings, skeleton: Skeleton, *, limit: int | None = None
) -> list[tuple[int, Path]]:
    """(image id, path) of the validation set in the order of the file; with `limit` the same few each time.

    Images without people belong to it, unless the settings leave them out: what is found there counts against
    the score."""
    files = set_files(settings, "val")
    annotations = load_annotations(files.annotations, skeleton, strict=settings.strict, cache=settings.cache)
    indices = np.arange(len(annotations))
    if settings.validation_ids is not None:
        indices = validation_indices(settings, annotations)
    if settings.validation_people_only:
        indices = np.intersect1d(indices, annotations.with_people())
        if not len(indices):
            raise UserError(
                f"data.validation_people_only: no picture of the validation set has labelled people in "
                f"{files.annotations}; set it to false"
            )
    if limit is not None:
        indices = np.sort(np.random.default_rng(SUBSET_SEED).permutation(indices)[:limit])
    ids = annotations.image_ids
    return [(int(ids[i]), files.images / annotations.file_name(i)) for i in indices.tolist()]


# ------------------------------------------------------------------------------------------------ pictures


class UnreadableImage(UserError):
    """A picture that is missing, damaged or not the one that was annotated."""


def read_image(path: Path, *, orientation: Literal["exif", "stored"] = "exif") -> np.ndarray:
    """(height, width, 3) uint8 RGB.  "exif" turns a photo upright as viewers do; "stored" leaves the pixels
    as they lie in the file, which is what COCO's annotations refer to.

    Raises `UnreadableImage`."""
    try:
        raw = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise UnreadableImage(f"no picture {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnreadableImage(f"cannot read the picture {path}: {error}") from None
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if orientation == "stored" else 0)
    try:
        image = cv2.imdecode(raw, flags) if raw.size and not _cut_off(raw) else None
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableImage(f"{path} is damaged or no picture ({raw.size} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _cut_off(raw: np.ndarray) -> bool:
    """A JPEG without an end marker after its last scan: some versions of OpenCV decode it to a half-grey
    picture without a word."""
    if raw[:2].tobytes() != b"\xff\xd8":
        return False
    text = raw.tobytes()
    return text.rfind(b"\xff\xd9") < text.rfind(b"\xff\xda")


# ------------------------------------------------------------------------------------------------- samples


class Item(NamedTuple):
    """A sample, and the sentence about the picture when it could not be read and the sample is blank."""

    sample: Sample
    unreadable: str | None


class KeypointDataset(Dataset[Item]):
    """Training samples by (index of the image, position in the endless training stream).

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
        self.input = input
        self.flip_index = list(skeleton.flip_index)
        self.annotated = list(skeleton.annotated_index)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        index, position = key
        rng = np.random.default_rng([self.seed, position])
        matrix, flip, color = self._draw(rng, index)
        try:
            image = self._read(index)
        except UnreadableImage as error:
            return Item(self._blank(index), str(error))
        keypoints, areas = self._people(index, matrix, flip)
        warped = geometry.warp(image, matrix, self.input.size, border=self.input.pad_value)
        sample = Sample(
            image=torch.from_numpy(warped).permute(2, 0, 1),  # a view: collating copies anyway
            loss_mask=torch.from_numpy(self._loss_mask(index, matrix)),
            keypoints=torch.from_numpy(keypoints),
            areas=torch.from_numpy(areas),
            color=torch.from_numpy(color),
            image_id=torch.tensor(int(self.annotations.image_ids[index])),
        )
        return Item(sample, None)

    def _draw(self, rng: np.random.Generator, index: int) -> tuple[np.ndarray, bool, np.ndarray]:
        """Matrix (2, 3), whether it mirrors, colour (4,).  What a crop round a person needs is drawn last, so
        that everything else stays as it is without."""
        frame = (self.annotations.size(index), self.input.size, self.input.pixel_center)
        matrix, flip = draw_affine(rng, self.augment, *frame)
        color = draw_color(rng, self.augment)
        if self.augment.crop == "person":
            boxes = self._boxes(index)
            if len(boxes):
                matrix, flip = draw_person_affine(rng, self.augment, boxes, *frame)
        return matrix, flip, color

    def _boxes(self, index: int) -> np.ndarray:
        """(N, 4) x, y, width, height of the people who are large enough to crop a sample round them."""
        people = slice(self.max_people)
        labelled = self.annotations.keypoints(index)[people, self.annotated, 2] > 0
        large = self.annotations.areas(index)[people] >= PERSON_AREA
        return self.annotations.boxes(index)[people][(labelled.sum(1) >= PERSON_KEYPOINTS) & large]

    def _read(self, index: int) -> np.ndarray:
        path = self.images / self.annotations.file_name(index)
        image = read_image(path, orientation="stored")
        height, width = self.annotations.size(index)
        if image.shape[:2] != (height, width):
            raise UnreadableImage(
                f"{path} is {image.shape[1]} x {image.shape[0]} pixels, "
                f"its annotations are for {width} x {height}"
            )
        return image

    def _people(self, index: int, matrix: np.ndarray, flip: bool) -> tuple[np.ndarray, np.ndarray]:
        """keypoints (P, K, 3) and areas (P,) in input pixels.  Keypoints outside the input keep their v."""
        keypoints = self.annotations.keypoints(index)[: self.max_people].copy()
        keypoints[..., :2] = geometry.apply(matrix, keypoints[..., :2])
        if flip:
            keypoints = keypoints[:, self.flip_index]
        keypoints[keypoints[..., 2] == 0] = 0
        areas = self.annotations.areas(index)[: self.max_people]
        return keypoints, areas * np.float32(abs(np.linalg.det(matrix[:, :2])))

    def _loss_mask(self, index: int, matrix: np.ndarray) -> np.ndarray:
        """(H, W) bool, False on the ignore region.  The border round the picture is background."""
        ignored = self.annotations.ignore_mask(index)
        if ignored is None:
            return np.ones(self.input.size, bool)
        return geometry.warp(ignored, matrix, self.input.size, nearest=True) == 0

    def _blank(self, index: int) -> Sample:
        return Sample(
            image=torch.zeros(3, *self.input.size, dtype=torch.uint8),
            loss_mask=torch.zeros(self.input.size, dtype=torch.bool),
            keypoints=torch.zeros(0, len(self.flip_index), 3),
            areas=torch.zeros(0),
            color=torch.tensor(IDENTITY_COLOR),
            image_id=torch.tensor(int(self.annotations.image_ids[index])),
        )


def load_training_set(
    settings: DataSettings, input: InputSettings, skeleton: Skeleton, *, seed: int = 0
) -> KeypointDataset:
    """The data set of the training files; a missing folder of pictures is found here and not in a worker."""
    files = set_files(settings, "train")
    annotations = load_annotations(files.annotations, skeleton, strict=settings.strict, cache=settings.cache)
    check_images(annotations, files.images, range(len(annotations)))
    return KeypointDataset(annotations, files.images, settings, input, skeleton, seed=seed)


def check_images(annotations: Annotations, images: Path, indices: Sequence[int]) -> None:
    """Raise `UserError` when the folder is missing or does not have the first pictures."""
    if not images.is_dir():
        raise UserError(f"no folder of pictures {images}; check data.root and the paths below it")
    names = [annotations.file_name(i) for i in indices[:20]]
    if names and not any((images / name).exists() for name in names):
        raise UserError(
            f"{images} has none of the first {len(names)} pictures of {annotations.source} "
            f"(first: {names[0]}); check data.root and the paths below it"
        )
