"""Weights that were learnt elsewhere, for the first layers of a backbone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pose import checkpoint
from pose.errors import UserError

# VGG-19 (Simonyan, Zisserman: Very Deep Convolutional Networks, ICLR 2015) to conv4_2: numbers in torchvision
FEATURES = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7,
    "conv3_1": 10, "conv3_2": 12, "conv3_3": 14, "conv3_4": 16, "conv4_1": 19, "conv4_2": 21,
}  # fmt: skip


COUNT = "num_batches_tracked"  # files of an older torch lack it, and frozen normalisation does


@runtime_checkable
class Pretrained(Protocol):
    """A backbone whose first layers may start from weights that were learnt elsewhere; its settings have
    `pretrained`."""

    def load_pretrained(self) -> str:
        """Loads what the settings name, once a new run starts; returns a sentence about it."""

    def pretrained_layers(self) -> Sequence[nn.Module]:
        """The layers that stand still during `train.freeze_epochs`."""


def read_weights(file: Path) -> Mapping[str, Any]:
    """The tensors of a checkpoint or of a .safetensors file by name; where a checkpoint holds more than
    those, what lies under `state_dict` or `model`.  Raises `UserError`."""
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    state = checkpoint.load(file)
    nested = [state[key] for key in ("state_dict", "model") if isinstance(state.get(key), Mapping)]
    return nested[0] if nested else state


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"reading {file} needs safetensors: pip install 'bottomup-pose[timm]'") from None
    if not file.is_file():
        raise UserError(f"no checkpoint {file}")
    try:
        return load_file(file)
    except Exception as error:  # its own error class, and those of files
        raise UserError(
            f"cannot load the checkpoint {file}: it is cut off or not a safetensors file ({error}); copy the "
            "file again"
        ) from None


def without_prefix(state: Mapping[str, Any], anchor: str) -> dict[str, Any]:
    """Names after the prefix that stands before `anchor` (`backbone.`, `module.`, `1.`), where there is one;
    entries without that prefix are left out."""
    prefixes = [str(n)[: -len(anchor)] for n in state if re.search(rf"(^|\.){re.escape(anchor)}$", str(n))]
    prefix = min(prefixes, key=len, default="")
    return {str(n).removeprefix(prefix): value for n, value in state.items() if str(n).startswith(prefix)}


def fitting(found: Mapping[str, Any], layers: nn.Module, kind: str, setting: str) -> dict[str, Tensor]:
    """The tensors of `found` if they are exactly those of `layers`, but for counted batches.

    kind: of network, for the message; setting: which may be wrong where `found` has more.  Raises `UserError`
    that names the first tensor that is missing, of another shape, or too many."""
    wanted = layers.state_dict()
    for name, own in wanted.items():
        value = found.get(name)
        if value is None and name.endswith(COUNT):
            continue
        if not isinstance(value, Tensor) or value.shape != own.shape:
            has = f"is {tuple(value.shape)}" if isinstance(value, Tensor) else "is missing"
            raise UserError(
                f"these are not the weights of this {kind}: {name} {has}, it should be {tuple(own.shape)}"
            )
    more = [name for name in found if name not in wanted and not name.endswith(COUNT)]
    if more:
        raise UserError(
            f"these are not the weights of this {kind}: it has no {more[0]}; is {setting} that of the file?"
        )
    return {name: found[name] for name in wanted if name in found}


FILE_INSTEAD = "set backbone.pretrained=FILE to a file with its weights"


def import_timm(name: str, instead: str = FILE_INSTEAD) -> Any:
    """PyTorch Image Models, for its model `name`; instead: advice for who does not want to install it."""
    try:
        import timm
    except ImportError:
        raise UserError(f"{name} comes from timm: pip install 'bottomup-pose[timm]', or {instead}") from None
    return timm


def not_loaded(name: str, error: Exception) -> UserError:
    """What to do where timm's weights cannot be downloaded."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return UserError(
        f"timm cannot load {name} ({reason}); {FILE_INSTEAD}, or backbone.pretrained=null and "
        "train.freeze_epochs=0 to start from random weights"
    )


def timm_weights(name: str) -> dict[str, Tensor]:
    """The pretrained weights of a model of timm (PyTorch Image Models), downloaded on first use.

    name: with or without timm's tag for the weights.  Raises `UserError` where timm is not installed, does
    not know the model, or cannot download it."""
    timm = import_timm(name)
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # of several libraries: the network, the cache, the disk
        raise not_loaded(name, error) from None


def load_vgg19(layers: Sequence[nn.Conv2d], source: str) -> str:
    """Copies conv1_1 to conv4_2 of VGG-19 into ten `layers`.

    source: `imagenet`, or a file with torchvision's names or with VGG-19's tensors in their order.  Raises
    `UserError` where there is no such file, or it holds something else."""
    file = imagenet_file(vgg19_url()) if source == "imagenet" else Path(source)
    try:
        tensors = vgg19_tensors(checkpoint.load(file), layers)
    except UserError as error:
        raise UserError(f"backbone.pretrained={source}: {error}") from None
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    with torch.no_grad():
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.copy_(tensor)  # type: ignore[union-attr]
    return f"{file}: conv1_1 to conv4_2 of VGG-19 loaded"


def vgg19_tensors(state: Mapping[str, Any], layers: Sequence[nn.Conv2d]) -> list[Tensor]:
    """Weight and bias of each layer, by torchvision's names or, where the file has none of them, by
    position."""
    inner = state.get("state_dict")
    state = inner if isinstance(inner, Mapping) else state
    named = {
        (int(match[1]), match[2]): value
        for name, value in state.items()
        if (match := re.search(r"(?:^|\.)features\.(\d+)\.(weight|bias)$", name))
    }
    wanted = [(layer, kind) for layer in FEATURES for kind in ("weight", "bias")]
    if named:
        found = [named.get((FEATURES[layer], kind)) for layer, kind in wanted]
    else:
        values = [value for value in state.values() if isinstance(value, Tensor)]
        found = [*values, *[None] * len(wanted)][: len(wanted)]
    shapes = [getattr(layer, kind).shape for layer in layers for kind in ("weight", "bias")]
    tensors: list[Tensor] = []
    for (name, kind), value, shape in zip(wanted, found, shapes, strict=True):
        if not isinstance(value, Tensor) or value.shape != shape:
            has = f"is {tuple(value.shape)}" if isinstance(value, Tensor) else "is missing"
            raise UserError(
                f"these are not VGG-19's weights for this network: {name}.{kind} {has}, it should be "
                f"{tuple(shape)}"
            )
        tensors.append(value)
    return tensors


def vgg19_url() -> str:
    from torchvision.models import VGG19_Weights  # type: ignore[import-untyped]  # slow to import

    return str(VGG19_Weights.IMAGENET1K_V1.url)


def imagenet_file(url: str) -> Path:
    """torchvision's weights of that address in torch's cache, where they are downloaded to on first use."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if file.exists():
        return file
    checksum = file.stem.rpartition("-")[2]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=checksum)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: a wrong checksum
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"backbone.pretrained=imagenet: cannot fetch {url} ({reason}); put that file into {file.parent} "
            f"as {file.name}, or set backbone.pretrained=FILE to where you have it, or "
            "backbone.pretrained=null and train.freeze_epochs=0 to start from random weights"
        ) from None
    return file
