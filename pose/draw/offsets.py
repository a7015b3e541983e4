"""Offsets as arrows: location refinement, and from each keypoint to the next ones of its person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pose.draw.arrows import Arrow, Color, draw_arrows, draw_steps, peaks
from pose.draw.people import person_color
from pose.draw.sheets import Panel
from pose.draw.view import View, kind_color, kinds_over

FAINT = 0.35  # opacity of the heat below arrows
STANDS_OUT = 2.0  # times the median of its map: a peak
NEAR = 2.5  # cells between a peak and the keypoint that was made of it

Place = tuple[int, int, int, np.ndarray, Color]


def paint_offsets(view: View, name: str) -> list[Panel]:
    offset = _pairs(view.arrays[name])
    arrows = [
        Arrow(start, start + view.zoom * offset[k, :, y, x], color, float(view.heat[k, y, x]))
        for k, y, x, start, color in _places(view)
    ]
    canvas, _ = kinds_over(view, view.heat, strength=FAINT)
    drawn = draw_steps(canvas, arrows, view.cell)
    return [view.panel(name, drawn, f"{name} at {len(arrows)} peaks, {_longest(view, arrows)}")]


def paint_offsets_to_others(view: View, name: str) -> list[Panel]:
    """Along limbs both ways; without a skeleton from the most certain kind of keypoint to all others."""
    kinds = view.kinds
    offset = view.arrays[name]
    offset = offset.reshape(kinds, kinds - 1, 2, *offset.shape[1:])
    known = view.known.get(name, np.ones(offset[:, :, 0].shape, bool)).reshape(offset[:, :, 0].shape)
    certain = int(view.heat.max((1, 2)).argmax())
    if view.skeleton:
        pairs = {pair for a, b in view.skeleton.limb_index for pair in ((a, b), (b, a))}
    else:
        pairs = {(certain, b) for b in range(kinds) if b != certain}
    arrows = []
    for k, y, x, start, color in _places(view):
        for other in (b for a, b in sorted(pairs) if a == k):
            place = other - (other > k)
            if known[k, place, y, x]:
                end = start + view.zoom * offset[k, place, :, y, x]
                arrows.append(Arrow(start, end, color, float(view.heat[k, y, x])))
    canvas, _ = kinds_over(view, view.heat, strength=FAINT)
    told = "along limbs" if view.skeleton else f"from {view.keypoint(certain)}"
    drawn = draw_arrows(canvas, arrows)
    return [view.panel(name, drawn, f"{name} {told}, {_longest(view, arrows)}")]


def _pairs(maps: np.ndarray) -> np.ndarray:
    """(2 K, h, w) -> (K, 2, h, w)."""
    return maps.reshape(-1, 2, *maps.shape[1:])


def _longest(view: View, arrows: Sequence[Arrow]) -> str:
    longest = max((float(np.hypot(*(arrow.end - arrow.start))) for arrow in arrows), default=0.0)
    return f"up to {longest / view.zoom:.3g} px"


def _places(view: View) -> list[Place]:
    """Kind, row and column of the peaks of heat; their cell's centre in the image; the colour of the person
    there, or of the kind.  Of cells with the same heat the one whose keypoint is nearest."""
    refined = view.refinement
    heat = view.heat * view.known.get(refined or "", np.ones(1, bool))
    top = float(heat.max(initial=0))
    if refined:
        away = np.hypot(*np.moveaxis(_pairs(view.arrays[refined]), 1, 0))
        heat = heat - 1e-4 * top * away / max(float(away.max(initial=0)), 1e-6)
    flat = np.median(view.heat, axis=(1, 2))  # of an untrained network every cell is as high
    places = []
    for k, y, x in peaks(heat, min(0.2, 0.5 * top)):
        if view.heat[k, y, x] < STANDS_OUT * flat[k]:
            continue
        center = (np.array([x, y]) + 0.5) * view.cell - 0.5
        places.append((k, y, x, center, _color_at(view, k, center)))
    return places


def _color_at(view: View, k: int, center: np.ndarray) -> Color:
    red, green, blue = (int(255 * part) for part in kind_color(k))
    if view.people is None:
        return red, green, blue
    points = view.people.keypoints[:, k]
    away = np.abs((np.nan_to_num(points[:, :2]) - center) / view.cell).max(1, initial=0)
    away[points[:, 2] <= 0] = np.inf
    if len(away) and away.min() <= NEAR:
        return person_color(view.numbers[int(away.argmin())])
    return 225, 225, 225  # nobody's
