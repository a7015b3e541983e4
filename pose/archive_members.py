"""The files in archives: where each lies, found by name, and read without a shared position."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from pose.errors import UserError

LARGEST_MEMBER = 2**30  # bytes: 178 megapixels of 16 bit colour; what says that it is larger is no image
DEPTH = 16  # folders below which a file is still found by the end of its path

ENTRY = np.dtype(
    [
        ("shard", "<u4"),  # number of the archive file
        ("offset", "<i8"),  # where a zip's local header, or a tar's content, begins
        ("stored", "<i8"),  # bytes in the archive
        ("size", "<i8"),  # bytes of the file
        ("method", "<i4"),  # 0 stored, 8 deflated, -1 encrypted, -2 stored without a check sum, as in a tar
        ("crc", "<u4"),
    ]
)
ENCRYPTED, BARE = -1, -2

State = tuple[int, int]  # size in bytes and time of change in nanoseconds of an archive file


logger = logging.getLogger("pose")


class BadMember(OSError):
    """A file in an archive that cannot be read."""


# ------------------------------------------------------------------------------------------------- the index


class Members:
    """Files of archives as a few arrays, which processes share after a fork.

    A file is found by its path in the archive or by the end of it, from a `/` on, where no other file's path
    ends so.  Of files with the same path the last one counts, as where an archive is unpacked."""

    def __init__(
        self, text: bytes, ends: np.ndarray, entries: np.ndarray, hashes: np.ndarray, places: np.ndarray
    ) -> None:
        self.text = text  # the paths in UTF-8, one after the other
        self.ends = ends  # (N,) int64 of each path in the text
        self.entries = entries  # (N,) of ENTRY
        self.hashes = hashes  # (M,) uint32, sorted: CRC-32 of every path, and of its ends from a "/" on
        self.places = places  # (M,) int32: whose it is, whole paths first

    @classmethod
    def of(cls, names: Sequence[str], entries: np.ndarray) -> Members:
        """names: paths as the archives have them; entries (N,) of ENTRY."""
        last = {plain: row for row, name in enumerate(names) if (plain := inner_path(name))}
        kept = sorted(last.values())
        paths = [_bytes(inner_path(names[row])) for row in kept]
        hashes, places = [zlib.crc32(path) for path in paths], list(range(len(paths)))
        for row, path in enumerate(paths):
            slash = path.find(b"/")
            for _ in range(DEPTH):
                if slash < 0:
                    break
                hashes.append(zlib.crc32(path[slash + 1 :]))
                places.append(row)
                slash = path.find(b"/", slash + 1)
        order = np.argsort(np.array(hashes, np.uint32), kind="stable")
        return cls(
            b"".join(paths),
            np.cumsum([len(path) for path in paths], dtype=np.int64),
            entries[kept],
            np.array(hashes, np.uint32)[order],
            np.array(places, np.int32)[order],
        )

    def __len__(self) -> int:
        return len(self.ends)

    def path(self, row: int) -> bytes:
        return self.text[self.ends[row - 1] if row else 0 : self.ends[row]]

    def name(self, row: int) -> str:
        return self.path(row).decode("utf-8", "surrogatepass")

    def find(self, name: str) -> int | None:
        """The row of a file; None where there is none, or several end so."""
        wanted = _bytes(name)
        check = np.uint32(zlib.crc32(wanted))  # of the same type: else all of them would be converted
        first, last = self.hashes.searchsorted(check), self.hashes.searchsorted(check, "right")
        ending = None
        for row in self.places[first:last].tolist():
            path = self.path(row)
            if path == wanted:
                return row
            if path.endswith(b"/" + wanted):
                if ending is not None:
                    return None
                ending = row
        return ending


def inner_path(name: str) -> str:
    """A path in an archive without a root and `.`; "" for one that leads out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "" if ".." in parts else "/".join(parts)


def tell_left_out(path: Path, count: int) -> None:
    """A warning about files that `Members` does not have, from the main process only."""
    if count and multiprocessing.parent_process() is None:
        logger.warning(
            "%s: %d file(s) are left out: a later one has the same path, or theirs leads out of the archive",
            path,
            count,
        )


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


# --------------------------------------------------------------------------------------------------- reading


class _Handle:
    """An open archive file, closed when nobody reads from it any more."""

    def __init__(self, path: str, state: State) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        if state_of(os.fstat(self.number)) != state:
            raise UserError(f"{path} was replaced while it was in use; start again")

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


def _most_handles() -> int:
    """Archive files that a process keeps open: many shards must leave some for all else (`ulimit -n`)."""
    try:
        import resource
    except ImportError:
        return 16
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 256 if limit == resource.RLIM_INFINITY else max(4, min(256, limit // 4))


# A fork's children read through the same open file, but none has a position in it: see `read_at`
_handle = lru_cache(maxsize=_most_handles())(_Handle)


def state_of(stat: os.stat_result) -> State:
    return stat.st_size, stat.st_mtime_ns


def read_at(path: str, state: State, offset: int, count: int) -> bytes:
    """Up to `count` bytes of an archive file, fewer at its end.  Raises `OSError`, and `UserError` where the
    file is not the one that was indexed."""
    handle = _handle(path, state)
    found = os.pread(handle.number, count, offset) if count > 0 and offset >= 0 else b""
    while 0 < len(found) < count:
        more = os.pread(handle.number, count - len(found), offset + len(found))
        if not more:
            break
        found += more
    return found


class _Window(io.RawIOBase):
    """A part of an archive file as a file."""

    def __init__(self, path: str, state: State, start: int, size: int) -> None:
        self.arguments, self.start, self.size, self.place = (path, state), start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place}.get(whence, self.size))
        return self.place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = min(len(buffer), self.size - self.place)
        found = read_at(*self.arguments, self.start + self.place, count)
        buffer[: len(found)] = found
        self.place += len(found)
        return len(found)


class ArchiveFile(NamedTuple):
    """One file of an archive, and what it was when it was indexed."""

    path: str
    state: State


class Archive(ABC):
    """Images in one archive or in a folder of shards."""

    def __init__(self, path: Path, files: Sequence[ArchiveFile], members: Members) -> None:
        self.path = path
        self.files = list(files)
        self.members = members

    @abstractmethod
    def is_current(self) -> bool:
        """Whether the archive is still the one that was indexed."""

    @abstractmethod
    def start(self, row: int) -> int:
        """Where a file's content begins in its archive file.  Raises `BadMember`, `OSError`."""

    @cached_property
    def names(self) -> list[str]:
        """The paths of all files."""
        return [self.members.name(row) for row in range(len(self.members))]

    def find(self, name: str) -> int | None:
        return self.members.find(name)

    def name(self, row: int) -> str:
        return self.members.name(row)

    def size(self, row: int) -> int:
        return int(self.members.entries["size"][row])

    def read(self, row: int) -> bytes:
        """The content of a file.  Raises `BadMember` for one that is damaged, and `OSError`."""
        entry = self._entry(row)
        file = self.files[entry["shard"]]
        content = read_at(file.path, file.state, self.start(row), int(entry["stored"]))
        if len(content) != entry["stored"]:
            raise BadMember(f"cut off in {file.path}")
        return self.unpacked(row, content)

    def unpacked(self, row: int, content: bytes) -> bytes:
        """A file of its bytes in the archive.  Raises `BadMember`."""
        entry = self.members.entries[row]
        size = int(entry["size"])
        if entry["method"] == 8:
            content = _inflated(content, size)
        if len(content) != size or (entry["method"] != BARE and zlib.crc32(content) != entry["crc"]):
            path = self.files[entry["shard"]].path
            raise BadMember(f"corrupt in {path}: it fails the check of the archive")
        return content

    def open(self, row: int) -> BinaryIO:
        """As `read`, but of what is stored as it is only those bytes that are asked for, unchecked."""
        entry = self._entry(row)
        if entry["method"] == 8:
            return io.BytesIO(self.read(row))
        file = self.files[entry["shard"]]
        window = _Window(file.path, file.state, self.start(row), int(entry["size"]))
        return io.BufferedReader(window)

    def _entry(self, row: int) -> np.void:
        entry = self.members.entries[row]
        file = self.files[entry["shard"]].path
        if entry["method"] == ENCRYPTED:
            raise BadMember(f"encrypted in {file}; make an archive without a password")
        if entry["method"] not in (0, 8, BARE):
            raise BadMember(
                f"compressed by method {entry['method']} in {file}, which is not read; make an archive that "
                "stores or deflates (zip -0)"
            )
        if not 0 <= entry["size"] <= LARGEST_MEMBER or not 0 <= entry["stored"] <= LARGEST_MEMBER:
            raise BadMember(f"of {entry['size']} bytes by the index of {file}; no image is that large")
        if entry["method"] != 8 and entry["size"] != entry["stored"]:
            raise BadMember(f"corrupt in {file}: it is stored with another size than its own")
        return entry


def _inflated(content: bytes, size: int) -> bytes:
    """At most one byte more than `size`, however much is packed there."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
    except zlib.error as error:
        raise BadMember(f"corrupt in the archive ({error})") from None
