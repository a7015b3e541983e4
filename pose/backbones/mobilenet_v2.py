"""MobileNetV2 (Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018): a body for
small devices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from pose.backbones.base import FeatureBackbone, parameters
from pose.backbones.batch_norm import BatchNorm, batch_norm
from pose.backbones.pretrained import fitting, imagenet_file, read_weights, without_prefix
from pose.config import FilePath, Settings
from pose.errors import UserError
from pose.registry import BACKBONES
from pose.structures import NORMALIZATIONS

# table 2 of the paper, a layer per line: expansion, channels, units, stride of the first
LAYERS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FIRST, LAST = 32, 1280  # channels of the convolutions before and after them
FEATURES = {2: 4, 3: 8, 5: 16}  # number of a layer, counted from 1 -> stride; the last convolution has 32


class MobilenetV2Settings(Settings):
    name: Literal["mobilenet_v2"] = "mobilenet_v2"
    width: float = Field(1.0, gt=0)
    """Factor on the channels of every layer, which are rounded to multiples of 8; those of the last
    convolution never shrink."""
    batch_norm: BatchNorm = "train"
    """frozen: normalise by the statistics that came with the weights, in training too; scale and shift
    learn."""
    pretrained: FilePath | None = None
    """Weights when a new run starts: `imagenet` (torchvision's IMAGENET1K_V1, fetched once; for width 1), a
    file with torchvision's or MMPose's names, or null."""


def scaled(channels: int, width: float) -> int:
    """The multiple of 8 nearest to `channels` times `width`, but not below 90 % of it."""
    wanted = channels * width
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * wanted else nearest


class ConvNorm(nn.Module):
    """Convolution, normalisation and, but for a linear one, ReLU6."""

    def __init__(
        self,
        cfg: MobilenetV2Settings,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = batch_norm(cfg.batch_norm, outputs)
        self.act = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 of each channel alone, linear 1x1; (B, inputs, h, w) -> (B, outputs, h /
    stride, w / stride)."""

    def __init__(
        self, cfg: MobilenetV2Settings, inputs: int, outputs: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inside = inputs * expansion
        layers = [] if expansion == 1 else [ConvNorm(cfg, inputs, inside)]
        layers += [
            ConvNorm(cfg, inside, inside, 3, stride, groups=inside),
            ConvNorm(cfg, inside, outputs, linear=True),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y.add_(x) if self.residual else y


@BACKBONES.register("mobilenet_v2", MobilenetV2Settings)
class MobilenetV2(FeatureBackbone):
    """Features at strides 4, 8, 16 and 32, the last with 1280 channels.  Tensors have MMPose's names."""

    normalization = NORMALIZATIONS["imagenet"]

    def __init__(self, cfg: MobilenetV2Settings, channels: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        self.size_multiple = 32
        inputs = scaled(FIRST, cfg.width)
        self.conv1 = ConvNorm(cfg, 3, inputs, 3, 2)
        widths: dict[int, int] = {}
        for number, (expansion, base, units, stride) in enumerate(LAYERS, 1):
            widths[number] = scaled(base, cfg.width)
            layer = nn.Sequential()
            for unit in range(units):
                layer.append(
                    InvertedResidual(cfg, inputs, widths[number], stride if unit == 0 else 1, expansion)
                )
                inputs = widths[number]
            setattr(self, f"layer{number}", layer)
        last = scaled(LAST, max(1.0, cfg.width))
        self.conv2 = ConvNorm(cfg, inputs, last)
        self.feature_channels = (*(widths[number] for number in FEATURES), last)
        self.feature_strides = (*FEATURES.values(), 32)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def _layers(self) -> list[nn.Module]:
        return [getattr(self, f"layer{number}") for number in range(1, len(LAYERS) + 1)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) float -> at width 1 (B, 24, H / 4, W / 4), (B, 32, ...), (B, 96, ...) and
        (B, 1280, H / 32, W / 32)."""
        x = self.conv1(x)
        features = []
        for number, layer in enumerate(self._layers(), 1):
            x = layer(x)
            if number in FEATURES:
                features.append(x)
        return [*features, self.conv2(x)]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """What leads to each of the four features, that of stride 4 with the layers before it."""
        one, two, three, four, five, six, seven = self._layers()
        return [
            parameters(self.conv1, one, two),
            parameters(three),
            parameters(four, five),
            parameters(six, seven, self.conv2),
        ]

    def load_pretrained(self) -> str:
        """Loads the weights that `pretrained` names; a sentence about them.

        Raises `UserError` where there is no such file, or it holds something else."""
        source = self.cfg.pretrained
        assert source is not None
        file = imagenet_file(imagenet_url()) if source == "imagenet" else Path(source)
        try:
            tensors = mobilenet_tensors(read_weights(file), self)
        except UserError as error:
            raise UserError(f"backbone.pretrained={source}: {error}") from None
        self.load_state_dict(tensors, strict=False)  # the file may count no batches
        return f"{file}: MobileNetV2 with {len(tensors)} tensors loaded"

    def pretrained_layers(self) -> list[nn.Module]:
        """What `train.freeze_epochs` holds: everything."""
        return [self]


def imagenet_url() -> str:
    from torchvision.models import MobileNet_V2_Weights  # type: ignore[import-untyped]  # slow to import

    return str(MobileNet_V2_Weights.IMAGENET1K_V1.url)


def mobilenet_tensors(state: Mapping[str, Any], net: MobilenetV2) -> dict[str, Tensor]:
    """What the network takes of a file, under the network's names; a prefix of the names does not matter."""
    first = "features.0.0.weight"
    named = without_prefix(state, first)
    if first in named:
        layers = torchvision_layers()
        parts = {name: name.rpartition(".") for name in named}
        named = {
            f"{layers[layer]}.{kind}": named[name]
            for name, (layer, _, kind) in parts.items()
            if layer in layers
        }
    else:
        named = without_prefix(state, "conv1.conv.weight")
    pattern = re.compile(r"(?:conv[12]|layer\d\.\d\.conv\.\d)\.(?:conv|bn)\.\w+")
    found = {name: value for name, value in named.items() if pattern.fullmatch(name)}
    return fitting(found, net, "MobileNetV2", "backbone.width")


def torchvision_layers() -> dict[str, str]:
    """torchvision's names of layers -> ours, such as `features.2.conv.1.0` -> `layer2.0.conv.1.conv`."""
    names = {"features.0.0": "conv1.conv", "features.0.1": "conv1.bn"}
    place = 0
    for number, (expansion, _, units, _) in enumerate(LAYERS, 1):
        for unit in range(units):
            place += 1
            theirs, ours = f"features.{place}.conv", f"layer{number}.{unit}.conv"
            linear = 1 if expansion == 1 else 2
            for n in range(linear):
                names |= {f"{theirs}.{n}.0": f"{ours}.{n}.conv", f"{theirs}.{n}.1": f"{ours}.{n}.bn"}
            names[f"{theirs}.{linear}"] = f"{ours}.{linear}.conv"
            names[f"{theirs}.{linear + 1}"] = f"{ours}.{linear}.bn"
    last = f"features.{place + 1}"
    return {**names, f"{last}.0": "conv2.conv", f"{last}.1": "conv2.bn"}
