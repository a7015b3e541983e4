"""Tags: coloured by their value, within the people that were grouped by them, and as rows of dots."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose.draw.arrows import Color
from pose.draw.people import person_color
from pose.draw.sheets import Panel
from pose.draw.texts import put_line
from pose.draw.view import View, full_color, visible_gain
from pose.structures import People

SEEN = 0.5  # of the maximum: cells with less heat do not count for the range of the tags
RANGE = (1, 99)  # percent of the tags between the ends of their colours


@dataclass(frozen=True)
class _Tags:
    """One number for each keypoint and cell."""

    value: np.ndarray  # (K, h, w)
    low: float  # range where there is heat
    high: float
    told: str

    def color(self, value: np.ndarray) -> np.ndarray:
        """(..., 3) in [0, 1]: red at the lowest value, violet at the highest."""
        share = ((value - self.low) / max(self.high - self.low, 1e-6)).clip(0, 1)
        return full_color(0.8 * np.atleast_2d(share)).reshape(*np.shape(value), 3)


def _tags(view: View, name: str) -> _Tags:
    """Of several numbers (passes, dimensions) the axis on which what is seen differs most: their mean may
    hide what tells people apart.  Distances on it are the decoder's, or less: the root of the mean square."""
    heat, tag = view.heat, view.arrays[name]
    tag = tag if tag.ndim == 4 else tag[None]
    tag = np.moveaxis(tag.reshape(len(tag), len(heat), -1, *tag.shape[2:]), 0, 1)
    tag = tag.reshape(len(heat), -1, *tag.shape[3:])  # (K, T * D, h, w)
    seen = heat > max(SEEN * float(heat.max(initial=0)), 1e-6)
    value, told = tag[:, 0], name
    if name in view.known:
        pairs = zip(value, view.known[name], strict=True)
        value = np.stack([_spread(one, there) for one, there in pairs])
    elif tag.shape[1] > 1:
        value, told = _main_axis(tag, seen), f"{name}, main axis of {tag.shape[1]},"
        value = _in_order(view, value)
    values = value[seen]
    low, high = (float(v) for v in np.percentile(values, RANGE)) if len(values) else (0.0, 1.0)
    return _Tags(value, low, high, f"{told} {low:.3g} (red) to {high:.3g} (violet)")


def _main_axis(tag: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """tag (K, n, h, w), seen (K, h, w) -> (K, h, w) along the axis on which what is seen differs most."""
    points = np.moveaxis(tag, 1, -1)
    chosen = points[seen]
    if len(chosen) < 2:
        return tag[:, 0]
    axis = np.linalg.eigh(np.cov(chosen.T.astype(np.float64)))[1][:, -1]
    axis *= (1 if axis[0] >= 0 else -1) / np.sqrt(len(axis))
    return points @ axis.astype(points.dtype)


def _in_order(view: View, value: np.ndarray) -> np.ndarray:
    """The axis has no direction: that in which annotated people come in their order, as in the targets."""
    if view.truth is None:
        return value
    means = [float(one.mean()) for one in (_at(view, value, p)[1] for p in view.truth.keypoints) if len(one)]
    falls = len(means) > 1 and np.polyfit(range(len(means)), means, 1)[0] < 0
    return -value if falls else value


def _spread(value: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Every cell gets the value of the nearest one that is `there`."""
    if not there.any():
        return value
    source = (~there).astype(np.uint8)
    labels = cv2.distanceTransformWithLabels(source, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    by_label = np.zeros(int(labels.max()) + 1, value.dtype)
    by_label[labels[there]] = value[there]
    return by_label[labels]


def paint_tag(view: View, name: str) -> list[Panel]:
    heat, tags = view.heat, _tags(view, name)
    strongest = heat.argmax(0)[None]
    value, alpha = (np.take_along_axis(maps, strongest, 0)[0] for maps in (tags.value, heat))
    gain, _ = visible_gain(float(heat.max(initial=0)))
    panels = [view.panel(name, view.over(tags.color(value), gain * alpha), tags.told)]
    if view.people is not None:
        panels.append(_tag_people(view, name, tags))
        if name not in view.known:
            panels.append(_tag_values(view, name, tags))
    return panels


def _at(view: View, value: np.ndarray, person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """value (K, h, w), person (K, 3) -> which keypoints lie on the map, and their values (n,)."""
    cells = np.floor((np.nan_to_num(person[:, :2]) + 0.5) / view.cell).astype(int)
    size = np.array(value.shape[:0:-1])
    there = (person[:, 2] > 0) & (cells >= 0).all(1) & (cells < size).all(1)
    x, y = cells[there].T
    return there, value[there.nonzero()[0], y, x]


def _tag_people(view: View, name: str, tags: _Tags) -> Panel:
    assert view.people is not None
    canvas = np.ascontiguousarray(view.backdrop.round().clip(0, 255).astype(np.uint8))
    largest = max(3, min(canvas.shape[:2]) // 70)
    for i in reversed(range(len(view.people))):
        person, color = view.people.keypoints[i], person_color(view.numbers[i])
        there, values = _at(view, tags.value, person)
        if not there.any():
            continue
        spots = person[there, :2]
        radius = int(np.clip(np.ptp(spots, axis=0).max() / 30, 2, largest))
        for a, b in view.skeleton.limb_index if view.skeleton else ():
            if there[a] and there[b]:
                ends = [tuple(int(v) for v in person[k, :2].round()) for k in (a, b)]
                cv2.line(canvas, ends[0], ends[1], color, max(1, radius // 2), cv2.LINE_AA)
        for spot, fill in zip(spots, 255 * tags.color(values), strict=True):
            center = (int(round(float(spot[0]))), int(round(float(spot[1]))))
            cv2.circle(canvas, center, radius + max(2, radius // 2), color, -1, cv2.LINE_AA)
            cv2.circle(canvas, center, radius, tuple(fill.tolist()), -1, cv2.LINE_AA)
    return view.panel(f"{name}_people", canvas, f"{name}s within people (lines: the person)", name)


@dataclass(frozen=True)
class _Row:
    """The tags of one person."""

    label: str
    color: Color
    values: np.ndarray


def _rows(view: View, tags: _Tags) -> list[_Row]:
    """Of annotated people and of found ones, those of one number below each other."""
    rows = []
    truth, people = view.truth or People.none(view.kinds), view.people or People.none(view.kinds)
    both = (("true", range(len(truth)), truth), ("found", view.numbers, people))
    for title, numbers, some in both:
        for number, person in zip(numbers, some.keypoints, strict=True):
            values = _at(view, tags.value, person)[1]
            if len(values):
                rows.append((number, _Row(f"{title} {number + 1}", person_color(number), values)))
    return [row for _, row in sorted(rows, key=lambda one: one[0])]


def _tag_values(view: View, name: str, tags: _Tags) -> Panel:
    """A row of dots for each person, with a bar as long as a difference of 1: people whose dots mix cannot be
    told apart."""
    height, width = view.backdrop.shape[:2]
    canvas = np.full((height, width, 3), 24, np.uint8)
    size = float(np.clip(min(height, width) / 32, 10, 28))
    line, left = 0.95 * size, 5.5 * size
    rows = _rows(view, tags)
    shown = rows[: max(1, int((height - 2.5 * line) // line))]
    every = np.concatenate([row.values for row in shown]) if shown else np.array([0.0, 1.0])
    low, high = float(every.min()), float(every.max())
    unit = (width - left - 2 * line) / max(high - low, 1e-6)  # pixels for a difference of 1
    step = min((height - 2.5 * line) / max(len(shown), 1), 3 * line)
    for i, row in enumerate(shown):
        y = int(0.5 * line + (i + 0.5) * step)
        cv2.line(canvas, (int(left), y), (width - int(line), y), (60, 60, 60), 1)
        put_line(canvas, row.label, (4, y + 0.3 * size), size, row.color)
        _dots(canvas, left + line / 2 + (row.values - low) * unit, y, int(np.clip(step / 6, 2, 7)), row.color)
    fits = unit <= width - left - 2 * line  # else the tags differ by less than 1
    if fits:
        bottom = height - int(1.6 * line)
        cv2.line(canvas, (int(left), bottom), (int(left + unit), bottom), (235, 235, 235), 2)
    told = "a difference of 1" if fits else f"all within {high - low:.2g}"
    put_line(canvas, told, (left, height - 0.35 * line), size, (235, 235, 235))
    hidden = f", {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
    return Panel(f"{name}_values", canvas, f"{name}s {low:.3g} to {high:.3g}, a row per person{hidden}")


def _dots(canvas: np.ndarray, x: np.ndarray, y: int, radius: int, color: Color) -> None:
    """A dot at every x, and a line at their mean."""
    for one in x:
        cv2.circle(canvas, (int(one), y), radius, color, -1, cv2.LINE_AA)
    middle = int(x.mean())
    cv2.line(canvas, (middle, y - 2 * radius), (middle, y + 2 * radius), (255, 255, 255), 1, cv2.LINE_AA)
