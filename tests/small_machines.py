"""Commands on a machine that lacks something: room on a file system, open files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path


@cache
def can_mount() -> bool:
    """Root, with a mount namespace of its own."""
    if not shutil.which("unshare") or os.geteuid() or not Path("/dev/shm").is_dir():
        return False
    return not subprocess.run(mounted("/dev/shm", "1m", ["true"]), capture_output=True).returncode


def mounted(place: Path | str, size: str, command: Sequence[str]) -> list[str]:
    """The command where `place` is a file system in memory of that size, which nobody else sees."""
    mount = f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(place))}"
    return ["unshare", "-m", "sh", "-c", f"{mount} && exec {shlex.join(command)}"]


def with_few_files(count: int, command: Sequence[str]) -> list[str]:
    """The command where no process may have more than `count` files open."""
    return ["sh", "-c", f"ulimit -n {count} && exec {shlex.join(command)}"]
