"""High-resolution network (Sun, Xiao, Liu, Wang: Deep High-Resolution Representation Learning for Human Pose
Estimation, CVPR 2019; Wang et al., TPAMI 2020): four resolutions in parallel that exchange what they see.

Tensors have the names of the published files (HRNet-Image-Classification, HigherHRNet, MMPose, timm)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pose.backbones.base import FeatureBackbone, parameters
from pose.backbones.batch_norm import BatchNorm, batch_norm
from pose.backbones.pretrained import fitting, read_weights, timm_weights, without_prefix
from pose.backbones.resnet import EXPANSION, Bottleneck, Count
from pose.config import FilePath, Settings
from pose.errors import UserError
from pose.layers import Init, first_weights
from pose.registry import BACKBONES
from pose.structures import NORMALIZATIONS

STEM = 64  # channels of the first two convolutions, and inside the first stage's units


class HrnetSettings(Settings):
    """The defaults are the body of HigherHRNet-W32."""

    name: Literal["hrnet"] = "hrnet"
    width: int = Field(32, ge=1)
    """Channels at the highest resolution (published: 18, 32, 48); each lower one has twice as many."""
    rows: Literal[1, 4] = 1
    """Resolutions that come out: only the highest, at stride 4 (HigherHRNet), or all, at 4, 8, 16 and 32."""
    modules: tuple[Count, Count, Count] = (1, 4, 3)
    """Exchanges in the stages of two, three and four resolutions."""
    blocks: int = Field(4, ge=1)
    """Residual units at each resolution between two exchanges, and of the first stage."""
    batch_norm: BatchNorm = "train"
    """frozen: normalise by the statistics that came with the weights, in training too; scale and shift
    learn."""
    init: Init = "kaiming"
    """First weights of all convolutions: Kaiming's, or N(0, 0.001^2) as published; `pretrained` replaces them
    all.  Without it normal needs batch_norm=train, or the signal vanishes."""
    pretrained: FilePath | None = None
    """Weights when a new run starts: `imagenet` (timm's of this width, fetched once), `timm:NAME`, a file
    with the network under its published names (.pth, .safetensors; a classifier or a pose head in it is
    ignored), or null."""

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels of the four resolutions."""
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width


def conv_norm(
    cfg: HrnetSettings, inputs: int, outputs: int, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, batch_norm(cfg.batch_norm, outputs))


def conv_norm_relu(cfg: HrnetSettings, inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return conv_norm(cfg, inputs, outputs, 3, stride).append(nn.ReLU(inplace=True))


class BasicBlock(nn.Module):
    """Two 3x3 and the identity; (B, width, h, w) -> the same shape."""

    def __init__(self, width: int, norm: BatchNorm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = batch_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = batch_norm(norm, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x
        return F.relu(y, inplace=True)


def double(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2 h, 2 w), by repetition."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Exchange(nn.Module):
    """Residual units at every resolution, then each of the first `rows` resolutions becomes the sum of all.

    A lower resolution comes by a 1x1 and repetition, a higher one by a 3x3 of stride 2 for every halving."""

    def __init__(self, cfg: HrnetSettings, resolutions: int, rows: int) -> None:
        super().__init__()
        widths = cfg.widths[:resolutions]
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, cfg.batch_norm) for _ in range(cfg.blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(cfg, widths, start, end) for start in range(resolutions))
            for end in range(rows)
        )

    @staticmethod
    def _path(cfg: HrnetSettings, widths: Sequence[int], start: int, end: int) -> nn.Module:
        if start == end:
            return nn.Identity()
        if start > end:
            return conv_norm(cfg, widths[start], widths[end], kernel=1)
        steps = [conv_norm_relu(cfg, widths[start], widths[start], stride=2) for _ in range(end - start - 1)]
        return nn.Sequential(*steps, conv_norm(cfg, widths[start], widths[end], stride=2))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """One (B, width 2^i, H / 4 / 2^i, W / 4 / 2^i) for every resolution i -> the same of the rows."""
        x = [branch(one) for branch, one in zip(self.branches, x, strict=True)]
        return [self._sum(paths, x, end) for end, paths in enumerate(self.fuse_layers)]  # type: ignore[arg-type]

    @staticmethod
    def _sum(paths: nn.ModuleList, x: list[Tensor], end: int) -> Tensor:
        """Every sum is in place on what was just made, and lower resolutions are summed before they are
        repeated: repetition is linear, and there is less to add."""
        lower: Tensor | None = None
        for start in range(len(x) - 1, end, -1):
            y = paths[start](x[start])
            lower = double(y if lower is None else y.add_(lower))
        total = x[end] if lower is None else lower.add_(x[end])
        for start in range(end):
            total = paths[start](x[start]).add_(total)
        return F.relu(total, inplace=True)


@BACKBONES.register("hrnet", HrnetSettings)
class Hrnet(FeatureBackbone):
    normalization = NORMALIZATIONS["imagenet"]

    def __init__(self, cfg: HrnetSettings, channels: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        w = cfg.widths
        self.feature_channels = w[: cfg.rows]
        self.feature_strides = (4, 8, 16, 32)[: cfg.rows]
        self.size_multiple = 32
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, padding=1, bias=False)
        self.bn1 = batch_norm(cfg.batch_norm, STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 2, padding=1, bias=False)
        self.bn2 = batch_norm(cfg.batch_norm, STEM)
        wide = EXPANSION * STEM
        self.layer1 = nn.Sequential(
            *(Bottleneck(STEM if n == 0 else wide, STEM, norm=cfg.batch_norm) for n in range(cfg.blocks))
        )
        first, second = conv_norm_relu(cfg, wide, w[0]), conv_norm_relu(cfg, wide, w[1], stride=2)
        self.transition1 = nn.ModuleList([first, nn.Sequential(second)])
        self.stage2 = self._stage(2)
        self.transition2 = self._new_resolution(2)
        self.stage3 = self._stage(3)
        self.transition3 = self._new_resolution(3)
        self.stage4 = self._stage(4, cfg.rows)
        first_weights(self, cfg.init)

    def _stage(self, resolutions: int, rows: int | None = None) -> nn.Sequential:
        """rows: what the last exchange gives, where it is not every resolution."""
        made = [resolutions] * (self.cfg.modules[resolutions - 2] - 1) + [rows or resolutions]
        return nn.Sequential(*(Exchange(self.cfg, resolutions, n) for n in made))

    def _new_resolution(self, number: int) -> nn.ModuleList:
        """One more resolution from the lowest; the others pass."""
        inputs, outputs = self.cfg.widths[number - 1 : number + 1]
        lower = nn.Sequential(conv_norm_relu(self.cfg, inputs, outputs, stride=2))
        return nn.ModuleList([*(nn.Identity() for _ in range(number)), lower])

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) float -> (B, width, H / 4, W / 4); with four rows also (B, 2 width, H / 8, W / 8),
        (B, 4 width, H / 16, W / 16) and (B, 8 width, H / 32, W / 32)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.layer1(x)
        y = self.stage2([transition(x) for transition in self.transition1])
        y = self.stage3([*y, self.transition2[-1](y[-1])])
        return self.stage4([*y, self.transition3[-1](y[-1])])

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The first stage with what is before it, and each later stage with the layers that lead to it."""
        return [
            parameters(self.conv1, self.bn1, self.conv2, self.bn2, self.layer1),
            parameters(self.transition1, self.stage2),
            parameters(self.transition2, self.stage3),
            parameters(self.transition3, self.stage4),
        ]

    def load_pretrained(self) -> str:
        """Loads the weights that `pretrained` names; a sentence about them.

        Raises `UserError` where there are no such weights, or they are not all of this network's."""
        source = self.cfg.pretrained
        assert source is not None
        name = f"timm:hrnet_w{self.cfg.width}.ms_in1k" if source == "imagenet" else source
        try:
            if name.startswith("timm:"):
                state: Mapping[str, Any] = timm_weights(name.removeprefix("timm:"))
            else:
                state = read_weights(Path(name))
            tensors = hrnet_tensors(state, self)
        except UserError as error:
            raise UserError(f"backbone.pretrained={source}: {error}") from None
        self.load_state_dict(tensors, strict=False)  # the file may count no batches
        return f"{name}: HRNet with {len(tensors)} tensors loaded"

    def pretrained_layers(self) -> list[nn.Module]:
        """What `train.freeze_epochs` holds: everything."""
        return [self]


def hrnet_tensors(state: Mapping[str, Any], net: Hrnet) -> dict[str, Tensor]:
    """What the network takes of a file, under the network's names; a prefix of the names does not matter.

    Where the network has one row, those of a file with four are left out."""
    named = without_prefix(state, "stage2.0.branches.0.0.conv1.weight")
    pattern = re.compile(r"(?:conv\d|bn\d|layer1|transition\d|stage\d)\..*")
    last = f"stage4.{len(net.stage4) - 1}.fuse_layers."
    unused = re.compile(rf"{re.escape(last)}[{net.cfg.rows}-9]\.") if net.cfg.rows == 1 else None
    found = {
        name: value
        for name, value in named.items()
        if pattern.fullmatch(name) and not (unused and unused.match(name))
    }
    return fitting(found, net, "HRNet", "backbone.modules or backbone.blocks")
