"""Errors that speak to the person at the keyboard: one sentence (what, where, what to do), exit code 2."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can fix: a config, a file, data, a run name.  Its text is shown without a
    traceback."""


class ToldElsewhere(UserError):
    """A `UserError` that another process reports: this one ends with the same exit code, silently."""


def user_facing(main: Callable[[], int | None]) -> Callable[[], int]:
    """Wrap a command's `main`: a `UserError` becomes one message and exit code 2; every other error is a bug
    of ours and keeps its traceback.  A closed pipe (`... | head`) ends the command quietly."""

    @functools.wraps(main)
    def wrapped() -> int:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            return main() or 0
        except ToldElsewhere:
            return 2
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return 2
        except BrokenPipeError:
            sys.stderr.close()
            return 141

    return wrapped
