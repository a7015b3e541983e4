"""What the benchmarks share: how they measure, and the command line of those that print a table."""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

CACHES = 64 << 20  # bytes, more than a processor's caches hold
SMALLEST = "one call of everything on its smallest case: shows that it runs, not how fast"


class Row(NamedTuple):
    """Times of one comparison."""

    what: str
    literal_ms: float
    ours_ms: float


def median_ms(call: Callable[[], object], runs: int, clock: Callable[[], float] = time.thread_time) -> float:
    """Median milliseconds of a call after a first one; by default of this thread's processor time, so that
    other work on the machine counts little."""
    call()
    times = []
    for _ in range(runs):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times) * 1000


def cold_ms(call: Callable[[], object], runs: int) -> float:
    """As `median_ms` of this thread, with the processor's caches emptied before every call."""
    other = np.zeros(CACHES, np.uint8)
    call()
    times = []
    for _ in range(runs):
        other += 1
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1000


def first_ms(maker: str, *arguments: object, processes: int) -> float:
    """Median milliseconds of a call that is the first one of its process, over some processes.  `maker` is
    MODULE:FUNCTION; the function takes `arguments` as texts and gives what is called, without calling it."""
    command = [sys.executable, "-c", "from benchmarks.timing import print_first; print_first()", maker]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    times = [
        subprocess.run(
            [*command, *map(str, arguments)], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(processes)
    ]
    return statistics.median(float(text.split()[-1]) for text in times)


def print_first() -> None:
    """What a process of `first_ms` does: its arguments are MODULE:FUNCTION and those of the function."""
    module, _, name = sys.argv[1].partition(":")
    torch.set_num_threads(1)
    call = getattr(importlib.import_module(module), name)(*sys.argv[2:])
    start = time.thread_time()
    call()
    print((time.thread_time() - start) * 1000)


def cold_rows(
    literal: str, ours: str, literal_arguments: Sequence[object], arguments: Sequence[object], smallest: bool
) -> list[Row]:
    """Two rows: with empty caches, and of the first call of a process.  `literal` and `ours` are makers as
    `first_ms` takes them."""
    sides = []
    for maker, given, runs in ((literal, literal_arguments, 3), (ours, arguments, 15)):
        module, _, name = maker.partition(":")
        call = getattr(importlib.import_module(module), name)(*map(str, given))
        evicted = cold_ms(call, 1 if smallest else runs)
        sides.append((evicted, first_ms(maker, *given, processes=1 if smallest else 3)))
    (literal_cold, literal_first), (cold, first) = sides
    return [
        Row("  the same, the processor's caches empty", literal_cold, cold),
        Row("  the same, the first call of a process", literal_first, first),
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def command_line(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m NAME`, with --smallest."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--smallest", action="store_true", help=SMALLEST)
    return parser


def print_rows(
    name: str,
    description: str | None,
    parts: Sequence[Callable[[bool], Sequence[Row]]],
    arguments: list[str] | None,
) -> None:
    """The command line of a benchmark: prints the rows of `parts`, each called with --smallest."""
    options = command_line(name, description).parse_args(arguments)
    print(f"{'':<62}{'literal':>10}{'ours':>10}{'ratio':>8}")
    for rows in parts:
        for what, literal, ours in rows(options.smallest):
            print(f"{what:<62}{literal:>7.1f} ms{ours:>7.2f} ms{literal / ours:>7.1f}x", flush=True)
