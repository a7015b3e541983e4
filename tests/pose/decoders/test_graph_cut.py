"""The solver of node-labelling multicut against exhaustive search, and its own properties."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from pose.decoders import graph_cut
from pose.decoders.graph_cut import (
    NOBODY,
    Graph,
    contract,
    energy,
    make_graph,
    search,
    solve,
    solve_by_search,
    solve_exactly,
)
from tests.literal.reference import deepercut_decode as literal


def exhaustive(graph: Graph) -> float:
    """The smallest energy over all clusterings and labels, as published: a kept node that is joined with a
    suppressed one costs 1000."""
    n = len(graph.keep)
    edges = literal_edges(graph)
    return min(
        literal.energy(graph.keep.tolist(), edges, cluster, kept)
        for cluster in partitions(n)
        for kept in product((True, False), repeat=n)
    )


def literal_edges(graph: Graph) -> literal.Edges:
    pairs = np.argwhere(np.triu(graph.linked, 1)).tolist()
    return {(a, b): float(graph.cost[a, b]) for a, b in pairs}


def random_graph(seed: int, *, nodes: int | None = None) -> Graph:
    """Complete or sparse; costs that are normal, uniform, logarithmic odds, or small integers."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 11)) if nodes is None else nodes
    pairs = np.argwhere(np.triu(np.ones((n, n)), 1))
    if seed % 2:
        pairs = pairs[rng.random(len(pairs)) < 0.5]
    shape = seed // 2 % 4
    if shape == 0:
        return make_graph(rng.normal(0, 1, n), pairs, rng.normal(0, 2, len(pairs)))
    if shape == 1:
        return make_graph(rng.uniform(-1, 1, n), pairs, rng.uniform(-1, 1, len(pairs)))
    if shape == 2:
        p, q = rng.beta(0.3, 0.3, len(pairs)).clip(1e-7, 1 - 1e-7), rng.uniform(0.2, 0.99, n)
        return make_graph(np.log((1 - q) / q), pairs, np.log((1 - p) / p))
    return make_graph(rng.integers(-3, 4, n), pairs, rng.integers(-3, 4, len(pairs)))


def partitions(n: int) -> Iterator[list[int]]:
    """The clusters of n nodes in all ways."""
    if n == 0:
        yield []
        return
    for rest in partitions(n - 1):
        yield from ([*rest, c] for c in range(max(rest, default=-1) + 2))


def test_small_graphs_are_solved_exactly() -> None:
    """Also with the labels as published; suppressed nodes belong to nobody."""
    for seed in range(24):
        graph = random_graph(seed, nodes=2 + seed % 4)
        assert energy(graph, solve(graph)) == pytest.approx(exhaustive(graph))
        assert energy(graph, solve_exactly(graph)) == pytest.approx(exhaustive(graph))


@pytest.mark.slow
def test_the_local_search_nearly_always_finds_the_smallest_energy() -> None:
    missed = 0
    for seed in range(200):
        graph = random_graph(seed)
        least = energy(graph, solve_exactly(graph))
        assert energy(graph, solve(graph)) == pytest.approx(least)
        found = energy(graph, solve_by_search(graph, 60)[0])
        assert found > least - 1e-9
        missed += found > least + 1e-9
        alone = energy(graph, search(graph, contract(graph)))
        assert found <= alone + 1e-9
    assert missed <= 4


@pytest.mark.parametrize(("third", "clusters"), [(-2.5, [0, 0, 2]), (-0.5, [0, 0, 0])])
def test_contraction_adds_up_parallel_edges(third: float, clusters: list[int]) -> None:
    """A triangle: its heaviest edge is contracted, then what remains weighs 1 + third."""
    edges = np.array([(0, 1), (1, 2), (0, 2)])
    graph = make_graph(np.zeros(3), edges, -np.array([2.0, 1.0, third]))
    assert contract(graph).tolist() == clusters
    weights = {(0, 1): -2.0, (1, 2): -1.0, (0, 2): -third}
    assert literal.contract(3, weights) == clusters


def test_contraction_is_the_literal_one() -> None:
    for seed in range(60):
        graph = random_graph(2 * seed + seed % 2 if seed // 2 % 4 != 3 else 0, nodes=12)
        edges = literal_edges(graph)
        assert contract(graph).tolist() == literal.contract(12, edges)


def test_every_sweep_gains_what_it_says() -> None:
    for seed in range(40):
        graph = random_graph(seed, nodes=25)
        state = graph_cut._State(graph, np.random.default_rng(seed).integers(-1, 5, 25))
        before = energy(graph, state.label())
        for _ in range(50):
            gain = state.sweep()
            after = energy(graph, state.label())
            assert gain >= 0 and after == pytest.approx(before - gain)
            state.split_into_pieces()
            assert energy(graph, state.label()) == pytest.approx(after)
            before = after
            if gain < graph_cut.ENOUGH:
                break
        else:
            raise AssertionError("the search does not end")


def test_the_search_is_not_worse_than_contraction_nor_is_the_solution_than_the_search() -> None:
    for seed in range(20):
        graph = random_graph(seed, nodes=40)
        contracted = contract(graph)
        searched = search(graph, contracted)
        tried, _ = solve_by_search(graph, 5)
        energies = [energy(graph, label) for label in (tried, searched, contracted)]
        assert energies == sorted(energies)


def test_the_order_of_nodes_does_not_matter() -> None:
    for seed in range(0, 24, 8):
        graph = random_graph(seed, nodes=40)
        order = np.random.default_rng(seed).permutation(40)
        label, other = solve(graph), solve(graph_cut.part_of(graph, order))
        assert ((label[order, None] == label[order]) == (other[:, None] == other)).all()
        assert ((label[order] == NOBODY) == (other == NOBODY)).all()


def test_parts_that_nothing_attracts_to_each_other_are_solved_apart() -> None:
    first, second = random_graph(0, nodes=8), random_graph(8, nodes=9)
    cost = np.full((17, 17), 0.5)
    cost[:8, :8], cost[8:, 8:] = first.cost, second.cost
    both = Graph(np.concatenate((first.keep, second.keep)), cost, ~np.eye(17, dtype=bool))
    assert energy(both, solve(both)) == pytest.approx(sum(energy(g, solve(g)) for g in (first, second)))


def test_labels_are_counted_from_0_without_gaps() -> None:
    for seed in range(20):
        label = solve(random_graph(seed, nodes=15))
        kept = label[label != NOBODY]
        _, first = np.unique(kept, return_index=True)
        assert sorted(set(kept.tolist())) == list(range(len(first))) and (np.diff(first) > 0).all()


def test_single_nodes_are_kept_if_that_gains_something() -> None:
    label = solve(make_graph(np.array([-1.0, 1.0, -0.5]), np.zeros((0, 2)), np.zeros(0)))
    assert label.tolist() == [0, NOBODY, 1]


def test_a_weak_node_is_kept_where_others_want_it() -> None:
    edges = np.array([(0, 1), (1, 2)])
    assert solve(make_graph(np.array([-1.0, 1.5, 1.0]), edges, np.array([-1.0, -1.0]))).tolist() == [
        0,
        NOBODY,
        NOBODY,
    ]
    assert solve(make_graph(np.array([-1.0, 1.5, 1.0]), edges, np.array([-1.0, -1.6]))).tolist() == [0, 0, 0]


def test_an_edge_listed_twice_counts_twice_and_nothing_is_nothing() -> None:
    graph = make_graph(np.zeros(2), np.array([(0, 1), (1, 0)]), np.array([1.0, 2.0]))
    assert graph.cost.tolist() == [[0, 3], [3, 0]]
    assert solve(make_graph(np.zeros(0), np.zeros((0, 2)), np.zeros(0))).tolist() == []


@pytest.mark.parametrize(
    ("label", "keep", "join", "wanted"),
    [
        ([0, 1], [-1.0, -1.0], [-1.0], [0, 0]),  # two clusters in one
        ([0, 0, 1], [-1.0] * 3, [-1.0, 5.0, -6.0], [0, 1, 1]),  # a node to the other cluster
        ([-1, -1], [-1.0, 0.5], [-1.0], [0, 0]),  # nobody's nodes become somebody
        ([0, 0], [2.0, -1.0], [-0.5], [-1, 0]),  # a node to nobody
        ([0, 0], [-1.0, -1.0], [1.0], [0, 1]),  # one cluster in two
    ],
)
def test_each_kind_of_move_is_made(
    label: list[int], keep: list[float], join: list[float], wanted: list[int]
) -> None:
    n = len(keep)
    edges = np.array([(a, b) for a in range(n) for b in range(a + 1, n)])
    found = search(make_graph(np.array(keep), edges, np.array(join)), np.array(label))
    same = (found[:, None] == found) == (np.array(wanted)[:, None] == np.array(wanted))
    assert same.all() and ((found == NOBODY) == (np.array(wanted) == NOBODY)).all()
