"""Worker processes that prepare data: how they begin, share memory, die and end."""

from __future__ import annotations

import atexit
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from pose.errors import UserError

FEW_FILES = 512
LITTLE_MEMORY = 64  # MiB
PATIENCE = 5.0  # seconds in which workers end by themselves
ADVICE = (
    "lower data.workers (0 loads in the main process) or give the machine more (in a container: a larger "
    "--shm-size)"
)


def prepare_worker(worker_id: int) -> None:
    """One thread per worker; an interrupt is the main process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # what cannot be sent would be lost in a thread, and waited for forever
    Queue._on_queue_feeder_error = staticmethod(_cannot_send)  # type: ignore[attr-defined]
    sys.excepthook = _told


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What a thread of the worker fails of; not that the main process stopped while it fetched a tensor."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _cannot_send(error: BaseException, item: Any) -> None:
    """The worker ends, which the main process notices."""
    print(f"a data worker cannot send what it made: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def in_shared_memory(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors, moved to shared memory in a worker, where running out of it is an error that arrives."""
    if get_worker_info() is None:
        return tensors
    try:
        return [tensor.share_memory_() if tensor.numel() else tensor for tensor in tensors]
    except (RuntimeError, OSError) as error:
        size = sum(tensor.nbytes for tensor in tensors) / 2**20
        reason = str(error).strip().partition("\n")[0].rpartition(": ")[2]
        raise UserError(
            f"a data worker cannot place {size:.1f} MiB in shared memory ({reason}); {ADVICE}"
        ) from None


def worker_death(error: BaseException) -> UserError | None:
    """A sentence about a worker that was killed; None for any other error.

    The death may interrupt the main process anywhere, so a training loop should ask here too."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, RuntimeError) and text.startswith(("Too many open files", "received 0 items of")):
        return UserError("too many open files: raise the limit (ulimit -n 65536) or lower data.workers")
    if isinstance(error, RuntimeError) and text.startswith("DataLoader timed out"):
        return UserError(
            f"{text.rstrip('.')} (data.timeout) while its workers live: {waiting_for()}; or {ADVICE}"
        )
    if not (isinstance(error, RuntimeError) and text.startswith("DataLoader worker")):
        return None
    return UserError(f"{text.rstrip('.')}: it most likely ran out of memory; {ADVICE}")


def waiting_for() -> str:
    """What workers that give nothing may lack, as far as it can be seen."""
    causes = []
    try:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if 0 <= files < FEW_FILES:
            causes.append(f"only {files} files may be open (ulimit -n 65536)")
    except (OSError, ValueError):
        pass
    try:
        free = os.statvfs("/dev/shm")
        mib = free.f_bavail * free.f_frsize / 2**20
        if mib < LITTLE_MEMORY:
            causes.append(f"/dev/shm has {mib:.0f} MiB left")
    except OSError:
        pass
    return " and ".join(causes) or "the file system of the images may not answer"


@contextmanager
def one_sentence() -> Iterator[None]:
    """Errors of workers as the `UserError` that they are: without the worker's traceback."""
    try:
        yield
    except RuntimeError as error:
        raise worker_death(error) or error from None
    except UserError as error:
        told = str(error).rpartition("UserError: ")  # a worker's error arrives behind its traceback
        raise UserError(told[2].strip()) if told[0] else error from None


def start(loader: Any) -> Generator[Any, None, None]:
    """Iterates over a loader whose workers are started now, not with the first item, and are ended with the
    iterator."""
    try:
        items = iter(loader)
    except OSError as error:  # a machine without shared memory, or without room for one more process
        raise UserError(f"data workers cannot be started ({error}); {ADVICE}") from None
    workers: list[Any] = getattr(items, "_workers", [])
    at_exit = partial(_kill, workers)
    atexit.register(at_exit)  # later than PyTorch's and multiprocessing's own, so it runs before them
    return _until_closed(items, workers, at_exit)


def _until_closed(
    items: Iterator[Any], workers: list[Any], at_exit: Callable[[], None]
) -> Generator[Any, None, None]:
    try:
        yield from items
    finally:
        end = getattr(items, "_shutdown_workers", None)
        if end is not None:
            _end(end, workers)
        atexit.unregister(at_exit)


def _kill(workers: list[Any]) -> None:
    """Ends the workers of an iterator that is still open when Python ends: multiprocessing would send them
    SIGTERM, which they block, and wait for them without a limit."""
    if workers and hasattr(signal, "SIGCHLD"):  # PyTorch's handler would report them as having died
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()


def _end(end: Callable[[], None], workers: list[Any]) -> None:
    """PyTorch ends stuck workers with SIGTERM, which they do not get, and then waits for them."""
    if sys.is_finalizing():  # a thread that is started now never runs; the workers were ended at exit
        end()
        return

    def kill() -> None:
        for worker in workers:
            worker.kill()

    timer = threading.Timer(PATIENCE, kill)
    timer.daemon = True
    timer.start()
    try:
        end()
    except RuntimeError:  # one of them was killed
        pass
    finally:
        timer.cancel()
