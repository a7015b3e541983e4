"""Decoding of heatmaps and part affinity fields into people, restated literally: one pair of peaks at a time.

Cao, Simon, Wei and Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields" (CVPR 2017),
three ways in which it is released: rtpose (PyTorch) as it is now (`decode_s1`, on maps of stride 8), its
evaluation of 2017-18 (`decode_s1_old`) and CMU's original evaluation (`decode_cmu`), both on maps enlarged to
the size of the picture.

Maps are (h, w, channels).  Limb l = (a, b) uses channels 2l (x) and 2l + 1 (y) of a field, which points from
a to b.  Peaks are numbered from 0 over the whole picture: by keypoint kind, within a kind row by row.

Where the description leaves room:
- candidates of equal score: the earlier one in the order (peak of a, peak of b).  (rtpose sorts unstably.)
- rtpose computes in float32, sums of the ten samples one after the other; the other two in float64.
- a plateau of equal values gives a peak at each of its cells (not so for the strict neighbours of CMU).
- outside the map every neighbour is lower: a cell at the edge can be a peak.
- the refinement may leave its cell, so two peaks of a kind may coincide; both are kept.  In the evaluation of
  2017-18 the patch is not enlarged, but the refinement still moves a peak to the highest pixel of it.
- CMU: a peak is dropped if its Euclidean distance to an earlier kept peak of its kind is <= 6 pixels, in row
  by row order (the original scans its own arrays column by column).
- CMU: the length prior and the positive score are as in the evaluation of 2017-18, with the mean over the
  passing samples in place of the mean over all; two peaks at one place are not joined.
- CMU: limbs behind the starting ones do all but start a person (they may merge two); a limb that fits three
  or more people does nothing.
- the starting limbs are the first ones in the order of assembly.
- with `peak_zero_bug`, a merge of two people who both have the keypoint of peak 0 adds the numbers up: the
  result holds `other + 1`, a peak that belongs to neither and may even be of another kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

Limbs = Sequence[tuple[int, int]]

# nose, neck, right shoulder, elbow, wrist, left the same, right hip, knee, ankle, left the same, right eye,
# left eye, right ear, left ear
NUM_KEYPOINTS = 18
CMU_LIMBS: Limbs = (
    (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 2), (2, 3), (3, 4), (2, 16),
    (1, 5), (5, 6), (6, 7), (5, 17), (1, 0), (0, 14), (0, 15), (14, 16), (15, 17),
)  # fmt: skip
# rtpose (PyTorch) trains limbs 9 and 13 from the shoulders to the eyes, and decodes them as if to the ears
S1_TARGET_LIMBS: Limbs = tuple({9: (2, 14), 13: (5, 15)}.get(i, limb) for i, limb in enumerate(CMU_LIMBS))
DECODE_ORDER = (6, 10, 7, 8, 11, 12, 0, 1, 2, 3, 4, 5, 14, 15, 17, 16, 18, 9, 13)
FLIP_INDEX = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
PAF_FLIP_INDEX = (
    *range(6, 12), *range(0, 6), *range(20, 28), *range(12, 20), 28, 29, 32, 33, 30, 31, 36, 37, 34, 35,
)  # fmt: skip

DETECTION_THRESHOLD = 0.1
SAMPLES = 10
SAMPLE_THRESHOLD = 0.05
CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class Peak:
    """A local maximum of heatmap `kind`; x, y in pixels of the canvas."""

    id: int
    kind: int
    x: int
    y: int
    score: Any  # np.float32 (rtpose) or float


@dataclass(frozen=True)
class Connection:
    """Peaks a and b (their numbers) joined by a limb."""

    a: int
    b: int
    score: Any


@dataclass
class Row:
    """One person while people are assembled: per keypoint a peak's number or -1."""

    peaks: list[int]
    total: Any
    parts: int  # counts what was put in, and may exceed the number of keypoints held


@dataclass(frozen=True)
class Person:
    """A decoded person.  keypoints (K, 3): x, y in canvas pixels (without the half pixel that the originals
    add on output) and the peak's score, zeros where `peaks` (K,) is -1."""

    peaks: np.ndarray
    keypoints: np.ndarray
    total: float
    parts: int
    score: float


# ---- peaks ----


def number_peaks(found: Sequence[Sequence[tuple[int, int, Any]]]) -> list[list[Peak]]:
    """Per keypoint kind the (x, y, score) of its peaks -> the same as numbered peaks."""
    peaks: list[list[Peak]] = []
    count = 0
    for kind, places in enumerate(found):
        own = []
        for x, y, score in places:
            own.append(Peak(count, kind, x, y, score))
            count += 1
        peaks.append(own)
    return peaks


def maxima(heatmap: np.ndarray) -> list[tuple[int, int]]:
    """heatmap (h, w) -> (x, y) of cells above the threshold and not below any of their 4 neighbours."""
    is_peak = (ndimage.maximum_filter(heatmap, footprint=CROSS) == heatmap) & (heatmap > DETECTION_THRESHOLD)
    return [(int(x), int(y)) for y, x in zip(*np.nonzero(is_peak), strict=True)]


def refine(heatmap: np.ndarray, x: int, y: int, factor: int) -> tuple[float, float, Any]:
    """heatmap (h, w), cell (x, y) -> position on the canvas that is `factor` times larger and the value
    there: the highest point of the 5x5 patch (smaller at the edge) enlarged by cubic interpolation."""
    height, width = heatmap.shape
    left, top = max(0, x - 2), max(0, y - 2)
    right, bottom = min(width - 1, x + 2), min(height - 1, y + 2)
    patch = np.ascontiguousarray(heatmap[top : bottom + 1, left : right + 1])
    large = cv2.resize(patch, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    row, column = np.unravel_index(int(large.argmax()), large.shape)  # the first of equals
    center_x = (x - left + 0.5) * factor - 0.5
    center_y = (y - top + 0.5) * factor - 0.5
    refined_x = (x + 0.5) * factor - 0.5 + (int(column) - center_x)
    refined_y = (y + 0.5) * factor - 0.5 + (int(row) - center_y)
    return refined_x, refined_y, large[row, column]


def s1_peaks(heat: np.ndarray, stride: int = 8) -> list[list[Peak]]:
    """heat (h, w, K) -> peaks per keypoint kind, at truncated pixels of the canvas (stride h, stride w)."""
    found = []
    for k in range(heat.shape[2]):
        heatmap = np.ascontiguousarray(heat[:, :, k], np.float32)
        own = []
        for x, y in maxima(heatmap):
            refined_x, refined_y, score = refine(heatmap, x, y, stride)
            own.append((int(refined_x), int(refined_y), np.float32(score)))
        found.append(own)
    return number_peaks(found)


def s1_old_peaks(heat: np.ndarray) -> list[list[Peak]]:
    """heat (H, W, K) of the picture's size -> peaks per keypoint kind."""
    found = []
    for k in range(heat.shape[2]):
        own = []
        for x, y in maxima(heat[:, :, k]):
            refined_x, refined_y, score = refine(heat[:, :, k], x, y, 1)
            own.append((int(round(refined_x)), int(round(refined_y)), float(score)))
        found.append(own)
    return number_peaks(found)


def cmu_peaks(heat: np.ndarray, min_distance: float = 6.0) -> list[list[Peak]]:
    """heat (H, W, K) of the picture's size -> peaks per keypoint kind: pixels above the threshold and all 4
    neighbours, without those near an earlier one."""
    found = []
    for k in range(heat.shape[2]):
        padded = np.pad(heat[:, :, k], 1, constant_values=-np.inf)
        inner = padded[1:-1, 1:-1]
        higher = (inner > padded[:-2, 1:-1]) & (inner > padded[2:, 1:-1])
        higher &= (inner > padded[1:-1, :-2]) & (inner > padded[1:-1, 2:])
        kept: list[tuple[int, int, float]] = []
        for y, x in zip(*np.nonzero(higher & (inner > DETECTION_THRESHOLD)), strict=True):
            if all(np.hypot(x - other[0], y - other[1]) > min_distance for other in kept):
                kept.append((int(x), int(y), float(inner[y, x])))
        found.append(kept)
    return number_peaks(found)


# ---- how well a limb of the field joins two peaks ----


def s1_sample_positions(start: int, end: int) -> np.ndarray:
    """Ten places from `start` towards `end` (not reached), (10,) int64, along one axis."""
    step = np.float32(end - start) / np.float32(SAMPLES)
    places = np.float32(start) + np.arange(SAMPLES, dtype=np.float32) * step
    return (places.astype(np.float64) + 0.5).astype(np.int64)


def linspace_sample_positions(start: int, end: int) -> np.ndarray:
    """Ten places from `start` to `end` (included), halves to even, (10,) int64, along one axis."""
    return np.round(np.linspace(start, end, SAMPLES)).astype(np.int64)


def length_prior(height: int, length: float) -> float:
    """What is added to a limb's score: 0 up to half the `height` of the canvas, and less for longer limbs."""
    return min(0.5 * height / length - 1, 0.0)


def s1_limb_score(paf_x: np.ndarray, paf_y: np.ndarray, a: Peak, b: Peak) -> np.float32 | None:
    """paf_x, paf_y (H, W) float32 on the canvas -> the score of joining a and b, None if they do not fit."""
    dx, dy = np.float32(b.x - a.x), np.float32(b.y - a.y)
    length = np.sqrt(dx * dx + dy * dy)
    if length < 1e-12:
        return None
    unit_x, unit_y = dx / length, dy / length
    columns, rows = s1_sample_positions(a.x, b.x), s1_sample_positions(a.y, b.y)
    dots = unit_x * paf_x[rows, columns] + unit_y * paf_y[rows, columns]  # (10,) float32
    total = np.float32(0)
    for dot in dots:
        total = total + dot
    passes = int((dots.astype(np.float64) > SAMPLE_THRESHOLD).sum())
    score = np.float32(float(total / np.float32(SAMPLES)) + length_prior(paf_x.shape[0], float(length)))
    return score if passes > 6 and score > 0 else None


def s1_old_limb_score(
    paf_x: np.ndarray, paf_y: np.ndarray, a: Peak, b: Peak, image_height: int
) -> float | None:
    """paf_x, paf_y (H, W) -> the score of joining a and b, None if they do not fit."""
    direction = np.array([b.x - a.x, b.y - a.y], np.float64)
    length = float(np.sqrt((direction**2).sum())) + 1e-8
    direction = direction / length
    columns, rows = linspace_sample_positions(a.x, b.x), linspace_sample_positions(a.y, b.y)
    dots = direction[0] * paf_x[rows, columns].astype(np.float64)
    dots = dots + direction[1] * paf_y[rows, columns].astype(np.float64)
    score = float(dots.mean()) + length_prior(image_height, length)
    return score if int((dots > SAMPLE_THRESHOLD).sum()) > 8 and score > 0 else None


def cmu_limb_score(paf_x: np.ndarray, paf_y: np.ndarray, a: Peak, b: Peak, image_height: int) -> float | None:
    """paf_x, paf_y (H, W) -> the score of joining a and b, None if they do not fit."""
    direction = np.array([b.x - a.x, b.y - a.y], np.float64)
    length = float(np.sqrt((direction**2).sum()))
    if length == 0:
        return None
    direction = direction / length
    columns, rows = linspace_sample_positions(a.x, b.x), linspace_sample_positions(a.y, b.y)
    dots = direction[0] * paf_x[rows, columns].astype(np.float64)
    dots = dots + direction[1] * paf_y[rows, columns].astype(np.float64)
    passing = dots[dots > SAMPLE_THRESHOLD]
    if not len(passing) / SAMPLES > 0.8:
        return None
    score = float(passing.mean()) + length_prior(image_height, length)
    return score if score > 0 else None


# ---- connections ----

LimbScore = Callable[[np.ndarray, np.ndarray, Peak, Peak], Any]


def candidate_connections(
    starts: Sequence[Peak], ends: Sequence[Peak], paf_x: np.ndarray, paf_y: np.ndarray, limb_score: LimbScore
) -> list[Connection]:
    """All pairs of peaks that the field of one limb joins, in the order (start, end)."""
    candidates = []
    for a in starts:
        for b in ends:
            score = limb_score(paf_x, paf_y, a, b)
            if score is not None:
                candidates.append(Connection(a.id, b.id, score))
    return candidates


def choose_connections(candidates: Sequence[Connection]) -> list[Connection]:
    """The best first, each peak at most once."""
    chosen: list[Connection] = []
    for candidate in sorted(candidates, key=lambda c: -c.score):
        if all(candidate.a != other.a and candidate.b != other.b for other in chosen):
            chosen.append(candidate)
    return chosen


def connect(
    peaks: Sequence[Sequence[Peak]], paf: np.ndarray, limbs: Limbs, limb_score: LimbScore
) -> list[list[Connection]]:
    """Per limb (in channel order) its connections, best first.  paf (H, W, 2L)."""
    connections = []
    for limb, (a, b) in enumerate(limbs):
        paf_x = np.ascontiguousarray(paf[:, :, 2 * limb])
        paf_y = np.ascontiguousarray(paf[:, :, 2 * limb + 1])
        candidates = candidate_connections(peaks[a], peaks[b], paf_x, paf_y, limb_score)
        connections.append(choose_connections(candidates))
    return connections


# ---- people ----


def assemble(
    peaks: Sequence[Sequence[Peak]],
    connections: Sequence[Sequence[Connection]],
    limbs: Limbs,
    order: Sequence[int],
    starting_limbs: int,
    *,
    peak_zero_bug: bool = False,
    many_start: bool = False,
) -> list[Row]:
    """Join connections limb by limb in `order`.  The first `starting_limbs` of it may start a person.  A
    connection that fits three or more people is ignored, or starts another person with `many_start`."""
    by_id = [peak for own in peaks for peak in own]
    rows: list[Row] = []
    for position, limb in enumerate(order):
        slot_a, slot_b = limbs[limb]
        for connection in connections[limb]:
            a, b, score = connection.a, connection.b, connection.score
            holders = [row for row in rows if row.peaks[slot_a] == a or row.peaks[slot_b] == b]
            if len(holders) == 1:
                if holders[0].peaks[slot_b] != b:
                    _put(holders[0], slot_b, by_id[b], score)
            elif len(holders) == 2:
                first, second = holders
                if _overlap(first, second, peak_zero_bug):
                    _put(first, slot_b, by_id[b], score)
                else:
                    _merge(first, second, score)
                    rows = [row for row in rows if row is not second]
            elif position < starting_limbs and (not holders or many_start):
                held = [-1] * len(peaks)
                held[slot_a], held[slot_b] = a, b
                rows.append(Row(held, by_id[a].score + by_id[b].score + score, 2))
    return rows


def _put(row: Row, slot: int, peak: Peak, score: Any) -> None:
    row.peaks[slot] = peak.id  # what was there before is lost, and goes on counting
    row.parts += 1
    row.total = row.total + (peak.score + score)


def _overlap(first: Row, second: Row, peak_zero_bug: bool) -> bool:
    lowest = 1 if peak_zero_bug else 0
    return any(one >= lowest and two >= lowest for one, two in zip(first.peaks, second.peaks, strict=True))


def _merge(first: Row, second: Row, score: Any) -> None:
    # the sum is the one that is not -1, as long as at most one of them is there
    first.peaks = [one + (two + 1) for one, two in zip(first.peaks, second.peaks, strict=True)]
    first.parts += second.parts
    first.total = first.total + second.total
    first.total = first.total + score


def finish(
    rows: Sequence[Row],
    peaks: Sequence[Sequence[Peak]],
    min_parts: int,
    min_mean: float,
    person_score: Callable[[float, int], float],
) -> list[Person]:
    """People with enough parts and a high enough total / parts, in the order in which they were started."""
    by_id = [peak for own in peaks for peak in own]
    people = []
    for row in rows:
        mean = row.total / type(row.total)(row.parts)
        if row.parts < min_parts or float(mean) < min_mean:
            continue
        keypoints = np.zeros((len(row.peaks), 3))
        for slot, number in enumerate(row.peaks):
            if number >= 0:
                peak = by_id[number]
                keypoints[slot] = (peak.x, peak.y, peak.score)
        total = float(row.total)
        score = person_score(total, row.parts)
        people.append(Person(np.array(row.peaks), keypoints, total, row.parts, score))
    return people


# ---- the three decoders ----


def decode_s1(
    heat: np.ndarray,
    paf: np.ndarray,
    *,
    limbs: Limbs = CMU_LIMBS,
    order: Sequence[int] = DECODE_ORDER,
    starting_limbs: int = 18,
    stride: int = 8,
    peak_zero_bug: bool = True,
) -> list[Person]:
    """rtpose (PyTorch): heat (h, w, K), paf (h, w, 2L), without background -> people on the canvas (stride h,
    stride w).  Everybody's score is 1."""
    heat, paf = heat.astype(np.float32), paf.astype(np.float32)
    peaks = s1_peaks(heat, stride)
    large_paf = paf.repeat(stride, axis=0).repeat(stride, axis=1)
    connections = connect(peaks, large_paf, limbs, s1_limb_score)
    rows = assemble(peaks, connections, limbs, order, starting_limbs, peak_zero_bug=peak_zero_bug)
    return finish(rows, peaks, 4, 0.3, lambda total, parts: 1.0)


def decode_s1_old(
    heat: np.ndarray,
    paf: np.ndarray,
    image_height: int | None = None,
    *,
    limbs: Limbs = CMU_LIMBS,
    order: Sequence[int] = DECODE_ORDER,
    starting_limbs: int = 19,
) -> list[Person]:
    """rtpose's evaluation of 2017-18: heat (H, W, K), paf (H, W, 2L) of the picture's size, without
    background -> people; score = total * parts.  `image_height` (default: H) is that of the length prior."""
    height = heat.shape[0] if image_height is None else image_height
    peaks = s1_old_peaks(heat)
    connections = connect(peaks, paf, limbs, lambda x, y, a, b: s1_old_limb_score(x, y, a, b, height))
    rows = assemble(peaks, connections, limbs, order, starting_limbs, many_start=True)
    return finish(rows, peaks, 3, 0.2, lambda total, parts: total * parts)


def decode_cmu(
    heat: np.ndarray,
    paf: np.ndarray,
    image_height: int | None = None,
    *,
    limbs: Limbs = CMU_LIMBS,
    order: Sequence[int] = DECODE_ORDER,
    starting_limbs: int = 17,
    min_distance: float = 6.0,
) -> list[Person]:
    """CMU's evaluation: heat (H, W, K), paf (H, W, 2L) of the picture's size, without background -> people;
    score = total * parts.  `image_height` (default: H) is that of the length prior."""
    height = heat.shape[0] if image_height is None else image_height
    peaks = cmu_peaks(heat, min_distance)
    connections = connect(peaks, paf, limbs, lambda x, y, a, b: cmu_limb_score(x, y, a, b, height))
    rows = assemble(peaks, connections, limbs, order, starting_limbs)
    return finish(rows, peaks, 4, 0.4, lambda total, parts: total * parts)


def enlarge(maps: np.ndarray, factor: int = 8) -> np.ndarray:
    """maps (h, w, C) -> (factor h, factor w, C), each channel by cv2's cubic resize."""
    return np.stack(
        [
            cv2.resize(np.ascontiguousarray(m), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
            for m in np.moveaxis(maps, 2, 0)
        ],
        axis=2,
    )


# ---- made-up pictures ----

# a person facing us, in units of about a third of the body: x to the picture's right, y down, neck at 0
STANDING = np.array(
    [
        (0.00, -0.35), (0.00, 0.00), (-0.32, 0.02), (-0.42, 0.50), (-0.45, 0.95), (0.32, 0.02), (0.42, 0.50),
        (0.45, 0.95), (-0.20, 1.00), (-0.22, 1.60), (-0.24, 2.20), (0.20, 1.00), (0.22, 1.60), (0.24, 2.20),
        (-0.09, -0.45), (0.09, -0.45), (-0.20, -0.40), (0.20, -0.40),
    ]
)  # fmt: skip


def scene_keypoints(
    people: int,
    seed: int,
    *,
    cells: tuple[int, int] = (46, 62),
    stride: int = 8,
    missing: float = 0.1,
    height: tuple[float, float] = (90.0, 300.0),
) -> np.ndarray:
    """Made-up people: keypoints (people, 18, 3) x, y in pixels and v = 2, or zeros where a keypoint is
    missing (with probability `missing`, or because it fell outside).  `height`, neck to ankles, in pixels."""
    rng = np.random.default_rng([seed, people])
    canvas = (cells[1] * stride, cells[0] * stride)  # width, height
    keypoints = np.zeros((people, NUM_KEYPOINTS, 3))
    for person in keypoints:
        unit = rng.uniform(*height) / 2.2
        angle = rng.normal(0, 0.25)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shape = STANDING * (rng.uniform(0.5, 1.1), 1) + rng.normal(0, 0.09, STANDING.shape)
        middle = rng.uniform((0.1, 0.1), (0.9, 0.7)) * canvas
        person[:, :2] = shape @ turn.T * unit + middle
        inside = ((person[:, :2] >= 0) & (person[:, :2] < canvas)).all(axis=1)
        there = inside & (rng.random(NUM_KEYPOINTS) >= missing)
        person[:, 2] = 2
        person[~there] = 0
    return keypoints


def scene(
    people: int,
    seed: int,
    *,
    cells: tuple[int, int] = (46, 62),
    stride: int = 8,
    noise: float = 0.02,
    missing: float = 0.1,
    height: tuple[float, float] = (90.0, 300.0),
    false_peaks: int = 0,
    limbs: Limbs = CMU_LIMBS,
) -> tuple[np.ndarray, np.ndarray]:
    """Maps of made-up people: heat (h, w, 18), paf (h, w, 2L), both float32, without background.

    Peaks are .4 to 1 high, Gaussians of 7 pixels; vectors .6 to 1 long within one cell of the limb, averaged
    where limbs of a kind overlap; `noise` is the deviation of independent normal noise on every value;
    `false_peaks` is the number of peaks per keypoint kind that belong to nobody.
    """
    keypoints = scene_keypoints(people, seed, cells=cells, stride=stride, missing=missing, height=height)
    rng = np.random.default_rng([seed, people, 1])
    heat: np.ndarray = np.zeros((*cells, NUM_KEYPOINTS))
    for person in keypoints:
        for k, (x, y, v) in enumerate(person):
            if v > 0:
                heat[:, :, k] = np.maximum(heat[:, :, k], rng.uniform(0.4, 1) * _blob(x, y, cells, stride))
    for _ in range(false_peaks):
        for k in range(NUM_KEYPOINTS):
            x, y = rng.uniform((0, 0), (cells[1] * stride, cells[0] * stride))
            heat[:, :, k] = np.maximum(heat[:, :, k], rng.uniform(0.1, 0.6) * _blob(x, y, cells, stride))
    paf: np.ndarray = np.zeros((*cells, 2 * len(limbs)))
    for limb, (a, b) in enumerate(limbs):
        count = np.zeros(cells)
        for person in keypoints:
            if person[a, 2] > 0 and person[b, 2] > 0:
                vector, on_limb = _limb_field(person[a, :2] / stride, person[b, :2] / stride, cells)
                paf[on_limb, 2 * limb : 2 * limb + 2] += vector * rng.uniform(0.6, 1)
                count += on_limb
        paf[:, :, 2 * limb : 2 * limb + 2] /= np.maximum(count, 1)[:, :, None]
    heat = heat + noise * rng.standard_normal(heat.shape)
    paf = paf + noise * rng.standard_normal(paf.shape)
    return heat.astype(np.float32), paf.astype(np.float32)


def _blob(x: float, y: float, cells: tuple[int, int], stride: int) -> np.ndarray:
    """A Gaussian of 7 pixels and height 1 around pixel (x, y), (h, w)."""
    columns = np.arange(cells[1]) * stride + stride / 2 - 0.5
    rows = np.arange(cells[0]) * stride + stride / 2 - 0.5
    return np.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * 7.0**2))


def _limb_field(a: np.ndarray, b: np.ndarray, cells: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """a, b (x, y) in cells -> unit vector (2,) and where (h, w) bool it lies: within one cell of the limb."""
    length = float(np.hypot(*(b - a)))
    if length == 0:
        return np.zeros(2), np.zeros(cells, bool)
    unit = (b - a) / length
    columns, rows = np.meshgrid(np.arange(cells[1]) - a[0], np.arange(cells[0]) - a[1])
    along = columns * unit[0] + rows * unit[1]
    across = columns * unit[1] - rows * unit[0]
    return unit, (np.abs(across) < 1) & (along > -1) & (along < length + 1)
