"""Worker processes that prepare data: how they begin, share memory, die and end."""

from __future__ import annotations

import atexit
import errno
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
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
NO_MORE = (errno.EMFILE, errno.ENFILE)
NO_FILES = 71  # exit code of a worker that may open no more files
ADVICE = (
    "lower data.workers (0 loads in the main process) or give the machine more (in a container: a larger "
    "--shm-size)"
)


class TooManyFiles(UserError):
    """Tensors could not be handed over, each of which is an open file at both ends."""

    def __init__(self) -> None:
        super().__init__("too many open files: raise the limit (ulimit -n 65536) or lower data.workers")


def prepare_worker(worker_id: int, sharing: str | None = None) -> None:
    """One thread per worker; an interrupt is the main process's to handle.  sharing: another way than the
    system's to hand tensors over."""
    if sharing is not None:
        torch.multiprocessing.set_sharing_strategy(sharing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # what cannot be sent would be lost in a thread, and waited for forever
    Queue._on_queue_feeder_error = staticmethod(_cannot_send)  # type: ignore[attr-defined]
    sys.excepthook = _told


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What a thread of the worker fails of; not that the main process stopped while it fetched a tensor."""
    if isinstance(error, OSError) and error.errno in NO_MORE:
        os._exit(NO_FILES)  # it serves the tensors, and nobody could fetch one any more
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _cannot_send(error: BaseException, item: Any) -> None:
    """The worker ends, which the main process notices."""
    if isinstance(error, OSError) and error.errno in NO_MORE:
        os._exit(NO_FILES)
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


def worker_death(error: BaseException, workers: Sequence[Any] = ()) -> UserError | None:
    """A sentence about a worker that was killed, or what it lacks; None for any other error.

    workers: those that were waited for when `error` came.  The end of one shows as many errors, also of a
    tensor that was just fetched from it."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, UserError):
        return None
    if isinstance(error, OSError) and error.errno in NO_MORE:
        return TooManyFiles()
    if isinstance(error, RuntimeError):
        if text.startswith(("Too many open files", "received 0 items of")):
            return TooManyFiles()
        if text.startswith("DataLoader timed out"):
            return UserError(
                f"{text.rstrip('.')} (data.timeout) while its workers live: {waiting_for()}; or {ADVICE}"
            )
    if not isinstance(error, OSError | EOFError | RuntimeError | pickle.PickleError):
        return None
    ended = isinstance(error, RuntimeError) and text.startswith("DataLoader worker")
    dead = _dead(workers, wait=True)
    if any(worker.exitcode == NO_FILES for worker in dead):
        return TooManyFiles()
    if not ended and not dead:
        return None
    told = text.rstrip(". ") if ended else _end_of(dead[0])
    return UserError(f"{told}: it most likely ran out of memory; {ADVICE}")


def _dead(workers: Sequence[Any], *, wait: bool = False) -> list[Any]:
    """Those that were killed or failed.  wait: one is about to be, its files close before it is gone."""
    deadline = time.monotonic() + (1.0 if wait else 0.0)
    while True:
        dead = [worker for worker in workers if worker.exitcode]
        if dead or not workers or time.monotonic() >= deadline:
            return dead
        time.sleep(0.02)


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
    iterator.

    Where its tensors are too many open files they are handed over as named files from there on.  Raises
    `UserError`."""
    items, workers = _begun(loader)
    at_exit = partial(_kill, workers)
    atexit.register(at_exit)  # later than PyTorch's and multiprocessing's own, so it runs before them
    return _until_closed(items, workers, at_exit, loader)


def _begun(loader: Any) -> tuple[Iterator[Any], list[Any]]:
    """The iterator of a loader and its workers."""
    before = {*multiprocessing.active_children()}
    try:
        items = iter(loader)
    except (OSError, RuntimeError) as error:  # no shared memory, or no room for one more process
        for child in {*multiprocessing.active_children()} - before:  # nobody else would end them
            child.kill()
            child.join()
        known = worker_death(error)
        if known is None and not isinstance(error, OSError):
            raise
        raise known or UserError(f"data workers cannot be started ({error}); {ADVICE}") from None
    _hold_back()
    return items, getattr(items, "_workers", [])


_waiting = 0  # iterators that wait for their workers


def _hold_back() -> None:
    """PyTorch's handler raises the death of a worker wherever the main thread is: while it saves, say.  From
    here on it does so while a batch is waited for, and else the next wait notices."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if not callable(handler) or getattr(handler, "__module__", "") == __name__:
        return

    def held(number: int, frame: Any) -> None:
        if _waiting:
            handler(number, frame)

    signal.signal(signal.SIGCHLD, held)


def _next(items: Iterator[Any], workers: Sequence[Any]) -> Any:
    """The next item.  Raises StopIteration, and `UserError` where a worker has died."""
    global _waiting
    if dead := _dead(workers):
        ended = RuntimeError(_end_of(dead[0]))
        raise worker_death(ended, workers) or ended
    _waiting += 1
    try:
        return next(items)
    except StopIteration:
        raise
    except Exception as error:
        failed = error
    finally:
        _waiting -= 1  # from here on the handler is of no more use
    raise worker_death(failed, workers) or failed from None


def _end_of(worker: Any) -> str:
    """In PyTorch's words."""
    code = worker.exitcode
    how = f"is killed by signal: {signal.strsignal(-code)}" if code < 0 else f"ended with exit code {code}"
    return f"DataLoader worker (pid {worker.pid}) {how}"


def _until_closed(
    items: Iterator[Any], workers: list[Any], at_exit: Callable[[], None], loader: Any = None
) -> Generator[Any, None, None]:
    count = 0
    try:
        while True:
            try:
                item = _next(items, workers)
            except StopIteration:
                return
            except TooManyFiles:
                if torch.multiprocessing.get_sharing_strategy() == "file_system" or loader is None:
                    raise
                _shut(items, workers)
                items, again = _with_named_files(loader, count)
                workers[:] = again  # the list that is ended at exit
                continue
            count += 1
            yield item
    finally:
        _shut(items, workers)
        atexit.unregister(at_exit)


def _with_named_files(loader: Any, count: int) -> tuple[Iterator[Any], list[Any]]:
    """The loader's iterator anew, after the first `count` batches, sharing tensors by the names of files."""
    print(
        "too many open files: tensors of data workers are shared as named files from here on (sharing "
        "strategy file_system); ulimit -n 65536 before the start would avoid it",
        file=sys.stderr,
    )
    torch.multiprocessing.set_sharing_strategy("file_system")
    loader.worker_init_fn = partial(prepare_worker, sharing="file_system")
    sampler = loader.batch_sampler
    endless = hasattr(sampler, "start_step")
    if endless:
        sampler.start_step += count
    items, workers = _begun(loader)
    for _ in range(0 if endless else count):
        _next(items, workers)
    return items, workers


def _shut(items: Iterator[Any], workers: list[Any]) -> None:
    end = getattr(items, "_shutdown_workers", None)
    if end is not None:
        _end(end, workers)


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
