"""Building blocks that backbones, necks and predictors share."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Init = Literal["kaiming", "normal"]

# kernel of a transposed convolution with stride 2 -> padding, output padding: each doubles the resolution
PADDING = {4: (1, 0), 3: (1, 1), 2: (0, 0)}


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    """Convolution without a bias, batch normalization and, with `relu`, a ReLU; (B, inputs, h, w) -> (B,
    outputs, h / stride, w / stride)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


def upsampling(inputs: int, outputs: int, kernel: int) -> nn.ConvTranspose2d:
    """A transposed convolution without a bias: (B, inputs, h, w) -> (B, outputs, 2h, 2w)."""
    padding, extra = PADDING[kernel]
    return nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, extra, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization, added to what came in (He et al.: Deep Residual Learning
    for Image Recognition, CVPR 2016): (B, width, h, w) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x
        return F.relu(y, inplace=True)


def kaiming(module: nn.Module) -> None:
    """First weights of all (transposed) convolutions below `module`: He et al., for ReLUs that follow."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def small_normal(module: nn.Module) -> None:
    """First weights of all (transposed) convolutions below `module`: N(0, 0.001^2), biases 0, as HRNet's pose
    networks begin (Sun et al., CVPR 2019) before pretrained weights are loaded."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=0.001)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def first_weights(module: nn.Module, init: Init) -> None:
    """`kaiming` or `small_normal`, by the setting `init` of a component."""
    {"kaiming": kaiming, "normal": small_normal}[init](module)
