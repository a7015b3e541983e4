"""The stacked hourglass is that of pose-ae-train and that of MMPose, and every form of it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pose.backbones.hourglass import HourglassSettings, StackedHourglass
from pose.published.mmpose import our_name
from pose.published.pose_ae import rename_pose_ae
from tests.golden import golden, multiply_adds
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


# MMPose's names of hourglass_ae -> ours
@pytest.mark.slow
def test_it_gives_what_the_network_of_mmpose_gives(real_data: Path) -> None:
    """Every stack: heatmaps, then tags."""
    published = golden(real_data, "mmpose_hourglass_ae")
    net = StackedHourglass(HourglassSettings(batch_norm="throughout"), {"heatmap": 17, "tag": 17}).eval()
    net.load_state_dict(
        {
            our_name(f"backbone.{n}", hourglass=True, higher=False).removeprefix("backbone."): v
            for n, v in published.weights("backbone.").items()
        }
    )
    assert sum(p.numel() for p in net.parameters()) == published.facts["parameters"]
    for case in published.cases:
        with torch.no_grad():
            stages = net(case.image)
        case.check([torch.cat([*fields.values()], 1) for fields in stages])


def test_the_hourglass_of_mmpose_has_its_number_of_weights() -> None:
    with torch.device("meta"):
        net = StackedHourglass(HourglassSettings(batch_norm="throughout"), {"heatmap": 17, "tag": 17})
    assert sum(p.numel() for p in net.parameters()) == 138_863_560 and len(net.state_dict()) == 428
    assert sum(multiply_adds(net, 512, 512).values()) == 221_211_787_264
    assert net.size_multiple == 64 and net.strides == (4,) * 4


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("batch_norm", ["none", "before", "after", "throughout"])
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
