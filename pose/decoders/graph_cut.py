"""Splitting a graph of detections into people: node-labelling multicut by contraction and local search.

Every node is kept, at a cost, or suppressed, at none; every edge between two kept nodes of one cluster has a
cost, too, and joining a kept node with a suppressed one costs so much that it is never worth it.  Wanted are
the clusters and the labels with the smallest sum.  (Insafutdinov et al., "DeeperCut", ECCV 2016; the search
follows Levinkov et al., "Joint Graph Decomposition and Node Labeling by Local Search", CVPR 2017.)

Two remarks make it small.  Suppressed nodes cost nothing alone and nothing together, so they are one set that
belongs to nobody: to suppress a node is to move it there.  And an edge that is not there costs nothing, so
that a cluster in several pieces costs as much as its pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

NOBODY = -1
ENOUGH = 1e-6  # the search ends when a sweep gains less
NOISE = 1e-9  # and a move counts only if it gains more: sums of floats
SMALL = 10  # nodes of which all clusterings are looked at, as fast as a search
TRIES = 1500  # new searches from a changed result, times the squared number of nodes


class Graph(NamedTuple):
    """keep: what each node costs unless it is suppressed.  cost: what each pair of kept nodes costs in one
    cluster, symmetric, 0 where there is no edge."""

    keep: np.ndarray  # (n,) float64
    cost: np.ndarray  # (n, n) float64
    linked: np.ndarray  # (n, n) bool


def make_graph(keep: np.ndarray, edges: np.ndarray, join: np.ndarray) -> Graph:
    """keep (n,); edges (E, 2) of two different nodes each; join (E,) the cost of each.  An edge that is
    listed twice has the sum of both costs."""
    n = len(keep)
    cost, linked = np.zeros((n, n)), np.zeros((n, n), bool)
    a, b = np.asarray(edges, np.int64).reshape(-1, 2).T
    for i, j in ((a, b), (b, a)):
        np.add.at(cost, (i, j), join)
        linked[i, j] = True
    return Graph(np.asarray(keep, np.float64), cost, linked)


def energy(graph: Graph, label: np.ndarray) -> float:
    """The sum that is made small; label (n,) of clusters, NOBODY for suppressed nodes."""
    kept = label != NOBODY
    together = (label[:, None] == label) & kept
    return float(graph.keep[kept].sum() + graph.cost[together].sum() / 2)


def connected(linked: np.ndarray) -> tuple[int, np.ndarray]:
    """linked (n, n) bool, symmetric -> the number of connected parts, and the part of each node (n,)."""
    from scipy.sparse.csgraph import connected_components  # slow to import, and only multicut needs it

    return connected_components(linked, directed=False)


def solve(graph: Graph) -> np.ndarray:
    """The label of every node (n,) int64: clusters are counted from 0 in the order of their first nodes,
    suppressed nodes have NOBODY.

    What no edges of negative cost hold together is solved apart: parts of up to SMALL nodes exactly, larger
    ones by local search, the smaller ones first.  The nodes are sorted before, so that without ties their
    order does not matter."""
    if not len(graph.keep):
        return np.zeros(0, np.int64)
    order = np.lexsort((graph.cost.max(1), graph.cost.min(1), graph.keep))
    ordered = part_of(graph, order)
    count, group = connected(ordered.cost < 0)
    label, used, tries = np.full(len(order), NOBODY), 0, TRIES
    for nodes in sorted((np.flatnonzero(group == one) for one in range(count)), key=len):
        part, tried = part_of(ordered, nodes), 0
        if len(nodes) <= SMALL:
            found = solve_exactly(part)
        else:
            found, tried = solve_by_search(part, tries // len(nodes) ** 2)
        label[order[nodes[found != NOBODY]]] = found[found != NOBODY] + used
        used, tries = used + len(nodes), tries - tried * len(nodes) ** 2
    return _numbered(label)


def solve_exactly(graph: Graph) -> np.ndarray:
    """The labels (n,) of a small graph.

    A number stands for the set of the nodes of its bits.  Of each set, its last node is suppressed, or makes
    a cluster with some of the others, and what is left has been looked at before."""
    n = len(graph.keep)
    member = (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(np.float64)
    whole = member @ graph.keep + ((member @ graph.cost) * member).sum(1) / 2
    least, cluster = np.zeros(1 << n), np.zeros(1 << n, np.int64)
    subsets = _subsets()
    for last in range(n):
        for others in range(1 << last):
            some, joined = subsets[others], others | 1 << last
            cost = whole[some | 1 << last] + least[others ^ some]
            best = int(cost.argmin())
            least[joined] = least[others]
            if cost[best] < least[others]:
                least[joined], cluster[joined] = cost[best], some[best] | 1 << last
    label, left = np.full(n, NOBODY), (1 << n) - 1
    while left:
        last = left.bit_length() - 1
        own = int(cluster[left])
        label[member[own] > 0] = last
        left &= ~(own or 1 << last)
    return label


@lru_cache(maxsize=1)
def _subsets() -> list[np.ndarray]:
    """Of every set of up to SMALL nodes all the subsets, as numbers; a set's number is its place."""
    subsets = [np.zeros(1, np.int64)]
    for node in range(SMALL):
        subsets += [np.concatenate((some, some | 1 << node)) for some in subsets[: 1 << node]]
    return subsets


def solve_by_search(graph: Graph, tries: int) -> tuple[np.ndarray, int]:
    """Contraction, local search, and again from up to `tries` small changes of the best so far -> the labels
    (n,) and how many were tried."""
    lowest = np.minimum(graph.keep, 0).sum() + np.minimum(graph.cost, 0).sum() / 2 + NOISE
    label = _numbered(search(graph, contract(graph)))
    least, tried = energy(graph, label), 0
    changes = _changes(label)
    while least > lowest and tried < tries:
        change = next(changes, None)
        if change is None:
            break
        other, tried = _numbered(search(graph, change)), tried + 1
        if energy(graph, other) < least - NOISE:
            label, least = other, energy(graph, other)
            changes = _changes(label)
    return label, tried


def _changes(label: np.ndarray) -> Iterator[np.ndarray]:
    """A cluster in single nodes, two clusters in one, a node suppressed or alone, two nodes as a cluster, a
    node elsewhere: each of them in turn."""
    clusters = int(label.max()) + 1
    for a in range(clusters):
        yield np.where(label == a, clusters + np.arange(len(label)), label)
    for a, b in combinations(range(clusters), 2):
        yield np.where(label == b, a, label)
    for instead in (NOBODY, clusters):
        for node in range(len(label)):
            if label[node] != instead:
                yield _with(label, [node], instead)
    for pair in combinations(range(len(label)), 2):
        yield _with(label, pair, clusters)
    for node, other in product(range(len(label)), range(clusters)):
        if label[node] != other:
            yield _with(label, [node], other)


def _with(label: np.ndarray, nodes: Sequence[int], instead: int) -> np.ndarray:
    changed = label.copy()
    changed[list(nodes)] = instead
    return changed


def part_of(graph: Graph, nodes: np.ndarray) -> Graph:
    """The graph of these nodes alone, in this order."""
    rows = nodes[:, None]
    return Graph(graph.keep[nodes], graph.cost[rows, nodes], graph.linked[rows, nodes])


def contract(graph: Graph) -> np.ndarray:
    """Greedy additive edge contraction: the label of every node (n,), all kept.

    The two clusters with the most negative cost between them become one, and parallel edges add up, until
    every edge that is left costs more than 0."""
    n = len(graph.keep)
    weight = np.where(graph.linked, -graph.cost, -np.inf)
    label = np.arange(n)
    best, value = weight.argmax(1), weight.max(1)
    for _ in range(n - 1):
        a = int(value.argmax())
        if value[a] < 0:
            break
        a, b = sorted((a, int(best[a])))
        one, other = weight[a], weight[b]
        both = np.where(np.isinf(one), other, np.where(np.isinf(other), one, one + other))
        both[[a, b]] = -np.inf
        weight[a] = weight[:, a] = both
        weight[b] = weight[:, b] = -np.inf
        label[label == b] = a
        stale = np.flatnonzero((best == a) | (best == b) | (both >= value))
        stale = np.union1d(stale, (a, b))
        best[stale], value[stale] = weight[stale].argmax(1), weight[stale].max(1)
    return label


# ---- local search ----


def search(graph: Graph, label: np.ndarray) -> np.ndarray:
    """Local search from `label` (n,), by moves that each make the energy smaller."""
    state = _State(graph, label)
    while state.sweep() >= ENOUGH:
        state.split_into_pieces()
    return state.label()


class Step(NamedTuple):
    """What a sequence of moves between two sides gains, and which of the nodes change sides."""

    gain: float
    moved: np.ndarray  # (m,) bool


def best_prefix(gain: np.ndarray, change: np.ndarray) -> Step:
    """Nodes move one after the other, each time the one that gains the most, none of them twice; of this
    sequence the part up to the largest sum counts.

    gain (m,) of each node if it moves first; change (m, m): the row of a node is what the others' gains lose
    when it has moved.  Both are overwritten."""
    moves, total, largest, length = [], 0.0, NOISE, 0
    for _ in range(len(gain)):
        node = int(gain.argmax())
        total += float(gain[node])
        gain -= change[node]
        gain[node] = -np.inf
        moves.append(node)
        if total > largest:
            largest, length = total, len(moves)
    moved = np.zeros(len(gain), bool)
    moved[moves[:length]] = True
    return Step(largest if length else 0.0, moved)


class _State:
    """Clusters while they change: the nodes of each, and of nobody."""

    def __init__(self, graph: Graph, label: np.ndarray) -> None:
        self.graph = graph
        self.attracted = graph.cost < 0
        self.nobody = np.flatnonzero(label == NOBODY)
        self.groups = [np.flatnonzero(label == one) for one in np.unique(label) if one != NOBODY]
        self.fresh = set(range(len(self.groups)))  # changed since they were last compared with others
        self.fresh_nobody = True

    def label(self) -> np.ndarray:
        label = np.full(len(self.graph.keep), NOBODY)
        for number, nodes in enumerate(self.groups):
            label[nodes] = number
        return label

    def sweep(self) -> float:
        """Every pair of clusters once, and every cluster with nobody and with a new one -> the gain."""
        before, self.fresh = self.fresh, set()
        nobody_before, self.fresh_nobody = self.fresh_nobody, False
        total = 0.0
        for a, b in self._neighbours():
            if not {a, b}.isdisjoint(before | self.fresh):
                total += self._exchange(a, b)
        for a in range(len(self.groups)):
            if a in before or a in self.fresh or nobody_before or self.fresh_nobody:
                total += self._suppress(a)
            if a in before or a in self.fresh:
                total += self._divide(a)
        if nobody_before or self.fresh_nobody:
            total += self._revive()
        return total

    def _neighbours(self) -> Sequence[tuple[int, int]]:
        """Pairs of clusters that an edge of negative cost joins.  Where there is none, no move from one to
        the other gains more than one to a new cluster."""
        member = np.zeros((len(self.groups), len(self.graph.keep)), np.float32)
        for number, nodes in enumerate(self.groups):
            member[number, nodes] = 1
        between = member @ self.attracted.astype(np.float32) @ member.T
        return [(int(a), int(b)) for a, b in zip(*np.triu(between, 1).nonzero())]

    def _exchange(self, a: int, b: int) -> float:
        """Moves between two clusters, or both become one."""
        first, second = self.groups[a], self.groups[b]
        if not len(first) or not len(second):
            return 0.0
        nodes = np.concatenate((first, second))
        side = np.repeat((1.0, -1.0), (len(first), len(second)))
        cost = self.graph.cost[nodes[:, None], nodes]
        merged = -float(cost[: len(first), len(first) :].sum())
        change = side[:, None] * cost * side
        step = best_prefix(change.sum(1), 2 * change)
        if max(merged, step.gain) <= NOISE:
            return 0.0
        self.fresh |= {a, b}
        if merged >= step.gain:
            self.groups[a], self.groups[b] = np.sort(nodes), nodes[:0]
            return merged
        in_first = (side > 0) ^ step.moved
        self.groups[a], self.groups[b] = np.sort(nodes[in_first]), np.sort(nodes[~in_first])
        return step.gain

    def _suppress(self, a: int) -> float:
        """Moves between a cluster and nobody."""
        first = self.groups[a]
        second = self.nobody[self.attracted[self.nobody[:, None], first].any(1)]
        if not len(first):
            return 0.0
        nodes = np.concatenate((first, second))
        side = np.repeat((1.0, -1.0), (len(first), len(second)))
        cost = self.graph.cost[nodes[:, None], nodes]
        gain = side * (cost[:, : len(first)].sum(1) + self.graph.keep[nodes])
        step = best_prefix(gain, side[:, None] * cost * side)
        if step.gain:
            in_first = (side > 0) ^ step.moved
            others = np.setdiff1d(self.nobody, second, assume_unique=True)
            self.groups[a] = np.sort(nodes[in_first])
            self.nobody = np.sort(np.concatenate((others, nodes[~in_first])))
            self.fresh.add(a)
            self.fresh_nobody = True
        return step.gain

    def _divide(self, a: int) -> float:
        """Moves from a cluster to a new one."""
        nodes = self.groups[a]
        cost = self.graph.cost[nodes[:, None], nodes]
        step = best_prefix(cost.sum(1), 2 * cost)
        if step.gain:
            self.groups[a] = nodes[~step.moved]
            self._add(nodes[step.moved])
            self.fresh.add(a)
        return step.gain

    def _revive(self) -> float:
        """Moves from nobody to a new cluster."""
        nodes = self.nobody
        step = best_prefix(-self.graph.keep[nodes], self.graph.cost[nodes[:, None], nodes])
        if step.gain:
            self.nobody = nodes[~step.moved]
            self._add(nodes[step.moved])
            self.fresh_nobody = True
        return step.gain

    def _add(self, nodes: np.ndarray) -> None:
        self.fresh.add(len(self.groups))
        self.groups.append(nodes)

    def split_into_pieces(self) -> None:
        """Empty clusters go; those that no path of edges holds together become several."""
        groups: list[np.ndarray] = []
        fresh: set[int] = set()
        for number, nodes in enumerate(self.groups):
            if not len(nodes):
                continue
            pieces = [nodes]
            if number in self.fresh:
                count, piece = connected(self.graph.linked[nodes[:, None], nodes])
                pieces = [nodes[piece == one] for one in range(count)]
                fresh |= set(range(len(groups), len(groups) + count))
            groups += pieces
        self.groups, self.fresh = groups, fresh


def _numbered(label: np.ndarray) -> np.ndarray:
    """The same clusters, counted in the order of their first nodes."""
    kept = np.flatnonzero(label != NOBODY)
    _, first, inverse = np.unique(label[kept], return_index=True, return_inverse=True)
    numbered = np.full(len(label), NOBODY, np.int64)
    numbered[kept] = first.argsort().argsort()[inverse.reshape(-1)]
    return numbered
