"""What the benchmarks share: how they measure, and the command line of those that print a table."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

COLD_TURNS, COLD_CALLS = 5, 15  # calls with empty caches: turns, and of ours in all
CACHES = 64 << 20  # bytes, more than a processor's caches hold
SMALLEST = "one call of everything on its smallest case: shows that it runs, not how fast"


class Times(NamedTuple):
    """Median milliseconds of a call: processor time of all threads and wall time, with warm caches and with
    the processor's caches emptied before every call; nan where it was not measured."""

    cpu: float
    wall: float = math.nan
    cold_cpu: float = math.nan
    cold_wall: float = math.nan


class Row(NamedTuple):
    """One comparison; `literal` is None where there is nothing to compare with."""

    what: str
    literal: Times | None
    ours: Times


def clocks() -> np.ndarray:
    """Milliseconds of this process's processor time and of the wall clock."""
    return 1000 * np.array([time.process_time(), time.perf_counter()])


def taken(call: Callable[[], object], runs: int, *, cold: bool = False) -> np.ndarray:
    """(runs, 2) milliseconds of a call by the `clocks`, warm after the first."""
    other = np.zeros(CACHES if cold else 0, np.uint8)
    times = []
    for _ in range(runs):
        other += 1
        start = clocks()
        call()
        times.append(clocks() - start)
    return np.array(times)


def compare(
    what: str,
    literal: Callable[[], object],
    ours: Callable[[], object],
    *,
    literal_runs: int,
    runs: int,
) -> Row:
    """Both in turns, so that they see the same machine: `runs` calls of ours over `literal_runs` turns."""
    sides: list[list[np.ndarray]] = [[], [], [], []]
    literal(), ours()
    cold_turns = min(COLD_TURNS, literal_runs)
    for turn in range(literal_runs):
        sides[0].append(taken(literal, 1))
        sides[1].append(taken(ours, -(-runs // literal_runs)))
        if turn < cold_turns:
            sides[2].append(taken(literal, 1, cold=True))
            sides[3].append(taken(ours, -(-min(COLD_CALLS, runs) // cold_turns), cold=True))
    slow, fast, slow_cold, fast_cold = (np.median(np.concatenate(side), 0).tolist() for side in sides)
    return Row(what, Times(*slow, *slow_cold), Times(*fast, *fast_cold))


def times_of(call: Callable[[], object], runs: int) -> Times:
    """Times a call that is compared with nothing, after a first one."""
    call()
    hot, cold = taken(call, runs), taken(call, min(COLD_TURNS, runs), cold=True)
    return Times(*np.median(hot, 0).tolist(), *np.median(cold, 0).tolist())


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


def first_row(
    literal: str, ours: str, literal_arguments: Sequence[object], arguments: Sequence[object], smallest: bool
) -> Row:
    """The first call of a process.  `literal` and `ours` are makers as `first_ms` takes them."""
    processes = 1 if smallest else 3
    return Row(
        "  the same, the first call of a process",
        Times(first_ms(literal, *literal_arguments, processes=processes)),
        Times(first_ms(ours, *arguments, processes=processes)),
    )


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


NAMES = 72  # columns
HEADING = f"{'':<{NAMES}}{'processor time':^28}{'wall time':^28}"
COLUMNS = f"{'':<{NAMES}}" + f"{'literal':>10}{'ours':>10}{'ratio':>8}" * 2


def lines(row: Row) -> list[str]:
    """The row in the table: one line hot, and one cold where that was measured."""
    literal = row.literal or Times(math.nan)
    pairs = {"": ((literal.cpu, row.ours.cpu), (literal.wall, row.ours.wall))}
    if not math.isnan(row.ours.cold_cpu):
        cold = ((literal.cold_cpu, row.ours.cold_cpu), (literal.cold_wall, row.ours.cold_wall))
        pairs = {", hot": pairs[""], "  cold": cold}
    return [
        f"{('' if state == '  cold' else row.what) + state:<{NAMES}}" + "".join(cells(*pair) for pair in both)
        for state, both in pairs.items()
    ]


def cells(literal: float, ours: float) -> str:
    """Two times and their ratio; - where there is none."""
    ratio = literal / ours if ours else math.nan
    texts = (f"{literal:.1f} ms", f"{ours:.2f} ms", f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x")
    widths, values = (10, 10, 8), (literal, ours, ratio)
    return "".join(
        f"{'-' if math.isnan(value) else text:>{width}}"
        for text, width, value in zip(texts, widths, values, strict=True)
    )


def print_rows(
    name: str,
    description: str | None,
    parts: Sequence[Callable[[bool], Iterable[Row]]],
    arguments: list[str] | None,
) -> None:
    """The command line of a benchmark: prints the rows of `parts`, each called with --smallest."""
    options = command_line(name, description).parse_args(arguments)
    print_table(parts, options.smallest)


def print_table(parts: Sequence[Callable[[bool], Iterable[Row]]], smallest: bool) -> None:
    print(HEADING.rstrip(), COLUMNS, sep="\n")
    for rows in parts:
        for row in rows(smallest):
            print(*lines(row), sep="\n", flush=True)
