"""Weights and training state on disk: atomic writes, safe reads, and a report of what did not match."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.errors import UserError

# whole steps that DataParallel / DDP and torch.compile put into parameter names (`submodule.` is none)
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write to a temporary file, flush it to the disk, rename: at any moment `path` is a whole checkpoint.

    A full disk or a missing folder is a `UserError`, and an older file at `path` survives it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        roots = [*below(error)]  # torch's writer raises an error of its own on top
        if any(isinstance(one, KeyboardInterrupt) for one in roots):
            raise KeyboardInterrupt from None
        kept = f"; the older {path.name} is untouched" if path.exists() else ""
        told = [one.strerror for one in roots if isinstance(one, OSError) and one.strerror]
        reason = told[-1] if told else str(error).split("\n")[0]
        raise UserError(
            f"cannot save {path}: {reason}{kept}; free some space or move the run folder"
        ) from None
    finally:  # also where the user interrupts: a part of a large file is of no use to anybody
        temporary.unlink(missing_ok=True)


def below(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def load(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The state in a checkpoint file.  Only tensors and plain data are read: a file with code in it is
    refused."""
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}") from None
    except Exception as error:  # bytes at random make torch raise nearly everything
        if _holds_code(error):
            raise UserError(
                f"cannot load the checkpoint {path}: it holds objects other than tensors and plain data, so "
                "it is not loaded"
            ) from None
        raise UserError(
            f"cannot load the checkpoint {path}: it is cut off or not a checkpoint{_reason(error)}; "
            "take another checkpoint of the run or copy the file again"
        ) from None
    if not isinstance(state, dict):
        raise UserError(
            f"cannot load the checkpoint {path}: it holds a {type(state).__name__}, not named weights"
        )
    return state


def _holds_code(error: Exception) -> bool:
    """Whether torch refused a class or function, rather than bytes that are no pickle."""
    told = ("Unsupported global", "Unsupported class", "not an allowed global", "Trying to")
    return isinstance(error, pickle.UnpicklingError) and any(text in str(error) for text in told)


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) or not str(error).strip():
        return ""  # torch's long advice on trusting files
    return f" ({str(error).strip().splitlines()[0][:160]})"


@dataclass(frozen=True)
class LoadReport:
    """What `load_matching` did: names of the module's tensors and of the file's."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # in the module only: kept as they were
    unexpected: tuple[str, ...]  # in the file only: ignored
    mismatched: tuple[str, ...]  # "name: file (shape), network (shape)"
    parameters: int  # numbers in the loaded ones; statistics and counters of normalisation are none
    of: int  # parameters of the module

    def without(self, names: Sequence[str]) -> LoadReport:
        """The same, but nobody misses these names."""
        return replace(self, missing=tuple(name for name in self.missing if name not in names))

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{self.parameters:,} of {self.of:,} parameters loaded"]
        for what, names in [
            ("not in the file", self.missing),
            ("not in the network", self.unexpected),
            ("of another shape", self.mismatched),
        ]:
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                lines.append(f"{len(names)} tensors {what}: {', '.join(names[:3])}{more}")
        return "; ".join(lines)


def strip_wrappers(name: str) -> str:
    """`module.features.0` -> `features.0`: names as the bare network has them."""
    return WRAPPERS.sub("", name)


def load_matching(
    module: nn.Module, state: Mapping[str, Tensor], rename: Callable[[str], str] = strip_wrappers
) -> LoadReport:
    """Copy the tensors of `state` whose renamed name and shape fit into `module`.

    Raises `UserError`, before anything is copied, where no parameter fits and where a tensor that does is not
    of finite floating-point numbers."""
    own = module.state_dict()
    loaded: dict[str, Tensor] = {}
    unexpected, mismatched = [], []
    for name, value in state.items():
        target = rename(name)
        if target not in own:
            unexpected.append(name)
        elif not isinstance(value, Tensor):
            mismatched.append(f"{target}: file {type(value).__name__}, network {tuple(own[target].shape)}")
        elif own[target].shape != value.shape:
            mismatched.append(f"{target}: file {tuple(value.shape)}, network {tuple(own[target].shape)}")
        else:
            loaded[target] = value
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    if not loaded.keys() & (sizes or own).keys():
        raise UserError(
            "the checkpoint is of another network: no parameter fits (file: "
            f"{', '.join(list(state)[:3]) or 'nothing'}, ...; network: {', '.join(list(own)[:3])}, ...)"
        )
    for name, value in loaded.items():
        check_values(name, value, own[name].dtype)
    for name, value in loaded.items():
        own[name].copy_(value)
    seen = {*loaded, *(m.split(":")[0] for m in mismatched)}
    return LoadReport(
        tuple(loaded),
        tuple(name for name in own if name not in seen),
        tuple(unexpected),
        tuple(mismatched),
        parameters=sum(sizes.get(name, 0) for name in loaded),
        of=sum(sizes.values()),
    )


def check_values(name: str, value: Tensor, wanted: torch.dtype) -> None:
    """Raises `UserError` for weights that a network of type `wanted` cannot compute with: complex numbers,
    integers in place of floating-point numbers, and numbers that are not finite."""
    advice = "the file is corrupt or not of a trained network; take another checkpoint"
    if value.is_complex() or (wanted.is_floating_point and not value.is_floating_point()):
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(f"{name} holds {kind}, not floating-point numbers; {advice}")
    if value.is_floating_point():
        wrong = value.numel() - int(value.isfinite().sum())
        if wrong:
            raise UserError(f"{name} has {wrong:,} of {value.numel():,} values that are not finite; {advice}")
