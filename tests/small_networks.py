"""Settings by which each backbone is small enough for a test; one without an entry is tested as it is."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "hourglass": {"stacks": 2, "width": 16, "growth": 4, "depth": 3, "stem_width": 8},
    "hourglass_swish": {"stacks": 2, "width": 16, "growth": 4, "depth": 2, "stem_width": 8},
    "resnet": {"blocks": (1, 1, 2, 1), "width": 8, "batch_norm": "train"},
    "vgg19_cpm": {"stages": 3, "trunk_width": 4, "width": 8, "first_stage_width": 16, "kernel": 5},
}
