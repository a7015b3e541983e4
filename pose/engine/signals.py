"""Ctrl-C and SIGTERM: noted, obeyed after the step, kept from the processes that a run starts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Ctrl-C or SIGTERM, after everything was saved."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        super().__init__(signal.Signals(number).name)


@contextmanager
def catch_signals() -> Iterator[Callable[[], int]]:
    """While active, the first Ctrl-C or SIGTERM is only noted (read it by calling the value); a second Ctrl-C
    ends the process as usual."""
    caught = [0]
    before = {}

    def note(number: int, frame: FrameType | None) -> None:
        if caught[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught[0] = number

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            before[number] = signal.signal(number, note)
        except ValueError:  # not the main thread (a notebook's worker): no signals there
            continue
    try:
        yield lambda: caught[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_for_this_process_only() -> Iterator[None]:
    """Processes that are started meanwhile never get SIGTERM, which torchrun and batch systems send to the
    whole group: a loader worker that died of it would end the run before it is saved."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
