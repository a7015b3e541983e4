"""The decoder of DeeperCut against the literal restatement, and its own properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.config import read_yaml
from pose.decoders.detections import Detections, find_detections, list_pairs
from pose.decoders.graph_cut import energy, make_graph
from pose.decoders.multicut import Multicut, MulticutSettings, log_odds
from pose.decoders.pairwise_statistics import PairModel, PairwiseStatistics
from pose.errors import UserError
from pose.registry import DECODERS
from pose.skeleton import Skeleton, from_dict
from pose.structures import People
from tests.literal.reference import deepercut_decode as literal

COCO17 = from_dict(read_yaml(Path(__file__).parents[3] / "configs" / "_skeletons" / "coco17.yaml"))
ONE = Skeleton("one", ("a",))
TWO = Skeleton("two", ("a", "b"), limbs=(("a", "b"),))
LENGTH = 60.0


def decoder(
    skeleton: Skeleton = COCO17, statistics: PairwiseStatistics | None = None, **settings: Any
) -> Multicut:
    """In pose-tensorflow's pixel convention."""
    return Multicut(MulticutSettings(**settings), skeleton, 0.0, statistics)


def tensors(*scenes: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor, Tensor]:
    stacked = (np.stack(maps).transpose(0, 3, 1, 2) for maps in zip(*scenes, strict=True))
    heatmap, locref, pairwise = (torch.from_numpy(one.copy()) for one in stacked)
    return heatmap, locref, pairwise


def images(maps: tuple[Tensor, Tensor, Tensor], part: slice) -> tuple[Tensor, Tensor, Tensor]:
    heatmap, locref, pairwise = maps
    return heatmap[part], locref[part], pairwise[part]


def small_scene(seed: int) -> tuple[np.ndarray, ...]:
    return literal.scene(
        1 + seed % 4, seed, cells=(30, 40), false=seed % 3 * 4, missing=0.2, noise=(2.0, 10.0, 25.0)[seed % 3]
    )


def detections(
    kind: list[int], probability: list[float], position: list[Any], offset: Any = None
) -> Detections:
    """Their centres are where they are."""
    place, kinds = np.array(position, np.float64), max(kind) + 1
    offset = np.zeros((len(kind), kinds, 2)) if offset is None else np.array(offset, np.float64)
    return Detections(np.array(kind), np.array(probability), place, place, offset)


def some_models(seed: int) -> dict[tuple[int, int], PairModel]:
    """Of two thirds of the pairs."""
    rng = np.random.default_rng(seed)
    models = {}
    for pair in COCO17.pair_index:
        if rng.random() < 0.67:
            low, high = np.zeros(8), np.array([400, np.pi, 400, np.pi, 1, 1, 1, 1])
            weights = np.concatenate((-rng.uniform(5, 20, 4), rng.uniform(0, 2, 4), [3.0]))
            models[pair] = PairModel(low, high, weights)
    return models


# ---- costs ----


@pytest.mark.parametrize(("pixels", "cost"), [(0.0, -7.5), (25.0, -2.5), (37.5, 0.0), (50.0, 2.5)])
def test_the_cost_of_two_of_a_kind(pixels: float, cost: float) -> None:
    found = detections([0, 0], [0.5, 0.5], [(0, 0), (0.6 * pixels, 0.8 * pixels)])
    (join,) = decoder(ONE).join_costs(found, list_pairs(found.kind, ONE))
    assert join == pytest.approx(cost, abs=1e-9)
    probability = {0.0: 0.99945, 25.0: 0.92414, 37.5: 0.5, 50.0: 0.07586}[pixels]
    assert 1 / (1 + np.exp(join)) == pytest.approx(probability, abs=5e-6)


def test_costs_are_the_literal_ones() -> None:
    """With models for some pairs, the default for others, and probabilities cut off."""
    for seed in range(6):
        maps, models = small_scene(seed), some_models(seed)
        std = np.full((17, 17, 2), LENGTH)
        one = decoder(statistics=PairwiseStatistics(COCO17.keypoints, np.zeros((17, 17, 2)), std, models))
        (found,) = find_detections(*tensors(maps), 8, one.settings, 0.0)
        pairs = list_pairs(found.kind, COCO17)
        ours = dict(zip(zip(pairs.a.tolist(), pairs.b.tolist()), one.join_costs(found, pairs), strict=True))
        plain = {
            pair: literal.Model(m.low.tolist(), m.high.tolist(), m.weights.tolist())
            for pair, m in models.items()
        }
        listed = literal.find(*maps)
        theirs = literal.edges(listed, plain, LENGTH)
        assert sorted(ours) == sorted(theirs)
        np.testing.assert_allclose([ours[e] for e in theirs], list(theirs.values()), rtol=1e-6, atol=1e-6)
        keep = [literal.cost_of(d.probability) for d in listed]
        np.testing.assert_allclose(-log_odds(found.probability), keep, rtol=1e-9, atol=1e-9)


def test_a_feature_without_extent_in_training_divides_by_nothing() -> None:
    models = {(0, 1): PairModel(np.zeros(8), np.zeros(8), np.ones(9))}
    statistics = PairwiseStatistics(TWO.keypoints, np.zeros((2, 2, 2)), np.ones((2, 2, 2)), models)
    found = detections([0, 1], [0.9, 0.9], [(0, 0), (10, 0)])
    costs = decoder(TWO, statistics).join_costs(found, list_pairs(found.kind, TWO))
    assert np.isfinite(costs).all()


# ---- people ----


def test_the_energy_is_not_above_that_of_the_literal_search() -> None:
    worse = 0
    for seed in range(12):
        maps, one = small_scene(seed), decoder()
        (found,) = find_detections(*tensors(maps), 8, one.settings, 0.0)
        pairs = list_pairs(found.kind, COCO17)
        join = one.join_costs(found, pairs)
        keep = -log_odds(found.probability)
        search = literal.Search(
            keep.tolist(), dict(zip(zip(pairs.a.tolist(), pairs.b.tolist()), join.tolist(), strict=True))
        )
        search.run()
        theirs = np.where(search.kept, search.cluster, -1)
        graph = make_graph(keep, np.stack((pairs.a, pairs.b), 1), join)
        gap = energy(graph, one.cluster(found)) - energy(graph, theirs)
        assert gap < 1e-3 * abs(energy(graph, theirs))
        worse += gap > 1e-6
    assert worse <= 1


def test_people_are_the_literal_ones_where_the_split_is_clear() -> None:
    people = 0
    for seed in range(15):
        maps = literal.scene(1 + seed % 3, seed, cells=(40, 60), noise=2.0)
        expected = literal.decode(*maps, {}, LENGTH)
        (found,) = decoder()(*tensors(maps), 8)
        assert len(found) == len(expected)
        np.testing.assert_allclose(found.keypoints, expected, rtol=1e-4, atol=1e-3)
        assert found.scores.tolist() == pytest.approx([p[:, 2].mean() for p in expected], rel=1e-5)
        people += len(expected)
    assert people > 15


def test_a_keypoint_is_the_weighted_mean_of_its_detections() -> None:
    found = detections([0, 0, 0], [0.9, 0.3, 0.8], [(0, 0), (20, 0), (300, 0)])
    one = decoder(ONE)
    people = one.people(found, one.cluster(found))
    assert people.keypoints[:, 0, 0].tolist() == pytest.approx([5, 300])
    assert people.keypoints[:, 0, 2].tolist() == pytest.approx([0.9, 0.8])
    mean = decoder(ONE, keypoint_score="mean")
    assert mean.people(found, mean.cluster(found)).scores.tolist() == pytest.approx([0.8, 0.6])


def test_suppressed_detections_belong_to_nobody() -> None:
    """An improbable one that fits no other; the original keeps it as a person."""
    found = detections([0, 0], [0.9, 0.3], [(0, 0), (300, 0)])
    one = decoder(ONE)
    assert one.cluster(found).tolist() == [0, -1]
    assert len(one.people(found, one.cluster(found))) == 1


def test_an_improbable_detection_stays_where_another_predicts_it() -> None:
    offset = np.zeros((2, 2, 2))
    offset[0, 1], offset[1, 0] = (40, 0), (-40, 0)
    one = decoder(TWO)
    assert one.cluster(detections([0, 1], [0.9, 0.3], [(0, 0), (40, 0)], offset)).tolist() == [0, 0]
    assert one.cluster(detections([0, 1], [0.9, 0.3], [(0, 0), (40, 0)], -offset)).tolist() == [0, -1]


def test_people_are_ranked_by_what_was_found_of_them() -> None:
    found = detections([0, 0, 1], [0.9, 0.8, 0.6], [(0, 0), (300, 0), (310, 9)])
    people = decoder(TWO).people(found, np.array([0, 1, 1]))
    assert people.scores.tolist() == pytest.approx([0.7, 0.45])
    assert people.keypoints[1, 1].tolist() == [0, 0, 0]
    few = decoder(TWO, min_keypoints=2).people(found, np.array([0, 1, 1]))
    assert len(few) == 1 and few.keypoints[0, 0, 0] == 300


def test_nothing_gives_nobody_and_a_batch_what_its_images_give() -> None:
    maps = tensors(*(literal.scene(n, 3, cells=(30, 40)) for n in (2, 0, 3)))
    one = decoder()
    batch = one(*maps, 8)
    assert len(batch[1]) == 0 and batch[1].keypoints.shape == (0, 17, 3)
    for number, found in enumerate(batch):
        (alone,) = one(*images(maps, slice(number, number + 1)), 8)
        np.testing.assert_array_equal(found.keypoints, alone.keypoints)
        np.testing.assert_array_equal(found.scores, alone.scores)
    assert one(*images(maps, slice(0)), 8) == []


def test_the_pixel_centre_moves_all_keypoints() -> None:
    maps = tensors(literal.scene(3, 8, cells=(40, 50)))
    (corner,), (centre,) = (Multicut(MulticutSettings(), COCO17, shift)(*maps, 8) for shift in (0.0, 0.5))
    there = corner.keypoints[..., 2] > 0
    np.testing.assert_allclose(centre.keypoints[there, :2], corner.keypoints[there, :2] - 0.5, atol=1e-3)


def test_a_map_full_of_noise_is_decoded() -> None:
    rng = np.random.default_rng(0)
    maps = [torch.from_numpy(rng.uniform(0, 1, (1, c, 24, 24))).float() for c in (17, 34, 544)]
    (found,) = decoder(max_detections=100)(maps[0], maps[1], maps[2], 8)
    assert isinstance(found, People) and np.isfinite(found.keypoints).all()
    assert (np.diff(found.scores) <= 0).all()


def test_statistics_of_another_skeleton_are_refused() -> None:
    with pytest.raises(UserError, match="'coco17' has nose"):
        decoder(statistics=PairwiseStatistics.neutral(TWO))


def test_it_is_registered_with_what_it_needs() -> None:
    entry = DECODERS["multicut"]
    assert entry.component is Multicut and Multicut.needs == ("heatmap", "locref", "pairwise")
    with pytest.raises(ValueError, match="17 x 34 x 544"):
        decoder()(torch.zeros(1, 17, 4, 4), torch.zeros(1, 34, 4, 4), torch.zeros(1, 500, 4, 4), 8)
