"""Skeletons on pictures."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from pose.draw.texts import Texts
from pose.skeleton import Skeleton
from pose.structures import People

FRACTION_BITS = 4  # cv2 draws at 1/16 pixel
SMALL = 80  # pixels; outlines and rings would cover a person of less
FAINTEST = 0.3  # opacity of a keypoint whose score is the least that is drawn
SURE = 0.8  # score from which a keypoint is wholly opaque: the peaks of heatmaps seldom reach 1
SIDES = {"left": (255, 140, 30), "right": (40, 170, 255), "middle": (120, 235, 90)}

Color = tuple[int, int, int]
Fixed = tuple[int, int]  # x, y in 1 / 16 pixels


@dataclass(frozen=True)
class Style:
    """How people are drawn."""

    color: Literal["person", "side"] = "person"  # a colour for each person, or for left, right and middle
    width: float = 1.0  # times the width of lines that suits the person's size
    fade: bool = True  # keypoints and limbs are as opaque as they are certain
    names: bool = False  # of keypoints
    labels: bool = False  # a person's number and score
    scores: bool = True  # in the labels
    min_score: float = 0.0  # people below are left out
    min_keypoint: float = 0.05  # keypoints below are left out


def person_color(index: int) -> Color:
    """Neighbouring indices get far hues (the golden angle); bright enough for photos."""
    hue = (0.02 + index * 0.618034) % 1
    paler = 0.4 * math.exp(-(((hue - 0.67) / 0.07) ** 2))  # pure blue is dark
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 - paler, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def draw_people(
    image: np.ndarray,
    people: People,
    skeleton: Skeleton,
    style: Style | None = None,
    numbers: Sequence[int] | None = None,
) -> np.ndarray:
    """A copy of image (H, W, 3) uint8 RGB with the people on it, the best one on top.

    Lines grow with the person.  numbers: of each person, for its colour and its label (default: its place);
    a person that is followed through a video keeps its own."""
    style = style or Style()
    canvas = np.ascontiguousarray(image).copy()
    chosen = [i for i in range(len(people)) if people.scores[i] >= style.min_score]
    named = [(place if numbers is None else numbers[i], i) for place, i in enumerate(chosen)]
    for number, i in reversed(named):
        _draw_person(canvas, people.keypoints[i], skeleton, style, number)
    if style.names or style.labels:
        texts = Texts(canvas)
        for number, i in named:
            _write_person(texts, people.keypoints[i], float(people.scores[i]), skeleton, style, number)
    return canvas


def _draw_person(
    canvas: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, style: Style, number: int
) -> None:
    shown = keypoints[:, 2] > style.min_keypoint
    if not shown.any():
        return
    extent = _extent(keypoints[shown])
    thickest = max(2, min(canvas.shape[:2]) // 100)
    width = int(np.clip(round(style.width * np.clip(extent / 60, 1, thickest)), 1, 200))
    brush = _Brush(canvas, width, small=extent < SMALL)
    colors = _colors(skeleton, style, number)
    opacity = _opacity(keypoints[:, 2], style)
    points = _fixed(keypoints[:, :2])
    for a, b in skeleton.limb_index:
        if shown[a] and shown[b]:
            brush.limb(points[a], points[b], _limb_color(colors[a], colors[b]), min(opacity[a], opacity[b]))
    for k in np.flatnonzero(shown):
        brush.dot(points[k], colors[k], opacity[k])


def _write_person(
    texts: Texts, keypoints: np.ndarray, score: float, skeleton: Skeleton, style: Style, number: int
) -> None:
    """What the style asks for, where there is room."""
    shown = keypoints[:, 2] > style.min_keypoint
    if not shown.any():
        return
    spots = keypoints[shown, :2]
    extent = _extent(keypoints[shown])
    largest = max(12.0, min(texts.canvas.shape[:2]) / 30)
    size = float(np.clip(extent / 28, 12, largest))
    if style.labels:
        crown = (float(spots[:, 0].mean()), float(spots[:, 1].min()) - extent / 12)
        label = f"{number + 1}: {score:.2f}" if style.scores else str(number + 1)
        texts.write(label, crown, 1.25 * size, person_color(number), above=True)
    if style.names:
        colors = _colors(skeleton, style, number)
        for k in np.flatnonzero(shown):
            x, y = keypoints[k, :2].tolist()
            texts.write(skeleton.keypoints[k].replace("_", " "), (x, y), size, colors[k])


def _extent(spots: np.ndarray) -> float:
    """Pixels from corner to corner of the box around spots (M, 2 or 3)."""
    return float(np.linalg.norm(np.ptp(spots[:, :2], axis=0)))


@dataclass(frozen=True)
class _Brush:
    """Draws on the canvas (H, W, 3); small: without outlines."""

    canvas: np.ndarray
    width: int
    small: bool

    def limb(self, start: Fixed, end: Fixed, color: Color, opacity: float) -> None:
        dark = (color[0] // 3, color[1] // 3, color[2] // 3)
        rim = 2 * max(1, self.width // 5)
        strokes = [(color, 1)] if self.small else [(dark, self.width + rim), (color, self.width)]

        def paint(canvas: np.ndarray, x: int, y: int) -> None:
            one, other = (start[0] - x, start[1] - y), (end[0] - x, end[1] - y)
            for stroke, width in strokes:
                cv2.line(canvas, one, other, stroke, width, cv2.LINE_AA, FRACTION_BITS)

        self._blend([start, end], opacity, paint)

    def dot(self, center: Fixed, color: Color, opacity: float) -> None:
        radius = (self.width + 1) << FRACTION_BITS
        rings = (
            [(color, radius // 2)] if self.small else [((255, 255, 255), radius), (color, radius * 2 // 3)]
        )

        def paint(canvas: np.ndarray, x: int, y: int) -> None:
            for ring, size in rings:
                cv2.circle(canvas, (center[0] - x, center[1] - y), size, ring, -1, cv2.LINE_AA, FRACTION_BITS)

        self._blend([center], opacity, paint)

    def _blend(
        self, corners: Sequence[Fixed], opacity: float, paint: Callable[[np.ndarray, int, int], None]
    ) -> None:
        """Lets `paint` draw on a copy of the part of the canvas that holds the corners, whose own corner it
        is given, and lays the copy over the canvas."""
        if opacity > 0.99:
            paint(self.canvas, 0, 0)
            return
        # plain integers: for areas this small NumPy would take most of the time
        reach, (height, width) = 2 * self.width + 4, self.canvas.shape[:2]
        columns, rows = zip(*corners)
        x0 = max(0, (min(columns) >> FRACTION_BITS) - reach)
        y0 = max(0, (min(rows) >> FRACTION_BITS) - reach)
        x1 = min(width, (max(columns) >> FRACTION_BITS) + reach)
        y1 = min(height, (max(rows) >> FRACTION_BITS) + reach)
        if x0 >= x1 or y0 >= y1:
            return
        part = self.canvas[y0:y1, x0:x1]
        painted = part.copy()
        paint(painted, x0 << FRACTION_BITS, y0 << FRACTION_BITS)
        cv2.addWeighted(painted, opacity, part, 1 - opacity, 0, dst=part)


def _colors(skeleton: Skeleton, style: Style, number: int) -> list[Color]:
    """Of each keypoint."""
    if style.color == "person":
        return [person_color(number)] * len(skeleton)
    return [SIDES[side] for side in skeleton.sides]


def _limb_color(one: Color, other: Color) -> Color:
    """A limb from the middle to a side has the colour of the side."""
    return other if one == SIDES["middle"] else one


def _opacity(scores: np.ndarray, style: Style) -> list[float]:
    if not style.fade:
        return [1.0] * len(scores)
    certain = (scores - style.min_keypoint) / max(SURE - style.min_keypoint, 1e-6)
    return (FAINTEST + (1 - FAINTEST) * certain.clip(0, 1) ** 0.5).tolist()


def _fixed(points: np.ndarray) -> list[Fixed]:
    """points (K, 2) in pixels."""
    whole = np.clip(points * (1 << FRACTION_BITS), -(2**20), 2**20).round().astype(int)
    return [(x, y) for x, y in whole.tolist()]
