"""What a painted scene shows, as COCO annotations: which keypoints, how visible, and outlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pose.synthetic.canvas import Canvas
from pose.synthetic.figures import KEYPOINTS, OWN, PARTS, Person, seen
from pose.synthetic.painting import paint_person

MIN_KEYPOINTS = 3  # people with fewer are left without labelled keypoints


def paint_crowd(canvas: Canvas, crowd: Sequence[Person]) -> dict[str, Any] | None:
    """Paint a clump of people, blur it, and return its crowd annotation (None when nothing of it is seen)."""
    for person in crowd:
        paint_person(canvas, person, 1)
    mask = cv2.dilate((canvas.owner > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    canvas.owner[:] = 0
    if not mask.any():
        return None
    blurred = cv2.GaussianBlur(canvas.image, (0, 0), 1.3)
    canvas.image[mask > 0] = blurred[mask > 0]
    return {
        "iscrowd": 1,
        "segmentation": {"size": list(mask.shape), "counts": _run_lengths(mask)},
        "area": int(mask.sum()),
        "bbox": list(map(int, cv2.boundingRect(mask))),
        "keypoints": [0] * 3 * len(KEYPOINTS),
        "num_keypoints": 0,
        "category_id": 1,
    }


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a mask (H, W): column by column, beginning with a run of zeros."""
    flat = np.concatenate([[0], mask.ravel(order="F") > 0, [1]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], changes]))
    if flat[-2]:  # the sentinel made no change: the last run of ones is still open
        runs = np.append(runs, mask.size - runs.sum())
    return [int(run) for run in runs]


def _polygons(mask: np.ndarray) -> list[list[int]]:
    """Outer contours of a mask as COCO polygons [x, y, x, y, ...]; never empty for a mask that is not."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [[int(value) for value in contour.ravel()] for contour in contours if len(contour) >= 3]
    if polygons:
        return polygons
    x, y, w, h = map(int, cv2.boundingRect(mask))
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _visibilities(p: Person, number: int, owner: np.ndarray, shown: float) -> list[int]:
    """v for each keypoint, from the final owner map; shown: the uncovered share of the silhouette."""
    h, w = owner.shape
    visibilities = []
    for k, name in enumerate(KEYPOINTS):
        x, y = p.joints[k, :2]
        column, row = int(round(x)), int(round(y))
        if not (0 <= column < w and 0 <= row < h and 0 <= x <= w - 1 and 0 <= y <= h - 1):
            visibilities.append(0)
            continue
        around = owner[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        person, part = np.divmod(around, len(PARTS))
        mine = person == number
        if not seen(p, name):
            visibilities.append(0)  # nobody annotates the far side of a head
        elif (mine & np.isin(part, OWN[k])).mean() > 0.34:
            visibilities.append(2)
        else:
            # Under one's own body the place is easy to tell; under something else annotators often give up.
            chance = 0.85 if mine.mean() > 0.34 else 0.6 if shown > 0.4 else 0.0
            visibilities.append(1 if p.guesses[k] < chance else 0)
    return visibilities


def annotate(p: Person, number: int, silhouette: np.ndarray, owner: np.ndarray) -> dict[str, Any] | None:
    """The COCO annotation of a person, without ids; None for somebody of whom hardly anything is seen.
    silhouette (H, W) uint8: the person in the picture as if nobody stood in front."""
    area = int(silhouette.sum())
    shown = int((owner // len(PARTS) == number).sum()) / max(area, 1)
    if area < 64 or shown < 0.05:
        return None
    values = _visibilities(p, number, owner, shown)
    # A hand at the picture's edge or behind somebody says too little about a person to be annotated.
    if not p.labelled or shown < 0.15 or sum(v > 0 for v in values) < MIN_KEYPOINTS:
        values = [0] * len(KEYPOINTS)
    keypoints: list[float] = []
    for (x, y), v in zip(p.joints[: len(KEYPOINTS), :2].tolist(), values, strict=True):
        keypoints += [round(x, 1), round(y, 1), v] if v else [0, 0, 0]
    return {
        "iscrowd": 0,
        "segmentation": _polygons(silhouette),
        "area": area,
        "bbox": list(map(int, cv2.boundingRect(silhouette))),
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in values),
        "category_id": 1,
    }
