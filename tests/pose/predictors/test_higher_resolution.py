"""First weights of the levels above a feature."""

from __future__ import annotations

import pytest
import torch

from pose.layers import Init
from pose.predictors.higher_resolution import HigherResolution, HigherResolutionSettings
from pose.structures import FieldSpec


@pytest.mark.parametrize("init", ["kaiming", "normal"])
def test_first_weights(init: Init) -> None:
    """What predicts fields is always N(0, 0.001^2); normal: everything."""
    torch.manual_seed(0)
    cfg = HigherResolutionSettings(init=init, levels=2, blocks=1)
    net = HigherResolution(cfg, (32,), (16,), {"heatmap": FieldSpec(2, (0, 1), (1.0, 1.0))})
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"final", "up"}
    for name, value in net.named_parameters():
        if value.ndim == 1:
            assert (value == float(name.endswith("weight"))).all(), name
        else:
            small = abs(value.std() / 0.001 - 1) < 5 / value.numel() ** 0.5
            assert small == (init == "normal" or name.startswith("final.")), name
