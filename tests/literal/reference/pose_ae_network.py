"""The stacked hourglass of pose-ae-train, restated literally, with the key names of its published
checkpoints.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017),
as released in pose-ae-train.  The published settings (the defaults here) have 138 893 840 parameters.

Where the description leaves room:
- merge layers exist only *between* stacks (`stacks - 1` of each): with a fourth pair the network would have
  138 977 296 parameters.  Only the first rounds to the published 138.9 M.
- with batch norm on, only convolutions followed by a ReLU have one (the 1x1 output and merge layers are
  linear and bare), and it is called `bn`; the published checkpoints have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HEATMAP_CHANNELS = slice(0, 17)
TAG_CHANNELS = slice(17, 34)  # channels 34:68 are never used
CHECKPOINT_PREFIX = "model.module."


class Conv(nn.Module):
    """Convolution that keeps the size at stride 1, then ReLU, then (unusually late) batch norm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        relu: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2, bias=True)
        self.relu = nn.ReLU() if relu else None
        self.bn = nn.BatchNorm2d(outputs) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.relu is not None:
            x = self.relu(x)
        if self.bn is not None:
            x = self.bn(x)
        return x


class Hourglass(nn.Module):
    """One level: `up1` at full size beside pool, `low1`, the next level (`low2`), `low3`, nearest x2;
    summed."""

    def __init__(self, depth: int, width: int, growth: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        wider = width + growth
        self.up1 = Conv(width, width, batch_norm=batch_norm)
        self.pool1 = nn.MaxPool2d(2, 2)
        self.low1 = Conv(width, wider, batch_norm=batch_norm)
        self.low2: nn.Module = (
            Hourglass(depth - 1, wider, growth, batch_norm=batch_norm)
            if depth > 1
            else Conv(wider, wider, batch_norm=batch_norm)
        )
        self.low3 = Conv(wider, width, batch_norm=batch_norm)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(self.pool1(x))))
        return self.up1(x) + self.up2(low)


class Merge(nn.Module):
    """Linear 1x1 back to the trunk's width; its only reason is the doubled `.conv.conv` in the key names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PoseNet(nn.Module):
    """image (B, 3, H, W) float RGB in [0, 1], H and W multiples of 4 * 2**depth -> (B, stacks, channels, H/4,
    W/4).

    The trunk is `width` wide; the stem goes through a quarter and a half of it (64 and 128 of the published
    256).
    """

    def __init__(
        self,
        stacks: int = 4,
        width: int = 256,
        growth: int = 128,
        depth: int = 4,
        channels: int = 68,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        bn = batch_norm
        self.pre = nn.Sequential(
            Conv(3, width // 4, 7, stride=2, batch_norm=bn),
            Conv(width // 4, width // 2, batch_norm=bn),
            nn.MaxPool2d(2, 2),
            Conv(width // 2, width // 2, batch_norm=bn),
            Conv(width // 2, width, batch_norm=bn),
        )
        self.features = nn.ModuleList(
            nn.Sequential(
                Hourglass(depth, width, growth, batch_norm=bn),
                Conv(width, width, batch_norm=bn),
                Conv(width, width, batch_norm=bn),
            )
            for _ in range(stacks)
        )
        self.outs = nn.ModuleList(Conv(width, channels, 1, relu=False) for _ in range(stacks))
        self.merge_features = nn.ModuleList(Merge(width, width) for _ in range(stacks - 1))
        self.merge_preds = nn.ModuleList(Merge(channels, width) for _ in range(stacks - 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.pre(image)
        predictions = []
        for stack in range(len(self.features)):
            feature = self.features[stack](x)
            prediction = self.outs[stack](feature)
            predictions.append(prediction)
            if stack < len(self.features) - 1:
                x = x + self.merge_preds[stack](prediction) + self.merge_features[stack](feature)
        return torch.stack(predictions, dim=1)


def published_checkpoint(
    net: nn.Module, epoch: int, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """{state_dict, optimizer, epoch} laid out as the published files are (keys prefixed `model.module.`).

    Without an `optimizer`, that of the training recipe (Adam at 2e-4) before its first step.
    """
    optimizer = optimizer or torch.optim.Adam(net.parameters(), lr=2e-4)
    state = {CHECKPOINT_PREFIX + key: value.detach().clone() for key, value in net.state_dict().items()}
    return {"state_dict": state, "optimizer": optimizer.state_dict(), "epoch": epoch}


def last_stack(net: nn.Module) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The network as the test loop wants it: (H, W, 3) float32 -> heatmaps and tags (17, H/4, W/4) of the
    last stack."""

    @torch.no_grad()
    def forward(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parameter = next(net.parameters())
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        output = net(batch.to(parameter.device, parameter.dtype))[0, -1].float().cpu().numpy()
        return output[HEATMAP_CHANNELS], output[TAG_CHANNELS]

    return forward
