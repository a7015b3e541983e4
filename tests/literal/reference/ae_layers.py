"""Layers of MMPose's associative embedding after a body, restated literally, with the key names of its
published files.  Channels of the output: heatmaps, then tags."""

from __future__ import annotations

from torch import Tensor, nn


class SimpleLayers(nn.Module):
    """features (B, inputs, h, w) -> (B, outputs, h, w), after HRNet."""

    def __init__(self, inputs: int, outputs: int = 34) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(x)


class DeconvLayers(nn.Module):
    """features (B, inputs, h, w) -> (B, outputs, 8 h, 8 w), after ResNet and MobileNetV2."""

    def __init__(self, inputs: int, outputs: int = 34) -> None:
        super().__init__()
        self.deconv_layers = nn.Sequential(
            nn.ConvTranspose2d(inputs, 256, 4, 2, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 256, 4, 2, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 256, 4, 2, 1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(),
        )
        self.final_layer = nn.Conv2d(256, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(self.deconv_layers(x))
