"""Every backbone makes the fields it is told to, at the strides it says, and has no weights without use.

A new backbone is tested without anybody writing a test: with the settings in SMALL, or else with its own
defaults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pose.backbones.hourglass import HourglassSettings, StackedHourglass
from pose.backbones.hourglass_swish import HourglassSwish, HourglassSwishSettings
from pose.backbones.vgg19_cpm import Vgg19Cpm, Vgg19CpmSettings
from pose.registry import BACKBONES
from pose.tools.published.ae_aic import ae_aic_names
from pose.tools.published.pose_ae import rename_pose_ae
from pose.tools.published.rtpose import rename_rtpose
from tests.literal.reference.ae_aic_network import HG, PARAMETERS, published_checkpoint
from tests.literal.reference.pose_ae_network import PoseNet
from tests.literal.reference.rtpose_network import RTPose
from tests.small_networks import SMALL

CHANNELS = {"heatmap": 5, "tag": 10, "offset": 1}


def settings(name: str, **more: Any) -> Any:
    return BACKBONES[name].config(**{**SMALL.get(name, {}), **more})


def small(name: str) -> Any:
    torch.manual_seed(0)
    net = BACKBONES.build(settings(name), CHANNELS)
    return net


@pytest.mark.parametrize("name", BACKBONES.names())
def test_shapes_of_the_published_size(name: str) -> None:
    """With its own defaults, without memory: the last stage has every field, in order."""
    with torch.device("meta"):
        net = BACKBONES.build(BACKBONES[name].config(), CHANNELS)
        height, width = net.size_multiple * 2, net.size_multiple * 3
        stages = net(torch.zeros(2, 3, height, width))
    check_shapes(net, stages, 2, height, width)


@pytest.mark.parametrize("name", BACKBONES.names())
@pytest.mark.parametrize("times", [(1, 1), (1, 3), (2, 1)])
def test_shapes_of_pictures_that_are_not_square(name: str, times: tuple[int, int]) -> None:
    net = small(name)
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


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_weight_is_used(name: str) -> None:
    """A weight without gradient would make DistributedDataParallel wait for ever."""
    net = small(name).train()
    stages = net(torch.rand(2, 3, net.size_multiple, net.size_multiple))
    sum(maps.square().mean() for stage in stages for maps in stage.values()).backward()  # type: ignore[union-attr]
    for parameter, value in net.named_parameters():
        if value.requires_grad:
            assert value.grad is not None and value.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", BACKBONES.names())
def test_a_picture_does_not_depend_on_its_neighbours(name: str) -> None:
    net = small(name).eval()
    images = torch.rand(3, 3, net.size_multiple, net.size_multiple)
    together = net(images)[-1]["heatmap"]
    alone = torch.cat([net(image[None])[-1]["heatmap"] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0


# ------------------------------------------------------------------------------------------------ hourglass


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_hourglass_is_that_of_pose_ae_train(batch_norm: bool) -> None:
    torch.manual_seed(0)
    literal = PoseNet(stacks=2, width=16, growth=8, depth=4, channels=12, batch_norm=batch_norm)
    if batch_norm:
        literal.train()(torch.rand(2, 3, 64, 64))  # moves the statistics
    cfg = HourglassSettings(
        stacks=2, width=16, growth=8, depth=4, stem_width=4, unused_channels=4,
        batch_norm="after" if batch_norm else "none",
    )  # fmt: skip
    ours = StackedHourglass(cfg, {"heatmap": 5, "tag": 3})
    weights = {rename_pose_ae(name).removeprefix("backbone."): v for name, v in literal.state_dict().items()}
    ours.load_state_dict(weights)
    x = torch.rand(2, 3, 64, 128)
    expected = literal.eval()(x)
    for stage, fields in enumerate(ours.eval()(x)):
        made = torch.cat([fields["heatmap"], fields["tag"]], 1)
        assert torch.equal(made, expected[:, stage, :8])


def test_the_published_hourglass_has_its_number_of_weights() -> None:
    with torch.device("meta"):
        net = StackedHourglass(HourglassSettings(unused_channels=34), {"heatmap": 17, "tag": 17})
        literal = PoseNet()
    assert (
        sum(p.numel() for p in net.parameters())
        == 138_893_840
        == sum(p.numel() for p in literal.parameters())
    )


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("batch_norm", ["none", "before", "after"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "silu"])
def test_all_forms_of_the_hourglass_train(stride: int, batch_norm: str, activation: str) -> None:
    cfg = settings("hourglass", output_stride=stride, batch_norm=batch_norm, activation=activation, depth=2)
    net = StackedHourglass(cfg, CHANNELS)
    stages = net(torch.rand(2, 3, net.size_multiple, 2 * net.size_multiple))
    check_shapes(net, stages, 2, net.size_multiple, 2 * net.size_multiple)
    stages[-1]["tag"].mean().backward()
    grad = next(net.stem.parameters()).grad
    assert grad is not None
    assert grad.isfinite().all() and grad.abs().sum() > 0


# ------------------------------------------------------------------------------------------ hourglass_swish


@pytest.mark.parametrize(("stacks", "depth"), [(1, 4), (3, 2), (2, 1)])
def test_the_swish_hourglass_is_that_of_the_ai_challenger_entry(stacks: int, depth: int) -> None:
    """Bit by bit, every stage, with fields of different sizes: also their order in what goes between
    stacks."""
    torch.manual_seed(0)
    literal = HG(f=16, num_stacks=stacks, num_classes=5, embedding_len=3, growth=8, depth=depth)
    for value in literal.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)  # keeps the signal up through many layers
        else:
            torch.nn.init.normal_(value)
    cfg = HourglassSwishSettings(stacks=stacks, width=16, growth=8, depth=depth, stem_width=4)
    ours = HourglassSwish(cfg, {"heatmap": 5, "tag": 3})
    weights = published_checkpoint(literal)["state_dict"]
    names = ae_aic_names(weights)
    ours.load_state_dict({names[name].removeprefix("backbone."): value for name, value in weights.items()})
    x = torch.rand(2, 3, ours.size_multiple, 2 * ours.size_multiple)
    with torch.no_grad():
        expected, made = literal(x), ours(x)
    assert len(made) == stacks
    for (score, embedding), fields in zip(expected, made, strict=True):
        assert torch.equal(fields["heatmap"], score) and torch.equal(fields["tag"], embedding)
        assert score.std() > 1e-2 and embedding.std() > 1e-2


def test_the_published_swish_hourglass_has_its_number_of_weights() -> None:
    with torch.device("meta"):
        net = HourglassSwish(HourglassSwishSettings(), {"heatmap": 14, "tag": 14})
        literal = HG()
    for one in (net, literal):
        assert sum(p.numel() for p in one.parameters()) == 103_394_516 == PARAMETERS
    assert net.strides == (8,) * 3 and net.size_multiple == 128


def test_training_the_swish_hourglass_does_not_change_what_its_branches_see() -> None:
    """An activation in place would; gradients of the sum are those of finite differences."""
    torch.manual_seed(0)
    cfg = HourglassSwishSettings(stacks=2, width=2, growth=1, depth=1, stem_width=1)
    net = HourglassSwish(cfg, {"heatmap": 1, "tag": 1}).double()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: [*net(image)[0].values(), *net(image)[1].values()], x)


# ------------------------------------------------------------------------------------------------ vgg19_cpm


@pytest.mark.parametrize("stages", [1, 3])
def test_the_pose_machine_is_that_of_rtpose(stages: int) -> None:
    """Bit by bit, every stage, with fields of different sizes: also their order in a stage's input."""
    torch.manual_seed(0)
    literal = RTPose(paf_channels=6, heat_channels=4, stages=stages)
    for value in literal.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)  # keeps the signal up through many layers
        else:
            torch.nn.init.normal_(value)
    ours = Vgg19Cpm(Vgg19CpmSettings(stages=stages), {"paf": 6, "heatmap": 4})
    weights = {rename_rtpose(name).removeprefix("backbone."): v for name, v in literal.state_dict().items()}
    ours.load_state_dict(weights)
    x = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        expected = literal(x)[1]
        made = [maps for stage in ours(x) for maps in stage.values()]
    assert len(made) == len(expected) == 2 * stages
    for one, other in zip(made, expected):
        assert torch.equal(one, other) and one.std() > 1e-3


def test_the_published_pose_machine_has_its_number_of_weights() -> None:
    with torch.device("meta"):
        net = Vgg19Cpm(Vgg19CpmSettings(), {"paf": 38, "heatmap": 19})
        literal = RTPose()
    assert sum(p.numel() for p in net.trunk.parameters()) == 7_340_480
    assert sum(p.numel() for p in net.parameters()) == 52_311_446
    assert sum(p.numel() for p in literal.parameters()) == 52_311_446
    assert len(net.state_dict()) == 184 and net.strides == (8,) * 6


def test_first_weights_are_small_and_biases_zero() -> None:
    net = small("vgg19_cpm")
    weights = torch.cat([p.flatten() for p in net.parameters() if p.ndim > 1])
    assert weights.std().item() == pytest.approx(0.01, rel=0.02)
    assert all((p == 0).all() for p in net.parameters() if p.ndim == 1)


def test_any_number_of_fields_has_a_branch_each() -> None:
    net = Vgg19Cpm(settings("vgg19_cpm", stages=2), CHANNELS)
    stages: Any = net.stages
    assert [list(stage) for stage in stages] == [list(CHANNELS)] * 2
    assert stages[1]["tag"][0].in_channels == sum(CHANNELS.values()) + 8
