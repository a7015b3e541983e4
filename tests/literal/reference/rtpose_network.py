"""The network of part affinity fields, restated literally, with the key names of its published files.

Cao, Simon, Wei and Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields" (CVPR 2017),
as released by rtpose (PyTorch); CMU's Caffe model has the same layers under other names.  The published
settings (the defaults here) have 52 311 446 parameters.

Where the description leaves room:
- in a file with Caffe's names, a layer's tensors are called `LAYER.weight` and `LAYER.bias`, in the order of
  the bare file; the weights are the same (outputs, inputs, height, width).
- a Lightning file has more keys beside `state_dict`; two of them are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

PARAMETERS = 52_311_446
FORMS = ("bare", "module", "lightning", "caffe")
TRUNK_LAYERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25)
CAFFE_TRUNK = (
    "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4",
    "conv4_1", "conv4_2", "conv4_3_CPM", "conv4_4_CPM",
)  # fmt: skip


def trunk() -> nn.Sequential:
    """VGG19 up to conv4_2 and two more layers: image (B, 3, 8h, 8w) -> (B, 128, h, w)."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 256, 128):
        if outputs == 0:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers)


def branch(inputs: int, layers: Sequence[tuple[int, int]]) -> nn.Sequential:
    """Convolutions of (outputs, kernel) that keep the size, a ReLU between each two."""
    modules: list[nn.Module] = []
    for outputs, kernel in layers:
        modules += [nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*modules[:-1])


class RTPose(nn.Module):
    """image (B, 3, H, W) -> ((paf, heat) of the last stage, [paf, heat of stage 1, of stage 2, ...]), each
    (B, channels, H // 8, W // 8)."""

    def __init__(self, paf_channels: int = 38, heat_channels: int = 19, stages: int = 6) -> None:
        super().__init__()
        self.stages = stages
        self.model0 = trunk()
        for number, channels in ((1, paf_channels), (2, heat_channels)):
            for stage in range(1, stages + 1):
                if stage == 1:
                    layers = branch(128, [(128, 3)] * 3 + [(512, 1), (channels, 1)])
                else:
                    inputs = 128 + paf_channels + heat_channels
                    layers = branch(inputs, [(128, 7)] * 5 + [(128, 1), (channels, 1)])
                self.add_module(f"model{stage}_{number}", layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
        features = self.model0(image)
        x = features
        saved: list[Tensor] = []
        for stage in range(1, self.stages + 1):
            paf = self.get_submodule(f"model{stage}_1")(x)
            heat = self.get_submodule(f"model{stage}_2")(x)
            saved += [paf, heat]
            x = torch.cat([paf, heat, features], dim=1)
        return (saved[-2], saved[-1]), saved


def caffe_name(layer: str) -> str:
    """The Caffe name of a layer: model0.0 -> conv1_1, model1_2.8 -> conv5_5_CPM_L2, model3_1.2 ->
    Mconv2_stage3_L1."""
    block, index = layer.split(".")
    if block == "model0":
        return CAFFE_TRUNK[TRUNK_LAYERS.index(int(index))]
    stage, number = block.removeprefix("model").split("_")
    position = int(index) // 2 + 1
    if stage == "1":
        return f"conv5_{position}_CPM_L{number}"
    return f"Mconv{position}_stage{stage}_L{number}"


def published_checkpoint(net: nn.Module, form: str = "bare") -> dict[str, Any]:
    """The content of a file of weights, in one of the shapes in which they are published: "bare" (converted
    from Caffe), "module" (saved from DataParallel), "lightning" (under `state_dict`, prefixed `model.`) or
    "caffe" (Caffe's layer names)."""
    state = {key: value.detach().clone() for key, value in net.state_dict().items()}
    if form == "bare":
        return state
    if form == "module":
        return {f"module.{key}": value for key, value in state.items()}
    if form == "lightning":
        inner = {f"model.{key}": value for key, value in state.items()}
        return {"epoch": 1, "global_step": 1, "state_dict": inner}
    if form == "caffe":
        renamed = {}
        for key, value in state.items():
            layer, kind = key.rsplit(".", 1)
            renamed[f"{caffe_name(layer)}.{kind}"] = value
        return renamed
    raise ValueError(f"unknown form {form!r} (known: {', '.join(FORMS)})")
