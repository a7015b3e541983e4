"""The stacked hourglass is that of pose-ae-train, and every form of it trains."""

from __future__ import annotations

import pytest
import torch

from pose.backbones.hourglass import HourglassSettings, StackedHourglass
from pose.tools.published.pose_ae import rename_pose_ae
from tests.literal.reference.pose_ae_network import PoseNet
from tests.small_networks import CHANNELS, small_settings


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
    cfg = small_settings(
        "hourglass", output_stride=stride, batch_norm=batch_norm, activation=activation, depth=2
    )
    net = StackedHourglass(cfg, CHANNELS)
    size = (net.size_multiple, 2 * net.size_multiple)
    stages = net(torch.rand(2, 3, *size))
    cells = (size[0] // stride, size[1] // stride)
    for fields in stages:
        assert {name: tuple(maps.shape) for name, maps in fields.items()} == {
            name: (2, count, *cells) for name, count in CHANNELS.items()
        }
    stages[-1]["tag"].mean().backward()
    grad = next(net.stem.parameters()).grad
    assert grad is not None
    assert grad.isfinite().all() and grad.abs().sum() > 0
