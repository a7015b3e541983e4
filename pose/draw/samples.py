"""Annotated people on pictures: what is labelled, what is occluded, left and right, what does not count."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pose import geometry
from pose.draw.people import FRACTION_BITS, SIDES, person_color
from pose.draw.texts import Texts
from pose.skeleton import Skeleton

SIDE = 480  # pixels of the longer side
MASKED = np.array((190, 60, 200))  # colour of what does not count
STRIPES = 12  # pixels between the stripes over it
DARK = (20, 20, 20)
PALE = (170, 170, 170)  # people who are not meant
MOST_DRAWN = 500  # people of an image: more cannot be told apart, and take seconds
MARGIN = 0.6  # of a person's extent, shown around it
LEAST = 96  # pixels of the picture that are shown at least

LEGEND = (
    "Keypoints: orange = left, blue = right, green = middle; filled = visible, ring = occluded. Limbs have a "
    "colour for each person, thin where an end is occluded. Striped: does not count in the loss."
)


def draw_annotations(
    image: np.ndarray,
    keypoints: np.ndarray,
    skeleton: Skeleton,
    *,
    mask: np.ndarray | None = None,
    marked: np.ndarray | None = None,
    names: bool = False,
    side: int = SIDE,
) -> np.ndarray:
    """image (H, W, 3) uint8 RGB with people, keypoints (P, K, 3) x, y in its pixels, v in {0, 1, 2} -> a
    picture whose longer side is `side`.

    mask: (H, W) bool, False where nothing counts.  marked: (P,) bool, the people who are meant: the picture
    is cut out round them and the others are grey.  names: of the (marked) people's keypoints.  Of more than
    MOST_DRAWN people the last are drawn."""
    meant = np.ones(len(keypoints), bool) if marked is None or not marked.any() else marked
    if not meant.all() or (marked is not None and marked.any()):
        image, keypoints, mask = _cut(image, keypoints, mask, meant)
    zoom = side / max(image.shape[:2])
    matrix = geometry.resize((zoom, zoom))
    canvas = _zoomed(image, zoom)
    if mask is not None and not mask.all():
        _stripe(canvas, ~mask)
    points = geometry.apply(matrix, keypoints[..., :2].astype(np.float64))
    for i in np.argsort(meant, kind="stable")[-MOST_DRAWN:]:  # those who are meant on top
        color = person_color(int(i)) if meant[i] else PALE
        _draw_person(canvas, points[i], keypoints[i, :, 2], skeleton, color, bool(meant[i]))
    if names:
        _write_names(canvas, points[meant], keypoints[meant][..., 2], skeleton)
    return canvas


def _cut(
    image: np.ndarray, keypoints: np.ndarray, mask: np.ndarray | None, meant: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The part of the picture round the people who are meant, and everybody's keypoints in it."""
    chosen = keypoints[meant]
    points = chosen[chosen[..., 2] > 0][:, :2]
    height, width = image.shape[:2]
    if not len(points):
        return image, keypoints, mask
    low, high = points.min(0), points.max(0)
    reach = max(LEAST / 2, (0.5 + MARGIN) * float((high - low).max()))
    middle = (low + high) / 2
    x0, y0 = np.floor(np.clip(middle - reach, 0, (width - 1, height - 1))).astype(int)
    x1, y1 = np.ceil(np.clip(middle + reach, (x0 + 1, y0 + 1), (width, height))).astype(int)
    moved = keypoints.copy()
    moved[..., :2] -= (x0, y0)
    return image[y0:y1, x0:x1], moved, None if mask is None else mask[y0:y1, x0:x1]


def _zoomed(image: np.ndarray, zoom: float) -> np.ndarray:
    height, width = image.shape[:2]
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC).copy()


def _stripe(canvas: np.ndarray, hidden: np.ndarray) -> None:
    """Tints the part of the canvas (H, W, 3) that `hidden` (h, w) marks, and stripes it."""
    height, width = canvas.shape[:2]
    part = cv2.resize(hidden.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    rows, columns = np.ogrid[:height, :width]
    stripe = part & ((rows + columns) % STRIPES < STRIPES // 4)
    canvas[part] = (0.6 * canvas[part] + 0.4 * MASKED).astype(np.uint8)
    canvas[stripe] = MASKED


def _draw_person(
    canvas: np.ndarray,
    points: np.ndarray,
    visibility: np.ndarray,
    skeleton: Skeleton,
    color: tuple[int, int, int],
    meant: bool,
) -> None:
    labelled = visibility > 0
    if not labelled.any():
        return
    spots = points[labelled]
    extent = float(np.linalg.norm(spots.max(0) - spots.min(0)))
    radius = float(np.clip(extent / 45, 2.2, 6.5)) * (1 if meant else 0.7)
    width = max(1, round(radius / 2))
    where = [_fixed(point) for point in points]
    for a, b in skeleton.limb_index:
        if labelled[a] and labelled[b]:
            occluded = min(visibility[a], visibility[b]) < 2
            strokes = [(color, 1)] if occluded else [(DARK, width + 2), (color, width)]
            for stroke, wide in strokes:
                cv2.line(canvas, where[a], where[b], stroke, wide, cv2.LINE_AA, FRACTION_BITS)
    for k in np.flatnonzero(labelled):
        ink = SIDES[skeleton.sides[k]] if meant else PALE
        _dot(canvas, where[k], radius, ink, filled=visibility[k] == 2)


def _dot(
    canvas: np.ndarray, place: tuple[int, int], radius: float, color: tuple[int, int, int], filled: bool
) -> None:
    size = round(radius * (1 << FRACTION_BITS))
    edge = 1 << FRACTION_BITS
    if filled:
        cv2.circle(canvas, place, size + edge, DARK, -1, cv2.LINE_AA, FRACTION_BITS)
        cv2.circle(canvas, place, size, color, -1, cv2.LINE_AA, FRACTION_BITS)
        return
    thick = max(1, round(radius / 3))
    cv2.circle(canvas, place, size, DARK, thick + 2, cv2.LINE_AA, FRACTION_BITS)
    cv2.circle(canvas, place, size, color, thick, cv2.LINE_AA, FRACTION_BITS)


def _write_names(
    canvas: np.ndarray, points: Sequence[np.ndarray], visibility: Sequence[np.ndarray], skeleton: Skeleton
) -> None:
    texts, size = Texts(canvas), max(11.0, max(canvas.shape[:2]) / 30)
    for spots, seen in zip(points, visibility, strict=True):
        for k in np.flatnonzero(seen > 0):
            color = SIDES[skeleton.sides[k]]
            texts.write(skeleton.keypoints[k].replace("_", " "), (spots[k, 0], spots[k, 1]), size, color)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.clip(point * (1 << FRACTION_BITS), -(2**20), 2**20).round().astype(int)
    return int(x), int(y)
