"""pose-tensorflow's checkpoints: DeeperCut (Insafutdinov et al., ECCV 2016) and ArtTrack (CVPR 2017), a
residual network of TensorFlow-Slim."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.decoders.pairwise_statistics import NUM_FEATURES, PairModel, PairwiseStatistics
from pose.errors import UserError
from pose.published.plan import Plan, Source
from pose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

    from pose.heads.base import Head

UNITS = {"50": [3, 4, 6, 3], "101": [3, 4, 23, 3], "152": [3, 8, 36, 3]}
FIELDS = {"part_pred": "heatmap", "locref_pred": "locref", "pairwise_pred": "pairwise"}
NORM = {
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip
OF_TRAINING = re.compile(r"/(Momentum|Adam|Adam_1|RMSProp|RMSProp_1)$|^(global_step|beta[12]_power)$")
MODEL_FILE = re.compile(r"spatial_model_cidx_(\d+)_(\d+)\.mat")


# ------------------------------------------------------------------------------------------------- variables


def read(path: Path) -> dict[str, Tensor]:
    """The weights of a TensorFlow checkpoint by its names, in torch's layout.

    path: its prefix, or one of its files.  Raises `UserError`."""
    prefix = Path(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", str(path)))
    if not (prefix.is_file() or Path(f"{prefix}.index").is_file()):  # one file is the older format
        raise UserError(f"no TensorFlow checkpoint {prefix}: there is no {prefix.name}.index beside it")
    try:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # it tells of its build at every start
        import tensorflow as tf  # type: ignore[import-untyped, import-not-found]
    except ImportError:
        raise UserError(
            "a TensorFlow checkpoint is read by TensorFlow, which is not installed: pip install tensorflow"
        ) from None
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if not OF_TRAINING.search(name)]
        return tensors({name: reader.get_tensor(name) for name in names})
    except Exception as error:  # bytes at random make TensorFlow raise nearly everything
        reason = str(error).strip().split("\n")[0][:160]
        raise UserError(
            f"cannot read the TensorFlow checkpoint {prefix} ({reason}); it is cut off or none: copy all of "
            "its files again"
        ) from None


def tensors(variables: Mapping[str, Any]) -> dict[str, Tensor]:
    """The variables that are weights, in torch's layout: convolutions (out, in, h, w), transposed ones (in,
    out, h, w).  Both are the other way round in TensorFlow."""
    import torch

    made = {}
    for name, value in variables.items():
        if not OF_TRAINING.search(name):
            array = np.asarray(value)
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            made[name] = torch.from_numpy(array.astype(np.float32))
    return made


def our_name(name: str) -> str:
    """`resnet_v1_101/block3/unit_2/bottleneck_v1/conv2/BatchNorm/gamma` ->
    `backbone.trunk.layer3.1.bn2.weight`; a name that no such network has stays."""
    if match := re.fullmatch(r"pose/(\w+)/block4/(weights|biases)", name):
        kind = {"weights": "weight", "biases": "bias"}[match[2]]
        if match[1] == "intermediate_supervision":
            return f"backbone.intermediate.{kind}"
        return f"backbone.heads.{FIELDS[match[1]]}.{kind}" if match[1] in FIELDS else name
    layer = r"resnet_v1_\d+/(?:block(\d)/unit_(\d+)/bottleneck_v1/)?(conv[123]|shortcut)/(?:BatchNorm/)?(\w+)"
    match = re.fullmatch(layer, name)
    if not match or match[4] not in ("weights", *NORM):
        return name
    place = f"layer{match[1]}.{int(match[2]) - 1}." if match[1] else ""
    normalised = match[4] in NORM
    if match[3] == "shortcut":
        what = f"downsample.{int(normalised)}"
    else:
        what = ("bn" if normalised else "conv") + match[3][-1]
    return f"backbone.trunk.{place}{what}.{NORM.get(match[4], 'weight')}"


def variable_names(scope: str, units: Sequence[int], heads: Sequence[str]) -> Iterator[str]:
    """All variables of a network, from the picture to the predictions."""
    layers = ["conv1"]
    for block, count in enumerate(units, 1):
        for unit in range(1, count + 1):
            names = (["shortcut"] if unit == 1 else []) + ["conv1", "conv2", "conv3"]
            layers += [f"block{block}/unit_{unit}/bottleneck_v1/{name}" for name in names]
    for layer in layers:
        yield f"{scope}/{layer}/weights"
        yield from (f"{scope}/{layer}/BatchNorm/{kind}" for kind in NORM)
    for head in heads:
        yield from (f"pose/{head}/block4/{kind}" for kind in ("weights", "biases"))


def plan_deepercut(
    weights: Mapping[str, Tensor], statistics: Path | None = None, models: Path | None = None
) -> Plan:
    """The size of the network is read off the names and shapes of its variables."""
    scope = next((name.split("/")[0] for name in weights if re.match(r"resnet_v1_(50|101|152)/", name)), "")
    if not scope:
        some = ", ".join(sorted(weights)[:2]) or "nothing"
        raise UserError(
            f"the checkpoint is not DeeperCut's: it has no resnet_v1_101/conv1/weights, but {some}"
        )
    depth = scope.rpartition("_")[2]
    units = [
        max((int(m[1]) for n in weights if (m := re.match(rf"{scope}/block{b}/unit_(\d+)/", n))), default=1)
        for b in (1, 2, 3, 4)
    ]
    intermediate = any("/intermediate_supervision/" in name for name in weights)
    heads = [*FIELDS, *(["intermediate_supervision"] if intermediate else [])]
    check_names(weights, [*variable_names(scope, units, heads)])
    settings = [
        f"backbone.depth={depth}",
        f"backbone.blocks={'null' if units == UNITS[depth] else units}",
        f"backbone.width={weights[f'{scope}/conv1/BatchNorm/gamma'].numel()}",
        f"backbone.intermediate={str(intermediate).lower()}",
    ]
    outputs = {field: weights[f"pose/{name}/block4/biases"].numel() for name, field in FIELDS.items()}
    if statistics is None and models is not None:
        raise UserError("--models belong to the offsets of --statistics pairwise_stats.mat: give both")
    known = None if statistics is None else partial(use_statistics, statistics, models)
    told = "" if known else (
        "without --statistics pairwise_stats.mat its offsets are not known; python -m "
        "pose.tools.pairwise_stats finds them on COCO's annotations"
    )  # fmt: skip
    return Plan("published/deepercut.yaml", settings, our_name, outputs, told, known)


def check_names(weights: Mapping[str, Tensor], wanted: Sequence[str]) -> None:
    """Raises `UserError` with the first variable that is missing or strange."""
    missing = next((name for name in wanted if name not in weights), None)
    if missing:
        single = "; networks for single people have none" if "pairwise_pred" in missing else ""
        raise UserError(f"the checkpoint is not DeeperCut's for several people: it has no {missing}{single}")
    known = {*wanted}
    strange = next((name for name in weights if name not in known), None)
    if strange:
        raise UserError(f"the checkpoint is not DeeperCut's: its network has no {strange}")


# ------------------------------------------------------------------------------------------------ statistics


def load_mat(path: Path) -> dict[str, Any]:
    """A file of MATLAB's, with structures as objects.  Raises `UserError`."""
    from scipy.io import loadmat  # slow to import

    try:
        return dict(loadmat(path, squeeze_me=True, struct_as_record=False))
    except FileNotFoundError:
        raise UserError(f"no file {path}") from None
    except Exception as error:  # bytes at random make scipy raise nearly everything
        raise UserError(f"cannot read {path} ({str(error).split(chr(10))[0][:120]}); copy it again") from None


def use_statistics(file: Path, models: Path | None, head: Head) -> None:
    """Fills the head's buffers from the published files.  Raises `UserError`."""
    from pose.heads.pairwise import PairwiseHead

    assert isinstance(head, PairwiseHead)
    head.use_statistics(pairwise_statistics(file, models, head.skeleton))


def pairwise_statistics(file: Path, models: Path | None, skeleton: Skeleton) -> PairwiseStatistics:
    """pairwise_stats.mat and the folder of spatial_model_cidx_A_B.mat.  Raises `UserError`."""
    content, count = load_mat(file), len(skeleton)
    try:
        graph, means, stds = (np.asarray(content[key], np.float64) for key in ("graph", "means", "std_devs"))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{file} is not pairwise_stats.mat: it lacks graph, means or std_devs") from None
    if graph.ndim != 2 or {graph.shape[1:], means.shape[1:], stds.shape[1:]} != {(2,)} or not (
        len(graph) == len(means) == len(stds)
    ):  # fmt: skip
        raise UserError(f"{file} is not pairwise_stats.mat: graph, means and std_devs are not all N x 2")
    pairs = (graph - graph.min()).astype(int)  # it counts from 0, or as MATLAB from 1
    wanted = {(a, b) for a in range(count) for b in range(count) if a != b}
    found = {(int(a), int(b)) for a, b in pairs}
    if found != wanted:
        raise UserError(
            f"{file} is of other keypoints than the skeleton {skeleton.name!r}: it has {len(found)} ordered "
            f"pairs, not each of the {len(wanted)}"
        )
    if not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0).all()):
        raise UserError(f"{file} has means that are no numbers or deviations that are not above 0")
    mean, std = np.zeros((count, count, 2)), np.ones((count, count, 2))
    mean[pairs[:, 0], pairs[:, 1]], std[pairs[:, 0], pairs[:, 1]] = means, stds
    return PairwiseStatistics(skeleton.keypoints, mean, std, pair_models(models, count) if models else {})


def pair_models(folder: Path, count: int) -> dict[tuple[int, int], PairModel]:
    """The logistic models of a folder, by pairs a < b of keypoint numbers from 0.  Raises `UserError`."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := MODEL_FILE.fullmatch(path.name):
            a, b = int(match[1]) - 1, int(match[2]) - 1
            if not 0 <= a < b < count:
                raise UserError(
                    f"{path}: no pair of {count} keypoints has these numbers, the smaller one first"
                )
            found[a, b] = pair_model(path)
    if not found:
        raise UserError(f"{folder} is not a folder with files spatial_model_cidx_1_2.mat and so on")
    return found


def pair_model(path: Path) -> PairModel:
    content = load_mat(path)
    try:
        model = content["spatial_model"]
        options = model.training_opts
        values = (options.X_min, options.X_max, model.log_reg.w)
        low, high, weights = (np.asarray(value, np.float64).reshape(-1) for value in values)
    except (KeyError, AttributeError, TypeError, ValueError):
        raise UserError(
            f"{path} is no spatial model: it lacks training_opts.X_min, training_opts.X_max or log_reg.w"
        ) from None
    sizes = (len(low), len(high), len(weights))
    if (
        sizes != (NUM_FEATURES, NUM_FEATURES, NUM_FEATURES + 1)
        or not np.isfinite([*low, *high, *weights]).all()
    ):
        raise UserError(
            f"{path} is no spatial model: X_min, X_max and w have {sizes} values, not finite numbers of "
            f"({NUM_FEATURES}, {NUM_FEATURES}, {NUM_FEATURES + 1})"
        )
    return PairModel(low, high, weights)


SOURCE = Source(
    "DeeperCut and ArtTrack, eldar/pose-tensorflow (TensorFlow checkpoint: prefix or .index)",
    plan_deepercut,
    read,
    options={
        "statistics": {"type": Path, "metavar": "FILE", "help": "pairwise_stats.mat of the checkpoint"},
        "models": {"type": Path, "metavar": "DIR", "help": "folder of spatial_model_cidx_*.mat"},
    },
)
