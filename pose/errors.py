"""Errors that speak to the person at the keyboard: one sentence (what, where, what to do), exit code 2."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import logging
import sys
from collections.abc import Callable

from pose.streams import Raw, forgiving

PIPE = 141  # as of a command that SIGPIPE ended
FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """Something the user can fix: a config, a file, data, a run name.  Its text is shown without a
    traceback."""


class ToldElsewhere(UserError):
    """A `UserError` that another process reports: this one ends with the same exit code, silently."""


def user_facing(main: Callable[[], int | None]) -> Callable[[], int]:
    """Wrap a command's `main`: a `UserError` becomes one message and exit code 2; every other error is a bug
    of ours and keeps its traceback.  A full disk or memory is the user's to mend, wherever it is noticed.
    Ctrl-C and a closed pipe (`... | head`) end the command quietly; a standard error that cannot be written
    ends nothing, an output that cannot is told when the work is done."""

    @functools.wraps(main)
    def wrapped() -> int:
        output = forgiving()
        for stream in (sys.stdout, sys.stderr):  # names of files may have letters that a terminal lacks
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            code = _told(main)
        except SystemExit as stop:  # of argparse
            if stop.code not in (None, 0) or not _lost(output):
                raise
            code = 0
        if code or not (lost := _lost(output)):
            return code
        if isinstance(lost, BrokenPipeError):
            return PIPE
        print(f"error: cannot write to the standard output: {lost.strerror}", file=sys.stderr, flush=True)
        return 2

    return wrapped


def _told(main: Callable[[], int | None]) -> int:
    """The exit code of `main`, after a message where it failed."""
    try:
        return main() or 0
    except ToldElsewhere:
        return 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:
        return PIPE
    except MemoryError:
        print("error: there is not enough memory for this", file=sys.stderr, flush=True)
        return 2
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(f"error: the disk is full{where}; free some space and go on", file=sys.stderr, flush=True)
        return 2


def _lost(output: Raw | None) -> OSError | None:
    """Why the standard output could not be written, all of it."""
    if output is None:
        return None
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return output.error
