"""What a network answers, or should answer, as pictures: heatmaps, part affinity fields, tags and offsets
over the picture itself.

Colours stand over a dim, nearly grey picture, so that a colour is always the field's.  Weak maps, as those of
an early training, are shown stronger than they are, and the caption says by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from pose.draw.offsets import paint_locref, paint_pairwise
from pose.draw.people import Style, draw_people
from pose.draw.sheets import Panel, panel_sheet
from pose.draw.tags import paint_tag
from pose.draw.view import View, full_color, hatched, kind_color, kinds_over, visible_gain
from pose.skeleton import Skeleton
from pose.structures import People

SAME = 0.15  # of a person's extent: a found person who is nearer is shown in the annotated one's colour


def draw_fields(
    image: np.ndarray,
    fields: Mapping[str, Tensor],
    num_keypoints: int | Skeleton,
    *,
    people: People | None = None,
    zoom: float = 1.0,
) -> dict[str, np.ndarray]:
    """The pictures of `field_panels` by name: heatmap, background, paf, tag, locref, pairwise, as far as the
    fields have them."""
    panels = field_panels(image, fields, num_keypoints, people=people, zoom=zoom)
    return {panel.name: panel.picture for panel in panels}


def field_panels(
    image: np.ndarray,
    fields: Mapping[str, Tensor],
    skeleton: int | Skeleton,
    *,
    people: People | None = None,
    truth: People | None = None,
    numbers: Sequence[int] | None = None,
    zoom: float = 1.0,
    each: bool = False,
) -> list[Panel]:
    """image (H, W, 3) uint8 RGB; fields of this one picture, without the batch: fused as a head decodes them,
    or as `Head.target_fields` gives them -> a panel (H, W, 3) for each field that can be drawn.

    skeleton: or how many keypoints there are; people: those that were decoded from the fields, or to whom the
    targets belong, in the image's pixels; numbers: of these people, for their colours (default: their place);
    truth: annotated people, for the tags that the fields give them; zoom: pixels of the image for each pixel
    of the network's input; each: also a panel for every keypoint and every limb.

    heatmap: every kind of keypoint in its own colour.  paf: the direction of the strongest limb as hue (red
    to the right, then clockwise through yellow, green and blue).  tag: its value at the strongest keypoint
    as hue; tag_people: at the keypoints of people, within rings of the person's colour; tag_values: a row of
    dots for each person.  locref: at each peak an arrow to where the keypoint is.  pairwise: arrows from
    peaks to where they say that the person's next keypoints are.  Cells that do not count in training are
    hatched."""
    order = range(len(people) if people is not None else 0) if numbers is None else numbers
    view = View.of(image, fields, skeleton, people, truth, order, zoom, each)
    drawn = [name for name in PAINTERS if name in view.arrays and ("heatmap" in view.arrays or name == "paf")]
    return [panel for name in drawn for panel in PAINTERS[name](view)]


def field_sheet(
    image: np.ndarray,
    skeleton: Skeleton,
    prediction: tuple[Mapping[str, Tensor], People],
    target: tuple[Mapping[str, Tensor], People] | None = None,
    *,
    stages: Sequence[Mapping[str, Tensor]] = (),
    zoom: float = 1.0,
    each: bool = False,
    style: Style | None = None,
) -> np.ndarray:
    """The picture with its people and the panels of its fields, side by side; targets above.

    prediction, target: fields and people, as `field_panels` takes them, of whom those below the score of the
    style are left out; stages: of a network, each read out by itself."""
    truth = target[1] if target else None
    rows = []
    if target:
        drawn = draw_people(image, target[1], skeleton, style)
        if "mask" in target[0]:
            drawn = hatched(drawn, target[0]["mask"].float().cpu().numpy()[0])
        first = Panel("people", drawn, f"{len(target[1])} annotated")
        panels = field_panels(image, target[0], skeleton, people=truth, zoom=zoom, each=each)
        rows.append([first, *_marked(panels, "target")])
    fields, everybody = prediction
    people = everybody.above(style.min_score) if style else everybody
    numbers = _like(people, truth) if truth is not None else range(len(people))
    drawn = draw_people(image, people, skeleton, style, numbers)
    panels = field_panels(
        image, fields, skeleton, people=people, truth=truth, numbers=numbers, zoom=zoom, each=each
    )
    faint = len(everybody) - len(people)
    told = f" ({faint} more below {style.min_score:g})" if faint and style else ""
    found = Panel("people", drawn, f"{len(people)} found{told}")
    rows.append([found, *(_marked(panels, "predicted") if target else panels)])
    for i, stage in enumerate(stages):
        panels = field_panels(image, stage, skeleton, zoom=zoom, each=each)
        rows.append(_marked(panels, f"stage {i + 1} of {len(stages)}, one scale, not mirrored:"))
    return panel_sheet(rows)


def _like(people: People, truth: People) -> list[int]:
    """Numbers of the people: that of the nearest annotated one, where it is near, so that both have one
    colour; others count on."""
    numbers: list[int] = []
    free = list(range(len(truth)))
    for person in people.keypoints:
        away = {i: _apart(person, truth.keypoints[i]) for i in free}
        nearest = min(away, key=lambda i: away[i], default=None)
        if nearest is not None and away[nearest] < SAME:
            free.remove(nearest)
            numbers.append(nearest)
        else:
            numbers.append(len(truth) + sum(number >= len(truth) for number in numbers))
    return numbers


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Median distance of the keypoints that both have, in extents of the other."""
    there = (one[:, 2] > 0) & (other[:, 2] > 0)
    if not there.any():
        return np.inf
    known = other[other[:, 2] > 0, :2]
    extent = max(float(np.linalg.norm(np.ptp(known, axis=0))), 1.0)
    return float(np.median(np.linalg.norm(one[there, :2] - other[there, :2], axis=1))) / extent


def _marked(panels: Sequence[Panel], mark: str) -> list[Panel]:
    return [Panel(one.name, one.picture, f"{mark} {one.caption}") for one in panels]


# --------------------------------------------------------------------------------------------------- heatmaps


def paint_heatmap(view: View) -> list[Panel]:
    drawn, told = kinds_over(view)
    panels = [view.panel("heatmap", drawn, f"heatmap {told}")]
    if len(view.arrays["heatmap"]) > view.kinds:
        there = (1 - view.arrays["heatmap"][view.kinds]).clip(0, 1)
        gain, told = visible_gain(float(there.max()))
        white = np.ones((*there.shape, 3)) * (1.0, 0.85, 0.5)
        panels.append(
            view.panel("background", view.over(white, gain * there), f"1 - background {told}", "heatmap")
        )
    for k, one in enumerate(view.heat if view.each else ()):
        gain, told = visible_gain(float(one.max()))
        drawn = view.over(np.ones((*one.shape, 3)) * kind_color(k), gain * one)
        panels.append(view.panel(f"heatmap/{k}", drawn, f"{view.keypoint(k)} {told}", "heatmap"))
    return panels


# ------------------------------------------------------------------------------------------------------- paf


def paint_paf(view: View) -> list[Panel]:
    x, y = view.arrays["paf"][0::2], view.arrays["paf"][1::2]
    length = np.hypot(x, y)
    strongest = length.argmax(0)[None]
    dx, dy, longest = (np.take_along_axis(maps, strongest, 0)[0] for maps in (x, y, length))
    panels = [_directions(view, "paf", dx, dy, longest, "paf")]
    for number in range(len(x) if view.each else 0):
        name = f"limb {number}"
        if view.skeleton:
            a, b = view.skeleton.limb_index[number]
            name = f"{view.keypoint(a)} > {view.keypoint(b)}"
        panels.append(_directions(view, f"paf/{number}", x[number], y[number], length[number], name))
    return panels


def _directions(
    view: View, name: str, dx: np.ndarray, dy: np.ndarray, length: np.ndarray, title: str
) -> Panel:
    gain, told = visible_gain(float(length.max(initial=0)))
    drawn = view.over(full_color(np.arctan2(dy, dx) / (2 * np.pi) % 1), gain * length)
    _draw_wheel(drawn)
    return view.panel(name, drawn, f"{title} {told}", "paf")


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


PAINTERS: dict[str, Callable[[View], list[Panel]]] = {
    "heatmap": paint_heatmap,
    "paf": paint_paf,
    "tag": paint_tag,
    "locref": paint_locref,
    "pairwise": paint_pairwise,
}
