"""The network of DeeperCut and ArtTrack, restated literally, under the variable names of its published
checkpoints.

Insafutdinov, Pishchulin, Andres, Andriluka and Schiele, "DeeperCut" (ECCV 2016), and Insafutdinov et al.,
"ArtTrack" (CVPR 2017), as released in pose-tensorflow: TensorFlow-Slim's resnet_v1 with an output stride of
16 and one transposed convolution for each prediction.  Weights have TensorFlow's layouts, maps are (B, C, h,
w).

Where the description leaves room:
- convolutions, batch normalisation and activations are torch's functions; SAME padding, the transposed
  convolution, subsampling and where the strides and dilations lie are written out.
- the supervised unit of block 3 is published for resnet_v1_101 only (unit 12); here it is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
INTERMEDIATE_UNIT = 12
TRUNK_101 = 42_500_160  # parameters without the predictions and the moving statistics
PREDICTIONS = ("part_pred", "locref_pred", "pairwise_pred")
Variables = Mapping[str, np.ndarray]


# ------------------------------------------------------------------------------------------------ variables


def variable_shapes(
    keypoints: int, depth: int = 101, units: Sequence[int] | None = None, width: int = 64
) -> dict[str, tuple[int, ...]]:
    """Every variable of the network and its shape: convolutions (h, w, in, out), transposed ones (h, w, out,
    in)."""
    scope = f"resnet_v1_{depth}"
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, kernel: int, inputs: int, outputs: int) -> None:
        shapes[f"{scope}/{name}/weights"] = (kernel, kernel, inputs, outputs)
        for kind in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{scope}/{name}/BatchNorm/{kind}"] = (outputs,)

    convolution("conv1", 7, 3, width)
    inputs = width
    for block, count in enumerate(units or UNITS[depth], 1):
        narrow = width * 2 ** (block - 1)
        for unit in range(1, count + 1):
            name = f"block{block}/unit_{unit}/bottleneck_v1"
            if unit == 1:
                convolution(f"{name}/shortcut", 1, inputs, 4 * narrow)
            convolution(f"{name}/conv1", 1, inputs, narrow)
            convolution(f"{name}/conv2", 3, narrow, narrow)
            convolution(f"{name}/conv3", 1, narrow, 4 * narrow)
            inputs = 4 * narrow
    counts = {
        "part_pred": (keypoints, inputs),
        "locref_pred": (2 * keypoints, inputs),
        "pairwise_pred": (2 * keypoints * (keypoints - 1), inputs),
        "intermediate_supervision": (keypoints, inputs // 2),
    }
    for name, (outputs, features) in counts.items():
        shapes[f"pose/{name}/block4/weights"] = (3, 3, outputs, features)
        shapes[f"pose/{name}/block4/biases"] = (outputs,)
    return shapes


def random_variables(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights and statistics at random, such that a signal neither dies nor explodes on its way."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        value = rng.standard_normal(shape)
        if name.endswith("weights"):
            # a cell of a transposed convolution sees 9 / 4 of its kernel's elements
            fan_in = math.prod(shape[:3]) if name.startswith("resnet") else shape[3] * 9 / 4
            value *= math.sqrt(2 / fan_in)
        elif name.endswith("moving_variance"):
            value = 0.5 + rng.random(shape)
        elif name.endswith("gamma"):
            value = 0.3 + 0.4 * rng.random(shape)
        else:
            value *= 0.1
        made[name] = value.astype(np.float32)
    return made


def published_checkpoint(variables: Variables) -> dict[str, np.ndarray]:
    """The content of a snapshot of training: the variables, the optimiser's slots and the step."""
    trained = [name for name in variables if not name.rpartition("/")[2].startswith("moving_")]
    slots = {f"{name}/Momentum": np.zeros_like(variables[name]) for name in trained}
    return {**variables, **slots, "global_step": np.array(1_030_000, np.int64)}


# ---------------------------------------------------------------------------------------------------- layers


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Cells before and after an axis, by TensorFlow's SAME: an odd cell goes behind."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolve(v: Variables, name: str, x: Tensor, stride: int = 1, rate: int = 1) -> Tensor:
    """Slim's conv2d_same and batch normalisation with moving statistics: SAME at stride 1, else padded by
    (kernel - 1) // 2 before and the rest behind."""
    weights = torch.from_numpy(v[f"{name}/weights"]).permute(3, 2, 0, 1)
    reach = (weights.shape[-1] - 1) * rate
    x = F.pad(x, (reach // 2, reach - reach // 2) * 2)
    x = F.conv2d(x, weights, stride=stride, dilation=rate)
    mean, variance, gamma, beta = (
        torch.from_numpy(v[f"{name}/BatchNorm/{kind}"])
        for kind in ("moving_mean", "moving_variance", "gamma", "beta")
    )
    return F.batch_norm(x, mean, variance, gamma, beta, eps=1e-5)


def subsample(x: Tensor, stride: int) -> Tensor:
    return x[:, :, ::stride, ::stride]


def max_pool_same(x: Tensor) -> Tensor:
    """3x3 with stride 2."""
    top, bottom = same_padding(x.shape[2], 3, 2)
    left, right = same_padding(x.shape[3], 3, 2)
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-math.inf), 3, 2)


def conv2d_transpose_same(v: Variables, name: str, x: Tensor) -> Tensor:
    """3x3 with stride 2 and a bias: out[o] = sum over i of x[i] k[o - 2 i], twice as large."""
    weights = torch.from_numpy(v[f"{name}/weights"])  # (3, 3, out, in)
    batch, _, height, width = x.shape
    out = x.new_zeros(batch, weights.shape[2], 2 * height + 1, 2 * width + 1)
    for row in range(3):
        for column in range(3):
            part = torch.einsum("bihw,oi->bohw", x, weights[row, column])
            out[:, :, row : row + 2 * height : 2, column : column + 2 * width : 2] += part
    bias = torch.from_numpy(v[f"{name}/biases"]).view(1, -1, 1, 1)
    return out[:, :, : 2 * height, : 2 * width] + bias


def bottleneck(v: Variables, name: str, x: Tensor, stride: int, rate: int) -> Tensor:
    if f"{name}/shortcut/weights" in v:
        shortcut = convolve(v, f"{name}/shortcut", x, stride)
    else:
        shortcut = subsample(x, stride)
    residual = F.relu(convolve(v, f"{name}/conv1", x))
    residual = F.relu(convolve(v, f"{name}/conv2", residual, stride, rate))
    residual = convolve(v, f"{name}/conv3", residual)
    return F.relu(shortcut + residual)


# --------------------------------------------------------------------------------------------------- network


def resnet_v1(
    v: Variables, image: Tensor, depth: int, units: Sequence[int], output_stride: int = 16
) -> dict[str, Tensor]:
    """Slim's blocks, whose last unit has the stride; once the output stride is reached, later strides become
    dilation.  Returns the output of every unit as `block3/unit_12`, and `pool1`."""
    scope = f"resnet_v1_{depth}"
    x = max_pool_same(F.relu(convolve(v, f"{scope}/conv1", image, stride=2)))
    points = {"pool1": x}
    current, rate = 4, 1
    for block, count in enumerate(units, 1):
        for unit in range(1, count + 1):
            unit_stride = 2 if unit == count and block < 4 else 1
            name = f"block{block}/unit_{unit}"
            if current == output_stride:
                x = bottleneck(v, f"{scope}/{name}/bottleneck_v1", x, 1, rate)
                rate *= unit_stride
            else:
                x = bottleneck(v, f"{scope}/{name}/bottleneck_v1", x, unit_stride, 1)
                current *= unit_stride
            points[name] = x
    return points


def pose_net(
    v: Variables,
    image: Tensor,
    depth: int = 101,
    units: Sequence[int] | None = None,
    intermediate_unit: int = INTERMEDIATE_UNIT,
) -> dict[str, Tensor]:
    """image (B, 3, H, W), RGB in 0..255 minus the mean -> {part_pred, locref_pred, pairwise_pred,
    intermediate_supervision}, each (B, C, 2 ceil(H / 16), 2 ceil(W / 16)), before any activation."""
    units = units or UNITS[depth]
    points = resnet_v1(v, image, depth, units)
    last = points[f"block4/unit_{units[3]}"]
    out = {name: conv2d_transpose_same(v, f"pose/{name}/block4", last) for name in PREDICTIONS}
    middle = points[f"block3/unit_{intermediate_unit}"]
    out["intermediate_supervision"] = conv2d_transpose_same(v, "pose/intermediate_supervision/block4", middle)
    return out
