"""What the benchmarks share: how they measure, and the command line of those that print a table."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

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
