"""One training at a time in a run folder."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pose.errors import UserError

NAME = "lock.json"
BEAT = 5.0  # seconds between signs of life, which are the file's time of modification
STALE = 30.0  # seconds without one after which a holder on another machine is taken for gone


class RunLock:
    """`lock.json` in a run's folder while it is trained; a context manager.

    A holder that is gone is no obstacle: on this machine its process is looked up, of another one its signs
    of life are watched, so that it works on a shared file system without locks.  Raises `UserError` where
    somebody else trains the run."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        self.own = {
            "host": platform.node(),
            "pid": os.getpid(),
            "machine": machine(),
            "start": begun(os.getpid()),
            "folder": folder.stat().st_ino,  # a copy of the folder has another: its lock is nobody's
            "token": uuid.uuid4().hex,
        }
        self.ended = threading.Event()
        self.beating: threading.Thread | None = None

    def __enter__(self) -> RunLock:
        told = False
        while not self._take():
            holder = read(self.file)
            if holder is None:  # just removed, or not written yet
                time.sleep(0.1)
                if self._age() > STALE:
                    self._remove(holder)
                continue
            alive = self._alive(holder)
            if alive:
                raise UserError(
                    f"{self.file.parent} is being trained by process {holder.get('pid')} on "
                    f"{holder.get('host')}; stop that one, or copy the run and continue the copy"
                )
            if alive is None:  # perhaps: on another machine
                if not told:
                    print(
                        f"{self.file.parent} was trained on {holder.get('host')} until a moment ago; waiting "
                        f"up to {STALE:.0f} s for a sign of life",
                        file=sys.stderr,
                    )
                told = True
                time.sleep(BEAT / 5)
                continue
            self._remove(holder)
        self.beating = threading.Thread(target=self._beat, daemon=True, name="run lock")
        self.beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        if self.beating:
            self.beating.join()
        for _ in range(20):  # others may be looking at it
            if read(self.file) != self.own:
                break
            self._remove(self.own)

    def _take(self) -> bool:
        """Whether there was no lock, and now there is this one."""
        try:
            # written elsewhere first: nobody sees half of it
            temporary = self.file.with_name(f".{NAME}.{os.getpid()}.{threading.get_ident()}.partial")
            temporary.write_text(json.dumps(self.own), encoding="utf-8")
            try:
                os.link(temporary, self.file)
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                with open(self.file, "x", encoding="utf-8") as file:
                    json.dump(self.own, file)
            finally:
                temporary.unlink()
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(f"cannot write {self.file}: {error.strerror or error}") from None
        return True

    def _alive(self, holder: dict[str, Any]) -> bool | None:
        """Whether the holder still trains; None: not known yet."""
        if holder.get("folder") != self.own["folder"]:
            return False
        if holder.get("machine") == self.own["machine"]:
            return holder.get("start") == begun(int(holder.get("pid", 0))) is not None
        first = self._age()
        if first > STALE:
            return False
        seen = self._time()
        time.sleep(BEAT * 1.5)
        later = self._time()
        return True if later is not None and seen is not None and later > seen else None

    def _time(self) -> float | None:
        try:
            return self.file.stat().st_mtime
        except OSError:
            return None

    def _age(self) -> float:
        """Seconds since the last sign of life, by the clock of the file system."""
        probe = self.file.with_name(f".{NAME}.{os.getpid()}.{threading.get_ident()}.now")
        try:
            probe.write_text("")
            now = probe.stat().st_mtime
            probe.unlink()
        except OSError:
            now = time.time()
        seen = self._time()
        return 0.0 if seen is None else now - seen

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            with suppress(OSError):  # the folder was moved, or the disk is gone for a moment
                os.utime(self.file)

    def _remove(self, holder: dict[str, Any] | None) -> None:
        """The lock of that holder, and none that came in its place; one at a time looks and removes."""
        guard = self.file.with_name(f".{NAME}.guard")
        try:
            guard.mkdir()
        except FileExistsError:
            with suppress(OSError):
                if time.time() - guard.stat().st_mtime > STALE:  # of one that was killed just then
                    guard.rmdir()
            time.sleep(0.05)
            return
        except OSError:
            return
        with suppress(OSError):
            if read(self.file) == holder:
                self.file.unlink()
        with suppress(OSError):
            guard.rmdir()


def read(file: Path) -> dict[str, Any] | None:
    """The holder; None where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def machine() -> str:
    """Names what processes share that see each other's numbers: one start of one kernel, one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def begun(pid: int) -> str | None:
    """When the process of that number was started (numbers are used again); None: there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return None if fields.split()[0] in ("Z", "X") else fields.split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return None
    except PermissionError:
        pass
    return "running"
