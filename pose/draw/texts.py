"""Words on pictures, with a dark rim, where no other word is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

RIM = (10, 10, 10)
PALE = 0.5  # how far the ink is from its colour to white: thin letters look darker than they are
GAP = 0.5  # lines of text between a spot and the word about it
AROUND = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1))

Color = tuple[int, int, int]


class Texts:
    """Words on one canvas (H, W, 3) uint8 RGB, which is drawn on; they never cover each other."""

    def __init__(self, canvas: np.ndarray) -> None:
        self.canvas = canvas
        self.taken = np.zeros((0, 4))  # x0, y0, x1, y1

    def write(
        self, text: str, spot: tuple[float, float], size: float, color: Color, *, above: bool = False
    ) -> bool:
        """text beside spot (x, y), in letters `size` pixels high: to its right, else to its left, above,
        below, ... where there is room, else nowhere (False).  above: there first."""
        picture, alpha = word(text, max(6, round(size)), color)
        height, width = alpha.shape
        rows, columns = self.canvas.shape[:2]
        for step in (1.0, 2.0):
            for dx, dy in ((0, -1), *AROUND) if above else AROUND:
                x = round(spot[0] + dx * (width / 2 + step * GAP * size) - width / 2)
                y = round(spot[1] + dy * (height / 2 + step * GAP * size) - height / 2)
                box = np.array([x, y, x + width, y + height])
                if x < 0 or y < 0 or box[2] > columns or box[3] > rows or self._meets(box):
                    continue
                self.taken = np.concatenate([self.taken, box[None]])
                part = self.canvas[y : y + height, x : x + width]
                part[:] = (picture * alpha[..., None] + part * (1 - alpha[..., None])).round()
                return True
        return False

    def _meets(self, box: np.ndarray) -> bool:
        apart = (self.taken[:, :2] >= box[2:]).any(1) | (self.taken[:, 2:] <= box[:2]).any(1)
        return bool((~apart).any())


def put_line(
    canvas: np.ndarray, text: str, spot: tuple[float, float], size: float, color: Sequence[int]
) -> None:
    """text on the canvas (H, W, 3), plain, in letters `size` pixels high; spot: x of its left end and y of
    the baseline."""
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text(spot, text, fill=tuple(color), font=_font(size), anchor="ls")
    canvas[:] = picture


def line_width(text: str, size: float) -> float:
    """Pixels that `put_line` needs."""
    return float(_font(size).getlength(text))


@lru_cache(maxsize=64)
def _font(size: float) -> Any:
    """Pillow's own: what OpenCV writes is another with every version."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=2048)
def word(text: str, size: int, color: Color) -> tuple[np.ndarray, np.ndarray]:
    """A line of text: colours (h, w, 3) float32 in 0 to 255, and how opaque they are (h, w) in 0 to 1."""
    font = _font(size)
    rim = max(1, size // 9)
    left, top, right, bottom = font.getbbox(text, stroke_width=rim)
    sides = (max(1, round(right - left)), max(1, round(bottom - top)))
    masks = []
    for stroke in (rim, 0):
        mask = Image.new("L", sides, 0)
        ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font, stroke_width=stroke)
        masks.append(np.asarray(mask, np.float32) / 255)
    alpha, inside = masks
    ink = PALE * 255 + (1 - PALE) * np.array(color)
    picture = np.array(RIM) + inside[..., None] * (ink - np.array(RIM))
    return picture.astype(np.float32), alpha
