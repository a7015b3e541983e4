"""The network of JakeRenn's associative-embedding entry to AI Challenger, restated literally, with the key
names of its published checkpoint.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017),
as released in Pytorch-Multi-Person-Pose-Estimation (inference only).  The published settings (the defaults
here) have 103 394 516 parameters.

Where the description leaves room:
- swish is computed by `silu`, which rounds otherwise than x * sigmoid(x) does.
- the sum between stacks is taken from left to right: (x + fc_) + score_.
- the order of the layers within one level of an hourglass is that of the key numbers 0 up1, 1 low1, 2 low3
  and, in the innermost level, 3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PARAMETERS = 103_394_516
CHECKPOINT_PREFIX = "module."
MEAN, STD = (0.4798, 0.4517, 0.4220), (0.2558, 0.2481, 0.2468)


class Conv(nn.Module):
    """Convolution with bias; its only reason is the `.0.conv` of the key names."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv(inputs, outputs, kernel, stride))


def swish(x: Tensor) -> Tensor:
    return torch.nn.functional.silu(x)


class Base(nn.Module):
    """Six convolutions, an activation after each but the last, two poolings: (B, 3, H, W) -> (B, f, H/8,
    W/8)."""

    def __init__(self, f: int) -> None:
        super().__init__()
        self.conv1 = layer(3, f // 4, 7, stride=2)
        self.conv2 = layer(f // 4, f // 2)
        self.conv3 = layer(f // 2, f // 2)
        self.conv4 = layer(f // 2, f // 2)
        self.conv5 = layer(f // 2, f)
        self.conv6 = layer(f, f)
        self.pool = nn.MaxPool2d(2, 2)

    def forward(self, image: Tensor) -> Tensor:
        x = swish(self.conv1(image))
        x = swish(self.conv2(x))
        x = self.pool(x)
        x = swish(self.conv3(x))
        x = swish(self.conv4(x))
        x = self.pool(x)
        x = swish(self.conv5(x))
        return self.conv6(x)


class Hourglass(nn.Module):
    """Levels counted from the innermost (0) outwards."""

    def __init__(self, f: int, growth: int, depth: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, 2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        levels = []
        for level in range(depth):
            inputs = f + growth * (depth - 1 - level)
            wider = inputs + growth
            layers = [layer(inputs, inputs), layer(inputs, wider), layer(wider, inputs)]
            if level == 0:
                layers.append(layer(wider, wider))
            levels.append(nn.ModuleList(layers))
        self.hg = nn.ModuleList(levels)

    def level(self, level: int, x: Tensor) -> Tensor:
        layers: Any = self.hg[level]
        up1 = layers[0](swish(x))
        low1 = layers[1](swish(self.pool(x)))
        low2 = self.level(level - 1, low1) if level > 0 else layers[3](swish(low1))
        low3 = layers[2](swish(low2))
        return up1 + self.up(low3)

    def forward(self, x: Tensor) -> Tensor:
        return self.level(len(self.hg) - 1, x)


class HG(nn.Module):
    """image (B, 3, H, W) normalised, H and W multiples of 8 * 2**depth -> for every stack (score (B, classes,
    H/8, W/8), embedding (B, embedding_len, H/8, W/8))."""

    def __init__(
        self,
        f: int = 256,
        num_stacks: int = 3,
        num_classes: int = 14,
        embedding_len: int = 14,
        growth: int = 128,
        depth: int = 4,
    ) -> None:
        super().__init__()
        between = range(num_stacks - 1)
        self.stage_base = nn.Sequential(Base(f))
        self.hg = nn.ModuleList(Hourglass(f, growth, depth) for _ in range(num_stacks))
        self.fc1 = nn.ModuleList(layer(f, f, 3) for _ in range(num_stacks))
        self.fc2 = nn.ModuleList(layer(f, f, 1) for _ in range(num_stacks))
        self.score = nn.ModuleList(layer(f, num_classes, 1) for _ in range(num_stacks))
        self.embedding = nn.ModuleList(layer(f, embedding_len, 1) for _ in range(num_stacks))
        self.fc_ = nn.ModuleList(layer(f, f, 1) for _ in between)
        self.score_ = nn.ModuleList(layer(num_classes + embedding_len, f, 1) for _ in between)

    def forward(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        x = self.stage_base(image)
        outputs = []
        for s in range(len(self.hg)):
            y = self.hg[s](x)
            y = self.fc1[s](swish(y))
            y = self.fc2[s](swish(y))
            score = self.score[s](y)
            embedding = self.embedding[s](y)
            outputs.append((score, embedding))
            if s < len(self.hg) - 1:
                x = x + self.fc_[s](y) + self.score_[s](torch.cat([score, embedding], dim=1))
        return outputs


def published_checkpoint(net: nn.Module) -> dict[str, Any]:
    """The content of a checkpoint laid out as the published one is: {state_dict}, keys prefixed `module.`."""
    return {
        "state_dict": {CHECKPOINT_PREFIX + key: v.detach().clone() for key, v in net.state_dict().items()}
    }
