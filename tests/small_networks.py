"""Each backbone small enough for a test; one without an entry in SMALL is tested with its own defaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from pose.backbones.base import FeatureBackbone
from pose.model import build_model
from pose.registry import BACKBONES, NECKS, PREDICTORS
from pose.skeleton import Skeleton
from pose.structures import InputSettings

SMALL: dict[str, dict[str, Any]] = {
    "hourglass": {"stacks": 2, "width": 16, "growth": 4, "depth": 3, "stem_width": 8},
    "hourglass_swish": {"stacks": 2, "width": 16, "growth": 4, "depth": 2, "stem_width": 8},
    "hrnet": {"width": 8, "modules": (1, 1, 1), "blocks": 1},
    "mobilenet_v2": {"width": 0.25},
    "resnet": {"blocks": (1, 1, 2, 1), "width": 8, "batch_norm": "train"},
    "timm": {"model": "test_resnet"},
    "vgg19_cpm": {"stages": 3, "trunk_width": 4, "width": 8, "first_stage_width": 16, "kernel": 5},
}

# forms that give features beside those of SMALL
FEATURE_FORMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("hrnet", {"rows": 4}),
    ("hrnet", {"modules": (1, 2, 2), "blocks": 2, "batch_norm": "frozen"}),
    ("mobilenet_v2", {"batch_norm": "frozen"}),
    ("resnet", {"output_stride": 32}),
    ("timm", {"model": "test_convnext"}),
    ("timm", {"model": "test_efficientnet", "strides": (8, 16), "batch_norm": "frozen"}),
    ("timm", {"model": "test_vit"}),
    ("resnet", {"output_stride": 32, "blocks": (2, 1, 1, 2), "batch_norm": "frozen"}),
)

CHANNELS = {"heatmap": 5, "tag": 10, "offset": 1}


# networks of several parts, beside each backbone alone (with NECK where it gives several features)
NECK: dict[str, Any] = {"name": "fpn", "width": 16}
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "hrnet higher_resolution": {
        "backbone": {"name": "hrnet"},
        "predictor": {"name": "higher_resolution", "blocks": 1},
    },
    "hrnet cat": {"backbone": {"name": "hrnet", "rows": 4}, "neck": {"name": "cat", "width": 8}},
    "resnet deconv": {
        "backbone": {"name": "resnet", "output_stride": 32, "blocks": [1, 1, 1, 1], "width": 16},
        "neck": {"name": "deconv", "width": 32},
    },
    "resnet fpn": {
        "backbone": {"name": "resnet", "output_stride": 32},
        "neck": {"name": "fpn", "width": 16, "strides": [4, 8]},
    },
}


def networks() -> dict[str, dict[str, dict[str, Any]]]:
    """Sections of a config for every backbone of the registry, and for PARTS; small."""
    several = {
        name
        for name, more in feature_forms()
        if not more and len(feature_network(name, more).feature_strides) > 1
    }
    alone = {
        name: {"backbone": {"name": name}, **({"neck": NECK} if name in several else {})}
        for name in BACKBONES.names()
    }
    return {
        name: {**parts, "backbone": {**SMALL.get(parts["backbone"]["name"], {}), **parts["backbone"]}}
        for name, parts in (alone | PARTS).items()
    }


def pairs(heads: Sequence[str]) -> list[tuple[str, str]]:
    """Every backbone, and HigherHRNet, with every head; the other networks of several parts with one each."""
    others = [name for name in PARTS if name != "hrnet higher_resolution"]
    once = [(name, heads[i % len(heads)]) for i, name in enumerate(others)]
    return [(name, head) for name in networks() if name not in others for head in heads] + once


def small_model(parts: dict[str, dict[str, Any]], head: Any, skeleton: Skeleton, input: InputSettings) -> Any:
    """The model of sections as `networks` gives them; always with the same weights."""
    torch.manual_seed(0)
    registries = {"backbone": BACKBONES, "neck": NECKS, "predictor": PREDICTORS}
    built = {
        section: registries[section][settings["name"]].config.model_validate_json(json.dumps(settings))
        for section, settings in parts.items()
    }
    return build_model(head=head, skeleton=skeleton, input=input, **built)


def small_settings(name: str, **more: Any) -> Any:
    return BACKBONES[name].config(**{**SMALL.get(name, {}), **more})


def small_network(name: str) -> Any:
    """With CHANNELS, and always the same weights."""
    torch.manual_seed(0)
    return BACKBONES.build(small_settings(name), CHANNELS)


def feature_forms() -> list[tuple[str, dict[str, Any]]]:
    """Name and settings, beside those of SMALL, of every backbone that gives features."""
    forms = [*((name, {}) for name in BACKBONES.names()), *FEATURE_FORMS]
    with torch.device("meta"):
        return [
            (name, more)
            for name, more in forms
            if isinstance(BACKBONES.build(small_settings(name, **more), CHANNELS), FeatureBackbone)
        ]


def feature_network(name: str, more: dict[str, Any]) -> FeatureBackbone:
    """Always with the same weights."""
    torch.manual_seed(0)
    return BACKBONES.build(small_settings(name, **more), CHANNELS)
