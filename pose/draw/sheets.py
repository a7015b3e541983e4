"""Many pictures on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pose.draw.texts import line_width, put_line

MARGIN = 6  # pixels between the pictures of a sheet
SMALLEST_TEXT = 10.0  # pixels; smaller letters cannot be read


@dataclass(frozen=True)
class Panel:
    """A picture (H, W, 3) uint8 RGB that is one of several, with what is to be read above it."""

    name: str
    picture: np.ndarray
    caption: str = ""


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 4, cell: int = 320) -> np.ndarray:
    """The pictures side by side in rows, each inside a square of `cell` pixels: (H, W, 3) uint8 RGB."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    sheets = [_sheet_row([_fitted(picture, cell) for picture in row], cell) for row in rows]
    return _stacked(sheets)


def panel_sheet(rows: Sequence[Sequence[Panel]], columns: int = 6) -> np.ndarray:
    """Panels of one size, those of one name below each other: (H, W, 3) uint8 RGB.

    rows: e.g. targets and predictions; a row may lack panels that another has.  Where there are more names
    than `columns`, all rows go on further down."""
    names = list(dict.fromkeys(panel.name for row in rows for panel in row))
    by_name = [{panel.name: panel for panel in row} for row in rows]
    strips = []
    for start in range(0, len(names), columns):
        part = names[start : start + columns]
        strips += [_panel_row(row, part) for row in by_name if any(name in row for name in part)]
    return _stacked(strips)[:-MARGIN, :-MARGIN]


def captioned(picture: np.ndarray, caption: str) -> np.ndarray:
    """The picture below a line of text as wide as it is, shrunk or cut off where it is too long."""
    width = picture.shape[1]
    size = float(np.clip(width / 24, 12, 34))
    bar = np.full((round(1.3 * size), width, 3), 24, np.uint8)
    text, fitting = _fitting(caption, width - 8, size)
    put_line(bar, text, (4, round(0.97 * size)), fitting, (235, 235, 235))
    return np.concatenate([bar, picture])


def _fitting(text: str, room: int, size: float) -> tuple[str, float]:
    """The text and its size, so that it is at most `room` pixels wide."""
    while line_width(text, size) > room and size > SMALLEST_TEXT:
        size = max(SMALLEST_TEXT, size - 0.5)
    if line_width(text, size) <= room:
        return text, size
    while text and line_width(f"{text}...", size) > room:
        text = text[:-1]
    return f"{text}..." if text else "", size


def _panel_row(row: dict[str, Panel], names: Sequence[str]) -> np.ndarray:
    some = next(iter(row.values()))
    empty = captioned(np.full_like(some.picture, 255), "")
    empty[:] = 255
    cells = [captioned(row[name].picture, row[name].caption) if name in row else empty for name in names]
    padded = [np.pad(cell, ((0, MARGIN), (0, MARGIN), (0, 0)), constant_values=255) for cell in cells]
    return np.concatenate(padded, axis=1)


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Below each other, as wide as the widest."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
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
