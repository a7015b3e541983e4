"""AI Challenger's annotations in COCO's format, and back."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pose.annotations.aic import KEYPOINTS, NOT_LABELLED, AicImage, box_around, plain, rectangle
from pose.annotations.findings import Finding, Findings, report
from pose.annotations.names import entries, listed_names, person_category, plain_name
from pose.annotations.numbers import LARGEST, is_number
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
COCO_KINDS = {
    "annotation": ("repaired", "annotation(s) that are no mapping or have no image in the file, left out"),
    "length": ("repaired", "annotation(s) with too many or too few keypoints; none counts as labelled"),
    "not finite": ("repaired", "annotation(s) with a keypoint that is no number; it counts as not labelled"),
    "visibility": ("repaired", "annotation(s) with a v that is not 0, 1, 2; it counts as not labelled"),
}  # fmt: skip

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


def from_coco(
    content: Mapping[str, Any], source: Path | str = "the COCO file", *, strict: bool = False
) -> list[AicImage]:
    """The images of a COCO data set that has the 14 keypoints, by name, in any order, among others or not.

    The id is `aic_id`, else the file's name without folder and extension; humans are called `human`, else
    human1, human2, ... in the order of the file.  An annotation without keypoints is a person without
    labelled ones, one without a box gets that around its keypoints; crowds are left out.  source: the file's
    name for messages.  What has to be repaired is logged.  Raises `UserError` for other keypoints, or images
    without a usable name; with `strict` also for what would be repaired."""
    category = person_category(content, source)
    names = [plain_name(name) for name in listed_names(category, source)] if category else []
    absent = [name for name in KEYPOINTS if name not in names]
    if category is None or absent:
        raise UserError(
            f"{source}: no category lists AI Challenger's 14 keypoints (it lacks {', '.join(absent[:4])}"
            f"{', ...' if absent[4:] else ''}); make the file with python -m pose.tools.aic to-coco"
        )
    places = [names.index(name) for name in KEYPOINTS]
    findings = Findings(COCO_KINDS)
    people: dict[Any, list[tuple[str, np.ndarray, np.ndarray]]] = {
        image["id"]: [] for image in _coco_images(content, source)
    }
    for i, annotation in enumerate(entries(content, "annotations", source)):
        number = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not isinstance(number, int | str) or number not in people:
            findings.add("annotation", f"entry {i}")
        elif annotation.get("category_id") == category.get("id") and not annotation.get("iscrowd"):
            keypoints = _official_keypoints(annotation, len(names), findings)[places]
            human = annotation.get("human")
            box = _official_box(annotation, keypoints)
            people[number].append((human if isinstance(human, str) else "", keypoints, box))
    if strict and findings.all():
        raise UserError(report(Path(source), findings.all(), "mend the file or leave out --strict"))
    for finding in findings.all():
        logger.warning("%s: %s", source, finding)
    return [_from_coco_image(image, people[image["id"]]) for image in _coco_images(content, source)]


def _coco_images(content: Mapping[str, Any], source: Path | str) -> list[dict[str, Any]]:
    """Its images, each with an id and a name of its own."""
    images = entries(content, "images", source)
    ids: set[int | str] = set()
    names: set[str] = set()
    for i, image in enumerate(images):
        number = image.get("id") if isinstance(image, dict) else None
        if not isinstance(number, int | str) or not _aic_id(image):
            raise UserError(f"{source}: image {i} has no id or no file_name; mend the file")
        if number in ids or _aic_id(image) in names:
            raise UserError(
                f"{source}: two images are called {_aic_id(image)!r} or have the id {number!r}; "
                "AI Challenger knows images by their file's name, so give them different ones"
            )
        ids.add(number)
        names.add(_aic_id(image))
    return images


def _aic_id(image: Mapping[str, Any]) -> str:
    own, name = image.get("aic_id"), image.get("file_name")
    if isinstance(own, str) and own:
        return own
    return PurePosixPath(name).stem if isinstance(name, str) else ""


def _official_keypoints(annotation: Mapping[str, Any], count: int, findings: Findings) -> np.ndarray:
    """(count, 3) float64 with the official v."""
    values = annotation.get("keypoints") or [0] * (3 * count)
    where = f"annotation {annotation.get('id')!r}"
    if not isinstance(values, list) or len(values) != 3 * count:
        findings.add("length", where)
        values = [0] * (3 * count)
    rows = rectangle([values], 3 * count)
    if rows is None:
        rows = np.array([v if is_number(v) else math.nan for v in values], np.float64)
    keypoints = rows.reshape(-1, 3)
    finite = (np.abs(keypoints) < LARGEST).all(1)
    known = np.isin(keypoints[:, 2], (0, 1, 2))
    if not finite.all():
        findings.add("not finite", where)
    if not (known | ~finite).all():
        findings.add("visibility", where)
    keypoints[:, 2] = NOT_LABELLED - keypoints[:, 2]
    keypoints[~(finite & known) | (keypoints[:, 2] == NOT_LABELLED)] = (0, 0, NOT_LABELLED)
    return keypoints


def _official_box(annotation: Mapping[str, Any], keypoints: np.ndarray) -> np.ndarray:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(v) for v in box) or min(box[2:]) < 0:
        return box_around(keypoints)
    return np.array([*box[:2], box[0] + box[2], box[1] + box[3]], np.float64)


def _from_coco_image(
    image: Mapping[str, Any], people: Sequence[tuple[str, np.ndarray, np.ndarray]]
) -> AicImage:
    url = image.get("url")
    return AicImage(
        _aic_id(image),
        _human_names([human for human, _, _ in people]),
        np.array([keypoints for _, keypoints, _ in people], np.float64).reshape(-1, len(KEYPOINTS), 3),
        np.array([box for _, _, box in people], np.float64).reshape(-1, 4),
        url if isinstance(url, str) else "",
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
