"""What `pose.tools.convert` is told by each published system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pose.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from pose.heads.base import Head


@dataclass(frozen=True)
class Plan:
    """How one file's weights become a run."""

    config: str  # below configs/
    settings: list[str]  # read off the weights, above the config's
    rename: Callable[[str], str]  # the file's name of a tensor -> ours
    outputs: Mapping[str, int] = field(default_factory=dict)  # channels that the file has for a field
    told: str = ""  # a sentence about what the file was taken for, or lacks
    prepare: Callable[[Head], None] | None = None  # fills the head's buffers, where the system knows them


def torch_weights(path: Path) -> dict[str, Tensor]:
    """The named weights of a file of torch's.  Raises `UserError`."""
    from pose import checkpoint

    return named_tensors(checkpoint.load(path), path)


def named_tensors(state: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, wherever it keeps them."""
    from torch import Tensor

    inner = next(
        (state[key] for key in ("state_dict", "model") if isinstance(state.get(key), Mapping)), state
    )
    entries = inner.items()  # type: ignore[attr-defined]
    weights = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor)}
    if not weights:
        raise UserError(f"{path} holds no named weights")
    return weights


@dataclass(frozen=True)
class Source:
    """One published system."""

    help: str
    plan: Callable[..., Plan]  # weights by name, and what the user chose of `options` by keyword
    read: Callable[[Path], Mapping[str, Tensor]] = torch_weights
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # "weights_from": for argparse
