"""MPII's people in COCO's format, on the whole pictures or cut out one by one as pose-tensorflow's
preprocessing for single people does (Insafutdinov, Pishchulin, Andres, Andriluka, Schiele: DeeperCut, ECCV
2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pose import geometry
from pose.annotations.aic import plain
from pose.annotations.aic_coco import coco_category
from pose.annotations.mpii import POINTS, MpiiImage, MpiiPerson
from pose.annotations.regions import BOX_TO_AREA
from pose.skeleton import Skeleton

Entry = dict[str, Any]

CROP_HEIGHT = 400.0  # pixels that a person who is cut out becomes tall
MARGIN = 130  # pixels round the points of people far from others, and
NEAR_MARGIN = 65  # of the rest
GAP = 20  # pixels that stay between a crop's left and right side and the points of others
HEADS = 8.0  # of a person's height
HEAD_OF_BOX = 0.6  # the head's size, of the diagonal of its box
TALLEST = 4.0  # heights that a person's points extend over: beyond this the height cannot be right
LOOSE = 0.1  # by what a box round points is wider on each side, of its longer side

CROP_KINDS = {
    "no height": ("repaired", "person(s) without a head's box and scale, not cut out"),
    "extent": ("repaired", "person(s) much larger than the head's box or the scale says, not cut out"),
    "outside": ("repaired", "person(s) with all points outside the picture, not cut out"),
}


def data_set(images: Sequence[Entry], people: Sequence[Entry], skeleton: Skeleton) -> Entry:
    """people: annotations without ids."""
    numbered = [{"id": i, **one} for i, one in enumerate(people, 1)]
    return {"images": [*images], "annotations": numbered, "categories": [coco_category(skeleton)]}


def whole_picture(image: MpiiImage, size: tuple[int, int], skeleton: Skeleton) -> list[Entry]:
    """The people of an image of `size` (height, width), with its number as the image's id; those without
    points have no labelled keypoints.  `person` is the number in annorect."""
    kept = [(person, person_box(person, np.eye(2, 3), size)) for person in image.people]
    return [
        annotation(image.number, person.points, box, skeleton, person=person.number)
        for person, box in kept
        if box is not None
    ]


def annotation(image_id: int, points: np.ndarray, box: np.ndarray, skeleton: Skeleton, **more: Any) -> Entry:
    """points (16, 3); box (4,) x1, y1, x2, y2."""
    keypoints = in_skeleton(points, skeleton)
    width, height = box[2:] - box[:2]
    return {
        "image_id": image_id,
        "category_id": 1,
        **more,
        "bbox": plain(np.array([box[0], box[1], width, height]).round(3)),
        "area": round(float(BOX_TO_AREA * width * height), 3),
        "iscrowd": 0,
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": plain(keypoints.ravel().round(3)),
    }


def in_skeleton(points: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """points (16, 3) -> (K, 3), by name; what MPII does not have is not labelled."""
    keypoints = np.zeros((len(skeleton), 3))
    for k, name in enumerate(skeleton.keypoints):
        if name in POINTS:
            keypoints[k] = points[POINTS.index(name)]
    return keypoints


def person_box(person: MpiiPerson, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """(4,) x1, y1, x2, y2 in a picture of `size` (height, width), to whose pixels `matrix` leads.

    MPII has no boxes of people: a square round the person's place, as wide as the person is tall, or where
    that is not known, or outside the picture, the rectangle round points and head, wider by a tenth of its
    longer side on each; both cut at the picture.  None for a person who has neither."""
    corners = []
    if person.place and person.height:
        corners.append(np.add.outer((-person.height / 2, person.height / 2), person.place))
    if person.labelled:
        extent = _extent(person)
        corners.append(extent + np.array([[-1], [1]]) * LOOSE * max(1.0, np.ptp(extent, axis=0).max()))
    limit = np.array([size[1], size[0]], np.float64)
    for rectangle in corners:
        low, high = geometry.apply(matrix, rectangle).clip(0, limit)
        if (high > low).all():
            return np.concatenate([low, high])
    return geometry.apply(matrix, corners[-1]).ravel() if person.labelled else None


def _extent(person: MpiiPerson) -> np.ndarray:
    """(2, 2) the corners of the rectangle round points and head."""
    points = person.points[person.points[:, 2] > 0, :2]
    if person.head is not None:
        points = np.concatenate([points, np.reshape(person.head, (2, 2))])
    return np.stack([points.min(0), points.max(0)])


# ---- single people ----


@dataclass(frozen=True, eq=False)
class Crop:
    """A person to cut out: the picture is enlarged by `factor`, and of its pixels those from `left`, `top` on
    are taken."""

    person: MpiiPerson
    factor: float
    left: int
    top: int
    size: tuple[int, int]  # height, width

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3) from pixels of the picture."""
        matrix = geometry.resize((self.factor, self.factor))
        matrix[:, 2] -= self.left, self.top
        return matrix

    def cut(self, picture: np.ndarray) -> Image.Image:
        """picture (H, W, 3) uint8 RGB.  Bicubic, averaging where the picture is shrunk."""
        height, width = self.size
        corners = (self.left, self.top, self.left + width, self.top + height)
        limits = (picture.shape[1], picture.shape[0]) * 2
        box = tuple(min(v / self.factor, most) for v, most in zip(corners, limits, strict=True))
        return Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC, box=box)

    def annotation(self, image_id: int, skeleton: Skeleton) -> Entry:
        points = self.person.points.copy()
        points[:, :2] = geometry.apply(self.matrix, points[:, :2])
        points[points[:, 2] == 0] = 0
        box = person_box(self.person, self.matrix, self.size)
        assert box is not None  # only people with points are cut out
        return annotation(image_id, points, box, skeleton)


def height_by_head(person: MpiiPerson) -> float | None:
    """Pixels that a person is tall by the size of the head, else by the scale."""
    if person.head is None:
        return person.height
    x1, y1, x2, y2 = person.head
    return HEADS * HEAD_OF_BOX * math.hypot(x2 - x1, y2 - y1)


def plan_crop(person: MpiiPerson, others: Sequence[MpiiPerson], size: tuple[int, int]) -> Crop | str:
    """How to cut a person with points out of a picture of `size` (height, width), or the kind of finding that
    says why not.

    The person becomes 400 px tall; round all points there is a margin of 130 px, 65 where others are near,
    cut at the picture, and left and right of a separate person at 20 px before the points of others."""
    height = height_by_head(person)
    if height is None:
        return "no height"
    factor = CROP_HEIGHT / height
    scale = geometry.resize((factor, factor))
    own = geometry.apply(scale, person.points[person.points[:, 2] > 0, :2])
    if np.ptp(own, axis=0).max() > TALLEST * CROP_HEIGHT:
        return "extent"
    first, last = np.floor(own.min(0)), np.ceil(own.max(0))  # pixels that hold all points
    margin = MARGIN if person.separate else NEAR_MARGIN
    low, high = first - margin, last + margin
    if person.separate and others:
        points = np.concatenate([other.points[other.points[:, 2] > 0, :2] for other in others])
        x = geometry.apply(scale, points)[:, 0]
        low[0] = min(first[0], max([low[0], *(x[x < first[0]] + GAP).round()]))
        high[0] = max(last[0], min([high[0], *(x[x > last[0]] - GAP).round()]))
    low = np.maximum(low, 0).astype(int)
    most = np.maximum(np.floor(np.array([size[1], size[0]]) * factor + 1e-6), 1) - 1
    high = np.minimum(high, most).astype(int)
    if (high < low).any():
        return "outside"
    left, top = low.tolist()
    right, bottom = high.tolist()
    return Crop(person, factor, left, top, (bottom - top + 1, right - left + 1))
