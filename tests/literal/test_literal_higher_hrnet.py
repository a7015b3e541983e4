"""The literal restatement of HigherHRNet itself, and the recipe of the published outputs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from tests.golden import golden, multiply_adds
from tests.literal.reference.higher_hrnet_network import MULTIPLY_ADDS, PARAMETERS, HigherHRNet


@pytest.mark.parametrize("width", [32, 48])
def test_the_published_network_has_its_size(width: int) -> None:
    with torch.device("meta"):
        net = HigherHRNet(width)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[width]
    assert len(net.state_dict()) == 1810
    assert sum(multiply_adds(net, 512, 512).values()) == MULTIPLY_ADDS[width]


def test_it_gives_what_the_published_network_gives(real_data: Path) -> None:
    """Its entries have the published names, in their order."""
    published = golden(real_data, "original_higherhrnet_w32")
    net = HigherHRNet().eval()
    net.load_state_dict(published.weights(""))
    assert {name: list(value.shape) for name, value in net.state_dict().items()} == published.shapes
    for case in published.cases:
        with torch.no_grad():
            case.check(net(case.image))


def test_the_recipe_makes_the_published_weights(real_data: Path) -> None:
    published = golden(real_data, "mmpose_mobilenetv2_ae")
    values = [value.numpy() for value in published.weights("").values() if value.is_floating_point()]
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.astype("<f4").tobytes())
    assert digest.hexdigest() == published.check["sha256"]
    name, first = published.check["first"]
    assert published.weights(name)[""].flatten()[:4].tolist() == first
