"""All GPUs of a machine, or several processes on its CPUs, by the plain command: one process each, started by
torch's elastic launcher."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Literal

from pose.errors import UserError

Parallel = Literal["auto", "ddp", "dp", "none"]
LAUNCHER = "POSE_LAUNCHER"  # environment variable of the processes started here: the pid of what started them
SHUTDOWN = 120  # seconds that processes have to save and end after a signal
ORPHANED = 30  # seconds that they have where what started them is gone


def add_parallel(parser: argparse.ArgumentParser) -> None:
    """--gpus, --processes."""
    parser.add_argument("--gpus", metavar="0,2", help="numbers of the GPUs to use (default: all)")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="processes, one per GPU or, without any, on the CPU"
    )


def started() -> bool:
    """Whether this process is one of several already, of torchrun's or of `launch`."""
    return "RANK" in os.environ


def choose_gpus(options: argparse.Namespace) -> None:
    """Hides all but the GPUs of --gpus from this process and those that it starts.  Raises `UserError`."""
    if options.gpus is None or started():
        return
    if options.device not in ("auto", "cuda"):
        raise UserError(f"--gpus {options.gpus} does not go with --device {options.device}; leave one out")
    numbers = options.gpus.split(",")
    if not all(number.isdecimal() for number in numbers) or len({*numbers}) < len(numbers):
        raise UserError(f"--gpus {options.gpus}: expected different numbers with commas, such as 0,2")
    import torch  # slow: commands read their options first

    count = torch.cuda.device_count()
    absent = [number for number in numbers if int(number) >= count]
    if absent:
        raise UserError(f"--gpus {options.gpus}: there is no GPU {absent[0]}; torch sees {count}")
    # numbers count what is visible already
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    every = visible.split(",") if visible else [str(number) for number in range(count)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(every[int(number)] for number in numbers)


def process_count(options: argparse.Namespace, parallel: Callable[[], Parallel]) -> int:
    """How many processes are to be started; 1: this one does the work.

    parallel: gives `train.parallel`, and is asked only where it matters.  Raises `UserError`."""
    if started():
        return 1
    gpus = 0 if ":" in options.device or options.device == "cpu" else visible_gpus(options)
    wanted = options.processes
    if wanted is not None:
        if wanted < 1 or (gpus and wanted > gpus):
            many = f"1 to {gpus} (torch sees so many GPUs)" if gpus else "1 or more"
            raise UserError(f"--processes {wanted}: expected {many}")
        if wanted > 1 and ":" in options.device:
            raise UserError(f"--processes {wanted} cannot share --device {options.device}; leave one out")
        return int(wanted)
    if gpus < 2:
        return 1
    return gpus if parallel() in ("auto", "ddp") else 1


def visible_gpus(options: argparse.Namespace) -> int:
    """As --gpus leaves them; does not start CUDA in this process."""
    import torch  # slow: commands read their options first

    count = torch.cuda.device_count()
    return count if options.gpus is None else min(count, len(options.gpus.split(",")))


def launch(module: str, arguments: Sequence[str], count: int) -> int:
    """Runs `python -m MODULE ARGUMENTS` in `count` processes; the exit code of the first that fails, or 0.

    Ctrl-C and SIGTERM go to all of them.  Raises `UserError` where one of them was killed."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # what its processes say is enough
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ[LAUNCHER] = str(os.getpid())
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex, max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost", monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            why = f"{name}, perhaps for lack of memory" if name == "SIGKILL" else name
            raise UserError(f"process {rank} of {count} was ended by {why}; the others stopped") from None
        return int(failure.exitcode)
    return 0


def watch_launcher() -> None:
    """Ends this process, with a save where it trains, once what started it is gone: nobody else would."""
    pid = os.environ.get(LAUNCHER)
    if pid is None:
        return

    def watch() -> None:
        while os.getppid() == int(pid):
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHANED)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="launcher").start()
