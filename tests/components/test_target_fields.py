"""Targets as maps: what they show is what the loss asks for, and what decodes to the people."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.config import read_yaml
from pose.config_files import config_folder
from pose.decoders.pairwise_statistics import gather
from pose.heads.base import Head
from pose.heads.pairwise import PairwiseHead
from pose.heads.tags import TagsHead
from pose.registry import HEADS
from pose.skeleton import from_dict
from pose.structures import Batch, Fields
from tests.batches import batch_of
from tests.drawn_heads import of_others

SKELETON = from_dict(read_yaml(config_folder() / "_skeletons" / "coco17.yaml"))
K = len(SKELETON)
STRIDE, SIZE = 4, (96, 160)


def head(name: str, **more: Any) -> Head:
    built: Head = HEADS.build(HEADS[name].config(**more), SKELETON)
    if isinstance(built, PairwiseHead):  # deviations that are not 1, or units could be mistaken
        built.use_statistics(gather(list(keypoints().numpy()), SKELETON))
    return built


def keypoints() -> Tensor:
    """(2, 3, K, 3) people side by side; the second picture has one who lacks keypoints, and padding that
    holds no numbers."""
    rng = np.random.default_rng(5)
    middle = np.stack([np.array([30, 80, 130]), np.full(3, 48)], -1)
    xy = middle[:, None] + rng.uniform((-16, -40), (16, 40), (2, 3, K, 2))
    truth = torch.from_numpy(np.concatenate([xy, np.full((2, 3, K, 1), 2)], -1).astype(np.float32))
    truth[1, 0, 11:, 2] = 0
    truth[1, 1:] = torch.nan
    truth[1, 1:, :, 2] = 0
    return truth


def batch() -> Batch:
    mask = torch.ones(2, *SIZE, dtype=torch.bool)
    mask[0, :, :16] = False
    return batch_of(keypoints(), SIZE, loss_mask=mask)


CASES = [pytest.param(name, {}, id=name) for name in HEADS.names()]
CASES += [
    pytest.param("tags", {"tag_dim": 2}, id="tags, 2 numbers"),
    pytest.param("paf", {"background": False}, id="paf, no background"),
]


@pytest.mark.parametrize(("name", "more"), CASES)
def test_every_field_is_there_in_the_shape_of_the_readout(name: str, more: Any) -> None:
    one = head(name, **more)
    maps = one.target_fields(one.targets(batch(), STRIDE))
    grid = (SIZE[0] // STRIDE, SIZE[1] // STRIDE)
    for field, channels in one.channels.items():
        assert maps[field].shape == (2, channels, *grid) and maps[field].dtype == torch.float32
        assert maps[field].isfinite().all()
        known = maps.get(f"{field}_known")
        if known is not None:
            assert known.dtype == torch.bool and known.any() and not known.all()
            assert channels % known.shape[1] == 0
            every = known.repeat_interleave(channels // known.shape[1], 1)
            assert not maps[field][~every].any()
    assert maps["mask"].shape == (2, 1, *grid)
    assert not maps["mask"][0, 0, :, :4].any() and maps["mask"][0, 0, :, 4:].all()


def as_answer(one: Head, maps: Fields) -> Fields:
    """What a network would have to answer for this readout."""
    answer = {name: maps[name].clone() for name in one.fields}
    if isinstance(one, PairwiseHead):
        answer["heatmap"] = 20 * answer["heatmap"] - 10  # probabilities -> logits
        answer["locref"] /= one.cfg.locref_std
        pairwise = answer["pairwise"].unflatten(1, (K, K - 1, 2))
        mean, std = (of_others(one, table)[..., None, None] for table in (one.offset_mean, one.offset_std))
        pairwise = (pairwise - mean) / std
        answer["pairwise"] = pairwise.flatten(1, 3)
    return answer


@pytest.mark.parametrize(("name", "more"), CASES)
def test_an_answer_that_reads_out_as_the_targets_costs_the_least(name: str, more: Any) -> None:
    one, given = head(name, **more), batch()
    targets = one.targets(given, STRIDE)
    maps = one.target_fields(targets)
    answer = as_answer(one, maps)
    (read,) = one.readout_each([answer])
    for field in one.fields:
        torch.testing.assert_close(read[field], maps[field], atol=2e-3, rtol=1e-4)
    terms = one.loss([answer], [targets])
    for term in ("heatmap", "paf", "pull", "locref", "pairwise"):
        if term in terms:
            assert terms[term] < 1e-4, term
    if isinstance(one, TagsHead):
        # people 0, 1, 2 of one picture: exp(-1), exp(-1) and exp(-4), twice each of 6 pairs
        expected = np.mean([0.5 * (4 * np.exp(-1) + 2 * np.exp(-4)) / 6, 0]) * one.cfg.push_weight
        assert terms["push"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("name", "more"), CASES)
def test_the_targets_decode_to_the_people(name: str, more: Any) -> None:
    one = head(name, **more)
    truth = keypoints()
    maps = one.target_fields(one.targets(batch(), STRIDE))
    fields = {field: maps[field] for field in one.fields}
    if "tag" in fields:
        fields["tag"] = 3 * fields["tag"][:, None]  # farther apart than the decoder's threshold
    people = one.decode(fields, STRIDE)
    assert [len(found) for found in people] == [3, 1]
    for found, expected in zip(people, truth.numpy(), strict=True):
        for person in expected[expected[..., 2].any(1)]:
            labelled = person[:, 2] > 0
            away = np.abs(found.keypoints[:, labelled, :2] - person[labelled, :2]).max((1, 2))
            assert away.min() <= 0.75 * STRIDE + 0.01


def test_offsets_to_keypoints_that_are_not_labelled_are_unknown() -> None:
    one = head("pairwise")
    assert isinstance(one, PairwiseHead)
    known = one.target_fields(one.targets(batch(), STRIDE))["pairwise_known"].unflatten(1, (K, K - 1))
    for k in range(K):
        for i, other in enumerate(one.others[k].tolist()):
            assert known[1, k, i].any() == (k < 11 and other < 11)


def test_a_tag_is_known_at_its_keypoints_cell_alone() -> None:
    one = head("tags")
    maps = one.target_fields(one.targets(batch(), STRIDE))
    assert int(maps["tag_known"].sum()) == 4 * K - 6
    x, y = (keypoints()[0, 2, 5, :2].add(0.5) / STRIDE).long().tolist()
    assert maps["tag"][0, 5, y, x] == 2 and maps["tag_known"][0, 5, y, x]


@pytest.mark.parametrize("name", HEADS.names())
def test_a_stage_that_lacks_fields_is_read_without_them(name: str) -> None:
    one = head(name)
    stage = {field: torch.randn(1, channels, 6, 8) for field, channels in one.channels.items()}
    first, last = one.readout_each([{"heatmap": stage["heatmap"]}, stage])
    assert list(first) == ["heatmap"] and list(last) == list(one.fields)
    whole = one.readout([stage])
    assert torch.equal(first["heatmap"], whole["heatmap"])
    assert all(torch.equal(last[field], whole[field]) for field in one.fields)
