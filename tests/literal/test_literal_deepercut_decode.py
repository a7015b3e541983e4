"""The literal restatement of DeeperCut's decoding against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.literal.reference import deepercut_decode as literal
from tests.literal.reference.deepercut_decode import Detection


def one(kind: int, x: float, y: float, **offset: tuple[float, float]) -> Detection:
    """A detection in the middle of its cell; offset to keypoint 1 as _1=(dx, dy)."""
    return Detection(kind, 0.9, (x, y), (x, y), {int(k[1:]): v for k, v in offset.items()})


def test_the_graph_has_the_40_pairs_of_coco() -> None:
    assert len(set(literal.PAIRS)) == 40 and all(a < b for a, b in literal.PAIRS)
    flip = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    mirrored = {tuple(sorted((flip[a], flip[b]))) for a, b in literal.PAIRS}
    assert mirrored == set(literal.PAIRS)


@pytest.mark.parametrize(
    ("pixels", "probability", "cost"),
    [(0, 0.99945, -7.5), (25, 0.92414, -2.5), (37.5, 0.5, 0), (50, 0.07586, 2.5)],
)
def test_two_of_a_kind(pixels: float, probability: float, cost: float) -> None:
    p = literal.same_probability(one(0, 0, 0), one(0, pixels, 0))
    assert p == pytest.approx(probability, abs=5e-6)
    assert literal.cost_of(p) == pytest.approx(cost, abs=1e-9)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_costs_are_cut_off(p: float) -> None:
    assert abs(literal.cost_of(p)) == pytest.approx(math.log(1e7), rel=1e-6)


def test_features() -> None:
    """b lies at (30, 40) from a, which predicts (30, 0); b predicts a exactly, but for the other side of the
    turn."""
    f = literal.features(one(0, 0, 0, _1=(30, 0)), one(1, 30, 40, _0=(-30, -40)))
    assert f[:4] == pytest.approx([40, math.atan2(4, 3), 0, 0])
    assert f[4:] == pytest.approx([math.exp(-40), math.exp(-math.atan2(4, 3)), 1, 1])
    wrapped = literal.features(one(0, 0, 0, _1=(-10, 1)), one(1, -10, -1, _0=(10, 1)))
    assert wrapped[1] == pytest.approx(2 * math.atan(0.1)) and wrapped[3] == pytest.approx(0)


def test_a_model_scales_its_features() -> None:
    model = literal.Model([0.0] * 8, [2.0] * 8, [1.0] * 8 + [-3.0])
    assert literal.model_probability([1.0] * 8, model) == pytest.approx(1 / (1 + math.exp(-1)))


def test_channels_of_pairs() -> None:
    """(0, 1) -> 0, (1, 0) -> 16, (16, 15) -> 271."""
    heat, locref = np.zeros((1, 1, 17)), np.zeros((1, 1, 34))
    heat[0, 0] = 0.5
    pairwise = np.arange(544.0).reshape(1, 1, 544)
    found = literal.find(heat, locref, pairwise)
    assert found[0].offset[1] == (0, 1) and found[1].offset[0] == (32, 33)
    assert found[16].offset[15] == (542, 543)
    assert found[0].center == (4, 4)


@pytest.mark.parametrize(("third", "clusters"), [(-2.5, [0, 0, 2]), (-0.5, [0, 0, 0])])
def test_contraction(third: float, clusters: list[int]) -> None:
    assert literal.contract(3, {(0, 1): -2.0, (1, 2): -1.0, (0, 2): -third}) == clusters


def test_the_energy_counts_labels() -> None:
    edges = {(0, 1): -3.0, (1, 2): 2.0}
    keep = [-1.0, 0.5, 4.0]
    assert literal.energy(keep, edges, [0, 0, 1], [True, True, True]) == pytest.approx(0.5)
    assert literal.energy(keep, edges, [0, 0, 1], [True, True, False]) == pytest.approx(-3.5)
    assert literal.energy(keep, edges, [0, 0, 0], [True, True, False]) == pytest.approx(996.5)
    assert literal.energy(keep, edges, [0, 0, 0], [False] * 3) == 0


def test_the_search_ends_below_contraction() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        edges = {(a, b): float(rng.normal()) for a in range(8) for b in range(a + 1, 8)}
        keep = rng.normal(0, 0.5, 8).tolist()
        search = literal.Search(keep, edges)
        before = literal.energy(keep, edges, search.cluster, search.kept)
        search.run()
        assert literal.energy(keep, edges, search.cluster, search.kept) <= before + 1e-9


def test_it_finds_the_people_that_were_drawn() -> None:
    maps = literal.scene(2, 6, cells=(60, 90), missing=0.0, noise=2.0)
    people = literal.decode(*maps, {}, 60.0)
    assert len(people) == 2
    for person in people:
        assert (person[:, 2] > 0.2).sum() >= 15
