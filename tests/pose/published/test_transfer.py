"""Weights that start a training on other keypoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pose.model import PoseModel
from pose.published.transfer import by_keypoint_name
from pose.registry import HEADS
from pose.skeleton import Skeleton, from_dict
from pose.structures import InputSettings
from tests.small_networks import networks, small_model

NETWORKS = networks()
OLD = from_dict({"keypoints": ["nose", "left_ear", "right_ear", "tail"], "limbs": [["nose", "tail"]]})
NEW = from_dict({"keypoints": ["tail", "horn", "nose"], "limbs": [["nose", "tail"], ["horn", "nose"]]})
SHAPE = InputSettings(size=(64, 64))


def model_of(network: str, skeleton: Skeleton, head: str = "tags", **more: Any) -> PoseModel:
    model: PoseModel = small_model(NETWORKS[network], HEADS[head].config(**more), skeleton, SHAPE)
    return model


@pytest.mark.parametrize(
    ("network", "more"),
    [
        ("hrnet", {}),
        ("hrnet", {"tag_dim": 2}),
        ("hrnet higher_resolution", {"tag_strides": (4,)}),
        ("hrnet higher_resolution", {}),
    ],
)
def test_a_keypoint_keeps_its_maps(network: str, more: Any) -> None:
    """The same image gives the same heatmaps and tags for the keypoints that both have."""
    old, new = model_of(network, OLD, **more).eval(), model_of(network, NEW, **more).eval()
    with torch.no_grad():
        for value in old.parameters():
            value.add_(0.1 * torch.randn_like(value))
        own = {name: value.clone() for name, value in new.state_dict().items()}
        state = by_keypoint_name(old.state_dict(), old, new, (OLD, NEW))
        new.load_state_dict(state)
        images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        before, after = old(images)[0], new(images)[0]
    for name, each in (("heatmap", 1), ("tag", more.get("tag_dim", 1))):
        was, is_ = (maps[name].unflatten(1, (-1, each)) for maps in (before, after))
        for here, there in ((0, 3), (2, 0)):  # tail, nose
            torch.testing.assert_close(is_[:, here], was[:, there], rtol=1e-4, atol=1e-5)
    final = "predictor.layers.0.weight" if network == "hrnet" else "predictor.final.0.weight"
    assert torch.equal(new.state_dict()[final][1], own[final][1])  # the horn starts anew


def test_all_else_is_left_alone() -> None:
    old, new = model_of("hrnet", OLD), model_of("hrnet", NEW)
    state = old.state_dict()
    assert by_keypoint_name(state, old, model_of("hrnet", OLD), (OLD, OLD)) == state
    for head in ("paf", "pairwise"):  # limbs and pairs are of two keypoints
        pair = model_of("hrnet", OLD, head), model_of("hrnet", NEW, head)
        changed = by_keypoint_name(pair[0].state_dict(), *pair, (OLD, NEW))
        assert all(torch.equal(changed[name], value) for name, value in pair[0].state_dict().items())
    hourglass = model_of("hourglass", OLD), model_of("hourglass", NEW)
    assert by_keypoint_name(state, *hourglass, (OLD, NEW)).keys() == state.keys()
    assert new.predictor is not None
