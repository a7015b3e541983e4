"""What a network answers, or should answer, as pictures: heatmaps, part affinity fields, tags and offsets
over the picture itself.

Colours stand over a dim, nearly grey picture, so that a colour is always the field's.  Weak maps, as those of
an early training, are shown stronger than they are, and the caption says by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from pose.draw.offsets import paint_offsets, paint_offsets_to_others
from pose.draw.sheets import Panel
from pose.draw.tags import paint_tag
from pose.draw.texts import put_line
from pose.draw.view import View, full_color, kind_color, kinds_over, visible_gain
from pose.skeleton import Skeleton
from pose.structures import Drawn, People


def field_panels(
    image: np.ndarray,
    fields: Mapping[str, Tensor],
    drawn: Mapping[str, Drawn | None],
    skeleton: int | Skeleton,
    *,
    people: People | None = None,
    truth: People | None = None,
    numbers: Sequence[int] | None = None,
    zoom: float = 1.0,
    each: bool = False,
) -> list[Panel]:
    """image (H, W, 3) uint8 RGB; fields of this one picture, without the batch: fused as a head decodes them,
    or as `Head.target_fields` gives them -> panels (H, W, 3) of each.

    drawn: how each field is, by name, `FieldSpec.drawn`; one that cannot be drawn is named in a panel of its
    own.  skeleton: or how many keypoints there are.  people: those that were decoded from the fields, or to
    whom the targets belong, in the image's pixels; numbers: of these people, for their colours (default:
    their place); truth: annotated people, for the tags that the fields give them; zoom: pixels of the image
    for each pixel of the network's input; each: also a panel for every keypoint and every limb.

    heat: every map in its own colour; of `heatmap` the background by itself.  vectors: the direction of the
    strongest as hue (red to the right, then clockwise through yellow, green and blue).  value: at the
    strongest keypoint as hue; NAME_people: at the keypoints of people, within rings of the person's colour;
    NAME_values: a row of dots for each person.  offsets: at each peak an arrow to where the keypoint is.
    offsets_to_others: arrows from peaks to where they say that the person's next keypoints are.  Cells that
    do not count in training are hatched."""
    order = range(len(people) if people is not None else 0) if numbers is None else numbers
    view = View.of(image, fields, skeleton, people, truth, order, zoom, each, drawn)
    panels = []
    for kind in (*PAINTERS, None):
        for name in (name for name, one in drawn.items() if one == kind and name in view.arrays):
            reason = undrawable(view, name)
            panels += [named(view, name, reason)] if reason or kind is None else PAINTERS[kind](view, name)
    return panels


def undrawable(view: View, name: str) -> str:
    """Why a field cannot be drawn; "" if it can."""
    kind, maps, kinds = view.drawn[name], view.arrays[name].shape[-3], view.kinds
    if kind is None:
        return "the head does not say how (FieldSpec.drawn)"
    if kind == "heat":
        return ""
    if kind == "vectors":
        return f"vectors are pairs of maps, and it has {maps}" if maps % 2 else ""
    if "heatmap" not in view.arrays:
        return "there is no heatmap to draw it on"
    if kind == "value":
        return f"values of {kinds} keypoints are so many maps or a multiple" if maps % kinds else ""
    wanted = 2 * kinds * (1 if kind == "offsets" else kinds - 1)
    return "" if maps == wanted else f"{kind} of {kinds} keypoints are {wanted} maps, and it has {maps}"


def named(view: View, name: str, reason: str) -> Panel:
    """The image alone, and a line: for a field that cannot be drawn."""
    canvas = view.backdrop.round().clip(0, 255).astype(np.uint8)
    size = float(np.clip(canvas.shape[1] / 24, 8, 28))
    put_line(canvas, f"{name}: not drawn", (4, 1.2 * size), size, (235, 235, 235))
    return view.panel(name, canvas, f"{name}: not drawn, {reason}")


# --------------------------------------------------------------------------------------------------- heatmaps


def paint_heat(view: View, name: str) -> list[Panel]:
    heat = view.heat_of(name)
    drawn, told = kinds_over(view, heat)
    panels = [view.panel(name, drawn, f"{name} {told}")]
    if name == "heatmap" and len(view.arrays["heatmap"]) > view.kinds:
        there = (1 - view.arrays["heatmap"][view.kinds]).clip(0, 1)
        gain, told = visible_gain(float(there.max()))
        white = np.ones((*there.shape, 3)) * (1.0, 0.85, 0.5)
        panels.append(
            view.panel("background", view.over(white, gain * there), f"1 - background {told}", "heatmap")
        )
    for k, one in enumerate(heat if view.each else ()):
        title = view.keypoint(k) if len(heat) == view.kinds else f"{name} {k}"
        gain, told = visible_gain(float(one.max()))
        drawn = view.over(np.ones((*one.shape, 3)) * kind_color(k), gain * one)
        panels.append(view.panel(f"{name}/{k}", drawn, f"{title} {told}", name))
    return panels


# --------------------------------------------------------------------------------------------------- vectors


def paint_vectors(view: View, name: str) -> list[Panel]:
    maps = view.arrays[name]
    maps = maps.mean(0) if maps.ndim == 4 else maps
    x, y = maps[0::2], maps[1::2]
    length = np.hypot(x, y)
    strongest = length.argmax(0)[None]
    dx, dy, longest = (np.take_along_axis(maps, strongest, 0)[0] for maps in (x, y, length))
    panels = [_directions(view, name, dx, dy, longest, name, name)]
    for number in range(len(x) if view.each else 0):
        title = f"limb {number}"
        if view.skeleton and len(x) == len(view.skeleton.limb_index):
            a, b = view.skeleton.limb_index[number]
            title = f"{view.keypoint(a)} > {view.keypoint(b)}"
        panels.append(
            _directions(view, f"{name}/{number}", x[number], y[number], length[number], title, name)
        )
    return panels


def _directions(
    view: View, name: str, dx: np.ndarray, dy: np.ndarray, length: np.ndarray, title: str, source: str
) -> Panel:
    gain, told = visible_gain(float(length.max(initial=0)))
    drawn = view.over(full_color(np.arctan2(dy, dx) / (2 * np.pi) % 1), gain * length)
    _draw_wheel(drawn)
    return view.panel(name, drawn, f"{title} {told}", source)


def _draw_wheel(canvas: np.ndarray) -> None:
    """The hue of every direction, in the lower right corner."""
    height, width = canvas.shape[:2]
    radius = int(np.clip(min(height, width) // 14, 8, 60))
    if min(height, width) < 4 * radius:
        return
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(x, y)
    color = 255 * full_color(np.arctan2(y, x) / (2 * np.pi) % 1)
    margin = radius // 3 + 2
    part = canvas[-2 * radius - 1 - margin : -margin, -2 * radius - 1 - margin : -margin]
    part[distance <= radius] = 15
    ring = (distance <= radius - 1.5) & (distance >= 0.35 * radius)
    part[ring] = color[ring]


PAINTERS: dict[Drawn, Callable[[View, str], list[Panel]]] = {
    "heat": paint_heat,
    "vectors": paint_vectors,
    "value": paint_tag,
    "offsets": paint_offsets,
    "offsets_to_others": paint_offsets_to_others,
}
"""By `FieldSpec.drawn`, in the order of the panels."""
