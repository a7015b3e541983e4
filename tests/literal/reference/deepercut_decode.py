"""Decoding of DeeperCut's maps into people, restated literally: one cell, one pair and one node at a time.

Insafutdinov, Pishchulin, Andres, Andriluka and Schiele, "DeeperCut" (ECCV 2016), as released in
pose-tensorflow; the local search is that of Levinkov et al., "Joint Graph Decomposition and Node Labeling by
Local Search" (CVPR 2017).

Maps are (h, w, channels): probabilities of K keypoints; two channels (x, y) per keypoint, from the centre of
the cell to the keypoint in pixels; two per ordered pair of keypoints (a, b), from the centre of the cell to
b, in the order (0, 1), (0, 2) ... (1, 0), (1, 2) ...  The centre of cell i is at pixel 8 i + 4.

Where the description leaves room:
- cells of equal probability: the first one, row by row.
- the local search looks at pairs of clusters in the order of their numbers, and at the next pair with what
  the one before has made; a vertex moves with the label that costs less, kept where both cost the same.
- suppressed nodes belong to nobody (as released, the labels are overwritten, and they remain as people).
- the score of a person is the sum of the largest probabilities of its keypoints / K (as released, none).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

STRIDE = 8
THRESHOLD = 0.2
RADIUS = 5
MIXED = 1000.0  # what joining a kept node with a suppressed one costs
# nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right
PAIRS = (
    (0, 1), (0, 2), (1, 2), (2, 4), (1, 3), (0, 4), (0, 3),
    *((a, b) for a in range(5) for b in (5, 6)),
    (5, 6), (6, 8), (5, 7), (4, 8), (3, 7), (8, 10), (7, 9), (6, 10), (5, 9),
    (6, 12), (6, 11), (5, 12), (5, 11), (11, 12), (12, 14), (11, 13), (12, 13), (11, 14), (13, 14), (14, 16),
    (13, 15), (12, 16), (11, 15),
)  # fmt: skip
Edges = dict[tuple[int, int], float]  # (a, b), a < b -> what it costs to join them


@dataclass
class Detection:
    kind: int
    probability: float
    center: tuple[float, float]
    position: tuple[float, float]
    offset: dict[int, tuple[float, float]] = field(default_factory=dict)  # to the other keypoints


@dataclass(frozen=True)
class Model:
    """The logistic model of a pair."""

    low: Sequence[float]  # (8,)
    high: Sequence[float]
    weights: Sequence[float]  # (9,)


# ---- detections ----


def find(heat: np.ndarray, locref: np.ndarray, pairwise: np.ndarray) -> list[Detection]:
    height, width, kinds = heat.shape
    found = []
    for k in range(kinds):
        cells = [(float(heat[y, x, k]), y, x) for y in range(height) for x in range(width)]
        cells.sort(key=lambda cell: -cell[0])
        taken = np.zeros((height, width), bool)
        for probability, y, x in cells:
            if probability < THRESHOLD:
                break
            if taken[y, x]:
                continue
            for dy in range(-RADIUS, RADIUS + 1):
                for dx in range(-RADIUS, RADIUS + 1):
                    if dx * dx + dy * dy <= RADIUS * RADIUS and 0 <= y + dy < height and 0 <= x + dx < width:
                        taken[y + dy, x + dx] = True
            center = (STRIDE * x + STRIDE / 2, STRIDE * y + STRIDE / 2)
            position = (center[0] + float(locref[y, x, 2 * k]), center[1] + float(locref[y, x, 2 * k + 1]))
            one = Detection(k, probability, center, position)
            for b in range(kinds):
                if b != k:
                    pair = (kinds - 1) * k + b - (1 if k < b else 0)
                    one.offset[b] = float(pairwise[y, x, 2 * pair]), float(pairwise[y, x, 2 * pair + 1])
            found.append(one)
    return found


# ---- costs ----


def cost_of(p: float) -> float:
    p = min(max(p, 1e-7), 1 - 1e-7)
    return math.log((1 - p) / p)


def same_probability(one: Detection, other: Detection) -> float:
    d = math.dist(one.position, other.position)
    return 1 / (1 + math.exp(0.2 * d - 7.5))


def features(one: Detection, other: Detection) -> list[float]:
    """f1 .. f4 and exp(-f1) .. exp(-f4)."""
    result = []
    for a, b in ((one, other), (other, one)):
        real = (b.position[0] - a.center[0], b.position[1] - a.center[1])
        predicted = a.offset[b.kind]
        result.append(math.dist(real, predicted))
        turn = abs(math.atan2(real[1], real[0]) - math.atan2(predicted[1], predicted[0]))
        result.append(2 * math.pi - turn if turn > math.pi else turn)
    return result + [math.exp(-f) for f in result]


def model_probability(f: Sequence[float], model: Model) -> float:
    scaled = [(v - low) / (high - low) for v, low, high in zip(f, model.low, model.high, strict=True)]
    z = sum(w * v for w, v in zip(model.weights, [*scaled, 1.0], strict=True))
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0


def default_probability(f: Sequence[float], length: float) -> float:
    """Not of the publication: where a pair has no model."""
    return 1 / (1 + math.exp(min(7.5 * (f[0] + f[2]) / 2 / length - 6, 700)))


def edges(found: Sequence[Detection], models: Mapping[tuple[int, int], Model], length: float) -> Edges:
    result = {}
    for i, one in enumerate(found):
        for j in range(i + 1, len(found)):
            other = found[j]
            if one.kind == other.kind:
                result[i, j] = cost_of(same_probability(one, other))
            elif (one.kind, other.kind) in PAIRS:  # kinds ascend with the numbers
                f = features(one, other)
                model = models.get((one.kind, other.kind))
                p = model_probability(f, model) if model else default_probability(f, length)
                result[i, j] = cost_of(p)
    return result


# ---- the cheapest split ----


def energy(keep: Sequence[float], join: Edges, cluster: Sequence[int], kept: Sequence[bool]) -> float:
    total = sum(cost for cost, yes in zip(keep, kept, strict=True) if yes)
    for (a, b), cost in join.items():
        if cluster[a] == cluster[b]:
            total += edge_cost(cost, kept[a], kept[b])
    return total


def edge_cost(cost: float, one: bool, other: bool) -> float:
    return cost if one and other else MIXED if one or other else 0.0


def contract(nodes: int, join: Edges) -> list[int]:
    """Greedy additive edge contraction -> the cluster of every node."""
    cluster = list(range(nodes))
    weights: Edges = {edge: -cost for edge, cost in join.items()}
    while weights:
        a, b = max(weights, key=lambda edge: (weights[edge], -edge[0], -edge[1]))
        if weights[a, b] < 0:
            break
        cluster = [a if c == b else c for c in cluster]
        merged: Edges = {}
        for (i, j), weight in weights.items():
            i, j = (a if i == b else i), (a if j == b else j)
            if i != j:
                edge = (min(i, j), max(i, j))
                merged[edge] = merged.get(edge, 0.0) + weight
        weights = merged
    return cluster


class Search:
    """The local search; `cluster` and `kept` are the state."""

    def __init__(self, keep: Sequence[float], join: Edges) -> None:
        self.keep = keep
        self.neighbours: list[dict[int, float]] = [{} for _ in keep]
        for (a, b), cost in join.items():
            self.neighbours[a][b] = self.neighbours[b][a] = cost
        self.cluster = contract(len(keep), join)
        self.kept = [True] * len(keep)

    def run(self) -> None:
        while True:
            gain = 0.0
            for a, b in self.neighbouring_clusters():
                gain += self.update(a, b)
            for a in sorted(set(self.cluster)):
                while (more := self.update(a, max(self.cluster) + 1)) > 0:
                    gain += more
            self.project()
            gain += self.relabel()
            if gain < 1e-6:
                return

    def neighbouring_clusters(self) -> list[tuple[int, int]]:
        found = set()
        for i, others in enumerate(self.neighbours):
            for j in others:
                if self.cluster[i] < self.cluster[j]:
                    found.add((self.cluster[i], self.cluster[j]))
        return sorted(found)

    def move_cost(self, i: int, cluster: int, kept: bool) -> float:
        """What node i costs in a cluster with a label."""
        total = self.keep[i] if kept else 0.0
        for j, cost in self.neighbours[i].items():
            if self.cluster[j] == cluster:
                total += edge_cost(cost, kept, self.kept[j])
        return total

    def update(self, a: int, b: int) -> float:
        """The best of a sequence of moves between two clusters and their union; b may be new."""
        nodes = [i for i, c in enumerate(self.cluster) if c in (a, b)]
        before = list(self.cluster), list(self.kept)
        merged = 0.0
        for i in nodes:
            for j, cost in self.neighbours[i].items():
                if self.cluster[i] == a and self.cluster[j] == b:
                    merged -= edge_cost(cost, self.kept[i], self.kept[j])
        total, best, state = 0.0, 0.0, before
        left = list(nodes)
        while left:
            choices = []
            for i in left:
                there = b if self.cluster[i] == a else a
                here = self.move_cost(i, self.cluster[i], self.kept[i])
                choices += [
                    (here - self.move_cost(i, there, kept), kept, -i, there) for kept in (True, False)
                ]
            gain, kept, i, there = max(choices)
            self.cluster[-i], self.kept[-i] = there, kept
            left.remove(-i)
            total += gain
            if total > best + 1e-9:
                best, state = total, (list(self.cluster), list(self.kept))
        self.cluster, self.kept = state
        if merged > best + 1e-9:
            self.cluster, self.kept = before
            self.cluster = [a if c == b else c for c in self.cluster]
            best = merged
        return best

    def project(self) -> None:
        """Clusters become connected components."""
        new = [-1] * len(self.cluster)
        for start in range(len(new)):
            if new[start] < 0:
                queue = [start]
                new[start] = start
                for i in queue:
                    for j in self.neighbours[i]:
                        if new[j] < 0 and self.cluster[j] == self.cluster[i]:
                            new[j] = start
                            queue.append(j)
        self.cluster = new

    def relabel(self) -> float:
        total = 0.0
        for i in range(len(self.kept)):
            here = self.move_cost(i, self.cluster[i], self.kept[i])
            there = self.move_cost(i, self.cluster[i], not self.kept[i])
            if here - there > 1e-9:
                self.kept[i] = not self.kept[i]
                total += here - there
        return total


# ---- people ----


def people(found: Sequence[Detection], cluster: Sequence[int], kept: Sequence[bool], kinds: int) -> Iterator:
    """(K, 3) x, y and the largest probability of every person; zeros where a keypoint is not there."""
    for c in sorted(set(cluster)):
        person = np.zeros((kinds, 3))
        weight = np.zeros(kinds)
        for one, mine, yes in zip(found, cluster, kept, strict=True):
            if mine == c and yes:
                person[one.kind, :2] += one.probability * np.array(one.position)
                weight[one.kind] += one.probability
                person[one.kind, 2] = max(person[one.kind, 2], one.probability)
        if weight.any():
            person[weight > 0, :2] /= weight[weight > 0, None]
            yield person


def decode(
    heat: np.ndarray, locref: np.ndarray, pairwise: np.ndarray, models: Mapping[tuple[int, int], Model],
    length: float,
) -> list[np.ndarray]:  # fmt: skip
    found = find(heat, locref, pairwise)
    join = edges(found, models, length)
    search = Search([cost_of(one.probability) for one in found], join)
    search.run()
    rows = list(people(found, search.cluster, search.kept, heat.shape[2]))
    return sorted(rows, key=lambda row: -row[:, 2].sum())


# ---- something to decode ----

FIGURE = np.array([
    (0, 0), (3, -3), (-3, -3), (7, -1), (-7, -1), (15, 16), (-15, 16), (20, 38), (-20, 38), (22, 56),
    (-22, 56), (9, 58), (-9, 58), (10, 86), (-10, 86), (10, 114), (-10, 114),
], float)  # fmt: skip  # of a person 117 units high


def scene(
    people: int, seed: int, *, cells: tuple[int, int] = (60, 80), false: int = 0, missing: float = 0.1,
    noise: float = 4.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Maps of standing people with discs of 17 pixels at their keypoints, where the nearer keypoint wins, and
    of `false` discs elsewhere whose offsets mean nothing; `noise` is the deviation of predicted offsets in
    pixels, the same all over a disc."""
    rng = np.random.default_rng([seed, people, false])
    (height, width), kinds = cells, len(FIGURE)
    heat = rng.uniform(0, 0.1, (height, width, kinds))
    locref = np.zeros((height, width, kinds, 2))
    pairwise = rng.normal(0, 40, (height, width, kinds, kinds, 2))
    y, x = np.mgrid[:height, :width] * STRIDE + STRIDE / 2
    nearest = np.full((height, width, kinds), np.inf)
    size = np.array([width, height]) * STRIDE
    poses = [
        (
            size * rng.uniform((0.05, 0), (0.95, 0.5)) + FIGURE * rng.uniform(0.8, 3.5),
            rng.random(kinds) > missing,
        )
        for _ in range(people)
    ]
    for _ in range(false):
        kind = rng.integers(kinds)
        points = rng.uniform(0, 1, (kinds, 2)) * size
        poses.append((points, np.arange(kinds) == kind))
    for points, there in poses:
        points = points + rng.normal(0, 3, points.shape)
        for k in np.flatnonzero(there):
            squared = (x - points[k, 0]) ** 2 + (y - points[k, 1]) ** 2
            disc = (squared <= 17**2) & (squared < nearest[..., k])
            nearest[disc, k] = squared[disc]
            heat[disc, k] = (rng.uniform(0.4, 1) - squared[disc] / 17**2 * 0.15).clip(0.21)
            at = np.stack((x, y), -1)[disc]
            locref[disc, k] = points[k] - at
            pairwise[disc, k] = points - at[:, None] + rng.normal(0, noise, (1, kinds, 2))
    flat = np.stack([pairwise[:, :, a, b] for a in range(kinds) for b in range(kinds) if a != b], 2)
    shape = (height, width, -1)
    return tuple(one.reshape(shape).astype(np.float32) for one in (heat, locref, flat))  # type: ignore
