"""JakeRenn's entry to AI Challenger 2017: associative embedding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pose.errors import UserError
from pose.published.plan import Plan, Source

if TYPE_CHECKING:
    from torch import Tensor

AE_AIC_STEM = (0, 2, 5, 7, 10, 12)  # of conv1 to conv6
AE_AIC_LAYERS = {
    "fc1": "features.0.1", "fc2": "features.1.1", "score": "heads.heatmap", "embedding": "heads.tag",
    "fc_": "merge_features", "score_": "merge_fields",
}  # fmt: skip


def ae_aic_names(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """The file's name of each tensor -> ours: `module.hg.1.hg.2.0.0.conv.weight`, the level counted from the
    innermost one, -> `backbone.stacks.1.hourglass.low2.up1.1.weight` in an hourglass of 4 levels."""
    bare = {name: re.sub(r"^(model\.)?(module\.)?", "", name) for name in weights}
    levels = [int(m[1]) for name in bare.values() if (m := re.match(r"hg\.\d+\.hg\.(\d+)\.", name))]
    depth = 1 + max(levels, default=0)

    def ours(name: str) -> str:
        if match := re.fullmatch(r"stage_base\.0\.conv([1-6])\.0\.conv\.(\w+)", name):
            return f"backbone.stem.{AE_AIC_STEM[int(match[1]) - 1]}.{match[2]}"
        if match := re.fullmatch(r"hg\.(\d+)\.hg\.(\d+)\.([0-3])\.0\.conv\.(\w+)", name):
            place = "low2." * (depth - 1 - int(match[2])) + ("up1", "low1", "low3", "low2")[int(match[3])]
            return f"backbone.stacks.{match[1]}.hourglass.{place}.1.{match[4]}"
        if match := re.fullmatch(r"(\w+)\.(\d+)\.0\.conv\.(\w+)", name):
            layer = AE_AIC_LAYERS.get(match[1])
            return f"backbone.stacks.{match[2]}.{layer}.{match[3]}" if layer else name
        return name

    return {name: ours(text) for name, text in bare.items()}


def plan_ae_aic(weights: Mapping[str, Tensor]) -> Plan:
    """The size of the network is read off the shapes of its tensors."""
    names = ae_aic_names(weights)
    named = {ours: weights[name] for name, ours in names.items()}
    try:
        width, stem_width = (named[f"backbone.stem.{layer}.weight"].shape[0] for layer in (12, 0))
        wider = named["backbone.stacks.0.hourglass.low1.1.weight"].shape[0]
        outputs = {
            field: named[f"backbone.stacks.0.heads.{field}.weight"].shape[0] for field in ("heatmap", "tag")
        }
        stacks = 1 + max(int(m[1]) for n in named if (m := re.match(r"backbone\.stacks\.(\d+)\.heads", n)))
        depth = 1 + max(n.count("low2.") for n in named if n.endswith("up1.1.weight"))
    except (KeyError, ValueError, IndexError):
        raise UserError(
            "the checkpoint is not that of the associative-embedding entry to AI Challenger: it has no "
            "stage_base, hg, score and embedding layers"
        ) from None
    settings = [
        f"backbone.stacks={stacks}",
        f"backbone.width={width}",
        f"backbone.growth={wider - width}",
        f"backbone.depth={depth}",
        f"backbone.stem_width={stem_width}",
    ]
    return Plan("published/ae_aic.yaml", settings, lambda name: names[name], outputs)


SOURCE = Source(
    "associative embedding, JakeRenn/Pytorch-Multi-Person-Pose-Estimation (AI Challenger)", plan_ae_aic
)
