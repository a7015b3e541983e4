"""pose-ae-train's checkpoints: associative embedding (Newell, Huang, Deng, NIPS 2017)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pose.errors import UserError
from pose.published.plan import Plan, Source

if TYPE_CHECKING:
    from torch import Tensor


def rename_pose_ae(name: str) -> str:
    """`model.module.features.0.0.low2.up1.conv.weight` -> `backbone.stacks.0.hourglass.low2.up1.0.weight`."""
    name = re.sub(r"^(model\.)?(module\.)?", "", name)
    rules: list[tuple[str, str]] = [
        (r"^pre\.(\d+)\.(conv|bn)", r"stem.\1.\2"),
        (r"^features\.(\d+)\.0\.", r"stacks.\1.hourglass."),
        (r"^features\.(\d+)\.1\.", r"stacks.\1.features.0."),
        (r"^features\.(\d+)\.2\.", r"stacks.\1.features.1."),
        (r"^outs\.(\d+)\.conv\.", r"stacks.\1.prediction."),
        (r"^merge_features\.(\d+)\.conv\.conv\.", r"stacks.\1.merge_features."),
        (r"^merge_preds\.(\d+)\.conv\.conv\.", r"stacks.\1.merge_prediction."),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    # a convolution, its activation and then batch norm, where there is one
    return "backbone." + re.sub(r"\.conv\.", ".0.", re.sub(r"\.bn\.", ".2.", name))


def plan_pose_ae(weights: Mapping[str, Tensor]) -> Plan:
    """The size of the network is read off the shapes of its tensors."""
    named = {rename_pose_ae(name): value for name, value in weights.items()}
    try:
        stacks = 1 + max(
            int(m[1]) for n in named if (m := re.match(r"backbone\.stacks\.(\d+)\.prediction", n))
        )
        outputs, width = named["backbone.stacks.0.prediction.weight"].shape[:2]
        wider = named["backbone.stacks.0.hourglass.low1.0.weight"].shape[0]
        depth = 1 + max(n.count("low2.") for n in named if n.endswith("up1.0.weight"))
        stem_width = named["backbone.stem.0.0.weight"].shape[0]
    except (KeyError, ValueError, IndexError):
        raise UserError(
            "the checkpoint is not pose-ae-train's: it has no pre, features and outs layers"
        ) from None
    normalised = any(name.endswith("running_mean") for name in named)
    settings = [
        f"backbone.stacks={stacks}",
        f"backbone.width={width}",
        f"backbone.growth={wider - width}",
        f"backbone.depth={depth}",
        f"backbone.stem_width={stem_width}",
        f"backbone.unused_channels={outputs - 34}",
        f"backbone.batch_norm={'after' if normalised else 'none'}",
    ]
    return Plan("published/pose_ae.yaml", settings, rename_pose_ae)


SOURCE = Source("associative embedding, princeton-vl/pose-ae-train", plan_pose_ae)
