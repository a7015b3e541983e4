"""Arrows from the peaks of heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MOST = 400  # peaks of one picture
APART = 2  # cells between two peaks of one map
FRACTION_BITS = 4  # cv2 draws at 1/16 pixel

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Arrow:
    start: np.ndarray  # (2,) x, y in pixels
    end: np.ndarray  # (2,)
    color: Color
    certain: float = 1.0  # drawn over those of less


def peaks(maps: np.ndarray, least: float) -> list[tuple[int, int, int]]:
    """maps (K, h, w) -> map, row and column of local maxima above `least`, highest first; of a flat top one
    cell in a few."""
    kernel = np.ones((3, 3), np.uint8)
    taken = np.zeros(maps.shape, bool)
    top = np.stack([cv2.dilate(one, kernel) for one in maps]) if len(maps) else maps
    k, y, x = np.nonzero((maps >= top) & (maps > least))
    found = []
    for i in np.argsort(-maps[k, y, x], kind="stable").tolist():
        place = int(k[i]), int(y[i]), int(x[i])
        if taken[place]:
            continue
        rows, columns = (slice(max(0, at - APART), at + APART + 1) for at in place[1:])
        taken[place[0], rows, columns] = True
        found.append(place)
        if len(found) == MOST:
            break
    return found


def draw_arrows(canvas: np.ndarray, arrows: Sequence[Arrow]) -> np.ndarray:
    """A copy of canvas (H, W, 3) as bytes with the arrows on it, the most certain on top."""
    drawn, width = _prepared(canvas)
    arrows = sorted(arrows, key=lambda arrow: arrow.certain)
    for arrow in arrows:
        length = float(np.hypot(*(arrow.end - arrow.start)))
        tip = float(np.clip((4 + 2 * width) / max(length, 1e-6), 0.0, 0.5))
        ends = _fixed(arrow.start), _fixed(arrow.end)
        cv2.arrowedLine(drawn, *ends, arrow.color, width, cv2.LINE_AA, FRACTION_BITS, tip)
    for arrow in arrows:
        _dot(drawn, arrow.start, width + 1, (255, 255, 255))
    return drawn


def draw_steps(canvas: np.ndarray, arrows: Sequence[Arrow], square: np.ndarray) -> np.ndarray:
    """Arrows that are too short for a head: a line, and a dot at the end.  square: sides (x, y) of the cell
    that is framed round each start."""
    drawn, width = _prepared(canvas)
    for arrow in sorted(arrows, key=lambda arrow: arrow.certain):
        corners = [_fixed(arrow.start + sign * square / 2) for sign in (-1, 1)]
        cv2.rectangle(drawn, corners[0], corners[1], arrow.color, 1, cv2.LINE_AA, FRACTION_BITS)
        ends = _fixed(arrow.start), _fixed(arrow.end)
        cv2.line(drawn, *ends, (255, 255, 255), width, cv2.LINE_AA, FRACTION_BITS)
        _dot(drawn, arrow.end, width + 1.5, (255, 255, 255))
        _dot(drawn, arrow.end, width + 0.5, arrow.color)
    return drawn


def _prepared(canvas: np.ndarray) -> tuple[np.ndarray, int]:
    """A copy to draw on, and the width of lines on it."""
    drawn = np.ascontiguousarray(canvas.round().clip(0, 255).astype(np.uint8))
    return drawn, max(1, min(drawn.shape[:2]) // 300)


def _dot(canvas: np.ndarray, center: np.ndarray, radius: float, color: Color) -> None:
    size = round(radius * (1 << FRACTION_BITS))
    cv2.circle(canvas, _fixed(center), size, color, -1, cv2.LINE_AA, FRACTION_BITS)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.clip(point * (1 << FRACTION_BITS), -(2**19), 2**19).round().astype(int)
    return int(x), int(y)
