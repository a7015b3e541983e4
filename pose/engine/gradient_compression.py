"""Gradients that processes exchange with fewer bytes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from pose.errors import UserError


def compress_gradients(ddp: DistributedDataParallel) -> None:
    """Gradients are exchanged in bfloat16.  Raises `UserError` where the backend cannot add such numbers."""
    try:
        dist.all_reduce(torch.zeros(1, dtype=torch.bfloat16, device=next(ddp.parameters()).device))
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"train.gradient_compression=bf16: the backend {dist.get_backend()} cannot exchange bfloat16 "
            f"here ({reason}); set train.gradient_compression=none"
        ) from None
    ddp.register_comm_hook(None, default_hooks.bf16_compress_hook)
