"""Part affinity fields: CMU's original weights, and those that rtpose (PyTorch) trained.

Their two last limbs differ.  CMU's go from the shoulders to the ears.  rtpose draws its targets from the
shoulders to the eyes, but its decoder reads those channels as if they went to the ears, so that it samples a
field to the eye along the way to the ear: it joins ears less often, and eyes by the nose alone.  A converted
run has the limbs that were trained: skeleton coco18 for CMU's weights, coco18_eyes for rtpose's.  With the
latter, a person whose nose is hidden keeps his eyes (and by them his ears).  `data.skeleton=coco18` behind
the converter's options reads such weights as rtpose itself does, to compare with its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pose.errors import UserError
from pose.published.plan import Plan, Source

if TYPE_CHECKING:
    from torch import Tensor

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


SOURCE = Source(
    "part affinity fields, CMU's original weights or those of the PyTorch rtpose",
    plan_rtpose,
    options={
        "weights_from": {
            "choices": ("cmu", "rtpose"),
            "help": "who trained them (default: as their names look)",
        }
    },
)
