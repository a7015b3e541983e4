"""The weights that a training starts from (`train.weights`), and whether they are of this network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose import checkpoint, zoo
from pose import config as cfg
from pose.backbones.base import FeatureBackbone
from pose.checkpoint import LoadReport
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig, model_weights
from pose.model import PoseModel
from pose.published.transfer import by_keypoint_name
from pose.published.zoo_runs import run_of
from pose.registry import BACKBONES
from pose.skeleton import Skeleton


def load_weights(model: PoseModel, config: ExperimentConfig) -> str:
    """Starts from the checkpoint of `train.weights` or, where it is `zoo:NAME`, a published network; a
    sentence about what was taken.  Raises `UserError` where too little fits."""
    file = config.train.weights
    assert file is not None
    try:
        if file.startswith(zoo.PREFIX):
            weights = zoo_weights(model, file)
        else:
            weights = model_weights(checkpoint.load(Path(file)), averaged=keeps_average(Path(file).parent))
        report = checkpoint.load_matching(model, weights)
    except UserError as error:
        raise UserError(f"train.weights={file}: {error}") from None
    why = misfit(model, config, report)
    if why and not config.train.weights_partial:
        raise UserError(
            f"train.weights={file} does not match this network: {why} ({report}); take a checkpoint of the "
            "same backbone, or set train.weights_partial=true to start from what fits"
        )
    return f"{file}: {report}"


def keeps_average(folder: Path) -> bool | None:
    """Whether the run in that folder keeps a moving average; None: it is no run's."""
    file = folder / "config.yaml"
    train = cfg.read_yaml(file).get("train") if file.is_file() else None
    return bool(train.get("ema")) if isinstance(train, dict) else None


def zoo_weights(model: PoseModel, name: str) -> dict[str, Any]:
    """Those of a published network, for the keypoints of the model."""
    runs = zoo.cache_folder() / "runs"
    published = Experiment.open(run_of(name, runs), runs)
    weights = published.read_weights(published.weights("best"))
    with torch.device("meta"):
        source = published.config.build_model()
    skeleton: Skeleton = model.head.skeleton  # type: ignore[assignment]
    return by_keypoint_name(weights, source, model, (published.config.skeleton, skeleton))


# --------------------------------------------------------------------------------- of this network or not


def misfit(model: PoseModel, config: ExperimentConfig, report: LoadReport) -> str:
    """Why the weights are not those of the model's backbone; empty: they are.

    The predictor and the head belong to keypoints and method, which may differ; so may a neck."""
    sizes = common_sizes(model, config)
    loaded = {*report.loaded}
    for stage, names in stages(model.backbone, sizes).items():
        if not loaded & {*names}:
            return f"no layer of backbone.{stage} fits"
    taken = sum(size for name, size in sizes.items() if name in loaded)
    if 2 * taken < sum(sizes.values()):
        return f"{taken:,} of the backbone's {sum(sizes.values()):,} parameters fit"
    return ""


def common_sizes(model: PoseModel, config: ExperimentConfig) -> dict[str, int]:
    """Name in the model -> size of the backbone's parameters that do not depend on the fields: those that
    have the same shape where every field has one channel more."""
    backbone = model.backbone
    own = {name: parameter.shape for name, parameter in backbone.named_parameters()}
    if not isinstance(backbone, FeatureBackbone):
        more = {name: count + 1 for name, count in model.head.channels.items()}
        with torch.device("meta"):
            other: Mapping[str, Tensor] = dict(BACKBONES.build(config.backbone, more).named_parameters())
        own = {name: shape for name, shape in own.items() if name in other and other[name].shape == shape}
    return {f"backbone.{name}": shape.numel() for name, shape in own.items()}


def stages(backbone: nn.Module, known: Mapping[str, int]) -> dict[str, list[str]]:
    """Name of each stage below the backbone -> names in the model of its convolutions and linear layers,
    those among `known`.

    Stages are the modules directly below the backbone: the stem, the blocks of a residual network, the stages
    of HRNet.  A list of modules, such as the stacks of an hourglass, is one stage for each entry, and a
    module that holds everything is passed through."""

    def below(module: nn.Module, prefix: str) -> dict[str, tuple[nn.Module, list[str]]]:
        found = {}
        for name, child in module.named_children():
            names = [
                f"backbone.{prefix}{name}.{own}" for own, p in child.named_parameters() if is_layer(own, p)
            ]
            if weights := [one for one in names if one in known]:
                found[f"{prefix}{name}"] = child, weights
        return found

    found = below(backbone, "")
    while len(found) == 1:  # a trunk, timm's network
        ((name, (only, _)),) = found.items()
        found = below(only, f"{name}.")
    opened: dict[str, tuple[nn.Module, list[str]]] = {}
    for name, (child, names) in found.items():
        opened |= below(child, f"{name}.") if isinstance(child, nn.ModuleList) else {name: (child, names)}
    return {name: names for name, (_, names) in opened.items()}


def is_layer(name: str, parameter: Tensor) -> bool:
    """Whether it is the weight of a convolution or a linear layer, not of a normalisation."""
    return name.endswith("weight") and parameter.ndim >= 2
