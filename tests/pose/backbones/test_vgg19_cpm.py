"""The convolutional pose machine is that of rtpose."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pose.backbones.vgg19_cpm import Vgg19Cpm, Vgg19CpmSettings
from pose.published.rtpose import rename_rtpose
from tests.literal.reference.rtpose_network import RTPose
from tests.small_networks import CHANNELS, small_network, small_settings


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
    net = small_network("vgg19_cpm")
    weights = torch.cat([p.flatten() for p in net.parameters() if p.ndim > 1])
    assert weights.std().item() == pytest.approx(0.01, rel=0.02)
    assert all((p == 0).all() for p in net.parameters() if p.ndim == 1)


def test_any_number_of_fields_has_a_branch_each() -> None:
    net = Vgg19Cpm(small_settings("vgg19_cpm", stages=2), CHANNELS)
    stages: Any = net.stages
    assert [list(stage) for stage in stages] == [list(CHANNELS)] * 2
    assert stages[1]["tag"][0].in_channels == sum(CHANNELS.values()) + 8
