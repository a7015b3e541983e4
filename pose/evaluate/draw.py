"""Skeletons on pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from pose.skeleton import Skeleton
from pose.structures import People

FRACTION_BITS = 4  # cv2 draws at 1/16 pixel
SMALL = 48  # pixels; outlines and rings would cover a person of less
MARGIN = 6  # pixels between the pictures of a sheet


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
    limbs = [(points[a], points[b]) for a, b in skeleton.limb_index if shown[a] and shown[b]]
    dots = [points[k] for k in np.flatnonzero(shown)]
    small = extent < SMALL
    outline = tuple(c // 3 for c in color)
    for line_color, line_width in [(color, 1)] if small else [(outline, width + 2), (color, width)]:
        for start, end in limbs:
            cv2.line(canvas, start, end, line_color, line_width, cv2.LINE_AA, FRACTION_BITS)
    radius = (width + 1) << FRACTION_BITS
    rings = [(color, radius // 2)] if small else [((255, 255, 255), radius), (color, radius * 2 // 3)]
    for dot in dots:
        for dot_color, dot_radius in rings:
            cv2.circle(canvas, dot, dot_radius, dot_color, -1, cv2.LINE_AA, FRACTION_BITS)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.clip(point * (1 << FRACTION_BITS), -(2**20), 2**20).round().astype(int)
    return int(x), int(y)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 4, cell: int = 320) -> np.ndarray:
    """The pictures side by side in rows, each inside a square of `cell` pixels: (H, W, 3) uint8 RGB."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    sheets = [_sheet_row([_fitted(picture, cell) for picture in row], cell) for row in rows]
    width = max(row.shape[1] for row in sheets)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in sheets]
    return np.concatenate(padded)


def _fitted(picture: np.ndarray, cell: int) -> np.ndarray:
    ratio = cell / max(picture.shape[:2])
    height, width = (min(cell, max(1, round(side * ratio))) for side in picture.shape[:2])
    shrinks = ratio < 1
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _sheet_row(pictures: Sequence[np.ndarray], cell: int) -> np.ndarray:
    """As high as the highest of them."""
    height = max(picture.shape[0] for picture in pictures)
    row = np.full((height + MARGIN, len(pictures) * (cell + MARGIN), 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        left = i * (cell + MARGIN) + (cell - picture.shape[1]) // 2
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
    return row
