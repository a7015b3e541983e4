"""HRNet and HigherHRNet, restated literally, with the key names of their published files.

Sun, Xiao, Liu and Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation" (CVPR 2019);
Cheng, Xiao, Wang, Shi, Huang and Zhang, "HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human
Pose Estimation" (CVPR 2020), as published with the paper.

Where the descriptions leave room:
- a lower resolution is repeated (nearest), not interpolated, and has no ReLU before the sum
- what goes two or three resolutions down has a ReLU between its steps and none after the last
- the transposed convolution sees the features and all outputs of the first stage, tags too, in this order
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PARAMETERS = {32: 28_645_331, 48: 63_827_139}  # HigherHRNet with 17 keypoints, by width
MULTIPLY_ADDS = {32: 46_203_404_288, 48: 95_660_015_616}  # of one image of 512 x 512


class Conv3x3NormReLU(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )


class BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(x + y)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 64, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 256, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(256)
        if inputs != 256:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, 256, 1, bias=False), nn.BatchNorm2d(256))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return F.relu(shortcut + y)


class FusedModule(nn.Module):
    """Four basic blocks per branch, then row i of the fusion sums what comes from every branch j."""

    def __init__(self, channels: list[int], rows: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for c in channels:
            self.branches.append(nn.Sequential(BasicBlock(c), BasicBlock(c), BasicBlock(c), BasicBlock(c)))
        self.fuse_layers = nn.ModuleList()
        for i in range(rows):
            row = nn.ModuleList()
            for j in range(len(channels)):
                if j == i:
                    row.append(nn.Identity())
                elif j > i:
                    conv = nn.Conv2d(channels[j], channels[i], 1, bias=False)
                    up = nn.Upsample(scale_factor=2 ** (j - i), mode="nearest")
                    row.append(nn.Sequential(conv, nn.BatchNorm2d(channels[i]), up))
                else:
                    steps = nn.Sequential()
                    for _ in range(i - j - 1):
                        steps.append(Conv3x3NormReLU(channels[j], channels[j], 2))
                    conv = nn.Conv2d(channels[j], channels[i], 3, 2, 1, bias=False)
                    steps.append(nn.Sequential(conv, nn.BatchNorm2d(channels[i])))
                    row.append(steps)
            self.fuse_layers.append(row)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(one) for branch, one in zip(self.branches, x)]
        fused = []
        for row in self.fuse_layers:
            total: Tensor | int = 0
            for j in range(len(x)):
                total = total + row[j](x[j])  # type: ignore[index]
            assert isinstance(total, Tensor)
            fused.append(F.relu(total))
        return fused


class HRNet(nn.Module):
    """image (B, 3, H, W) -> [(B, W, H/4, W/4)] or, with 4 rows, all resolutions to 1/32."""

    def __init__(self, width: int = 32, rows: int = 1) -> None:
        super().__init__()
        c1, c2, c3, c4 = width, 2 * width, 4 * width, 8 * width
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64), Bottleneck(256), Bottleneck(256), Bottleneck(256))
        lower = nn.Sequential(Conv3x3NormReLU(256, c2, 2))
        self.transition1 = nn.ModuleList([Conv3x3NormReLU(256, c1, 1), lower])
        self.stage2 = nn.Sequential(FusedModule([c1, c2], 2))
        lower = nn.Sequential(Conv3x3NormReLU(c2, c3, 2))
        self.transition2 = nn.ModuleList([nn.Identity(), nn.Identity(), lower])
        self.stage3 = nn.Sequential(*[FusedModule([c1, c2, c3], 3) for _ in range(4)])
        lower = nn.Sequential(Conv3x3NormReLU(c3, c4, 2))
        self.transition3 = nn.ModuleList([nn.Identity(), nn.Identity(), nn.Identity(), lower])
        self.stage4 = nn.Sequential(
            FusedModule([c1, c2, c3, c4], 4),
            FusedModule([c1, c2, c3, c4], 4),
            FusedModule([c1, c2, c3, c4], rows),
        )

    def trunk(self, image: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        y = self.stage2([self.transition1[0](x), self.transition1[1](x)])
        y = self.stage3([y[0], y[1], self.transition2[2](y[1])])
        return self.stage4([y[0], y[1], y[2], self.transition3[3](y[2])])

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.trunk(image)


class HigherLayers(nn.Module):
    """features (B, W, h, w) -> [heatmaps and tags (B, 2 K, h, w), heatmaps (B, K, 2 h, 2 w)]."""

    def __init__(self, width: int = 32, keypoints: int = 17) -> None:
        super().__init__()
        self.final_layers = nn.ModuleList(
            [nn.Conv2d(width, 2 * keypoints, 1), nn.Conv2d(width, keypoints, 1)]
        )
        up = nn.ConvTranspose2d(width + 2 * keypoints, width, 4, 2, 1, bias=False)
        self.deconv_layers = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Sequential(up, nn.BatchNorm2d(width), nn.ReLU()),
                    nn.Sequential(BasicBlock(width)),
                    nn.Sequential(BasicBlock(width)),
                    nn.Sequential(BasicBlock(width)),
                    nn.Sequential(BasicBlock(width)),
                )
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.final_layers[0](x)
        x = self.deconv_layers[0](torch.cat([x, first], 1))
        return [first, self.final_layers[1](x)]


class HigherHRNet(HRNet):
    """image (B, 3, H, W) -> [heatmaps and tags (B, 2 K, H/4, W/4), heatmaps (B, K, H/2, W/2)]."""

    def __init__(self, width: int = 32, keypoints: int = 17) -> None:
        super().__init__(width, rows=1)
        layers = HigherLayers(width, keypoints)
        self.final_layers = layers.final_layers
        self.deconv_layers = layers.deconv_layers

    def forward(self, image: Tensor) -> list[Tensor]:
        (x,) = self.trunk(image)
        return HigherLayers.forward(self, x)  # type: ignore[arg-type]  # has its layers
