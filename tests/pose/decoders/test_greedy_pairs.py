"""People that grow along the pairwise offsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.config import read_yaml
from pose.decoders.detections import Detections
from pose.decoders.greedy_pairs import GreedyPairs, GreedyPairsSettings
from pose.decoders.multicut import Multicut, MulticutSettings
from pose.decoders.pairwise_statistics import PairwiseStatistics
from pose.errors import UserError
from pose.registry import DECODERS
from pose.skeleton import Skeleton, from_dict
from tests.literal.reference import deepercut_decode as literal

COCO17 = from_dict(read_yaml(Path(__file__).parents[3] / "configs" / "_skeletons" / "coco17.yaml"))
CHAIN = Skeleton("chain", ("a", "b", "c"), limbs=(("a", "b"), ("b", "c")))


def decoder(skeleton: Skeleton = COCO17, **settings: Any) -> GreedyPairs:
    return GreedyPairs(GreedyPairsSettings(**settings), skeleton, 0.0)


def tensors(*scenes: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor, Tensor]:
    stacked = (np.stack(maps).transpose(0, 3, 1, 2) for maps in zip(*scenes, strict=True))
    heatmap, locref, pairwise = (torch.from_numpy(one.copy()) for one in stacked)
    return heatmap, locref, pairwise


def images(maps: tuple[Tensor, Tensor, Tensor], part: slice) -> tuple[Tensor, Tensor, Tensor]:
    heatmap, locref, pairwise = maps
    return heatmap[part], locref[part], pairwise[part]


def people_at(positions: list[list[float]], probability: float = 0.9) -> Detections:
    """People of the chain, with the x of a, b and c (NaN: missing), who predict each other exactly."""
    x = np.array(positions)
    person, kind = np.argwhere(np.isfinite(x)).T
    order = np.argsort(kind, kind="stable")
    person, kind = person[order], kind[order]
    place = np.stack((x[person, kind], np.zeros(len(kind))), 1)
    offset = np.zeros((len(kind), 3, 2))
    offset[..., 0] = np.nan_to_num(x[person]) - place[:, :1]
    return Detections(kind, np.full(len(kind), probability), place, place, offset)


def test_keypoints_that_predict_each_other_are_one_person() -> None:
    positions = [[0.0, 30.0, 70.0], [20.0, 55.0, 95.0], [200.0, 230.0, 260.0]]
    people = decoder(CHAIN)._people(people_at(positions))
    assert sorted(people.keypoints[..., 0].tolist()) == positions
    assert people.scores.tolist() == pytest.approx([0.9] * 3)


def test_the_nearest_free_detection_is_taken_within_reach() -> None:
    found = people_at([[0.0, 30.0, 70.0], [10.0, 44.0, 84.0]])
    near = found._replace(offset=found.offset + 0.1)
    assert sorted(decoder(CHAIN)._people(near).keypoints[:, :, 0].tolist()) == [[0, 30, 70], [10, 44, 84]]
    far = found._replace(offset=found.offset + 200.0)
    alone = decoder(CHAIN)._people(far)
    assert len(alone) == 6 and ((alone.keypoints[..., 2] > 0).sum(1) == 1).all()
    assert len(decoder(CHAIN, min_keypoints=2)._people(far)) == 0
    assert len(decoder(CHAIN, reach=100.0)._people(far)) == 2


def test_a_person_has_one_detection_of_a_kind_and_a_missing_one_stays_missing() -> None:
    found = people_at([[0.0, 30.0, np.nan], [2.0, np.nan, np.nan]])
    people = decoder(CHAIN)._people(found)
    assert sorted((people.keypoints[..., 2] > 0).sum(1).tolist()) == [1, 2]
    assert (people.keypoints[people.keypoints[..., 2] == 0] == 0).all()


def test_it_finds_the_people_of_multicut_where_they_are_clear() -> None:
    people = 0
    for seed in range(12):
        maps = tensors(literal.scene(1 + seed % 3, seed, cells=(50, 70), noise=2.0))
        (greedy,) = decoder()(*maps, 8)
        (cut,) = Multicut(MulticutSettings(), COCO17, 0.0)(*maps, 8)
        whole = cut.keypoints[(cut.keypoints[..., 2] > 0).sum(1) >= 10]
        for person in whole:
            apart = np.abs(greedy.keypoints - person).max((1, 2))
            people += bool((apart < 1e-3).any())
        assert len(greedy) >= len(cut)
    assert people >= 20


def test_a_batch_gives_what_its_images_give() -> None:
    maps = tensors(*(literal.scene(n, 3, cells=(30, 40)) for n in (2, 0, 3)))
    batch = decoder()(*maps, 8)
    assert len(batch[1]) == 0 and batch[1].keypoints.shape == (0, 17, 3)
    for number, found in enumerate(batch):
        (alone,) = decoder()(*images(maps, slice(number, number + 1)), 8)
        np.testing.assert_array_equal(found.keypoints, alone.keypoints)
        assert (np.diff(found.scores) <= 0).all()


def test_it_is_registered_with_what_it_needs() -> None:
    assert DECODERS["greedy_pairs"].component is GreedyPairs
    assert GreedyPairs.needs == ("heatmap", "locref", "pairwise")
    with pytest.raises(UserError, match="'coco17' has nose"):
        GreedyPairs(GreedyPairsSettings(), COCO17, 0.5, PairwiseStatistics.neutral(CHAIN))
