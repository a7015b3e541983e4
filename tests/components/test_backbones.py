"""Every backbone with fields of its own makes those it is told to, at the strides it says, and has no weights
without use.

A new backbone is tested without anybody writing a test: with the settings in SMALL, or else with its own
defaults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pose.registry import BACKBONES
from tests.small_networks import CHANNELS, feature_forms, small_network

NAMES = sorted({*BACKBONES.names()} - {name for name, more in feature_forms() if not more})


@pytest.mark.parametrize("name", NAMES)
def test_shapes_of_the_published_size(name: str) -> None:
    """With its own defaults, without memory: the last stage has every field, in order."""
    with torch.device("meta"):
        net = BACKBONES.build(BACKBONES[name].config(), CHANNELS)
        height, width = net.size_multiple * 2, net.size_multiple * 3
        stages = net(torch.zeros(2, 3, height, width))
    check_shapes(net, stages, 2, height, width)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [(1, 1), (1, 3), (2, 1)])
def test_shapes_of_pictures_that_are_not_square(name: str, times: tuple[int, int]) -> None:
    net = small_network(name)
    height, width = (net.size_multiple * n for n in times)
    check_shapes(net, net(torch.rand(2, 3, height, width)), 2, height, width)


def check_shapes(
    net: Any, stages: list[dict[str, torch.Tensor]], batch: int, height: int, width: int
) -> None:
    assert len(stages) == len(net.strides) >= 1
    for stage, stride in zip(stages, net.strides, strict=True):
        assert net.size_multiple % stride == 0
        assert set(stage) <= set(CHANNELS)
        for name, maps in stage.items():
            assert maps.shape == (batch, CHANNELS[name], height // stride, width // stride)
    assert list(stages[-1]) == list(CHANNELS)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_is_used(name: str) -> None:
    """A weight without gradient would make DistributedDataParallel wait for ever."""
    net = small_network(name).train()
    stages = net(torch.rand(2, 3, net.size_multiple, net.size_multiple))
    sum(maps.square().mean() for stage in stages for maps in stage.values()).backward()  # type: ignore[union-attr]
    for parameter, value in net.named_parameters():
        if value.requires_grad:
            assert value.grad is not None and value.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_does_not_depend_on_its_neighbours(name: str) -> None:
    net = small_network(name).eval()
    images = torch.rand(3, 3, net.size_multiple, net.size_multiple)
    together = net(images)[-1]["heatmap"]
    alone = torch.cat([net(image[None])[-1]["heatmap"] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0
