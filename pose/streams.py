"""Standard output and error of a command that may be closed, full, or a pipe that nobody reads any more."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO


class Raw(io.FileIO):
    """A stream whose failures end nothing: they are kept in `error`, and the next write is tried again.

    pipe: a pipe that nobody reads raises BrokenPipeError, once.  absent: there was no such stream."""

    def __init__(self, number: int, *, pipe: bool, absent: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self.pipe = pipe
        self.absent = absent
        self.error: OSError | None = None

    def write(self, data: object) -> int:
        """All of it, as far as the caller can tell."""
        left = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(left)
        try:
            if self.absent:
                raise OSError(errno.EBADF, "it is closed")
            while left:
                left = left[super().write(left) or 0 :]  # type: ignore[arg-type]
        except OSError as error:
            self.error = error
            if self.pipe and isinstance(error, BrokenPipeError):
                self.pipe = False
                raise
        return size


def forgiving() -> Raw | None:
    """Replaces the standard streams of this process by forgiving ones; that of the output, or None where it
    is somebody's own already (a test's, a notebook's).

    Files that are opened later never get the number of a stream that was closed."""
    output: Raw | None = None
    if sys.stdin is None:
        _nowhere(os.O_RDONLY)
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is not None and stream is not getattr(sys, f"__{name}__"):
            continue
        below = getattr(stream, "buffer", None)
        if isinstance(getattr(below, "raw", below), Raw):
            continue
        number = _nowhere(os.O_WRONLY) if stream is None else stream.fileno()
        raw = Raw(number, pipe=name == "stdout", absent=stream is None)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            how = (stream.encoding, stream.line_buffering, stream.write_through)
        else:
            how = ("utf-8", True, False)
        # with PYTHONUNBUFFERED there is none, and nothing would empty ours
        buffer = raw if isinstance(below, io.RawIOBase) else io.BufferedWriter(raw)
        # names of files may have letters that a terminal lacks
        text = io.TextIOWrapper(
            buffer,  # type: ignore[type-var]
            how[0],
            "backslashreplace",
            line_buffering=how[1],
            write_through=how[2],
        )
        setattr(sys, name, text)
        output = raw if name == "stdout" else output
    return output


def _nowhere(flags: int) -> int:
    """The lowest number that is free: that of the closed stream."""
    return os.open(os.devnull, flags)
