"""One process, DataParallel over the GPUs of one process, or DDP under torchrun on any number of machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from pose.errors import ToldElsewhere, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among all; the one process of a plain run is rank 0 of 1."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        return self.rank == 0

    @property
    def distributed(self) -> bool:
        return self.world_size > 1

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, on every rank."""
        if not self.distributed:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def first(self, work: Callable[[], T]) -> T:
        """What `work()` gives on rank 0, on every rank; its `UserError` is raised on every rank, told by
        one."""
        if not self.distributed:
            return work()
        answer: list[Any] = [None]
        if self.main:
            try:
                answer = [("result", work())]
            except UserError as error:
                answer = [("error", str(error))]
        dist.broadcast_object_list(answer)
        kind, value = answer[0]
        if kind == "error":
            raise UserError(value) if self.main else ToldElsewhere(value)
        return value


def pick_device(name: str, local_rank: int) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:1`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name!r}: no GPU is visible here; use --device cpu")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device {device}: only {torch.cuda.device_count()} GPUs are visible here")
        torch.cuda.set_device(device)
    return device


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """Joins the process group that torchrun announces in the environment, and leaves it at the end."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = pick_device(device, local_rank)
    if world_size == 1:
        yield Processes(chosen)
        return
    address = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(minutes=30))
    except (RuntimeError, ValueError) as error:
        busy = "address already in use" in str(error).lower() or "EADDRINUSE" in str(error)
        reason = "the port is in use by another job" if busy else str(error).strip().split("\n")[0]
        raise UserError(
            f"rank {rank} cannot join the {world_size} processes at {address}: {reason}; "
            "choose another port (torchrun --master-port, or MASTER_PORT), or use torchrun --standalone"
        ) from None
    try:
        yield Processes(chosen, rank, world_size, local_rank)
    finally:
        dist.destroy_process_group()


def wrap(step: nn.Module, group: Processes, *, gpus: int, sync_bn: bool = False) -> nn.Module:
    """The training step as DDP under torchrun, as DataParallel over `gpus` > 1, else as it is."""
    if group.distributed:
        if sync_bn and group.device.type == "cuda":
            step = nn.SyncBatchNorm.convert_sync_batchnorm(step)
        ids = [group.device.index] if group.device.type == "cuda" else None
        return DistributedDataParallel(step, device_ids=ids, gradient_as_bucket_view=True)
    if gpus > 1:
        return DataParallel(step, device_ids=list(range(gpus)))
    return step
