"""AI Challenger's annotations in COCO's format, and back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pose.annotations.aic import KEYPOINTS, NOT_LABELLED, AicImage, box_around, plain
from pose.annotations.categories import plain_name
from pose.annotations.findings import Finding, Findings, report
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.numbers import LARGEST, NONE
from pose.errors import UserError
from pose.skeleton import Skeleton

BLOCK = 1000  # images that are converted together
DOUBTS = {
    "outside": ("note", "human(s) with a labelled keypoint outside the picture, kept"),
    "beyond": (
        "note",
        "human(s) whose box reaches beyond the picture, kept: its area makes the score lenient",
    ),
    "flat": ("note", "human(s) whose box has no area, kept: only exact hits score"),
}
REPAIRED = ("annotation_entry", "absent_image", "keypoint_length", "not_finite", "visibility")

logger = logging.getLogger("pose")


class Picture(NamedTuple):
    """The file of an image, and its size in pixels."""

    file_name: str
    width: int
    height: int


def to_coco(images: Sequence[AicImage], pictures: Sequence[Picture], skeleton: Skeleton) -> dict[str, Any]:
    """A COCO data set of annotated images; ids count from 1 in the order given.

    pictures: one per image.  skeleton: the keypoints to write, by name; what AI Challenger does not have is
    not labelled.  v 1, 2, 3 becomes 2, 1, 0, and `area` is that of the box.  Images keep `aic_id` and `url`,
    annotations `human`, which `from_coco` reads."""
    annotations: list[dict[str, Any]] = []
    for start in range(0, len(images), BLOCK):
        _add_people(annotations, images[start : start + BLOCK], start + 1, skeleton)
    return {
        "images": [_coco_image(*pair, i + 1) for i, pair in enumerate(zip(images, pictures, strict=True))],
        "annotations": annotations,
        "categories": [coco_category(skeleton)],
    }


def _add_people(
    annotations: list[dict[str, Any]], images: Sequence[AicImage], first: int, skeleton: Skeleton
) -> None:
    """Append the people of images whose ids count from `first`."""
    owners = [first + i for i, image in enumerate(images) for _ in image.humans]
    humans = [human for image in images for human in image.humans]
    keypoints = _coco_keypoints(np.concatenate([image.keypoints for image in images]), skeleton)
    boxes = np.concatenate([image.boxes for image in images])
    sizes = boxes[:, 2:] - boxes[:, :2]
    labelled = (keypoints[..., 2] > 0).sum(1).tolist()
    numbers = plain(keypoints.reshape(len(keypoints), -1))
    boxes_and_areas = plain(np.concatenate([boxes[:, :2], sizes, sizes.prod(1, keepdims=True)], axis=1))
    people = zip(owners, humans, boxes_and_areas, labelled, numbers, strict=True)
    for owner, human, (*box, area), count, values in people:
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": owner,
                "category_id": 1,
                "human": human,
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "num_keypoints": count,
                "keypoints": values,
            }
        )


def coco_category(skeleton: Skeleton) -> dict[str, Any]:
    """The category of people, as `pose.skeleton.from_coco_category` reads it."""
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limb_index],
        "sigmas": list(skeleton.sigmas),
        "grouping_order": list(skeleton.grouping_order),
    }


def _coco_image(image: AicImage, picture: Picture, number: int) -> dict[str, Any]:
    url = {"url": image.url} if image.url else {}
    return {"id": number, **picture._asdict(), "aic_id": image.image_id, **url}


def _coco_keypoints(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(P, 14, 3) official -> (P, K, 3) with COCO's v; 0 0 0 where nothing is labelled."""
    own = np.where(keypoints[..., 2:] == NOT_LABELLED, 0.0, keypoints)
    own[..., 2] = NOT_LABELLED - keypoints[..., 2]
    slots = np.zeros((len(keypoints), len(skeleton), 3))
    for k, name in enumerate(KEYPOINTS):
        if name in skeleton.keypoints:
            slots[:, skeleton.keypoints.index(name)] = own[:, k]
    return slots


def doubts(images: Sequence[AicImage], pictures: Sequence[Picture]) -> tuple[Finding, ...]:
    """What cannot be right once the pictures are known; it is kept, as the official score counts it."""
    findings = Findings(DOUBTS)
    for image, picture in zip(images, pictures, strict=True):
        size = np.array([picture.width, picture.height])
        labelled = image.keypoints[..., 2] != NOT_LABELLED
        points = image.keypoints[..., :2]
        outside = (labelled & ((points < 0) | (points > size)).any(-1)).any(1)
        box = image.boxes
        beyond = (box[:, :2] < -1).any(1) | (box[:, 2:] > size + 1).any(1)
        flat = (box[:, 2:] <= box[:, :2]).any(1)
        for kind, wrong in (("outside", outside), ("beyond", beyond), ("flat", flat)):
            for i in np.flatnonzero(wrong).tolist():
                findings.add(kind, f"{image.image_id} {image.humans[i]}")
    return findings.all()


# ---- the way back ----


def from_coco(file: KeypointFile, *, strict: bool = False) -> list[AicImage]:
    """The images of a COCO data set that has the 14 keypoints, by name, in any order, among others or not.

    The id is `aic_id`, else the file's name without folder and extension; humans are called `human`, else
    human1, human2, ... in the order of the file.  An annotation without keypoints is a person without
    labelled ones, one without a box gets that around its keypoints; crowds are left out.  What has to be
    repaired is logged.  Raises `UserError` for other keypoints, or images without a usable name; with
    `strict` also for what would be repaired."""
    names = [plain_name(name) for name in file.names]
    absent = [name for name in KEYPOINTS if name not in names]
    if absent:
        raise UserError(
            f"{file.source}: no category lists AI Challenger's 14 keypoints (it lacks {', '.join(absent[:4])}"
            f"{', ...' if absent[4:] else ''}); make the file with python -m pose.tools.aic to-coco"
        )
    ids = _image_names(file)
    repaired = [file.told(issue) for issue in file.issues if issue.code in REPAIRED]
    if strict and repaired:
        raise UserError(report(file.source, repaired, "mend the file or leave out --strict"))
    for one in repaired:
        logger.warning("%s: %s", file.source, one)
    places = [names.index(name) for name in KEYPOINTS]
    people: list[list[tuple[str, np.ndarray, np.ndarray]]] = [[] for _ in ids]
    ours = np.isin(file.category, file.category_ids) & (file.image >= 0) & ~file.crowd
    official = file.keypoints.astype(np.float64)
    official[~(file.labelled & (official[..., 2] > 0))] = 0
    official[..., 2] = NOT_LABELLED - np.ceil(official[..., 2])
    for row in np.flatnonzero(ours).tolist():
        keypoints = official[row][places]
        human = file.texts[row] if file.texts else ""
        people[file.image[row]].append((human, keypoints, _official_box(file.boxes[row], keypoints)))
    urls = file.image_texts.get("url", [""] * len(ids))
    return [_aic_image(*one) for one in zip(ids, urls, people, strict=True)]


def _image_names(file: KeypointFile) -> list[str]:
    """The names of its images, each different."""
    given = file.image_texts.get("aic_id", [""] * file.num_images)
    names = [own or PurePosixPath(name).stem for own, name in zip(given, file.file_names, strict=True)]
    ids = file.image_ids.tolist()
    for i, (name, number) in enumerate(zip(names, ids, strict=True)):
        if not name or number == NONE:
            raise UserError(f"{file.source}: image {i} has no id or no file_name; mend the file")
    for values in (names, ids):
        if len(set(values)) != len(values):
            ((twice, _),) = Counter(values).most_common(1)
            raise UserError(
                f"{file.source}: two images are called {names[values.index(twice)]!r} or have the id "
                f"{ids[values.index(twice)]!r}; AI Challenger knows images by their file's name, so give "
                "them different ones"
            )
    return names


def _official_box(box: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    if not (np.abs(box) < LARGEST).all() or box[2:].min() < 0:
        return box_around(keypoints)
    return np.concatenate([box[:2], box[:2] + box[2:]])


def _aic_image(name: str, url: str, people: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> AicImage:
    return AicImage(
        name,
        _human_names([human for human, _, _ in people]),
        np.array([keypoints for _, keypoints, _ in people], np.float64).reshape(-1, len(KEYPOINTS), 3),
        np.array([box for _, _, box in people], np.float64).reshape(-1, 4),
        url,
    )


def _human_names(given: Iterable[str]) -> tuple[str, ...]:
    """Different names: the given ones where nobody before has them, else human1, human2, ..."""
    given = list(given)
    names: list[str] = []
    for i, name in enumerate(given):
        if not name or name in names:
            taken = {*names, *given}
            name = next(n for k in range(i + 1, i + 2 + len(taken)) if (n := f"human{k}") not in taken)
        names.append(name)
    return tuple(names)
