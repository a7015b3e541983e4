"""How a trained network computes on this machine: the memory order of its maps."""

from __future__ import annotations

import platform

import torch

from pose.model import PoseModel

X86 = ("x86_64", "amd64")


def for_inference(model: PoseModel) -> PoseModel:
    """The model itself, arranged for inference on its device.  Not for a network in training, whose steps
    would round differently afterwards."""
    if channels_last_wins(model.device):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def channels_last_wins(device: torch.device) -> bool:
    """Whether convolutions are quicker channels last.

    A rule, as measured by `benchmarks.runtimes`: oneDNN's convolutions on x86-64 were 1.04 to 1.4 times as
    quick with each of the backbones, and never slower.  Other machines keep torch's own order."""
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return device.type == "cpu" and bool(onednn) and platform.machine().lower() in X86
