"""COCO's keypoint evaluation with the matches kept: which person found is which person annotated.

The rules are COCOeval's (https://github.com/cocodataset/cocoapi), restated over arrays; its ten numbers come
out the same.  On top of that they can be had over any choice of images again and again (for bootstrap
intervals), and for ground truth that is ignored for other reasons than its area.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.annotations.numbers import rows_of
from pose.metrics.coco_eval import MAX_PEOPLE, STATS, Task, prepare
from pose.metrics.ground_truth import Annotated

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS
RECALLS = np.linspace(0, 1, 101)  # at which precision is averaged
AREAS = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
CHUNK = 1 << 13  # pairs of people whose distances are worked on together: they stay in the cache


def match(
    annotations: Annotated,
    results: Path | str | Sequence[Mapping[str, Any]],
    *,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
) -> Matches:
    """Who was found by whom, by COCOeval's rules; the arguments and errors are those of `coco.evaluate`."""
    return match_task(prepare(annotations, results, sigmas=sigmas, image_ids=image_ids))


def match_task(task: Task) -> Matches:
    pairing = pair(read_truth(task), read_found(task), task.sigmas)
    areas = [by_area(pairing, low, high) for low, high in AREAS.values()]
    return Matches(task.image_ids, pairing, rank(pairing, areas))


@dataclass(frozen=True)
class Matches:
    """The outcome of an evaluation, to be summed up over all images or over some."""

    image_ids: list[int]
    pairing: Pairing
    ranking: Ranking  # its views are AREAS

    def stats(self, picked: np.ndarray | None = None) -> dict[str, float]:
        """COCO's ten numbers (keys `coco.STATS`; -1 where there is nothing to score) over the images at the
        positions `picked` in `image_ids`, as often as they are picked (None: all once).  Where scores are
        equal the order of `image_ids` counts."""
        precision, recall = self.ranking.accumulate(picked)
        values = {}
        for name in STATS:
            table = precision if name.startswith("AP") else recall
            view = list(AREAS).index({"M": "medium", "L": "large"}.get(name[2:], "all"))
            chosen = {"50": slice(0, 1), "75": slice(5, 6)}.get(name[2:], slice(None))
            values[name] = average(table[:, view, chosen])
        return values

    def precision(self, picked: np.ndarray | None = None) -> np.ndarray:
        """(T, 101) precision by OKS threshold and RECALLS, mean of the categories; as `stats`."""
        table = self.ranking.accumulate(picked)[0][:, 0]
        scored = table[table[:, 0, 0] >= 0]
        return scored.mean(axis=0) if len(scored) else np.full(table.shape[1:], -1.0)


def average(table: np.ndarray) -> float:
    """The mean of what is defined; -1 where nothing is."""
    defined = table[table > -1]
    return float(defined.mean()) if defined.size else -1.0


# ---- people as arrays


@dataclass(frozen=True)
class Truth:
    """G people annotated, sorted by cell.  A cell is an image of a category: the category's number times the
    number of images, plus the image's position."""

    shape: tuple[int, int]  # categories, images
    cell: np.ndarray  # (G,) int64
    keypoints: np.ndarray  # (G, K, 3) x, y, v
    areas: np.ndarray  # (G,)
    boxes: np.ndarray  # (G, 4) x, y, width, height
    crowd: np.ndarray  # (G,) bool
    ignored: np.ndarray  # (G,) bool: crowds and people without labelled keypoints

    @cached_property
    def axes(self) -> np.ndarray:
        """(2, G, K): x and y."""
        return _axes(self.keypoints)

    @cached_property
    def labelled(self) -> np.ndarray:
        """(G, K) bool."""
        return self.keypoints[..., 2] > 0

    @cached_property
    def num_labelled(self) -> np.ndarray:
        """(G,) int64."""
        return self.labelled.sum(axis=1)


def _axes(keypoints: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(keypoints[..., :2], 2, 0))


@dataclass(frozen=True)
class Found:
    """N people found, sorted by cell and there by score, at most MAX_PEOPLE of each cell."""

    cell: np.ndarray  # (N,) int64
    keypoints: np.ndarray  # (N, K, 3) x, y, score
    scores: np.ndarray  # (N,)
    areas: np.ndarray  # (N,)
    source: np.ndarray  # (N,) int64: index into the results; -1 for people who were put in

    def __len__(self) -> int:
        return len(self.cell)

    @cached_property
    def axes(self) -> np.ndarray:
        """(2, N, K): x and y."""
        return _axes(self.keypoints)

    def take(self, index: np.ndarray) -> Found:
        return Found(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def sorted(self) -> Found:
        """In order, and the best of each cell only; equal scores keep their order."""
        ordered = self.take(np.lexsort((-self.scores, self.cell)))
        first = np.searchsorted(ordered.cell, ordered.cell)
        return ordered.take(np.arange(len(ordered)) - first < MAX_PEOPLE)


def _cells(task: Task, category: np.ndarray, image_id: np.ndarray) -> np.ndarray:
    """-1 for a category that is not scored."""
    number = rows_of(np.array(task.category_ids, np.int64), category)
    return np.where(number >= 0, number * len(task.image_ids) + image_id - 1, -1)


def read_truth(task: Task) -> Truth:
    people = task.truth
    cell = _cells(task, people.category, people.image_id)
    order = np.argsort(cell, kind="stable")
    ignored = people.crowd | (people.num_keypoints == 0)
    columns = (cell, people.keypoints, people.areas, people.boxes, people.crowd, ignored)
    shape = len(task.category_ids), len(task.image_ids)
    return Truth(shape, *(column[order] for column in columns))


def read_found(task: Task) -> Found:
    people = task.people
    cell = _cells(task, people.category, people.image_id)
    found = Found(cell, people.keypoints, people.scores, people.areas, people.ids - 1)
    return found.take(cell >= 0).sorted()


# ---- similarity


@dataclass(frozen=True)
class Pairing:
    """Everybody found beside everybody annotated in the same cell: P pairs, ordered by the one found."""

    truth: Truth
    found: Found
    sigmas: np.ndarray  # (K,)
    of_found: np.ndarray  # (P,) index of the person found
    of_truth: np.ndarray  # (P,) index of the person annotated
    oks: np.ndarray  # (P,)
    first: np.ndarray  # (N,) the first person annotated in the cell of each one found
    start: np.ndarray  # (N,) the first pair of each person found
    count: np.ndarray  # (N,) people annotated in the cell of each person found
    rank: np.ndarray  # (N,) how many people found in the cell have a better score

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) the highest OKS of each person found (0 where nobody is annotated) and with whom (-1)."""
        value, whom = np.zeros(len(self.found)), np.full(len(self.found), -1)
        some = np.flatnonzero(self.count)
        if len(some):
            value[some] = np.maximum.reduceat(self.oks, self.start[some])
            at_best = np.flatnonzero(self.oks >= value[self.of_found])
            whom[self.of_found[at_best][::-1]] = self.of_truth[at_best][::-1]  # the first one stays
        return value, whom


def pair(truth: Truth, found: Found, sigmas: np.ndarray) -> Pairing:
    """found: sorted."""
    first = np.searchsorted(truth.cell, found.cell)
    count = np.searchsorted(truth.cell, found.cell, side="right") - first
    start = np.cumsum(count) - count
    of_found = np.repeat(np.arange(len(found)), count)
    of_truth = np.arange(count.sum()) - np.repeat(start - first, count)
    parts = [
        similarity(truth, found, sigmas, of_truth[i : i + CHUNK], of_found[i : i + CHUNK])
        for i in range(0, len(of_found), CHUNK)
    ]
    oks = np.concatenate(parts) if parts else np.zeros(0)
    rank = np.arange(len(found)) - np.searchsorted(found.cell, found.cell)
    return Pairing(truth, found, sigmas, of_found, of_truth, oks, first, start, count, rank)


def similarity(
    truth: Truth, found: Found, sigmas: np.ndarray, of_truth: np.ndarray, of_found: np.ndarray
) -> np.ndarray:
    """(P,) OKS of pairs.  Someone annotated without labelled keypoints is compared with twice the box."""
    labelled, count = truth.labelled[of_truth], truth.num_labelled[of_truth]
    bare = count == 0
    squared = np.zeros(labelled.shape)
    for axis in (0, 1):
        distance = found.axes[axis][of_found] - truth.axes[axis][of_truth]
        if bare.any():
            spots = found.axes[axis][of_found[bare]]
            start, side = truth.boxes[of_truth[bare]][:, [axis, axis + 2], None].swapaxes(0, 1)
            low, high = start - side, start + 2 * side
            distance[bare] = np.maximum(low - spots, 0) + np.maximum(spots - high, 0)
        with np.errstate(over="ignore"):
            squared += distance**2
    labelled[bare], count[bare] = True, labelled.shape[1]
    close = _closeness(squared, truth.areas[of_truth], sigmas)
    return np.where(labelled, close, 0).sum(axis=1) / count


def keypoint_similarity(distance: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """distance (..., K, 2) pixels, areas (...) of the people annotated -> (..., K) in 0 .. 1."""
    with np.errstate(over="ignore"):
        return _closeness((distance**2).sum(axis=-1), areas, sigmas)


def _closeness(squared: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """squared (..., K): distances, pixels squared."""
    spread = (2 * sigmas) ** 2 * 2 * (areas[..., None] + np.spacing(1))
    with np.errstate(over="ignore"):
        return np.exp(-squared / spread)


# ---- matching


class View(NamedTuple):
    """What counts.  Someone found who matches ignored ground truth does not, nor do `outside` ones who match
    nobody."""

    ignored: np.ndarray  # (G,) bool
    outside: np.ndarray  # (N,) bool


def by_area(pairing: Pairing, low: float, high: float) -> View:
    """COCOeval's: people within an area, in square pixels."""
    truth, found = pairing.truth, pairing.found
    return View(
        truth.ignored | (truth.areas < low) | (truth.areas > high), (found.areas < low) | (found.areas > high)
    )


def assign(pairing: Pairing, ignored: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> np.ndarray:
    """ignored (A, G) bool: of A views -> (A, T, N) the person annotated whom each one found matches, or -1.

    In each cell the best score chooses first: the most similar of those still free (the last of equals) with
    an OKS of the threshold or more, ignored ones only where no other is left; crowds are always free."""
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None, None]
    matched = np.full((len(ignored), len(thresholds), len(pairing.found)), -1, np.int64)
    taken = np.zeros((len(ignored), len(thresholds), len(pairing.truth.cell)), bool)
    # all cells at once: first everybody's best one found, then the second, ...
    for place, people in _turns(pairing):
        near = pairing.oks[pairing.start[people][:, None] + np.arange(place.shape[1])]  # (B, G)
        free = ~taken[:, :, place] | pairing.truth.crowd[place]
        allowed = (near >= limits) & free  # (A, T, B, G)
        regular = allowed & ~ignored[:, None, place]
        pool = np.where(regular.any(axis=-1, keepdims=True), regular, allowed)
        likeness = np.where(pool, near, -1.0)[..., ::-1]
        choice = place.shape[1] - 1 - likeness.argmax(axis=-1)
        some = np.take_along_axis(pool, choice[..., None], -1)[..., 0]
        whom = np.where(some, place[np.arange(len(place)), choice], -1)  # (A, T, B)
        matched[:, :, people] = whom
        a, t, b = np.nonzero(whom >= 0)
        taken[a, t, whom[a, t, b]] = True
    return matched


def _turns(pairing: Pairing) -> list[tuple[np.ndarray, np.ndarray]]:
    """Who chooses at the same time: people found, of different cells with equally many people annotated, (B,)
    and the latter's indices (B, G).  Turns of a cell come in the order of scores."""
    choosing = np.flatnonzero(pairing.count)
    key = pairing.rank[choosing] * (pairing.count.max(initial=0) + 1) + pairing.count[choosing]
    order = np.argsort(key, kind="stable")
    groups = np.split(choosing[order], np.flatnonzero(np.diff(key[order])) + 1) if len(order) else []
    return [
        (pairing.first[people][:, None] + np.arange(pairing.count[people[0]]), people) for people in groups
    ]


# ---- precision and recall


@dataclass(frozen=True)
class Ranking:
    """Who counts as right and who as wrong, by falling score, for each category, view and threshold (C * A *
    T segments, one after the other): all that precision and recall need."""

    shape: tuple[int, int, int]  # C, A, T
    image: np.ndarray  # (M,) position of the image, of everybody who counts, by segment and score
    right: np.ndarray  # indices into `image` of those who match
    ends: np.ndarray  # (C * A * T + 1,) bounds of the segments in `image`
    right_ends: np.ndarray  # the same in `right`
    people: np.ndarray  # (C, A, number of images) int64: people annotated who count
    matched: np.ndarray  # (A, T, N): see `assign`

    def accumulate(self, picked: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """-> precision (C, A, T, 101) at RECALLS, and recall (C, A, T), over the images at the positions
        `picked`, as often as they are picked (None: all once); -1 where nobody is annotated.

        An image picked n times counts n times: its people are n equals in a row, among whom precision is at
        its best (of right ones) at the last, so that no copies need to be made."""
        num_images = self.people.shape[-1]
        weight = np.ones(num_images, np.int64)
        if picked is not None:
            weight = np.bincount(np.asarray(picked, np.int64), minlength=num_images)
        total = (self.people @ weight).ravel().repeat(self.shape[2])  # by segment
        weights = weight[self.image]
        counted = weights.cumsum()
        before = np.concatenate([[0], counted])[self.ends[:-1]]
        right = weights[self.right].cumsum()
        right_before = np.concatenate([[0], right])[self.right_ends[:-1]]
        reached = counted[self.right]
        precision = np.full((len(total), len(RECALLS)), -1.0)
        recall = np.full(len(total), -1.0)
        for i in np.flatnonzero(total):
            part = slice(self.right_ends[i], self.right_ends[i + 1])
            correct = right[part] - right_before[i]
            share = correct / np.maximum(reached[part] - before[i], 1)
            share = np.append(np.maximum.accumulate(share[::-1])[::-1], 0.0)
            recalled = correct / total[i]
            precision[i] = share[np.searchsorted(recalled, RECALLS)]
            recall[i] = recalled[-1] if len(recalled) else 0.0
        return precision.reshape(*self.shape, -1), recall.reshape(self.shape)

    def average_precision(self, picked: np.ndarray | None = None) -> np.ndarray:
        """(A,) COCO's AP of each view."""
        precision = self.accumulate(picked)[0]
        return np.array([average(precision[:, view]) for view in range(self.shape[1])])


def rank(pairing: Pairing, chosen: Sequence[View]) -> Ranking:
    """Matches people in each of the views, and sorts those who count by score."""
    truth, found = pairing.truth, pairing.found
    categories, images = truth.shape
    ignored = np.stack([view.ignored for view in chosen])
    outside = np.stack([view.outside for view in chosen])
    matched = assign(pairing, ignored)
    hit = matched >= 0
    regular = hit & ~ignored[np.arange(len(chosen))[:, None, None], matched] if len(truth.cell) else hit
    counts = np.where(hit, regular, ~outside[:, None])
    order = np.lexsort((-found.scores, found.cell // images))  # equal scores: by image, as in COCOeval
    bounds = np.searchsorted(found.cell[order] // images, np.arange(categories + 1))
    parts = [order[bounds[c] : bounds[c + 1]] for c in range(categories)]
    kept = [counts[..., part] for part in parts]
    is_right = [regular[..., part][keep] for part, keep in zip(parts, kept, strict=True)]
    image = [(found.cell[part] % images)[np.nonzero(keep)[2]] for part, keep in zip(parts, kept, strict=True)]
    right = np.concatenate(is_right)
    ends = np.cumsum(np.concatenate([[0], *(keep.sum(axis=-1).ravel() for keep in kept)]))
    people = [np.bincount(truth.cell[~view], minlength=categories * images) for view in ignored]
    return Ranking(
        shape=(categories, len(chosen), len(THRESHOLDS)),
        image=np.concatenate(image).astype(np.int32),
        right=np.flatnonzero(right),
        ends=ends,
        right_ends=np.concatenate([[0], right.cumsum()])[ends],
        people=np.stack(people, axis=0).reshape(len(chosen), categories, images).swapaxes(0, 1),
        matched=matched,
    )
