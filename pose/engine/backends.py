"""What cuDNN and cuBLAS may do: try their algorithms, and compute in TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def set_backends(device: torch.device, *, fixed_size: bool, tf32: bool | None) -> None:
    """For training on a GPU; on another device nothing changes.

    fixed_size: all batches have one shape, so that cuDNN tries its convolutions once and keeps the fastest;
    batches of many shapes would try them again for each.  tf32: of float32 convolutions and products; None:
    as PyTorch is set."""
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = fixed_size
    if tf32 is not None:
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision("high" if tf32 else "highest")


@contextmanager
def many_sizes() -> Iterator[None]:
    """Inside, cuDNN tries no algorithms: validation sees images of many shapes."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
