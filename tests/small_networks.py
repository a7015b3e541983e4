"""Each backbone small enough for a test; one without an entry in SMALL is tested with its own defaults."""

from __future__ import annotations

from typing import Any

import torch

from pose.registry import BACKBONES

SMALL: dict[str, dict[str, Any]] = {
    "hourglass": {"stacks": 2, "width": 16, "growth": 4, "depth": 3, "stem_width": 8},
    "hourglass_swish": {"stacks": 2, "width": 16, "growth": 4, "depth": 2, "stem_width": 8},
    "resnet": {"blocks": (1, 1, 2, 1), "width": 8, "batch_norm": "train"},
    "vgg19_cpm": {"stages": 3, "trunk_width": 4, "width": 8, "first_stage_width": 16, "kernel": 5},
}

CHANNELS = {"heatmap": 5, "tag": 10, "offset": 1}


def small_settings(name: str, **more: Any) -> Any:
    return BACKBONES[name].config(**{**SMALL.get(name, {}), **more})


def small_network(name: str) -> Any:
    """With CHANNELS, and always the same weights."""
    torch.manual_seed(0)
    return BACKBONES.build(small_settings(name), CHANNELS)
