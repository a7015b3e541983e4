"""A backbone with a head, and the unit that training wraps: targets, forward and loss in one module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pose.data.augment import color_jitter
from pose.errors import UserError
from pose.geometry import round_up
from pose.heads.base import Head
from pose.registry import BACKBONES, HEADS
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, InputSettings


class PoseModel(nn.Module):
    """Pictures -> stages of named fields.  Weights are the backbone's; `head` holds settings and buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: Head, input: InputSettings) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.input = input
        self.register_buffer("mean", torch.tensor(input.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(input.std).view(3, 1, 1), persistent=False)

    @property
    def size_multiple(self) -> int:
        return int(self.backbone.size_multiple)  # type: ignore[arg-type]

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), uint8 or float in [0, 1], RGB -> what the network takes."""
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        x = (x - self.mean) / self.std
        return x.flip(1) if self.input.channel_order == "bgr" else x

    def forward(self, images: Tensor) -> list[Fields]:
        return self.backbone(self.normalize(images))

    def read(self, images: Tensor, precision: str = "fp32") -> Fields:
        """(B, 3, H, W) uint8 RGB -> the fields that are fused and decoded, float32 and in physical units.
        precision: the network's, see `autocast`."""
        with autocast(images.device, precision):
            stages = self(images)
        return self.head.readout(stages)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def coarsest_stride(self) -> int:
        """Pixels per cell of the network's coarsest maps."""
        return int(max(self.backbone.strides))  # type: ignore[arg-type, type-var]


def build_model(backbone: Any, head: Any, skeleton: Skeleton, input: InputSettings) -> PoseModel:
    """The model of a config's `backbone:` and `head:` sections."""
    head_module: Head = HEADS.build(head, skeleton, input.pixel_center)
    model = PoseModel(BACKBONES.build(backbone, head_module.channels), head_module, input)
    fitting = [round_up(side, model.size_multiple) for side in input.size]
    if fitting != list(input.size):
        raise UserError(
            f"input.size: {list(input.size)} does not go through the {backbone.name} backbone; height and "
            f"width must be multiples of {model.size_multiple}, such as {fitting}"
        )
    return model


class TrainStep(nn.Module):
    """Batch -> loss terms.  What DataParallel and DDP wrap, so that replicas return scalars and not maps."""

    def __init__(
        self, model: PoseModel, *, precision: str = "fp32", color: bool = True, hsv: bool = True
    ) -> None:
        """color: apply the batch's colour jitter; hsv: hue and saturation too (which cost the most)."""
        super().__init__()
        self.model = model
        self.precision = precision
        self.color = color
        self.hsv = hsv

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Each term (1,), so that DataParallel can gather it; `loss` is the sum of those not named
        `stat/...`."""
        head = self.model.head
        images = batch.image.float() / 255
        if self.color:
            images = color_jitter(images, batch.color, hsv=self.hsv)
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
    """`auto` is bf16 on GPUs that compute in it, else fp32; never bf16 on a CPU, where it is slower."""
    if precision != "auto":
        return precision
    return (
        "bf16"
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        else "fp32"
    )
