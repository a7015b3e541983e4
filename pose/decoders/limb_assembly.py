"""Limbs between peaks -> people, on the host: our rules, and those of rtpose (Cao, Simon, Wei, Sheikh:
Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields, CVPR 2017).

A peak is known by its number in the image, a limb by its number in the skeleton.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Link = tuple[int, int, int, float]  # a limb between two peaks: limb, a, b, score
SMALLEST_EXTENT = 40.0  # input pixels; of a person of whom little is seen


class Candidates(NamedTuple):
    """Pairs of peaks of one image that a limb may join, ordered by limb, a and b."""

    limb: np.ndarray  # (C,) int64
    a: np.ndarray  # (C,) int64, number of the peak at the limb's first keypoint
    b: np.ndarray  # (C,) int64, at its second
    score: np.ndarray  # (C,) float32, above 0


@dataclass
class Row:
    """One person while people are put together."""

    peaks: list[int]  # K numbers of peaks, -1 for none
    total: float  # the heat of the peaks and the scores of the limbs
    parts: int  # keypoints that were put in; with the published rules not always as many as there are
    kinds: int  # the kinds of keypoints that are there, as bits


def best_links(candidates: Candidates, rank: np.ndarray) -> list[Link]:
    """Limb after limb in the order of `rank` (L,), the candidates with the highest score first, without those
    of which a better one of the limb has used a peak."""
    order = np.lexsort((-candidates.score, rank[candidates.limb]))  # stable: of equal ones the first
    links: list[Link] = []
    used_a, used_b, limb = set[int](), set[int](), -1
    for link in zip(*(array[order].tolist() for array in candidates), strict=True):
        if link[0] != limb:
            used_a, used_b, limb = set(), set(), link[0]
        if link[1] not in used_a and link[2] not in used_b:
            used_a.add(link[1])
            used_b.add(link[2])
            links.append(link)
    return links


def join_consistently(
    links: Sequence[Link],
    heat: Sequence[float],
    ends: Sequence[tuple[int, int]],
    starts: Sequence[bool],
    kinds: int,
    alone: Sequence[int],
) -> list[Row]:
    """People of links, taken in turn; a link that would give a person two peaks of one kind is left out.

    heat (M,) of the peaks; ends (L,) kinds that a limb joins; starts (L,) whether it may start a person;
    `alone`: the kinds of the peaks, if those that no link has used are people too, else empty."""
    rows: dict[int, Row] = {}
    holder = [-1] * len(heat)
    for limb, a, b, score in links:
        one, other = holder[a], holder[b]
        kind_a, kind_b = ends[limb]
        if one < 0 and other < 0:
            if starts[limb]:
                rows[a] = Row(
                    _only(kinds, {kind_a: a, kind_b: b}),
                    heat[a] + heat[b] + score,
                    2,
                    1 << kind_a | 1 << kind_b,
                )
                holder[a] = holder[b] = a
        elif one < 0 or other < 0:
            at, peak, kind = (other, a, kind_a) if one < 0 else (one, b, kind_b)
            row = rows[at]
            if row.peaks[kind] < 0:
                row.peaks[kind], holder[peak] = peak, at
                row.total, row.parts, row.kinds = (
                    row.total + heat[peak] + score,
                    row.parts + 1,
                    row.kinds | 1 << kind,
                )
        elif one == other:
            rows[one].total += score
        elif not rows[one].kinds & rows[other].kinds:
            second = rows.pop(other)
            _merge(rows[one], second, score)
            for peak in second.peaks:
                if peak >= 0:
                    holder[peak] = one
    single = [
        Row(_only(kinds, {kind: peak}), heat[peak], 1, 1 << kind)
        for peak, kind in enumerate(alone)
        if holder[peak] < 0
    ]
    return [*rows.values(), *single]


def join_as_published(
    links: Sequence[Link],
    heat: Sequence[float],
    ends: Sequence[tuple[int, int]],
    starts: Sequence[bool],
    kinds: int,
    many_start: bool,
    others_fill: bool = False,
) -> list[Row]:
    """People of links, taken in turn, by rtpose's rules; arguments as `join_consistently`.

    A link that fits one person gives it the second peak; one that fits two joins them, or gives the first of
    them the second peak if both have a keypoint of one kind.  What a person had of that kind is lost, but
    still counts.  `many_start`: a link that fits three or more starts a person.  `others_fill`: a link of a
    limb that may not start a person gives its peaks to all who have one of them and nothing in the place of
    the other, which counts neither as score nor as part (CMU's evaluation in MATLAB)."""
    rows: dict[int, Row] = {}
    holders: list[list[int]] = [[] for _ in heat]  # of each peak, the older one first
    for number, (limb, a, b, score) in enumerate(links):
        kind_a, kind_b = ends[limb]
        found = sorted({*holders[a], *holders[b]})
        if others_fill and not starts[limb]:
            for holder in found:
                row = rows[holder]
                for peak, kind in ((a, kind_a), (b, kind_b)):
                    if row.peaks[kind] < 0:
                        row.peaks[kind], row.kinds = peak, row.kinds | 1 << kind
                        insort(holders[peak], holder)
        elif len(found) == 2 and not rows[found[0]].kinds & rows[found[1]].kinds:
            second = rows.pop(found[1])
            _merge(rows[found[0]], second, score)
            for peak in second.peaks:
                if peak >= 0:
                    holders[peak].remove(found[1])
                    insort(holders[peak], found[0])
        elif len(found) in (1, 2):
            row = rows[found[0]]
            before = row.peaks[kind_b]
            if before == b and len(found) == 1:
                continue
            if before >= 0:
                holders[before].remove(found[0])
            insort(holders[b], found[0])
            row.peaks[kind_b] = b
            row.total, row.parts, row.kinds = (
                row.total + heat[b] + score,
                row.parts + 1,
                row.kinds | 1 << kind_b,
            )
        elif starts[limb] and (not found or many_start):
            rows[number] = Row(
                _only(kinds, {kind_a: a, kind_b: b}), heat[a] + heat[b] + score, 2, 1 << kind_a | 1 << kind_b
            )
            insort(holders[a], number)
            insort(holders[b], number)
    return list(rows.values())


def join_near_ones(rows: Sequence[Row], position: np.ndarray, reach: float) -> list[Row]:
    """People without a common kind of keypoint become one if the gap between them is at most `reach` times
    the extent of the larger one; those with the smallest ratio first.

    position (M, 2) of the peaks in input pixels.  An extent is the diagonal of the box round the keypoints,
    at least SMALLEST_EXTENT."""
    if not rows:
        return []
    peaks = np.array([row.peaks for row in rows])
    held = peaks >= 0
    disjoint = held.astype(np.float32) @ held.T.astype(np.float32) == 0
    if not disjoint.any():
        return list(rows)
    i, j, ratio = _gaps(peaks, disjoint, position, reach)
    joined = list(range(len(rows)))
    for pair in ratio.argsort(kind="stable").tolist():
        one, other = _root(joined, int(i[pair])), _root(joined, int(j[pair]))
        if not rows[one].kinds & rows[other].kinds:
            joined[other] = one
            _merge(rows[one], rows[other], 0.0)
    return [row for number, row in enumerate(rows) if joined[number] == number]


def _gaps(
    peaks: np.ndarray, disjoint: np.ndarray, position: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """peaks (N, K) of people, which pairs of them count (N, N), position (M, 2) -> pairs i, j (P,) whose gap
    is at most `reach` extents, and that ratio (P,)."""
    held = peaks >= 0
    number = held.sum(1)
    first = np.cumsum(number) - number
    x, y = position[peaks[held]].T
    left, right = np.minimum.reduceat(x, first), np.maximum.reduceat(x, first)
    top, bottom = np.minimum.reduceat(y, first), np.maximum.reduceat(y, first)
    extent = np.hypot(right - left, bottom - top).clip(SMALLEST_EXTENT)
    # the boxes are at most as far apart as the keypoints, and sooner compared
    i, j = np.triu(disjoint, 1).nonzero()
    larger = np.maximum(extent[i], extent[j])
    beside = np.maximum(left[i] - right[j], left[j] - right[i]).clip(0)
    above = np.maximum(top[i] - bottom[j], top[j] - bottom[i]).clip(0)
    near = np.hypot(beside, above) <= reach * larger
    i, j, larger = i[near], j[near], larger[near]
    if not len(i):
        return i, j, larger
    pairs = number[i] * number[j]
    start = np.cumsum(pairs) - pairs
    of_i, of_j = np.divmod(np.arange(pairs.sum()) - np.repeat(start, pairs), np.repeat(number[j], pairs))
    a, b = of_i + np.repeat(first[i], pairs), of_j + np.repeat(first[j], pairs)
    ratio = np.minimum.reduceat(np.hypot(x[a] - x[b], y[a] - y[b]), start) / larger
    near = ratio <= reach
    return i[near], j[near], ratio[near]


def _root(joined: Sequence[int], number: int) -> int:
    while joined[number] != number:
        number = joined[number]
    return number


def _only(kinds: int, peaks: Mapping[int, int]) -> list[int]:
    row = [-1] * kinds
    for kind, peak in peaks.items():
        row[kind] = peak
    return row


def _merge(first: Row, second: Row, score: float) -> None:
    """Peaks of both into the first, which has none of the second's kinds."""
    first.peaks[:] = map(max, first.peaks, second.peaks)
    first.total += second.total + score
    first.parts += second.parts
    first.kinds |= second.kinds
