"""Images in a zip archive, read in place."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
from pathlib import Path

import numpy as np

from pose.archive_members import (
    ENCRYPTED,
    ENTRY,
    Archive,
    ArchiveFile,
    BadMember,
    Members,
    read_at,
    state_of,
    tell_left_out,
)
from pose.errors import UserError

HEADER = 30  # bytes of a local header before the name
SPARE = 128  # bytes read with a header, in which most names and extra fields end
# what zipfile raises about damaged archives
DAMAGED = (
    zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, IndexError, OverflowError,
    MemoryError,
)  # fmt: skip


class ZipArchive(Archive):
    """The files of a zip archive, stored or deflated; of any size (zip64)."""

    def is_current(self) -> bool:
        try:
            return state_of(os.stat(self.path)) == self.files[0].state
        except OSError:
            return False

    def start(self, row: int) -> int:
        offset = int(self.members.entries["offset"][row])
        file = self.files[0]
        return _content(read_at(file.path, file.state, offset, HEADER), offset, file.path)

    def read(self, row: int) -> bytes:
        """With one access to the file: header and content lie together."""
        entry = self._entry(row)
        file, offset = self.files[0], int(entry["offset"])
        count = HEADER + len(self.members.path(row)) + SPARE + int(entry["stored"])
        found = read_at(file.path, file.state, offset, count)
        begin = _content(found[:HEADER], offset, file.path) - offset
        if begin + int(entry["stored"]) > len(found):
            return super().read(row)
        return self.unpacked(row, found[begin : begin + int(entry["stored"])])


def _content(header: bytes, offset: int, path: str) -> int:
    """Where the content behind a local header begins."""
    if len(header) < HEADER or header[:4] != b"PK\3\4":
        raise BadMember(f"corrupt in {path}: no header at byte {offset}")
    name, extra = struct.unpack("<HH", header[26:30])
    return offset + HEADER + int(name) + int(extra)


def open_zip(path: Path) -> ZipArchive:
    """Raises `UserError` for a file that is damaged or no zip archive."""
    try:
        with open(path, "rb") as file:
            state = state_of(os.fstat(file.fileno()))
            with zipfile.ZipFile(file) as archive:
                found = [info for info in archive.infolist() if not info.is_dir() and not _is_link(info)]
        entries = np.array([_entry(info) for info in found], ENTRY)
    except DAMAGED as error:
        raise UserError(
            f"{path} is no zip archive, or is cut off or corrupt ({error}); copy or download it again"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    members = Members.of([_name(info) for info in found], entries)
    _check(path, members, len(found))
    return ZipArchive(path, [ArchiveFile(os.fspath(path), state)], members)


def _entry(info: zipfile.ZipInfo) -> tuple[int, ...]:
    method = ENCRYPTED if info.flag_bits & 1 else info.compress_type
    return 0, info.header_offset, info.compress_size, info.file_size, method, info.CRC


def _check(path: Path, members: Members, count: int) -> None:
    if not len(members):
        raise UserError(f"{path} has no files in it")
    if (members.entries["method"] == ENCRYPTED).all():
        raise UserError(f"{path} is encrypted; unpack it, and make an archive without a password")
    tell_left_out(path, count - len(members))


def _is_link(info: zipfile.ZipInfo) -> bool:
    return info.create_system == 3 and (info.external_attr >> 16) & 0o170000 == 0o120000


def _name(info: zipfile.ZipInfo) -> str:
    """Some programs write UTF-8 without the flag that says so, and some the folders of Windows."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")
