"""Which images of the annotations are trained on and which are validated on."""

from __future__ import annotations

import json
import logging
import re
from functools import cache
from pathlib import Path

import numpy as np

from pose.annotations.annotations import Annotations, load_annotations
from pose.annotations.image_files import locate
from pose.annotations.issues import CODES
from pose.data.images import SetImage
from pose.data.settings import DataSettings, SetFiles, set_files
from pose.errors import UserError
from pose.files import read_text
from pose.skeleton import Skeleton

logger = logging.getLogger("pose")

SUBSET_SEED = 0  # a subset is part of the data set, not of the run: every run sees the same one


def open_annotations(settings: DataSettings, files: SetFiles, skeleton: Skeleton) -> Annotations:
    """The annotations of a file as the settings want them read."""
    return load_annotations(
        files.annotations, skeleton, strict=settings.strict, cache=settings.cache, partial=settings.mixed,
        category=settings.category, images=files.images,
    )  # fmt: skip


def read_ids(path: Path) -> list[int]:
    """Image ids in a JSON list or a text (separated by blanks, commas or lines; `#` starts a comment)."""
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.validation_ids: cannot read {path}: {error}") from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
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


@cache  # once for training and validation
def warn_once(sentence: str) -> None:
    logger.warning(sentence)


def warn_of_sides(skeleton: Skeleton, *, trained: bool = False) -> None:
    """For images that are mirrored: a warning where no name of a keypoint tells left from right.  trained: of
    a run, whose training cannot be changed."""
    if not skeleton.tells_sides:
        what = CODES["no_sides"].what
        if trained:
            what = f"{what.partition(';')[0]}; turn mirroring off (test.flip=false)"
        warn_once(f"skeleton {skeleton.name!r}: {what}")


def why(annotations: Annotations) -> str:
    """What the reader says of a file without people, to go on a sentence with."""
    found = annotations.finding("no_people")
    return f": {found.first}" if found is not None and found.first else ""


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
            f"{annotations.source}: no image with labelled keypoints is left to train on{why(annotations)}; "
            f"check {'data.sets' if settings.mixed else 'data.train.annotations'}"
            + (" and data.validation_ids" if settings.validation_ids else "")
        )
    return positive, np.flatnonzero(allowed & ~people)


def validation_images(
    settings: DataSettings, skeleton: Skeleton, *, limit: int | None = None
) -> list[SetImage]:
    """The images of the validation set in the order of the file; with `limit` the same few each time.

    Images without people belong to it, unless the settings leave them out: what is found there counts against
    the score."""
    files = set_files(settings, "val")
    annotations = open_annotations(settings, files, skeleton)
    _check_scorable(annotations, skeleton)
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
    return [
        SetImage(
            int(annotations.image_ids[i]), locate(files.images, annotations.file_name(i)), annotations.size(i)
        )
        for i in indices.tolist()
    ]


def _check_scorable(annotations: Annotations, skeleton: Skeleton) -> None:
    """A set of a mixture may have keypoints that the skeleton lacks; people cannot be scored against them,
    which is told before the training and not at its first validation."""
    unknown = annotations.finding("other_keypoints")
    if unknown is not None:
        raise UserError(
            f"{annotations.source} cannot be validated on: {unknown.count} of its keypoints "
            f"(first: {unknown.first}) are not in the skeleton {skeleton.name!r}; choose another set for "
            "data.val, or a data.skeleton that has them"
        )
