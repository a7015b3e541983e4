"""Residual network (He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016).

At an output stride of 16 with one transposed convolution per field to 8 it is the part detector of DeeperCut
(Insafutdinov et al., ECCV 2016) and ArtTrack (CVPR 2017); at 32 it gives features to a neck."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from pose.backbones.base import FeatureBackbone, parameters
from pose.backbones.batch_norm import BatchNorm, batch_norm
from pose.backbones.pretrained import fitting, imagenet_file, read_weights, without_prefix
from pose.config import FilePath, Settings
from pose.errors import UserError
from pose.registry import BACKBONES
from pose.structures import NORMALIZATIONS, Fields

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4
Count = Annotated[int, Field(ge=1)]
Padding = Literal["torch", "same"]


class ResnetSettings(Settings):
    """The defaults suit torchvision's weights; `stride_style: msra, padding: same` are those of the published
    ones of DeeperCut."""

    name: Literal["resnet"] = "resnet"
    output_stride: Literal[16, 32] = 16
    """16: dilated at the end, with a transposed convolution to 8 for every field (DeeperCut).  32:
    torchvision's network, features at 4, 8, 16 and 32 for a neck."""
    depth: Literal[50, 101, 152] = 101
    """Layers of the published network, which say how many units each of the four blocks has."""
    blocks: tuple[Count, Count, Count, Count] | None = None
    """Units of the four blocks, where they are not those of `depth`."""
    width: int = Field(64, ge=1)
    """Channels of the first convolution; the blocks end with 4, 8, 16 and 32 times as many."""
    stride_style: Literal["torchvision", "msra"] = "torchvision"
    """Where the resolution is halved: in the 3x3 of a block's first unit, or before its first 1x1 (MSRA's and
    TensorFlow's weights).  The dilation of 2 in the last block begins at its second or its first unit."""
    padding: Padding = "torch"
    """Of the pooling and the transposed convolutions: symmetric, or TensorFlow's SAME (even sizes at their
    end only)."""
    batch_norm: BatchNorm = "frozen"
    """frozen: normalise by the statistics that came with the weights, in training too; scale and shift learn.
    From random weights choose train."""
    intermediate: bool = True
    """Supervise heatmaps also in the middle of the third block (unit 12 of 23; 3 of 6, 18 of 36)."""
    pretrained: FilePath | None = None
    """Weights of the trunk when a new run starts: `imagenet` (torchvision's IMAGENET1K_V1, fetched once), a
    file with a ResNet's weights under torchvision's names, or null."""

    @model_validator(mode="after")
    def _only_of_the_part_detector(self) -> ResnetSettings:
        for key in ("stride_style", "padding", "intermediate") if self.output_stride == 32 else ():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is a setting of output_stride 16; leave it out with 32")
        return self


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride and the dilation), 1x1; (B, inputs, h, w) -> (B, 4 width, h / stride, w /
    stride).  Names are torchvision's."""

    def __init__(
        self, inputs: int, width: int, stride: int = 1, dilation: int = 1, norm: BatchNorm = "train"
    ) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = batch_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = batch_norm(norm, width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = batch_norm(norm, outputs)
        self.stride = stride
        self.downsample: nn.Module | None = None
        if inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, batch_norm(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        if self.downsample:
            x = self.downsample(x)
        elif self.stride > 1:
            x = x[..., :: self.stride, :: self.stride]
        y += x
        return F.relu(y, inplace=True)


def strides_and_dilations(cfg: ResnetSettings) -> list[list[tuple[int, int]]]:
    """Stride and dilation of every unit of the four blocks.

    msra: what the next block's first 1x1 and shortcut would skip, the last unit before them does not compute
    (TensorFlow's slim): the same maps."""
    units = cfg.blocks or UNITS[cfg.depth]
    if cfg.output_stride == 32:
        return [[(1 if block == 0 else 2, 1), *[(1, 1)] * (n - 1)] for block, n in enumerate(units)]
    plan = [[(1, 1)] * units[0], [(1, 1)] * units[1], [(1, 1)] * units[2], [(1, 2)] * units[3]]
    if cfg.stride_style == "msra":
        plan[0][-1] = plan[1][-1] = (2, 1)
    else:
        plan[1][0] = plan[2][0] = (2, 1)
        plan[3][0] = (1, 1)
    return plan


def pool(x: Tensor, padding: Padding) -> Tensor:
    """3x3 with stride 2: (B, C, h, w) -> (B, C, ceil(h / 2), ceil(w / 2)).

    SAME pads an odd side by one cell at both ends, an even one at its end only."""
    if padding == "torch":
        return F.max_pool2d(x, 3, 2, padding=1)
    odd = (int(x.shape[-2] % 2), int(x.shape[-1] % 2))  # numbers, also where a graph is traced
    return F.max_pool2d(x, 3, 2, padding=odd, ceil_mode=True)


class Layers(nn.Module):
    """Those of the residual network without its classifier; tensors have torchvision's names."""

    def __init__(self, cfg: ResnetSettings) -> None:
        super().__init__()
        self.padding: Padding = cfg.padding
        self.conv1 = nn.Conv2d(3, cfg.width, 7, 2, padding=3, bias=False)
        self.bn1 = batch_norm(cfg.batch_norm, cfg.width)
        inputs = cfg.width
        layers = []
        for number, units in enumerate(strides_and_dilations(cfg)):
            width = cfg.width * 2**number
            made = []
            for stride, dilation in units:
                made.append(Bottleneck(inputs, width, stride, dilation, cfg.batch_norm))
                inputs = EXPANSION * width
            layers.append(nn.Sequential(*made))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.channels = tuple(EXPANSION * cfg.width * 2**number for number in range(4))  # of the blocks

    def stem(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width, H / 4, W / 4)."""
        return pool(F.relu(self.bn1(self.conv1(x)), inplace=True), self.padding)


class Trunk(Layers):
    """At an output stride of 16."""

    def __init__(self, cfg: ResnetSettings) -> None:
        super().__init__(cfg)
        self.middle = (len(self.layer3) + 1) // 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W) -> the middle of block 3 and the end of block 4, both (B, C, H / 16, W / 16)."""
        middle = x = self.layer2(self.layer1(self.stem(x)))
        for number, unit in enumerate(self.layer3, 1):
            x = unit(x)
            middle = x if number == self.middle else middle
        return middle, self.layer4(x)


class Upsample(nn.ConvTranspose2d):
    """3x3 transposed convolution with stride 2: (B, inputs, h, w) -> (B, outputs, 2 h, 2 w).

    SAME puts the kernel's first element on a cell's own place, so that its maps lie one further than torch's
    symmetric ones."""

    def __init__(self, inputs: int, outputs: int, padding: Padding) -> None:
        symmetric = int(padding == "torch")
        super().__init__(inputs, outputs, 3, 2, padding=symmetric, output_padding=symmetric)
        self.crop = not symmetric
        nn.init.xavier_uniform_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        y = super().forward(x, output_size)
        return y[..., :-1, :-1] if self.crop else y


def initialize(layers: nn.Module) -> None:
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, Bottleneck):  # units start as identities: nothing grows with the depth
            nn.init.zeros_(layer.bn3.weight)  # type: ignore[arg-type]


class Resnet(nn.Module):
    """The part detector.  `channels` maps each field to its number of channels.  The last stage has every
    field; the one before it, where `intermediate` is set, the heatmaps only.

    Pictures of any size pass: H x W gives maps of 2 ceil(H / 16) x 2 ceil(W / 16)."""

    def __init__(self, cfg: ResnetSettings, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.cfg = cfg
        self.size_multiple = 16
        self.trunk = Trunk(cfg)
        *_, middle, last = self.trunk.channels
        self.intermediate: Upsample | None = None
        if cfg.intermediate and "heatmap" in channels:
            self.intermediate = Upsample(middle, channels["heatmap"], cfg.padding)
        self.heads = nn.ModuleDict({name: Upsample(last, n, cfg.padding) for name, n in channels.items()})
        self.strides = (8,) * (1 if self.intermediate is None else 2)
        initialize(self.trunk)

    def forward(self, x: Tensor) -> list[Fields]:
        """x (B, 3, H, W) float -> one {field: (B, C, h, w)} for every stage, at stride 8."""
        middle, last = self.trunk(x)
        stages: list[Fields] = [] if self.intermediate is None else [{"heatmap": self.intermediate(middle)}]
        return [*stages, {name: head(last) for name, head in self.heads.items()}]

    def load_pretrained(self) -> str:
        """Gives the trunk the weights that `pretrained` names; a sentence about them."""
        assert self.cfg.pretrained is not None
        return load_resnet(self.trunk, self.cfg.depth, self.cfg.pretrained)

    def pretrained_layers(self) -> list[nn.Module]:
        """What `train.freeze_epochs` holds: the trunk."""
        return [self.trunk]


class ResnetFeatures(Layers, FeatureBackbone):
    """The ends of the four blocks, at strides 4, 8, 16 and 32: torchvision's network without its
    classifier."""

    normalization = NORMALIZATIONS["imagenet"]

    def __init__(self, cfg: ResnetSettings) -> None:
        super().__init__(cfg)
        self.cfg = cfg
        self.feature_channels = self.channels
        self.feature_strides = (4, 8, 16, 32)
        self.size_multiple = 32
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) float -> (B, 4 width, H / 4, W / 4) to (B, 32 width, H / 32, W / 32)."""
        x = self.stem(x)
        features = []
        for block in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = block(x)
            features.append(x)
        return features

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The first convolution, and each block."""
        blocks = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [parameters(self.conv1, self.bn1), *(parameters(block) for block in blocks)]

    def load_pretrained(self) -> str:
        """Loads the weights that `pretrained` names; a sentence about them."""
        assert self.cfg.pretrained is not None
        return load_resnet(self, self.cfg.depth, self.cfg.pretrained)

    def pretrained_layers(self) -> list[nn.Module]:
        """What `train.freeze_epochs` holds: everything."""
        return [self]


@BACKBONES.register("resnet", ResnetSettings)
def resnet(cfg: ResnetSettings, channels: Mapping[str, int] | None = None) -> Resnet | ResnetFeatures:
    """The network of the settings; `channels`, those of each field, belong to an output stride of 16."""
    if cfg.output_stride == 32:
        return ResnetFeatures(cfg)
    assert channels is not None
    return Resnet(cfg, channels)


# ------------------------------------------------------------------------------------------- learnt elsewhere


def load_resnet(trunk: Layers, depth: int, source: str) -> str:
    """Copies a residual network into `trunk`.

    source: `imagenet`, or a file with torchvision's names.  Raises `UserError` where there is no such file,
    or it holds something else."""
    file = imagenet_file(imagenet_url(depth)) if source == "imagenet" else Path(source)
    try:
        tensors = resnet_tensors(read_weights(file), trunk)
    except UserError as error:
        raise UserError(f"backbone.pretrained={source}: {error}") from None
    trunk.load_state_dict(tensors, strict=False)  # the file may count no batches
    return f"{file}: ResNet with {len(tensors)} tensors loaded"


def imagenet_url(depth: int) -> str:
    from torchvision.models import get_model_weights  # type: ignore[import-untyped]  # slow to import

    return str(get_model_weights(f"resnet{depth}")["IMAGENET1K_V1"].url)


def resnet_tensors(state: Mapping[str, Any], trunk: Layers) -> dict[str, Tensor]:
    """What the trunk takes of a file, under the trunk's names; a prefix of the names does not matter."""
    pattern = re.compile(r"(?:layer\d\.\d+\.)?(?:conv\d|bn\d|downsample\.\d)\.\w+")
    named = without_prefix(state, "layer1.0.conv1.weight")
    found = {name: value for name, value in named.items() if pattern.fullmatch(name)}
    return fitting(found, trunk, "ResNet", "backbone.depth")
