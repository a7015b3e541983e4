"""A picture with the fields that are drawn over it: what all panels share."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from torch import Tensor

from pose.draw.sheets import Panel
from pose.skeleton import Skeleton
from pose.structures import Drawn, People

DIM = 0.45  # brightness of the picture below the colours
GREY = 0.75  # how much of the picture's own colours is taken away
LEAST_BRIGHT = 100  # a picture whose brightest parts are darker than this (of 255) is lifted to it
FULL = 0.5  # maps whose maximum is lower are shown stronger
WEAKEST = 0.01  # maps whose maximum is lower still stay faint


@dataclass(frozen=True)
class View:
    """One picture and its maps as finite arrays."""

    backdrop: np.ndarray  # (H, W, 3) float32, the dimmed picture
    arrays: Mapping[str, np.ndarray]  # (C, h, w) float32; tags of several passes as (T, C, h, w)
    known: Mapping[str, np.ndarray]  # (C, h, w) bool, for fields that mean something at some cells only
    mask: np.ndarray | None  # (h, w)
    kinds: int
    skeleton: Skeleton | None
    people: People | None
    truth: People | None
    numbers: Sequence[int]  # of people
    zoom: float
    each: bool
    drawn: Mapping[str, Drawn | None]  # how each field is, by name
    broken: Mapping[str, float] = field(default_factory=dict)  # share of values that are not finite

    @staticmethod
    def of(
        image: np.ndarray,
        fields: Mapping[str, Tensor],
        skeleton: int | Skeleton,
        people: People | None,
        truth: People | None,
        numbers: Sequence[int],
        zoom: float,
        each: bool,
        drawn: Mapping[str, Drawn | None],
    ) -> View:
        plain = {name: maps.detach().float().cpu().numpy() for name, maps in fields.items()}
        broken = {name: 1 - float(np.isfinite(maps).mean()) for name, maps in plain.items()}
        arrays = {name: np.nan_to_num(maps, nan=0.0, posinf=1e4, neginf=-1e4) for name, maps in plain.items()}
        known = {
            name.removesuffix("_known"): maps > 0.5
            for name, maps in arrays.items()
            if name.endswith("_known")
        }
        kinds, named = (len(skeleton), skeleton) if isinstance(skeleton, Skeleton) else (skeleton, None)
        mask = arrays["mask"][0] if "mask" in arrays else None
        how = (zoom, each, drawn, broken)
        return View(dimmed(image), arrays, known, mask, kinds, named, people, truth, numbers, *how)

    @property
    def heat(self) -> np.ndarray:
        """(K, h, w), without the background."""
        return self.arrays["heatmap"][: self.kinds].clip(0, None)

    def heat_of(self, name: str) -> np.ndarray:
        """(C, h, w) of a field of heat, of several passes their mean; of `heatmap` without the background."""
        maps = self.arrays[name]
        return self.heat if name == "heatmap" else (maps.mean(0) if maps.ndim == 4 else maps).clip(0, None)

    @property
    def refinement(self) -> str | None:
        """The field that says where in its cell a keypoint is."""
        names = (name for name, kind in self.drawn.items() if kind == "offsets" and name in self.arrays)
        return next(names, None)

    @property
    def cell(self) -> np.ndarray:
        """Pixels of the image per cell, x and y."""
        height, width = self.arrays["heatmap"].shape[-2:]
        return np.array([self.backdrop.shape[1] / width, self.backdrop.shape[0] / height])

    def keypoint(self, k: int) -> str:
        return self.skeleton.keypoints[k].replace("_", " ") if self.skeleton else f"keypoint {k}"

    def panel(self, name: str, picture: np.ndarray, caption: str, source: str | None = None) -> Panel:
        """Of float colours or bytes; `source`: the field that the caption tells of."""
        picture = picture.round().clip(0, 255).astype(np.uint8)
        if self.mask is not None:
            picture = hatched(picture, self.mask)
        share = self.broken.get(source or name, 0.0)
        return Panel(name, picture, caption + (f", {share:.0%} not finite" if share else ""))

    def over(self, color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """color (h, w, 3) in [0, 1] over the backdrop, as opaque as alpha (h, w)."""
        height, width = self.backdrop.shape[:2]
        alpha = alpha.clip(0, 1).astype(np.float32)
        # colours are weighted before they are enlarged, or those of empty cells would bleed into the others
        weighted = cv2.resize(color.astype(np.float32) * alpha[..., None], (width, height))
        alpha = cv2.resize(alpha, (width, height))[..., None]
        return 255 * weighted + self.backdrop * (1 - alpha)


def dimmed(image: np.ndarray) -> np.ndarray:
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    lift = np.clip(LEAST_BRIGHT / max(float(np.percentile(grey, 98)), 1.0), 1, 6)
    return (DIM * lift) * (GREY * grey[..., None] + (1 - GREY) * image)


def hatched(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy with stripes where mask (h, w) is 0."""
    height, width = picture.shape[:2]
    hidden = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST) < 0.5
    period = max(5, min(height, width) // 70)
    y, x = np.ogrid[:height, :width]
    stripes = (x + y) % period < period // 3
    result = picture.copy()
    result[hidden] = result[hidden] // 4 * 3 + 40
    result[hidden & stripes] = (200, 200, 200)
    return result


def visible_gain(top: float) -> tuple[float, str]:
    """By what a map of this maximum is multiplied, and what its caption says."""
    gain = 1.0 if top >= FULL else 0.75 / max(top, WEAKEST)
    return gain, f"max {top:.3g}" + (f", shown x {gain:.2g}" if gain > 1 else "")


def kind_color(k: int) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.9, 1.0)


def kinds_over(view: View, heat: np.ndarray, strength: float = 1.0) -> tuple[np.ndarray, str]:
    """heat (C, h, w): each map in its colour, and the caption."""
    gain, told = visible_gain(float(heat.max(initial=0)))
    colors = np.array([kind_color(k) for k in range(len(heat))])
    weight = (heat * gain).clip(0, 1) ** 2  # the strongest kind gives the colour
    mixed = np.tensordot(weight, colors, (0, 0)) / weight.sum(0).clip(min=1e-6)[..., None]
    return view.over(mixed, strength * gain * heat.max(0)), told


def full_color(hue: np.ndarray) -> np.ndarray:
    """Full colours (h, w, 3) in [0, 1] of hues (h, w) in turns."""
    hsv = np.stack([hue * 360, np.ones_like(hue), np.ones_like(hue)], -1).astype(np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
