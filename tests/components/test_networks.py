"""Every network of the registries keeps what `PoseModel` promises, whatever its parts are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pose.errors import UserError
from pose.heads.tags import TagsSettings
from pose.model import PoseModel
from pose.registry import HEADS
from pose.structures import InputSettings
from tests.dot_people import SKELETON
from tests.small_networks import networks, small_model

NETWORKS = networks()
SIZE = (128, 128)


def model_of(network: str, head: str = "tags", **more: Any) -> PoseModel:
    settings = HEADS[head].config(**more)
    model: PoseModel = small_model(NETWORKS[network], settings, SKELETON, InputSettings(size=SIZE))
    return model


def layers(model: PoseModel) -> Iterator[nn.Module]:
    for part in (model.backbone, model.neck, model.predictor):
        if part is not None:
            yield part


@pytest.mark.parametrize("head", HEADS.names())
@pytest.mark.parametrize("network", NETWORKS)
def test_stages_lie_at_the_strides_and_the_readout_at_the_finest(network: str, head: str) -> None:
    model = model_of(network, head).eval()
    side = model.size_multiple
    height, width = side * -(-64 // side), 2 * side * -(-64 // side)
    stages = model(torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8))
    assert len(stages) == len(model.strides) and model.strides[-1] == min(model.strides)
    for stage, stride in zip(stages, model.strides, strict=True):
        assert stage
        for name, maps in stage.items():
            channels = model.head.fields[name].channels
            assert maps.shape == (2, channels, height // stride, width // stride)
    read = model.head.readout(stages)
    assert [*read] == [*model.head.fields]
    finest = model.strides[-1]
    assert {maps.shape[-2:] for maps in read.values()} == {(height // finest, width // finest)}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_weight_is_used(network: str) -> None:
    """A weight without gradient would make DistributedDataParallel wait for ever."""
    model = model_of(network).train()
    stages = model(torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8))
    sum(maps.square().mean() for stage in stages for maps in stage.values()).backward()  # type: ignore[union-attr]
    for part in layers(model):
        for name, value in part.named_parameters():
            if value.requires_grad:
                assert value.grad is not None and value.grad.isfinite().all(), name


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_a_compiled_network_gives_the_same(network: str) -> None:
    """By the first stages of torch.compile, which need no compiler; without a break in the graph."""
    model = model_of(network).eval()
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(images)
        for part in layers(model):
            part.compile(backend="aot_eager", fullgraph=True)
        found = model(images)
    for stage, other in zip(expected, found, strict=True):
        for name, maps in stage.items():
            torch.testing.assert_close(other[name], maps, rtol=1e-4, atol=1e-5)


def test_a_field_exists_where_the_head_wants_it() -> None:
    model = model_of("hrnet higher_resolution", tag_strides=(4,))
    stages = model(torch.zeros(2, 3, *SIZE, dtype=torch.uint8))
    assert [[*stage] for stage in stages] == [["heatmap", "tag"], ["heatmap"]]
    read = model.head.readout(stages)
    finer = [F.interpolate(maps, scale_factor=2, mode="bilinear") for maps in stages[0].values()]
    torch.testing.assert_close(read["tag"], finer[1])
    torch.testing.assert_close(read["heatmap"], (finer[0] + stages[1]["heatmap"]) / 2)


@pytest.mark.parametrize(
    ("parts", "more", "says"),
    [
        ({"backbone": {"name": "hrnet", "rows": 4}}, {}, "without a neck all but one"),
        ({"backbone": {"name": "hourglass"}, "neck": {"name": "fpn"}}, {}, "gives the fields themselves"),
        (
            {"backbone": {"name": "hourglass"}, "predictor": {"name": "higher_resolution"}},
            {},
            "gives the fields themselves",
        ),
        ({"backbone": {"name": "hrnet"}}, {"tag_strides": (8,)}, r"asks for 'tag' at the strides \[8\]"),
        ({"backbone": {"name": "hourglass"}}, {"tag_strides": (2,)}, "asks for 'tag'"),
        (
            {"backbone": {"name": "hrnet"}, "predictor": {"name": "higher_resolution", "levels": 3}},
            {},
            "finer than the image",
        ),
        (
            {"backbone": {"name": "resnet", "output_stride": 32}, "neck": {"name": "fpn", "strides": [2]}},
            {},
            "4, 8, 16, 32 only",
        ),
    ],
)
def test_parts_that_do_not_go_together(parts: Any, more: Any, says: str) -> None:
    with pytest.raises(UserError, match=says), torch.device("meta"):
        small_model(parts, TagsSettings(**more), SKELETON, InputSettings(size=SIZE))
