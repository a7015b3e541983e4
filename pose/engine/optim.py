"""The optimiser of a run: which weights, at which rates, and its state from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pose.backbones.base import FeatureBackbone
from pose.engine.optimizers.base import OptimizerSettings, ParameterGroup
from pose.errors import UserError
from pose.registry import OPTIMIZERS


def layer_rates(backbone: nn.Module, cfg: OptimizerSettings) -> dict[nn.Parameter, float]:
    """Factors on the learning rate of the backbone's parameters by `backbone_lr` and `layer_decay`.  Raises
    `UserError` for a decay over a backbone that has no groups of layers."""
    if cfg.backbone_lr == cfg.layer_decay == 1:
        return {}
    rates = dict.fromkeys(backbone.parameters(), cfg.backbone_lr)
    if cfg.layer_decay < 1:
        if not isinstance(backbone, FeatureBackbone):
            raise UserError(
                f"train.optimizer.layer_decay={cfg.layer_decay:g}: this backbone does not say which layers "
                "come after which; set train.optimizer.backbone_lr instead, or use a backbone of features"
            )
        groups = backbone.layer_groups()
        for above, group in zip(range(len(groups), 0, -1), groups, strict=True):
            rates |= dict.fromkeys(group, cfg.backbone_lr * cfg.layer_decay**above)
    return rates


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    cfg: OptimizerSettings,
    rates: Mapping[nn.Parameter, float] | None = None,
) -> torch.optim.Optimizer:
    """Optimizes those named parameters that are not frozen; its state has their names.  Fused where the
    device has it: one kernel, and a skipped step costs no wait for the device.

    rates: factors on the learning rate, 1 where there is none.  Each group has a `name` for the log:
    `backbone.0`, `backbone.1` and so on by rising factors, and `head` for all without a factor."""
    named = [(name, p) for name, p in parameters if p.requires_grad]
    chosen = [p for _, p in named]
    factor = {p: (rates or {}).get(p, 1.0) for p in chosen}
    rising = sorted({*(rates or {}).values()})
    names = {one: f"backbone.{i}" if len(rising) > 1 else "backbone" for i, one in enumerate(rising)}
    groups: list[ParameterGroup] = [
        {
            "params": [(n, p) for n, p in named if (p.ndim > 1) == decayed and factor[p] == one],
            "weight_decay": cfg.weight_decay if decayed else 0.0,
            "lr": cfg.lr * one,
            "name": "head" if one == 1 else names[one],
        }
        for one in sorted({*factor.values()}, reverse=True)
        for decayed in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type in ("cuda", "cpu") for p in chosen)
    optimizer: torch.optim.Optimizer = OPTIMIZERS.build(cfg, groups, fused=fused)
    return optimizer


def keep_settings(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], *, joined: bool = False
) -> None:
    """Load the moments of `state`, each to the parameter of its name, but keep the optimiser's own groups and
    their settings: a rate that was edited in the config counts when a run is continued.

    joined: parameters that `state` does not know were frozen until now, and begin anew.  Raises
    `ValueError` where it lacks any other one, or is of another optimiser or other shapes."""
    own = optimizer.state_dict()
    saved = moments_by_name(state, own)
    named = [one for group in optimizer.param_groups for one in zip(group["param_names"], group["params"])]
    unknown = [name for name, _ in named if name not in saved]
    if unknown and not joined:
        more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        raise ValueError(f"its optimiser knows nothing of {unknown[0]}{more}")
    moments = {}
    for place, (name, parameter) in enumerate(named):
        one = saved.get(name) or own["state"].get(place)  # of sgd there are zeros from the start
        for what, value in (one or {}).items():
            if what != "step" and isinstance(value, Tensor) and value.shape != parameter.shape:
                raise ValueError(
                    f"{what} of {name} is {tuple(value.shape)}, the parameter {tuple(parameter.shape)}"
                )
        if one:
            moments[place] = one
    optimizer.load_state_dict({"state": moments, "param_groups": own["param_groups"]})


def moments_by_name(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The state of each parameter in an optimiser's `state`, empty before its first step.

    States from before there were names in them are of the same groups as `own`, the new optimiser's."""
    groups, new = state["param_groups"], own["param_groups"]
    if any(("betas" in group) != ("betas" in new[0]) for group in groups):
        raise ValueError("its moments are of another train.optimizer")
    if not all("param_names" in group for group in groups):
        sizes, expected = ([len(group["params"]) for group in each] for each in (groups, new))
        if sizes != expected:
            raise ValueError(
                f"its moments have no names and are of {sizes} parameters, here there are {expected}: "
                "older checkpoints need the backbone_lr and layer_decay of train.optimizer that they were "
                "saved with"
            )
        groups = [
            {**group, "param_names": other["param_names"]} for group, other in zip(groups, new, strict=True)
        ]
    return {
        name: state["state"].get(place, {})
        for group in groups
        for name, place in zip(group["param_names"], group["params"], strict=True)
    }
