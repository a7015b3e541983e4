"""One process, DataParallel over the GPUs of one process, or DDP under torchrun on any number of machines."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel

from pose.engine.gradient_compression import compress_gradients
from pose.engine.launch import watch_launcher
from pose.engine.rendezvous import fresh_store
from pose.errors import ToldElsewhere, UserError

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # with which processes wait for each other
PEER_SIGNS = (  # what gloo and NCCL say when the other end is gone
    "closed by peer",
    "reset by peer",
    "Broken pipe",
    "remote process exited",
    "communicator was aborted",
)


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

    def together(self, work: Callable[[], T]) -> T:
        """What `work()` gives on each rank; a `UserError` on any is raised on all, told by the first that has
        one.  `work` must not wait for other ranks."""
        if not self.distributed:
            return work()
        result: list[T] = []
        own: str | None = None
        try:
            result.append(work())
        except UserError as error:
            own = str(error)
        errors = self.gather(own)
        failed = [rank for rank, text in enumerate(errors) if text is not None]
        if failed:
            told = errors[failed[0]]
            raise UserError(told) if self.rank == failed[0] else ToldElsewhere(told)
        return result[0]

    def main_first(self, read: Callable[[], T]) -> T:
        """What `read()` gives on each rank, where rank 0 reads first and so fills a cache for the others."""
        if not self.distributed:
            return read()
        own: list[T] = []
        self.first(lambda: own.append(read()))
        return self.together(lambda: own[0] if self.main else read())

    def share_buffers(self, module: nn.Module) -> None:
        """Gives every rank the buffers of rank 0 (statistics of batch norm differ between ranks)."""
        if self.distributed:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


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
    # DDP imports this module, whose functions have the group of that moment as a default argument.  Imported
    # that late, they keep the group and its threads until the process exits, and a busy thread may abort it.
    importlib.import_module("torch.distributed.nn.functional")
    try:
        announced, rank, world_size = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
        store = fresh_store(announced, rank, world_size, PATIENCE)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        busy = "address already in use" in str(error).lower() or "EADDRINUSE" in str(error)
        reason = "the port is in use by another job" if busy else str(error).strip().split("\n")[0]
        raise UserError(
            f"rank {rank} cannot join the {world_size} processes at {address}: {reason}; "
            "choose another port (torchrun --master-port, or MASTER_PORT), or use torchrun --standalone"
        ) from None
    watch_launcher()
    try:
        yield Processes(chosen, rank, world_size, local_rank)
    except RuntimeError as error:
        raise peer_loss(error, rank) or error from None
    finally:
        gc.collect()  # DDP holds the group, too, and may be part of a cycle
        dist.destroy_process_group()


def peer_loss(error: BaseException, rank: int) -> UserError | None:
    """A sentence about another process that ended in the middle of an exchange; None for any other error."""
    if not any(sign in str(error) for sign in PEER_SIGNS):
        return None
    return UserError(f"rank {rank} stops because another process ended; the message of that one says why")


def sync_batch_norm(module: nn.Module) -> None:
    """torch's conversion of everything below `module`, but for parts that have one of their own."""
    for name, child in module.named_children():
        if hasattr(child, "sync_batch_norm"):
            child.sync_batch_norm()  # type: ignore[operator]
        elif isinstance(child, _BatchNorm):
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        else:
            sync_batch_norm(child)


def wrap(
    step: nn.Module, group: Processes, *, gpus: int, sync_bn: bool = False, compression: str = "none"
) -> nn.Module:
    """The training step as DDP under torchrun, as DataParallel over `gpus` > 1, else as it is.

    compression: of the gradients that DDP exchanges, `none` or `bf16`."""
    if group.distributed:
        if sync_bn and group.device.type == "cuda":
            sync_batch_norm(step)
        ids = [group.device.index] if group.device.type == "cuda" else None
        ddp = DistributedDataParallel(step, device_ids=ids, gradient_as_bucket_view=True)
        if compression == "bf16":
            compress_gradients(ddp)
        return ddp
    if gpus > 1:
        return DataParallel(step, device_ids=list(range(gpus)))
    return step
