"""Many pictures on one."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

MARGIN = 6  # pixels between the pictures of a sheet


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
