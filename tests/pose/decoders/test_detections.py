"""Detections and their pairs against the literal restatement, and their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.config import read_yaml
from pose.decoders.detections import (
    Detections,
    DetectionSettings,
    PairSettings,
    check_shapes,
    find_detections,
    list_pairs,
    pair_errors,
    pair_features,
    pair_lengths,
)
from pose.decoders.pairwise_statistics import PairwiseStatistics
from pose.errors import UserError
from pose.skeleton import Skeleton, from_dict
from tests.literal.reference import deepercut_decode as literal

COCO17 = from_dict(read_yaml(Path(__file__).parents[3] / "configs" / "_skeletons" / "coco17.yaml"))
Maps = tuple[Tensor, Tensor, Tensor]


def random_maps(seed: int, kinds: int = 4, size: tuple[int, int] = (13, 17), images: int = 1) -> Maps:
    """Heat with few different values, so that there are ties."""
    rng = np.random.default_rng(seed)
    heat = rng.integers(0, 12, (images, kinds, *size)) / 12
    fields = [rng.normal(0, 9, (images, c, *size)) for c in (2 * kinds, 2 * kinds * (kinds - 1))]
    heatmap, locref, pairwise = (torch.from_numpy(one).float() for one in (heat, *fields))
    return heatmap, locref, pairwise


def find(maps: Any, *, pixel_center: float = 0.0, **settings: Any) -> list[Detections]:
    heatmap, locref, pairwise = maps
    return find_detections(heatmap, locref, pairwise, 8, DetectionSettings(**settings), pixel_center)


def assert_equal(ours: Detections, theirs: Detections) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_they_are_the_literal_ones() -> None:
    """Which cells, in which order, where they are, and what the two other maps say there."""
    for seed in range(12):
        maps = random_maps(seed)
        (found,) = find(maps)
        expected = literal.find(*(one[0].permute(1, 2, 0).numpy() for one in maps))
        assert found.kind.tolist() == [one.kind for one in expected]
        assert found.probability.tolist() == [one.probability for one in expected]
        assert found.center.tolist() == [list(one.center) for one in expected]
        np.testing.assert_allclose(found.position, [one.position for one in expected], rtol=1e-12)
        for offset, one in zip(found.offset, expected, strict=True):
            assert {b: tuple(offset[b]) for b in one.offset} == one.offset
            assert (offset[one.kind] == 0).all()


def test_a_detection_excludes_the_cells_of_a_disc() -> None:
    heat = torch.zeros(1, 1, 20, 20)
    heat[0, 0, 10, 10] = 0.9
    for y, x, value in ((10, 15, 0.8), (14, 13, 0.8), (14, 14, 0.7), (10, 4, 0.6), (7, 6, 0.5)):
        heat[0, 0, y, x] = value
    (found,) = find((heat, torch.zeros(1, 2, 20, 20), torch.zeros(1, 0, 20, 20)))
    cells = ((found.center - 4) / 8).tolist()
    assert cells == [[10, 10], [14, 14], [4, 10]]  # (6, 7) lies in the disc round (10, 10), at distance 5


def test_a_plateau_is_one_detection_at_its_first_cell() -> None:
    heat = torch.zeros(1, 2, 9, 9)
    heat[0, 1, 3:6, 2:7] = 0.5
    (found,) = find((heat, torch.zeros(1, 4, 9, 9), torch.zeros(1, 4, 9, 9)))
    assert found.kind.tolist() == [1] and ((found.center - 4) / 8).tolist() == [[2, 3]]


def test_the_threshold_itself_is_enough_and_the_pixel_centre_moves_all() -> None:
    heat = torch.full((1, 1, 1, 1), 0.2)
    maps = (heat, torch.zeros(1, 2, 1, 1), torch.zeros(1, 0, 1, 1))
    assert find(maps)[0].center.tolist() == [[4, 4]]
    assert find(maps, pixel_center=0.5)[0].center.tolist() == [[3.5, 3.5]]
    assert len(find(maps, detection_threshold=0.21)[0].kind) == 0


@pytest.mark.parametrize(("settings", "number"), [({"max_peaks": 2}, 8), ({"max_detections": 5}, 5)])
def test_the_most_probable_ones_are_kept(settings: dict[str, int], number: int) -> None:
    maps = random_maps(3)
    (every,), (few,) = find(maps), find(maps, **settings)
    assert len(few.kind) == number < len(every.kind)
    if "max_detections" in settings:
        assert sorted(few.probability) == sorted(every.probability)[-number:]
        assert (np.diff(few.kind) >= 0).all()
    else:
        for kind in range(4):
            kept = few.probability[few.kind == kind]
            assert kept.tolist() == every.probability[every.kind == kind][:2].tolist()


def test_a_batch_gives_what_its_images_give() -> None:
    maps = random_maps(5, images=3)
    maps[0][1] = 0  # nothing in the second one
    for number, found in enumerate(find(maps)):
        assert_equal(found, find(tuple(one[number : number + 1] for one in maps))[0])
    assert len(find(maps)[1].kind) == 0 and find(maps)[1].offset.shape == (0, 4, 2)
    assert find(tuple(one[:0] for one in maps)) == []


def test_what_is_no_number_does_no_harm() -> None:
    heatmap, locref, pairwise = random_maps(6)
    heatmap[0, 0, :4] = torch.nan
    heatmap[0, 1, 2, 2] = torch.inf
    locref[0, :, ::2] = torch.nan
    pairwise[0, :, :, ::3] = -torch.inf
    (found,) = find((heatmap, locref, pairwise))
    assert all(np.isfinite(array).all() for array in found) and found.probability.max() == 1
    assert (found.center[found.kind == 0, 1] > 32).all()


def test_shapes_are_checked() -> None:
    heatmap, locref, pairwise = random_maps(0)
    check_shapes(heatmap, locref, pairwise, 4)
    for wrong in (
        (heatmap, locref, locref),
        (heatmap, heatmap, pairwise),
        (heatmap[:, :3], locref, pairwise),
    ):
        with pytest.raises(ValueError, match="4 x 8 x 24"):
            check_shapes(*wrong, 4)


def test_pairs_are_those_of_the_skeleton_and_of_one_kind() -> None:
    kind = np.array([0, 0, 2, 4, 4, 4])
    pairs = list_pairs(kind, COCO17)
    found = sorted(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    expected = [
        (a, b)
        for a in range(6)
        for b in range(a + 1, 6)
        if kind[a] == kind[b] or (kind[a], kind[b]) in literal.PAIRS
    ]
    assert found == expected
    for which, a, b in zip(*pairs, strict=True):
        same = which >= len(COCO17.pair_index)
        assert same == (kind[a] == kind[b])
        assert same or COCO17.pair_index[which] == (kind[a], kind[b])


def test_features_are_the_literal_ones() -> None:
    maps = random_maps(1)
    (found,) = find(maps)
    listed = literal.find(*(one[0].permute(1, 2, 0).numpy() for one in maps))
    a, b = np.argwhere(found.kind[:, None] < found.kind).T
    features = pair_features(pair_errors(found, a, b))
    expected = [literal.features(listed[i], listed[j]) for i, j in zip(a, b, strict=True)]
    np.testing.assert_allclose(features, expected, rtol=1e-9, atol=1e-12)
    assert features[:, [1, 3]].max() <= np.pi


def test_lengths_are_those_of_the_statistics() -> None:
    skeleton = Skeleton("three", ("a", "b", "c"), limbs=(("a", "b"), ("b", "c")))
    assert pair_lengths(skeleton, None, PairSettings()).tolist() == [60.0] * len(skeleton.pair_index)
    std = np.ones((3, 3, 2)) * 20
    std[0, 1] = std[1, 0] = (3, 4)
    settings = PairSettings(least_length=2.0)
    statistics = PairwiseStatistics(skeleton.keypoints, np.zeros((3, 3, 2)), std)
    lengths = dict(zip(skeleton.pair_index, pair_lengths(skeleton, statistics, settings), strict=True))
    assert lengths[0, 1] == pytest.approx(np.sqrt(12.5)) and lengths[1, 2] == pytest.approx(20)
    assert pair_lengths(skeleton, statistics, PairSettings()).min() == 16
    std[1, 2] = np.nan
    with pytest.raises(UserError, match="no standard deviation for b and c"):
        pair_lengths(skeleton, statistics, settings)
    with pytest.raises(UserError, match="a, b, c, but the skeleton 'coco17' has nose"):
        pair_lengths(COCO17, statistics, settings)
