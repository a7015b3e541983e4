"""Every backbone that gives features keeps what `FeatureBackbone` promises.

A new one is tested without anybody writing a test: with the settings in SMALL, or else with its own
defaults."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pose.backbones.base import FeatureBackbone
from pose.backbones.pretrained import Pretrained
from pose.registry import BACKBONES
from pose.structures import InputSettings
from tests.small_networks import feature_forms, feature_network

FORMS = feature_forms()
forms = pytest.mark.parametrize(
    ("name", "more"), FORMS, ids=[" ".join([name, *map(str, more.values())]) for name, more in FORMS]
)


def check_shapes(net: FeatureBackbone, features: list[torch.Tensor], height: int, width: int) -> None:
    expected = [
        (2, channels, height // stride, width // stride)
        for channels, stride in zip(net.feature_channels, net.feature_strides, strict=True)
    ]
    assert [tuple(feature.shape) for feature in features] == expected


def test_there_are_such_backbones() -> None:
    assert {name for name, _ in FORMS} >= {"hrnet", "mobilenet_v2", "resnet"}


@forms
def test_what_it_says_of_itself(name: str, more: dict[str, Any]) -> None:
    net = feature_network(name, more)
    assert sorted(set(net.feature_strides)) == list(net.feature_strides)  # fine to coarse
    assert all(net.size_multiple % stride == 0 for stride in net.feature_strides)
    InputSettings(**(net.normalization or {}))
    assert isinstance(net, Pretrained) == ("pretrained" in BACKBONES[name].config.model_fields)


@pytest.mark.parametrize("name", sorted({name for name, _ in FORMS}))
def test_shapes_of_the_published_size(name: str) -> None:
    with torch.device("meta"):
        more = {"output_stride": 32} if name == "resnet" else {}
        net = BACKBONES.build(BACKBONES[name].config(**more))
        height, width = net.size_multiple * 2, net.size_multiple * 3
        check_shapes(net, net(torch.zeros(2, 3, height, width)), height, width)


@forms
@pytest.mark.parametrize("times", [(1, 1), (1, 3), (2, 1)])
def test_shapes_of_images_that_are_not_square(
    name: str, more: dict[str, Any], times: tuple[int, int]
) -> None:
    net = feature_network(name, more)
    height, width = (net.size_multiple * n for n in times)
    check_shapes(net, net(torch.rand(2, 3, height, width)), height, width)


@forms
def test_every_parameter_is_in_one_group_from_input_to_output(name: str, more: dict[str, Any]) -> None:
    net = feature_network(name, more)
    groups = [[id(p) for p in group] for group in net.layer_groups()]
    assert len(groups) > 1 and all(groups)
    assert Counter(p for group in groups for p in group) == Counter(id(p) for p in net.parameters())
    order = {id(p): place for place, p in enumerate(net.parameters())}
    last = [max(order[p] for p in group) for group in groups]
    assert last == sorted(last) and set(groups[0]) >= {id(next(net.parameters()))}


@forms
def test_every_weight_is_used(name: str, more: dict[str, Any]) -> None:
    """A weight without gradient would make DistributedDataParallel wait for ever."""
    net = feature_network(name, more).train()
    features = net(torch.rand(2, 3, 2 * net.size_multiple, net.size_multiple))
    torch.stack([feature.square().mean() for feature in features]).sum().backward()
    for parameter, value in net.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), parameter


@forms
def test_an_image_does_not_depend_on_its_neighbours(name: str, more: dict[str, Any]) -> None:
    net = feature_network(name, more).eval()
    images = torch.rand(3, 3, net.size_multiple, net.size_multiple)
    with torch.no_grad():
        together = net(images)
        alone = [net(image[None]) for image in images]
    for level, feature in enumerate(together):
        singly = torch.cat([one[level] for one in alone])
        assert (feature - singly).abs().max() < 1e-5 * feature.abs().max()
        assert (feature[0] - feature[1]).abs().max() > 0


@forms
def test_frozen_statistics_have_the_names_of_trained_ones(name: str, more: dict[str, Any]) -> None:
    """And stand still in training."""
    frozen = feature_network(name, {**more, "batch_norm": "frozen"}).train()
    trained = feature_network(name, {**more, "batch_norm": "train"})
    counts = {entry for entry in trained.state_dict() if entry.endswith("num_batches_tracked")}
    layers = [layer for layer in trained.modules() if isinstance(layer, _BatchNorm)]
    assert len(counts) == len(layers) and set(frozen.state_dict()) == set(trained.state_dict()) - counts
    before = {entry: value.clone() for entry, value in frozen.named_buffers()}
    frozen(torch.rand(2, 3, frozen.size_multiple, frozen.size_multiple))
    assert all(torch.equal(value, before[entry]) for entry, value in frozen.named_buffers())
