"""Images that stay in their archives: paths that lead into a zip, a tar, or a folder of tars.

`train2017.zip/000000000009.jpg` is read wherever a file of that path would be, so an archive may be named
instead of a folder of images.  It is opened when a path first leads into it, and remembered: worker processes
that are forked have its index already; those that are spawned open it themselves.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pose.archive_members import Archive
from pose.archive_tar import is_shard, open_tars
from pose.archive_zip import open_zip
from pose.errors import UserError
from pose.files import is_regular

SUFFIXES = (".zip", ".tar")
PACKED = (".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")  # as a whole: no file in it can be read alone
LOOSE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # in a folder of images, beside a .tar

_open: dict[str, Archive] = {}  # by path, in this process and those that are forked from it
_ordinary: dict[str, int] = {}  # folders that hold no shards: their time of change


# ------------------------------------------------------------------------------------------------- archives


def forget_archives() -> None:
    """As if no folder or archive had been looked at yet."""
    _open.clear()
    _ordinary.clear()


def known_archive(folder: Path) -> Archive | None:
    """The archive that a path has been found to be; nothing is looked up."""
    return _open.get(os.fspath(folder)) if _open else None


def archive_at(folder: Path) -> Archive | None:
    """The archive, or folder of shards, at a path; None for an ordinary folder and for anything else.  One
    that has changed since is opened anew.  Raises `UserError` for a damaged archive."""
    text = os.fspath(folder)
    archive = _open.get(text)
    if archive is not None:
        if archive.is_current():
            return archive
        del _open[text]
    archive = _opened(Path(folder))
    if archive is not None:
        _open[text] = archive
    return archive


def _opened(path: Path) -> Archive | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return open_tars(path) if _holds_shards(path, found.st_mtime_ns) else None
    if not stat.S_ISREG(found.st_mode):
        return None
    suffix = path.suffix.lower()
    if suffix in PACKED:
        raise UserError(
            f"{path} is compressed as a whole, so its images cannot be read in place; unpack it, or make a "
            ".zip or an uncompressed .tar of them"
        )
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if suffix == ".zip" or start[:4] in (b"PK\3\4", b"PK\5\6"):
        return open_zip(path)
    if suffix == ".tar" or start[257:262] == b"ustar":
        return open_tars(path)
    return None


def _holds_shards(folder: Path, changed: int) -> bool:
    """Whether a folder has .tar files, and neither images nor folders beside them: there a .tar is what was
    unpacked, or is to be."""
    if _ordinary.get(os.fspath(folder)) == changed:
        return False
    tars = False
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.lower()
            if name.startswith("."):
                continue
            if name.endswith(LOOSE) or entry.is_dir():
                tars = False
                break
            tars = tars or (is_shard(name) and entry.is_file())
    if not tars:
        _ordinary[os.fspath(folder)] = changed
    return tars


def _known(path: Path) -> tuple[Archive, str] | None:
    """An archive that is open, and the path in it."""
    if not _open:
        return None
    text = os.fspath(path)
    end = text.rfind("/")
    while end > 0:
        archive = _open.get(text[:end])
        if archive is not None:
            return archive, text[end + 1 :]
        end = text.rfind("/", 0, end)
    return None


def _found(path: Path) -> tuple[Archive, str] | None:
    """As `_known`, of any archive; None for what there is in the file system, or nowhere."""
    known = _known(path)
    if known is not None or os.path.lexists(path):
        return known
    parent = next((one for one in Path(path).parents if os.path.lexists(one)), None)
    archive = None if parent is None else archive_at(parent)
    return None if archive is None else (archive, os.fspath(Path(path).relative_to(archive.path)))


# ------------------------------------------------------------------------------------------- as in a folder


def is_folder(path: Path) -> bool:
    """Whether images can be named below a path: a folder or an archive.  Raises `UserError` for a damaged
    archive."""
    return archive_at(path) is not None or os.path.isdir(path)


def is_file(path: Path) -> bool:
    """Whether there is a file that ends, in an archive or not."""
    if _known(path) is None and is_regular(path):
        return True
    found = _found(path)
    return found is not None and found[0].find(found[1]) is not None


def read_bytes(path: Path) -> np.ndarray:
    """(N,) uint8: the content of a file.  Raises `OSError`, of which `BadMember`."""
    try:
        if _known(path) is None:
            return np.fromfile(path, np.uint8)
    except (FileNotFoundError, NotADirectoryError):
        if _found(path) is None:
            raise
    archive, row = _member(path)
    return np.frombuffer(archive.read(row), np.uint8)


def open_file(path: Path) -> BinaryIO:
    """A file for reading.  Raises `OSError`, of which `BadMember`."""
    try:
        if _known(path) is None:
            return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        if _found(path) is None:
            raise
    archive, row = _member(path)
    return archive.open(row)


def same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes; False where one is missing."""
    try:
        if _found(one) is None and _found(other) is None:
            same_size = os.stat(one).st_size == os.stat(other).st_size
            return same_size and filecmp.cmp(one, other, shallow=False)
        return _size(one) == _size(other) and np.array_equal(read_bytes(one), read_bytes(other))
    except OSError:
        return False


def _size(path: Path) -> int:
    if _found(path) is None:
        return os.stat(path).st_size
    archive, row = _member(path)
    return archive.size(row)


def _member(path: Path) -> tuple[Archive, int]:
    found = _found(path)
    row = None if found is None else found[0].find(found[1])
    if found is None or row is None:
        raise FileNotFoundError(errno.ENOENT, "no such file in the archive", os.fspath(path))
    return found[0], row


def files_below(folder: Path) -> Sequence[Path]:
    """The files in an archive, in the order of their names.  Raises `UserError` for a damaged archive."""
    archive = archive_at(folder)
    return [] if archive is None else sorted(folder / name for name in archive.names)
