"""Published weights -> a run folder that `pose.test -c NAME` and `pose.train -c NAME` read.

    python -m pose.tools.convert pose-ae FILE -e NAME     pose-ae-train's checkpoint (princeton-vl)
    python -m pose.tools.convert rtpose FILE -e NAME      part affinity fields: CMU's, or trained by rtpose
    python -m pose.tools.convert ae-aic FILE -e NAME      JakeRenn's entry to AI Challenger

The run's config carries the conventions of the system that the weights come from: pixel geometry, thresholds,
scales.  Weights keep the licence of their publisher.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pose import checkpoint
from pose.errors import UserError, user_facing
from pose.experiment import Experiment, ExperimentConfig, already_exists, load_config, run_folder
from pose.model import PoseModel, build_model


@dataclass(frozen=True)
class Plan:
    """How one file's weights become a run."""

    config: str  # below configs/
    settings: list[str]  # read off the weights, above the config's
    rename: Callable[[str], str]  # the file's name of a tensor -> ours
    outputs: Mapping[str, int] = field(default_factory=dict)  # channels that the file has for a field
    told: str = ""  # a sentence about what the file was taken for


@dataclass(frozen=True)
class Source:
    """One published system."""

    help: str
    plan: Callable[[Mapping[str, Tensor], str | None], Plan]  # weights, --weights-from
    weights_from: tuple[str, ...] = ()  # who may have trained the weights, where it makes a difference


# --------------------------------------------------------------------------------------------- pose-ae-train


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


def plan_pose_ae(weights: Mapping[str, Tensor], _: str | None = None) -> Plan:
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


# ---------------------------------------------------------------------------------- part affinity fields

BRANCH = {"1": "paf", "2": "heatmap"}  # _1 or L1, _2 or L2
TRUNK = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25)
CAFFE_TRUNK = (
    "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4",
    "conv4_1", "conv4_2", "conv4_3_CPM", "conv4_4_CPM",
)  # fmt: skip


def rename_rtpose(name: str) -> str:
    """`model3_1.2.weight`, whatever it is prefixed with, or Caffe's `Mconv2_stage3_L1.weight` ->
    `backbone.stages.2.paf.2.weight`."""
    layer, kind = re.sub(r"^(model\.)?(module\.)?", "", name), ""
    if match := re.fullmatch(r"(.+)[._](weight|bias)", layer):
        layer, kind = match[1], match[2]
    if match := re.fullmatch(r"model0\.(\d+)", layer):
        return f"backbone.trunk.{match[1]}.{kind}"
    if layer in CAFFE_TRUNK:
        return f"backbone.trunk.{TRUNK[CAFFE_TRUNK.index(layer)]}.{kind}"
    if match := re.fullmatch(r"model(\d)_([12])\.(\d+)", layer):
        stage, branch, index = int(match[1]), match[2], int(match[3])
    elif match := re.fullmatch(r"conv5_(\d)_CPM_L([12])", layer):
        stage, branch, index = 1, match[2], 2 * int(match[1]) - 2
    elif match := re.fullmatch(r"Mconv(\d)_stage(\d)_L([12])", layer):
        stage, branch, index = int(match[2]), match[3], 2 * int(match[1]) - 2
    else:
        return name
    return f"backbone.stages.{stage - 1}.{BRANCH[branch]}.{index}.{kind}"


def rtpose_order(stages: int) -> list[str]:
    """Our names in the order of the published files: the trunk, all stages of the fields, all of the
    heatmaps."""
    layers = [f"trunk.{index}" for index in TRUNK]
    for branch in BRANCH.values():
        for stage in range(stages):
            layers += [f"stages.{stage}.{branch}.{2 * i}" for i in range(7 if stage else 5)]
    return [f"backbone.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def rtpose_names(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """The file's name of each tensor -> ours: by name or, where the file has none of the known ones, by
    position."""
    names = {name: rename_rtpose(name) for name in weights}
    if any(ours.startswith("backbone.") and ours != name for name, ours in names.items()):
        return names
    for stages in range(1, 7):
        if len(rtpose_order(stages)) == len(weights):
            return dict(zip(weights, rtpose_order(stages)))
    raise UserError(
        f"the checkpoint is not rtpose's: it has {len(weights)} tensors ({', '.join(list(weights)[:2])}, ...)"
        " and none of the layers model0 to model6_2, or conv1_1 to Mconv7_stage6_L2 as Caffe calls them"
    )


def check_rtpose(weights: Mapping[str, Tensor], names: Mapping[str, str], wanted: Sequence[str]) -> None:
    """Raises `UserError` where tensors of the `wanted` are absent or cannot be a layer's."""
    there = [name for name in weights if names[name] in wanted]
    if len(there) < len(wanted):
        last = f" (the last that is there: {there[-1]})" if there else ""
        raise UserError(
            f"the checkpoint has only a part of rtpose's network: {len(wanted) - len(there)} of {len(wanted)}"
            f" tensors are missing{last}; copy the file again"
        )
    for name in there:
        weight, shape = names[name].endswith("weight"), tuple(weights[name].shape)
        if len(shape) != (4 if weight else 1) or (weight and shape[-1] not in (1, 3, 5, 7)):
            raise UserError(f"the checkpoint is not rtpose's: no layer of it has the shape {shape} of {name}")


def plan_rtpose(weights: Mapping[str, Tensor], weights_from: str | None = None) -> Plan:
    """The size of the network is read off the shapes of its tensors; who trained it, off their names."""
    names = rtpose_names(weights)
    ours = {names[name]: tensor for name, tensor in weights.items()}
    stages = 1 + max((int(m[1]) for n in ours if (m := re.match(r"backbone\.stages\.(\d)", n))), default=0)
    check_rtpose(weights, names, rtpose_order(stages))

    def size(layer: str, axis: int = 0) -> int:
        return int(ours[f"backbone.{layer}.weight"].shape[axis])

    settings = [
        f"backbone.stages={stages}",
        f"backbone.trunk_width={size('trunk.0')}",
        f"backbone.width={size('trunk.25')}",
        f"backbone.first_stage_width={size('stages.0.paf.6')}",
        *([f"backbone.kernel={size('stages.1.paf.0', -1)}"] if stages > 1 else []),
    ]
    config, told = trained_by(weights, weights_from)
    outputs = {branch: size(f"stages.0.{branch}.8") for branch in BRANCH.values()}
    return Plan(config, settings, lambda name: names[name], outputs, told)


def trained_by(weights: Mapping[str, Tensor], weights_from: str | None) -> tuple[str, str]:
    """The config of those who trained the weights, and a sentence: PyTorch's wrappers prefix the names, the
    converters from Caffe do not."""
    prefixed = any(name.startswith(("module.", "model.")) for name in weights)
    chosen = weights_from or ("rtpose" if prefixed else "cmu")
    config, whose, other = {
        "cmu": ("published/rtpose_cmu.yaml", "CMU's original weights", "rtpose"),
        "rtpose": ("published/rtpose.yaml", "weights that rtpose (PyTorch) trained", "cmu"),
    }[chosen]
    names = "with" if prefixed else "without"
    why = "" if weights_from else f", as names {names} a prefix are (else: --weights-from {other})"
    return config, f"taken for {whose}{why}"


# ------------------------------------------------------------------- associative embedding, AI Challenger

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


def plan_ae_aic(weights: Mapping[str, Tensor], _: str | None = None) -> Plan:
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


SOURCES = {
    "pose-ae": Source("associative embedding, princeton-vl/pose-ae-train", plan_pose_ae),
    "rtpose": Source(
        "part affinity fields, CMU's original weights or those of the PyTorch rtpose",
        plan_rtpose,
        ("cmu", "rtpose"),
    ),
    "ae-aic": Source(
        "associative embedding, JakeRenn/Pytorch-Multi-Person-Pose-Estimation (AI Challenger)", plan_ae_aic
    ),
}


# ------------------------------------------------------------------------------------------------ conversion


def named_tensors(state: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, wherever it keeps them."""
    inner = next(
        (state[key] for key in ("state_dict", "model") if isinstance(state.get(key), Mapping)), state
    )
    entries = inner.items()  # type: ignore[attr-defined]
    weights = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor)}
    if not weights:
        raise UserError(f"{path} holds no named weights")
    return weights


def convert(
    source: Source, path: Path, overrides: Sequence[str] = (), weights_from: str | None = None
) -> tuple[ExperimentConfig, PoseModel, str]:
    """The config and model of a published checkpoint, and a sentence about what was loaded."""
    weights = named_tensors(checkpoint.load(path), path)
    plan = source.plan(weights, weights_from)
    config = load_config(plan.config, [*plan.settings, *overrides])
    model = build_model(config.backbone, config.head, config.skeleton, config.input)
    check_outputs(plan.outputs, model.head.channels, config, path)
    report = checkpoint.load_matching(model, weights, plan.rename)
    if report.missing or report.mismatched:
        raise UserError(f"{path} does not fill the network: {report}")
    return config, model, "; ".join(text for text in (plan.told, str(report)) if text)


def check_outputs(
    outputs: Mapping[str, int], channels: Mapping[str, int], config: ExperimentConfig, path: Path
) -> None:
    """Raises `UserError` where the file's channels of a field are not those of the head."""
    for name, count in outputs.items():
        wanted = channels.get(name, 0)
        if count != wanted:
            raise UserError(
                f"{path} has {count} channels of the field {name!r}, and the head {config.head.name!r} with "
                f"the skeleton {config.skeleton.name!r} has {wanted}: it was trained for other keypoints or "
                "limbs, or without the background (data.skeleton=FILE or head.background=false would say so)"
            )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_subparsers(dest="source", required=True)
    for name, source in SOURCES.items():
        one = sources.add_parser(name, help=source.help)
        one.add_argument("file", type=Path, metavar="FILE", help="the published checkpoint")
        one.add_argument("-e", "--experiment", required=True, metavar="NAME", help="the run folder exp/NAME/")
        if source.weights_from:
            one.add_argument(
                "--weights-from",
                choices=source.weights_from,
                help="who trained them (default: as their names look)",
            )
        else:
            one.set_defaults(weights_from=None)
        one.add_argument(
            "settings", nargs="*", metavar="key.sub=value", help="settings above the system's own"
        )
    options, rest = parser.parse_known_args(arguments)  # settings may stand behind the options too
    wrong = [text for text in rest if text.startswith("-") or "=" not in text]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    options.settings += rest
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    folder = run_folder(options.experiment)
    if folder.exists():
        raise UserError(already_exists(options.experiment, folder))
    # what pose.train -c starts from
    settings = [f"train.weights={folder / 'published.pt'}", *options.settings]
    config, model, report = convert(SOURCES[options.source], options.file, settings, options.weights_from)
    experiment = Experiment.create(options.experiment, config)
    parameters = sum(p.numel() for p in model.parameters())
    state = {"format": 1, "model": model.state_dict(), "meta": {"source": options.source}}
    try:
        checkpoint.save(state, folder / "published.pt")
        shutil.copyfile(folder / "published.pt", folder / "best.pt")  # which training may replace
    except (UserError, OSError):  # a run without weights would be in the way of the next attempt
        shutil.rmtree(folder, ignore_errors=True)
        raise
    print(f"{options.file}: {report}; {parameters / 1e6:.2f} M parameters", file=sys.stderr)
    print(
        f"{experiment.folder} is ready: python -m pose.test -c {options.experiment} -m single --images DIR "
        "(without --images where COCO lies in data/coco, or with data.root=...)",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(user_facing(main)())
