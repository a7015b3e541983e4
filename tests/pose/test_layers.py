"""First weights are of the distributions that they are named after."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pose.layers import Init, first_weights


@pytest.mark.parametrize(
    ("init", "stds"),
    [("kaiming", ((2 / (9 * 40)) ** 0.5, (2 / (16 * 40)) ** 0.5)), ("normal", (0.001, 0.001))],
)
def test_first_weights(init: Init, stds: tuple[float, float]) -> None:
    """Fan out of the transposed convolution is, as torch counts, kernel times input channels."""
    torch.manual_seed(0)
    layers = nn.Conv2d(30, 40, 3), nn.ConvTranspose2d(40, 20, 4)
    norm = nn.BatchNorm2d(20)
    first_weights(nn.Sequential(*layers, norm), init)
    for layer, std in zip(layers, stds):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
        assert abs(layer.weight.mean().item()) < 0.05 * std
        assert layer.bias is not None and bool((layer.bias == 0).all()) == (init == "normal")
    assert (norm.weight == 1).all() and (norm.bias == 0).all()
