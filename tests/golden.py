"""Outputs of published networks for weights and images that a recipe makes: files beside the checkout, no
part of the project."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

TOLERANCE = 2e-5  # of the largest value: other convolution code, another order of sums


def tensor(name: str, shape: Sequence[int], gain: float) -> Tensor:
    """The value of an entry of a state dict, which depends on its published name, its shape and the network's
    gain."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(drawn)
    elif name.endswith(("running_mean", "bias")):
        value = 0.1 * drawn
    elif len(shape) == 1:
        value = 1 + 0.1 * drawn
    else:
        value = drawn * (math.sqrt(2 / math.prod(shape[1:])) * gain)
        if "transform_matrix_conv" in name or "translation_conv" in name:
            value *= 0.1
        if name.endswith(("heatmap_conv.weight", "keypoint_center_conv.weight")):
            value *= 0.1
    return torch.from_numpy(value.astype(np.float32))


def image(seed: int, height: int, width: int) -> Tensor:
    """(1, 3, height, width) in [0, 1); the networks take it as it is."""
    drawn = np.random.default_rng(seed).random((1, 3, height, width), dtype=np.float32)
    return torch.from_numpy(drawn)


class Case(NamedTuple):
    """An image, what the network gives for it, and what its layers give."""

    image: Tensor
    outputs: list[np.ndarray]  # of each stage: whole, or every `step`th value
    steps: list[int]
    taps: Mapping[str, Any]

    def check(self, made: Sequence[Tensor]) -> None:
        """made: (1, C, h, w) of every stage."""
        for stage, (one, expected, step) in enumerate(zip(made, self.outputs, self.steps, strict=True)):
            values = one.detach().flatten()[::step].numpy()
            assert expected.size == values.size and expected.std() > 0.01
            worst = np.abs(values - expected.ravel()).max() / np.abs(expected).max()
            assert worst < TOLERANCE, f"stage {stage}: {worst:.1e} of the largest value"

    def check_taps(self, layer: str, made: Sequence[Tensor]) -> None:
        """made: what the layer of this published name gives, in order."""
        for one, tap in zip(made, self.taps[layer], strict=True):
            assert list(one.shape) == tap["shape"]
            flat = one.detach().flatten().double()
            largest = flat.abs().max()
            expected = torch.tensor(tap["values"], dtype=torch.float64)
            assert (flat[:: tap["step"]][:8] - expected).abs().max() < TOLERANCE * largest
            assert flat.abs().sum().item() == pytest.approx(tap["abs_sum"], rel=TOLERANCE)
            assert flat.std(correction=0).item() == pytest.approx(tap["std"], rel=1e-3)


class Golden:
    """A published network: its entries, its size, and what it gives."""

    def __init__(self, folder: Path, name: str) -> None:
        self.facts = json.loads((folder / f"{name}.json").read_text())
        listed = json.loads((folder / f"{name}.keys.json").read_text())
        self.shapes: dict[str, list[int]] = {entry: shape for entry, shape, _ in listed}
        self.check = json.loads((folder / "weights_check.json").read_text())[name]
        self.cases = [self._case(folder, name, drawn) for drawn in self.facts["pictures"]]

    @staticmethod
    def _case(folder: Path, name: str, drawn: Mapping[str, Any]) -> Case:
        seed, height, width = drawn["seed"], drawn["height"], drawn["width"]
        with np.load(folder / f"{name}_{height}x{width}.npz") as stored:
            outputs = [stored[stage] for stage in drawn["outputs"]]
        sizes = [math.prod(stage["shape"]) for stage in drawn["outputs"].values()]
        steps = [-(-size // output.size) for size, output in zip(sizes, outputs, strict=True)]
        return Case(image(seed, height, width), outputs, steps, drawn["taps"])

    def weights(self, *prefixes: str) -> dict[str, Tensor]:
        """The entries under the first of `prefixes` that begins their name, without it; ("",) is all."""
        named = {
            name: next(p for p in prefixes if name.startswith(p))
            for name in self.shapes
            if name.startswith(prefixes)
        }
        gain = self.facts["gain"]
        return {n.removeprefix(p): tensor(n, self.shapes[n], gain) for n, p in named.items()}


def golden(real_data: Path, name: str) -> Golden:
    """name: such as `mmpose_higherhrnet_w32`."""
    folder = real_data / "golden" / "networks"
    if not folder.is_dir():
        pytest.skip("no published networks beside the checkout")
    return Golden(folder, name)


def multiply_adds(net: nn.Module, *size: int) -> dict[str, int]:
    """Of every convolution of `net`, by name, for one image of `size`; `net` is on the meta device."""
    counts: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(layer: nn.Conv2d | nn.ConvTranspose2d, x: tuple[Tensor], y: Tensor) -> None:
            cells = x[0] if isinstance(layer, nn.ConvTranspose2d) else y
            counts[name] = layer.weight.numel() * math.prod(cells.shape[2:])

        return hook

    handles = [
        layer.register_forward_hook(count(name))
        for name, layer in net.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    net(torch.zeros(1, 3, *size, device="meta"))
    for handle in handles:
        handle.remove()
    return counts
