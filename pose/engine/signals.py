"""Ctrl-C and SIGTERM: noted, obeyed after the step or while waiting for data, kept from the processes that a
run starts."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

GRACE = 8.0  # seconds
END = b"\0"  # no signal has this number


class Interrupted(Exception):
    """Ctrl-C or SIGTERM, after everything was saved."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        super().__init__(signal.Signals(number).name)


class Caught:
    """The number of the signal that came; 0: none."""

    def __init__(self) -> None:
        self.number = 0
        self.raises = False

    def __call__(self) -> int:
        return self.number

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Active while nothing is worked on: a signal, also one that came before, raises `Interrupted`."""
        self.raises = True
        try:
            if self.number:
                raise Interrupted(self.number)
            yield
        finally:
            self.raises = False

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        if self.raises:
            self.raises = False
            raise Interrupted(number)


@contextmanager
def catch_signals() -> Iterator[Caught]:
    """While active, the first Ctrl-C or SIGTERM is only noted (read it by calling the value); a second Ctrl-C
    ends the process as usual, and within `GRACE` seconds whatever it waits for."""
    caught = Caught()
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            before[number] = signal.signal(number, caught.note)
        except ValueError:  # not the main thread (a notebook's worker): no signals there
            continue
    try:
        with ends_in_any_case() if before else nullcontext():
            yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ends_in_any_case() -> Iterator[None]:
    """While active, `GRACE` seconds after a second Ctrl-C the process ends, also where it waits in a call
    that knows nothing of Python's handlers, as for a GPU or for other processes."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    pid = os.getpid()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        count = 0
        while count < 2:
            byte = reader.recv(1)
            if byte == END:
                return
            count += byte[0] == signal.SIGINT
        reader.settimeout(GRACE)
        try:
            while reader.recv(1) != END:
                pass
        except TimeoutError:
            if os.getpid() == pid:
                os.write(2, b"still busy after a second Ctrl-C: ended at once\n")
                os._exit(128 + signal.SIGINT)

    thread = threading.Thread(target=watch, daemon=True, name="second Ctrl-C")
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.send(END)  # closing would not do: processes that were forked meanwhile have it open
        thread.join()
        writer.close()
        reader.close()


@contextmanager
def signals_for_this_process_only() -> Iterator[None]:
    """Processes that are started meanwhile never get SIGTERM, which torchrun and batch systems send to the
    whole group: a loader worker that died of it would end the run before it is saved."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
