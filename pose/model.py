"""The network with its head, and the unit that training wraps: targets, forward and loss in one module."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from pose.backbones.base import FeatureBackbone
from pose.data.augment import AugmentSettings, DeviceAugment, no_augmentation
from pose.errors import UserError
from pose.geometry import round_up
from pose.heads.base import Head, last_of_each_size
from pose.necks.base import Neck
from pose.necks.none import NoNeckSettings
from pose.predictors.base import Predictor
from pose.predictors.conv import ConvSettings
from pose.registry import BACKBONES, HEADS, NECKS, PREDICTORS
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, InputSettings

LevelMean = Literal["finest", "grid", "several"]


class PoseModel(nn.Module):
    """Images -> stages of named fields.

    backbone: gives features, which `neck` and `predictor` turn to fields; or gives the fields itself, and has
    neither.  head: settings, and buffers of what it knows of the data set."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        input: InputSettings,
        neck: Neck | None = None,
        predictor: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.predictor = predictor
        self.head = head
        self.input = input
        self.register_buffer("mean", torch.tensor(input.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(input.std).view(3, 1, 1), persistent=False)

    @property
    def strides(self) -> tuple[int, ...]:
        """Input pixels per cell of each stage; the last one's are those of the fields that are read out."""
        last = self.backbone if self.predictor is None else self.predictor
        return tuple(int(stride) for stride in last.strides)  # type: ignore[union-attr, arg-type]

    @property
    def size_multiple(self) -> int:
        return int(self.backbone.size_multiple)  # type: ignore[arg-type]

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), uint8 or float in [0, 1], RGB -> what the network takes."""
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        x = (x - self.mean) / self.std
        return x.flip(1) if self.input.channel_order == "bgr" else x

    def forward(self, images: Tensor) -> list[Fields]:
        """(B, 3, H, W) uint8, or float in [0, 1], RGB -> {field: (B, C, h, w)} for every stage."""
        x = self.backbone(self.normalize(images))
        if self.neck is not None:
            x = self.neck(x)
        return x if self.predictor is None else self.predictor(x)

    def compile_network(self) -> None:
        """`torch.compile` of each part, on its first call."""
        for part in (self.backbone, self.neck, self.predictor):
            if part is not None:
                part.compile()

    def read(self, images: Tensor, precision: str = "fp32") -> Fields:
        """(B, 3, H, W) uint8 RGB -> the fields that are fused and decoded, float32 and in physical units.
        precision: the network's, see `autocast`."""
        return self.read_levels(images, precision)[0]

    def read_levels(
        self, images: Tensor, precision: str = "fp32", level_mean: LevelMean = "finest"
    ) -> list[Fields]:
        """As `read`, but for `level_mean` "grid" of each resolution of the network by itself, coarse to fine,
        with the fields that it has; and for "several" in a list of one, where fields that exist at one
        resolution only still have it."""
        with autocast(images.device, precision):
            stages = self(images)
        if level_mean == "finest":
            return [self.head.readout(stages)]
        levels = self.head.readout_each(last_of_each_size(stages))
        if level_mean == "grid":
            return levels
        at = {name: [level[name] for level in levels if name in level] for name in self.head.fields}
        together = self.head.readout(stages)
        return [{name: maps[0] if len(maps) == 1 else together[name] for name, maps in at.items()}]

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def coarsest_stride(self) -> int:
        """Pixels per cell of the network's coarsest maps."""
        return max(self.strides)


def build_model(
    backbone: Any,
    head: Any,
    skeleton: Skeleton,
    input: InputSettings,
    *,
    neck: Any = None,
    predictor: Any = None,
) -> PoseModel:
    """The model of a config's sections.  Raises `UserError` for parts that do not go together."""
    head_module: Head = HEADS.build(head, skeleton, input.layout)
    network = BACKBONES.build(backbone, head_module.channels)
    neck, predictor = neck or NoNeckSettings(), predictor or ConvSettings()
    if isinstance(network, FeatureBackbone):
        neck_module: Neck = NECKS.build(neck, network.feature_channels, network.feature_strides)
        predictor_module = _predictor(predictor, neck_module, head, head_module)
        model = PoseModel(network, head_module, input, neck_module, predictor_module)
    else:
        for section, settings, only in (("neck", neck, "none"), ("predictor", predictor, "conv")):
            if settings.name != only:
                raise UserError(
                    f"{section}: {settings.name!r} stands on features, and the backbone {backbone.name!r} "
                    f"gives the fields themselves; leave {section} out, or choose a backbone of features"
                )
        model = PoseModel(network, head_module, input)
    nowhere = [
        name
        for name, spec in head_module.fields.items()
        if spec.strides is not None and not {*spec.strides} & {*model.strides}
    ]
    if nowhere:
        asked = list(head_module.fields[nowhere[0]].strides or ())
        raise UserError(
            f"the head {head.name!r} asks for {nowhere[0]!r} at the strides {asked}, and the network has "
            f"levels at {sorted({*model.strides})}"
        )
    fitting = [round_up(side, model.size_multiple) for side in input.size]
    if fitting != list(input.size):
        raise UserError(
            f"input.size: {list(input.size)} does not go through the {backbone.name} backbone; height and "
            f"width must be multiples of {model.size_multiple}, such as {fitting}"
        )
    return model


def _predictor(settings: Any, neck: Neck, head: Any, head_module: Head) -> nn.Module:
    """The head's own layers where it has some, else the predictor of the config."""
    own = head_module.layers(neck.channels, neck.strides)
    if own is None:
        built: Predictor = PREDICTORS.build(settings, neck.channels, neck.strides, head_module.fields)
        return built
    if settings.name != "conv":
        raise UserError(
            f"predictor: the head {head.name!r} has layers of its own; leave out the predictor "
            f"{settings.name!r}"
        )
    return own


class TrainStep(nn.Module):
    """Batch -> loss terms.  What DataParallel and DDP wrap, so that replicas return scalars and not maps."""

    def __init__(
        self, model: PoseModel, *, precision: str = "fp32", augment: AugmentSettings | None = None
    ) -> None:
        """augment: settings by which the batch's pixels are changed; None: they stay as they are."""
        super().__init__()
        self.model = model
        self.precision = precision
        self.augment = DeviceAugment(augment or no_augmentation())

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Each term (1,), so that DataParallel can gather it; `loss` is the sum of those not named
        `stat/...`."""
        head = self.model.head
        images = self.augment(batch.image, batch.color)
        with autocast(images.device, self.precision):
            stages = self.model(images)
        height = batch.image.shape[-2]
        strides = [height // next(iter(stage.values())).shape[-2] for stage in stages]
        drawn = {stride: head.targets(batch, stride) for stride in set(strides)}
        terms = head.loss(stages, [drawn[stride] for stride in strides])
        terms["loss"] = torch.stack([t for name, t in terms.items() if not name.startswith("stat/")]).sum()
        return {name: term.reshape(1) for name, term in terms.items()}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """torch's autocast for `fp32` (off), `bf16` or `fp16`."""
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 on GPUs that compute in it, else fp32; what inference takes on a CPU is chosen by
    `pose.inference`."""
    if precision != "auto":
        return precision
    return (
        "bf16"
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        else "fp32"
    )
