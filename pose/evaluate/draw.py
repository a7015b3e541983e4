"""Skeletons on pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from pose.skeleton import Skeleton
from pose.structures import People

FRACTION_BITS = 4  # cv2 draws at 1/16 pixel


def person_color(index: int) -> tuple[int, int, int]:
    """Neighbouring indices get far hues (the golden angle); bright enough for photos."""
    red, green, blue = colorsys.hsv_to_rgb(0.02 + index * 0.618034, 0.85, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def draw_people(
    image: np.ndarray,
    people: People,
    skeleton: Skeleton,
    *,
    min_score: float = 0.0,
    min_keypoint: float = 0.05,
) -> np.ndarray:
    """A copy of image (H, W, 3) uint8 RGB with one colour per person; lines grow with the person, keypoints
    below `min_keypoint` and people below `min_score` are left out."""
    canvas = np.ascontiguousarray(image).copy()
    chosen = [i for i in range(len(people)) if people.scores[i] >= min_score]
    for color_index, i in reversed(list(enumerate(chosen))):  # the best person on top
        _draw_person(canvas, people.keypoints[i], skeleton, person_color(color_index), min_keypoint)
    return canvas


def _draw_person(
    canvas: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, color: tuple[int, int, int], minimum: float
) -> None:
    shown = keypoints[:, 2] > minimum
    if not shown.any():
        return
    spots = keypoints[shown, :2]
    extent = float(np.linalg.norm(spots.max(0) - spots.min(0)))
    width = int(np.clip(round(extent / 60), 1, max(2, min(canvas.shape[:2]) // 100)))
    points = [_fixed(point) for point in keypoints[:, :2]]
    edge = tuple(c // 3 for c in color)
    for a, b in skeleton.limb_index:
        if shown[a] and shown[b]:
            cv2.line(canvas, points[a], points[b], edge, width + 2, cv2.LINE_AA, FRACTION_BITS)
    for a, b in skeleton.limb_index:
        if shown[a] and shown[b]:
            cv2.line(canvas, points[a], points[b], color, width, cv2.LINE_AA, FRACTION_BITS)
    for k in np.flatnonzero(shown):
        radius = (width + 1) << FRACTION_BITS
        cv2.circle(canvas, points[k], radius, (255, 255, 255), -1, cv2.LINE_AA, FRACTION_BITS)
        cv2.circle(canvas, points[k], radius * 2 // 3, color, -1, cv2.LINE_AA, FRACTION_BITS)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.clip(point * (1 << FRACTION_BITS), -(2**20), 2**20).round().astype(int)
    return int(x), int(y)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 4, cell: int = 320) -> np.ndarray:
    """The pictures side by side, each inside a square of `cell` pixels: (H, W, 3) uint8 RGB."""
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        ratio = cell / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)[:cell, :cell]
        top, left = i // columns * cell, i % columns * cell
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    return sheet
