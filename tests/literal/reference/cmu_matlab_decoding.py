"""How CMU's evaluation in MATLAB finds people in heatmaps and part affinity fields, restated literally: one
pair of peaks at a time.

Cao, Simon, Wei and Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017.
Rows and columns are counted from 1, as there; peaks are numbered from 1 over the whole picture, and 0 is
none.

What is particular to it, beside the published thresholds:
- arrays are run through column by column: of two peaks within 6 pixels the one further left stays, of one
  column the upper one; of candidates of equal score that comes first whose first peak was found first.
- cells beyond the border are 0, and so are those below the threshold.
- where all peaks of one end of a limb are missing, each peak of its other end that nobody has is a person of
  one keypoint (such a person grows by further limbs, or is dropped in the end).
- a limb's second peak is given to everybody who has the first one; if nobody has, a person starts.  Nobody is
  ever merged, and only the first peak is looked for.
- the two limbs from shoulder to ear, the last of the order, only fill empty places: neither score nor number
  of parts grows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.literal.reference.rtpose_decoding import CMU_LIMBS, DECODE_ORDER

KINDS = 18
NECK = 1
FILLING = 2  # limbs at the end of the order


@dataclass
class Subset:
    """One person: per kind the number of a peak, or 0; sum of scores; number of parts."""

    peaks: list[int] = field(default_factory=lambda: [0] * KINDS)
    total: float = 0.0
    parts: int = 0


@dataclass(frozen=True)
class Person:
    """keypoints (18, 3): x and y as the evaluation writes them, half a pixel less than counted from 1, and
    the heat of the peak; zeros where there is none."""

    keypoints: np.ndarray
    score: float


def peaks_of(heatmap: np.ndarray) -> list[tuple[int, int, float]]:
    """heatmap (H, W) -> column, row (from 1) and heat of its peaks."""
    height, width = heatmap.shape

    def at(row: int, column: int) -> float:
        if not (1 <= row <= height and 1 <= column <= width):
            return 0.0
        value = float(heatmap[row - 1, column - 1])
        return 0.0 if value < 0.1 else value

    found = []
    for column in range(1, width + 1):
        for row in range(1, height + 1):
            here = at(row, column)
            if here == 0:
                continue  # not above anything
            around = at(row - 1, column), at(row + 1, column), at(row, column - 1), at(row, column + 1)
            if here > max(around):
                found.append((column, row, here))
    stays = [True] * len(found)
    for i, (x, y, _) in enumerate(found):
        for j in range(i + 1, len(found)):
            if stays[i] and np.hypot(x - found[j][0], y - found[j][1]) <= 6:
                stays[j] = False
    return [peak for peak, keep in zip(found, stays, strict=True) if keep]


def limb_score(
    paf_x: np.ndarray, paf_y: np.ndarray, a: tuple[int, int, float], b: tuple[int, int, float]
) -> float:
    """0 if the two cannot be joined."""
    away_x, away_y = b[0] - a[0], b[1] - a[1]
    length = float(np.sqrt(away_x**2 + away_y**2))
    if length == 0:
        return 0.0  # nothing divided by nothing: no comparison with it holds
    passed, total = 0, 0.0
    for i in range(10):
        # away from zero at a half, which ten places never hit
        column, row = round(a[0] + i * away_x / 9), round(a[1] + i * away_y / 9)
        along = away_x / length * float(paf_x[row - 1, column - 1])
        along += away_y / length * float(paf_y[row - 1, column - 1])
        if along > 0.05:
            passed, total = passed + 1, total + along
    if not passed / 10 > 0.8:
        return 0.0
    return max(0.0, total / passed + min(len(paf_x) / 2 / length - 1, 0))


def decode_cmu_matlab(heat: np.ndarray, paf: np.ndarray) -> list[Person]:
    """heat (H, W, 18), paf (H, W, 38) of the picture's size, without background -> people in the order in
    which they were started; score = total * number of keypoints found but for the neck."""
    candidates: list[tuple[int, int, float]] = [(0, 0, 0.0)]  # number 0
    numbers: list[list[int]] = []
    for kind in range(KINDS):
        own = peaks_of(heat[:, :, kind])
        numbers.append(list(range(len(candidates), len(candidates) + len(own))))
        candidates += own
    people: list[Subset] = []
    for place, limb in enumerate(DECODE_ORDER):
        kind_a, kind_b = CMU_LIMBS[limb]
        if not numbers[kind_a] or not numbers[kind_b]:
            kind = kind_b if not numbers[kind_a] else kind_a
            for number in numbers[kind]:
                if all(person.peaks[kind] != number for person in people):
                    alone = Subset(total=candidates[number][2], parts=1)
                    alone.peaks[kind] = number
                    people.append(alone)
            continue
        pairs = []
        for a in numbers[kind_a]:
            for b in numbers[kind_b]:
                score = limb_score(paf[:, :, 2 * limb], paf[:, :, 2 * limb + 1], candidates[a], candidates[b])
                if score > 0:
                    pairs.append((a, b, score))
        pairs.sort(key=lambda pair: -pair[2])  # stable
        used: set[int] = set()
        for a, b, score in pairs:
            if a in used or b in used:
                continue
            used |= {a, b}
            if place >= len(DECODE_ORDER) - FILLING:
                for person in people:
                    if person.peaks[kind_a] == a and person.peaks[kind_b] == 0:
                        person.peaks[kind_b] = b
                    elif person.peaks[kind_b] == b and person.peaks[kind_a] == 0:
                        person.peaks[kind_a] = a
                continue
            holders = [person for person in people if person.peaks[kind_a] == a]
            for person in holders:
                person.peaks[kind_b] = b
                person.parts += 1
                person.total += candidates[b][2] + score
            if not holders:
                new = Subset(total=candidates[a][2] + candidates[b][2] + score, parts=2)
                new.peaks[kind_a], new.peaks[kind_b] = a, b
                people.append(new)
    return [
        written(person, candidates)
        for person in people
        if person.parts >= 3 and person.total / person.parts >= 0.2
    ]


def written(person: Subset, candidates: list[tuple[int, int, float]]) -> Person:
    keypoints = np.zeros((KINDS, 3))
    for kind, number in enumerate(person.peaks):
        if number:
            x, y, heat = candidates[number]
            keypoints[kind] = x - 0.5, y - 0.5, heat
    found = sum(number > 0 for kind, number in enumerate(person.peaks) if kind != NECK)
    return Person(keypoints, person.total * found)
