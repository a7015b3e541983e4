"""Associative embedding of HigherHRNet-Human-Pose-Estimation and of MMPose 0.x and 1.x: HRNet, HigherHRNet,
ResNet, MobileNetV2 and hourglass (Cheng et al.: HigherHRNet, CVPR 2020; MMPose's model zoo)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.errors import UserError
from pose.published.plan import Plan, Source

if TYPE_CHECKING:
    from torch import Tensor

# HigherHRNet's configurations at 640 pixels put `1.` before every name
WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)*(?:1\.)?(?:module\.)*")
IGNORED = ("data_preprocessor.",)
PARTS: Sequence[tuple[str, str]] = (  # below keypoint_head
    (r"^final_layers\.(\d+)\.", r"predictor.final.\1."),
    (r"^deconv_layers\.(\d+)\.0\.([01])\.", r"predictor.up.\1.\2."),
    (r"^deconv_layers\.(\d+)\.(\d+)\.0\.", r"predictor.up.\1.<\2>."),
    (r"^deconv_layers\.(\d+)\.(?=[a-z])", r"neck.layers.\1."),
    (r"^final_layer\.", "predictor.layers.0."),
)
HOURGLASS: Sequence[tuple[str, str]] = (
    (r"^hourglass_modules\.(\d+)\.0\.", r"stacks.\1.hourglass."),
    (r"^hourglass_modules\.(\d+)\.1\.", r"stacks.\1.features.0."),
    (r"^hourglass_modules\.(\d+)\.2\.", r"stacks.\1.features.1."),
    (r"^out_convs\.(\d+)\.conv\.", r"stacks.\1.prediction."),
    (r"^remap_feature_convs\.(\d+)\.", r"stacks.\1.merge_features."),
    (r"^remap_out_convs\.(\d+)\.", r"stacks.\1.merge_prediction."),
    (r"\.conv\.", ".0."),
    (r"\.bn\.", ".1."),
)
RULES = ("0.x", "1.x")  # of MMPose's versions
# data set -> keypoints; it is the end of the config's name, too
DATA = {"coco": 17, "aic": 14, "crowdpose": 14, "mhp": 16, "wholebody": 133}


def published_name(name: str) -> str:
    """Without wrappers, and under MMPose 0.x's parts `backbone` and `keypoint_head`."""
    name = WRAPPED.sub("", name)
    name = re.sub(r"^head\.", "keypoint_head.", name)
    if name.startswith(("backbone.", "keypoint_head.")) or name.startswith(IGNORED):
        return name
    part = "keypoint_head" if name.startswith(("final_layers.", "deconv_layers.")) else "backbone"
    return f"{part}.{name}"


def our_name(name: str, *, hourglass: bool, higher: bool) -> str:
    """`keypoint_head.deconv_layers.0.1.0.conv1.weight` -> `predictor.up.0.3.conv1.weight`."""
    part, _, rest = published_name(name).partition(".")
    if part == "backbone":
        for pattern, replacement in HOURGLASS if hourglass else ():
            rest = re.sub(pattern, replacement, rest)
        return f"backbone.{rest}"
    if part != "keypoint_head":
        return name
    if not higher:  # a plain head may have its one layer in a list
        rest = re.sub(r"^final_layers\.0\.", "final_layer.", rest)
    for pattern, replacement in PARTS:
        if re.match(pattern, rest):
            rest = re.sub(pattern, replacement, rest)
            break
    # of the further layers, the blocks come after convolution, normalization and activation
    return re.sub(r"<(\d+)>", lambda match: str(int(match[1]) + 2), rest)


def of_mmpose1(names: Iterable[str]) -> bool:
    """Whether a file with these tensors is of MMPose 1.x's associative embedding: `head` in place of
    `keypoint_head`, with the one layer of its only network."""
    found = {WRAPPED.sub("", name) for name in names}
    return "head.final_layer.weight" in found and any(name.startswith("backbone.") for name in found)


def network(weights: Mapping[str, Tensor]) -> tuple[list[str], int, Callable[[str], str]]:
    """Settings of the network, its number of keypoints, and how its tensors are called here.

    weights: under MMPose 0.x's names."""
    from pose.backbones.resnet import UNITS

    def shape(name: str) -> Sequence[int]:
        return tuple(weights[name].shape)

    hourglass = "backbone.out_convs.0.conv.weight" in weights
    higher = "keypoint_head.final_layers.1.weight" in weights
    if hourglass:
        stacks = sum(bool(re.match(r"backbone\.out_convs\.\d+\.conv\.weight", name)) for name in weights)
        outputs = shape("backbone.out_convs.0.conv.weight")[0]
        settings = ["backbone={name: hourglass, batch_norm: throughout, stacks: %d}" % stacks]  # noqa: UP031
        settings.append("test.align_corners=true")  # its configuration does not say, and this is the default
    elif "backbone.stage4.0.branches.0.0.conv1.weight" in weights:
        width = shape("backbone.stage4.0.branches.0.0.conv1.weight")[0]
        rows = 4 if any(name.startswith("backbone.stage4.2.fuse_layers.1.") for name in weights) else 1
        settings = [f"backbone={{name: hrnet, width: {width}, rows: {rows}}}"]
        if rows == 4:
            raise UserError(
                "the checkpoint's HRNet gives all four resolutions: it is DEKR's or CID's, whose heads are "
                "not built yet"
            )
    elif "backbone.layer4.0.conv1.weight" in weights:
        units = tuple(
            1 + max(int(m[1]) for n in weights if (m := re.match(rf"backbone\.layer{b}\.(\d+)\.", n)))
            for b in (1, 2, 3, 4)
        )
        depth = next((depth for depth, known in UNITS.items() if known == units), None)
        if depth is None or "backbone.layer1.0.conv3.weight" not in weights:
            raise UserError(f"the checkpoint's ResNet has {units} units, and not 50, 101 or 152 layers")
        settings = [f"backbone={{name: resnet, depth: {depth}, output_stride: 32, batch_norm: train}}"]
    elif "backbone.layer1.0.conv.0.conv.weight" in weights or "backbone.conv2.conv.weight" in weights:
        settings = ["backbone={name: mobilenet_v2}"]
    else:
        some = ", ".join(list(weights)[:2])
        raise UserError(
            "the checkpoint is none of MMPose's or HigherHRNet's associative embedding: it has no HRNet, "
            f"ResNet, MobileNetV2 or hourglass, but {some}"
        )
    if not hourglass:
        last = "final_layers.0" if "keypoint_head.final_layers.0.weight" in weights else "final_layer"
        if f"keypoint_head.{last}.weight" not in weights:
            raise UserError(
                f"the checkpoint has no keypoint_head.{last}: it is cut off, or of another method"
            )
        outputs = shape(f"keypoint_head.{last}.weight")[0]
        if higher:
            settings.append("predictor={name: higher_resolution}")
            settings.append("head.tag_strides=[4]")
        elif "keypoint_head.deconv_layers.0.weight" in weights:
            settings.append("neck={name: deconv}")
    return settings, outputs // 2, lambda name: our_name(name, hourglass=hourglass, higher=higher)


def data_set(keypoints: int, data: str | None) -> str:
    """The data set that the network was trained on.  Raises `UserError`."""
    fitting = [name for name, count in DATA.items() if count == keypoints]
    if data is not None and data not in fitting:
        raise UserError(
            f"--data {data} has {DATA[data]} keypoints, and the checkpoint has {keypoints}"
            + (f"; give --data {' or '.join(fitting)}" if fitting else "")
        )
    if data is None and len(fitting) != 1:
        said = f"give --data {' or '.join(fitting)}" if fitting else "no data set here has so many"
        raise UserError(f"the checkpoint has {keypoints} keypoints; {said}")
    return data or fitting[0]


def plan_with(
    system: str,
) -> Callable[..., Plan]:
    """The plan of a published system: `higherhrnet` or `mmpose`."""

    def plan(
        weights: Mapping[str, Tensor],
        data: str | None = None,
        udp: bool = False,
        size: int | None = None,
        rules: str | None = None,
    ) -> Plan:
        """The network is read off the names and shapes of its tensors.

        data: the data set, where the number of keypoints does not tell; udp: trained with unbiased data
        processing; size: side of the training input in pixels (default 512); rules: "0.x" or "1.x", the
        MMPose by whose rules people are found (default: as the names look).  Raises `UserError` where those
        of 1.x, which are for COCO without UDP, are asked for with anything else."""
        known = {published_name(name): tensor for name, tensor in weights.items()}
        settings, keypoints, rename = network(known)
        trained_on = data_set(keypoints, data)
        only_old = udp or trained_on != "coco"
        if rules == "1.x" and only_old:
            what = "unbiased data processing" if udp else f"{trained_on}'s keypoints"
            raise UserError(f"MMPose 1.x has no associative embedding with {what}; leave --rules 1.x out")
        told = f"{keypoints} keypoints"
        if system == "mmpose":
            named = RULES[of_mmpose1(weights)]
            rules = rules or (RULES[0] if only_old else named)
            other = RULES[rules == RULES[0]]
            hint = "" if only_old else f", else: --rules {other}"
            told += f"; people by the rules of MMPose {rules} (names as in {named}{hint})"
        name = "mmpose1" if rules == "1.x" else system
        parts = [name, *(["udp"] if udp else []), *([trained_on] if trained_on != "coco" else [])]
        config = f"published/{'_'.join(parts)}.yaml"
        if size is not None:
            settings.append(f"input.size=[{size}, {size}]")
        return Plan(config, settings, rename, told=told)

    return plan


def read(path: Path) -> dict[str, Tensor]:
    """The weights without what belongs to no layer.  Raises `UserError`."""
    from pose import foreign

    weights = foreign.load(path)
    kept = {name: value for name, value in weights.items() if not published_name(name).startswith(IGNORED)}
    return {name: value.float() if value.is_floating_point() else value for name, value in kept.items()}


OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "data": {"choices": tuple(DATA), "help": "data set, where the number of keypoints does not tell"},
    "size": {"type": int, "metavar": "N", "help": "side of the training input in pixels (default 512)"},
}
HIGHERHRNET = Source(
    "HigherHRNet, HRNet/HigherHRNet-Human-Pose-Estimation", plan_with("higherhrnet"), read, options=OPTIONS
)
MMPOSE = Source(
    "associative embedding of MMPose 0.x and 1.x",
    plan_with("mmpose"),
    read,
    options={
        **OPTIONS,
        "udp": {"action": "store_true", "help": "trained with unbiased data processing (file name: _udp)"},
        "rules": {
            "choices": RULES,
            "help": "MMPose by whose rules people are found (default: as names look)",
        },
    },
)
