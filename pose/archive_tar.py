"""Images in a tar archive, or in a folder of them ("shards"), read in place by an index that is kept."""

from __future__ import annotations

import io
import logging
import os
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pose.archive_members import (
    BARE,
    ENTRY,
    Archive,
    ArchiveFile,
    Members,
    read_at,
    state_of,
    tell_left_out,
)
from pose.errors import UserError
from pose.files import cache_folders, write_bytes

FORMAT = 1  # raise it whenever the same shards would give another index
BLOCK = 512  # bytes, of which a tar has a whole number
THREADS = 8  # they wait for the disk, not for the processor
LARGEST_INDEX = 2**32  # bytes: of a file that is taken for one
# what tarfile raises about damaged archives
DAMAGED = (
    tarfile.TarError, ValueError, EOFError, struct.error, OverflowError, IndexError, RecursionError,
    MemoryError,
)  # fmt: skip

logger = logging.getLogger("pose")


class TarArchive(Archive):
    """The regular files of one or more tar archives; links in them are left out."""

    def is_current(self) -> bool:
        try:
            return shards(self.path) == self.files
        except OSError:
            return False

    def start(self, row: int) -> int:
        return int(self.members.entries["offset"][row])


def shards(path: Path) -> list[ArchiveFile]:
    """The .tar files of a folder by name, or the one file itself.  Raises `OSError`."""
    if not os.path.isdir(path):
        return [ArchiveFile(os.fspath(path), state_of(os.stat(path)))]
    with os.scandir(path) as entries:
        found = [one for one in entries if is_shard(one.name) and one.is_file()]
        files = [ArchiveFile(one.path, state_of(one.stat())) for one in found]
    return sorted(files)


def is_shard(name: str) -> bool:
    return name.lower().endswith(".tar") and not name.startswith(".")


def open_tars(path: Path) -> TarArchive:
    """A tar archive or a folder of them.  Its index is made on first use and kept in `.cache` beside the
    files, or else in the user's cache; what has changed since is read again.  Raises `UserError` for a file
    that is damaged or no tar archive."""
    try:
        files = shards(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    places = _places(path)
    kept = next((index for place in places if (index := _load(place, files)) is not None), None)
    if kept is not None and kept.files == files:
        return TarArchive(path, files, kept.members)
    members, left_out = _index(path, files, kept)
    if not len(members):
        raise UserError(f"{path} has no files in it")
    tell_left_out(path, left_out)
    _save(places, files, members, left_out)
    return TarArchive(path, files, members)


# ------------------------------------------------------------------------------------------ reading archives


class Shard(NamedTuple):
    """What one tar holds."""

    names: list[str]
    entries: np.ndarray  # (N,) of ENTRY


def scan(file: ArchiveFile) -> Shard:
    """Reads the headers of a tar.  Raises `UserError` for one that is cut off, corrupt or no tar at all."""
    names, entries, size = [], [], file.state[0]
    try:
        first = read_at(file.path, file.state, 0, BLOCK)
        if len(first) == BLOCK and not any(first):  # the end; tarfile of 3.10 fails on it
            return Shard([], np.array([], ENTRY))
        # a small buffer: on some file systems the usual one is megabytes, and every header would fill it
        with open(file.path, "rb", buffering=2 * BLOCK) as stream:
            archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115
            place = -1
            while (info := archive.next()) is not None:
                if archive.offset <= place or info.size < 0:
                    raise tarfile.ReadError(f"bad size of {info.name!r}")
                archive.members, place = [], archive.offset  # type: ignore[attr-defined]  # it would keep them
                if info.isreg() and not info.issparse():
                    if info.offset_data + info.size > size:
                        raise tarfile.ReadError(f"{info.name!r} goes on behind the end of the file")
                    names.append(info.name)
                    entries.append((0, info.offset_data, info.size, info.size, BARE, 0))
            end = archive.offset
        _check_end(file, end)
        return Shard(names, np.array(entries, ENTRY))
    except DAMAGED as error:
        raise UserError(
            f"{file.path} is no tar archive, or is cut off or corrupt ({error}); copy or download it again"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {file.path}: {error.strerror or error}") from None


def _check_end(file: ArchiveFile, place: int) -> None:
    """tarfile takes a damaged header for the end."""
    block = read_at(file.path, file.state, place, BLOCK)
    if not block:
        logger.warning("%s has no mark at its end: it may be cut off", file.path)
    elif len(block) < BLOCK:
        raise tarfile.ReadError(f"it ends within a header, at byte {file.state[0]}")
    elif any(block):
        raise tarfile.ReadError(f"no header at byte {place}")


# --------------------------------------------------------------------------------------------- the kept index


class Index(NamedTuple):
    """A kept index, as far as it is still true."""

    members: Members
    files: list[ArchiveFile]  # that it is about
    left_out: int  # files of the shards that the members do not have


def _places(path: Path) -> list[Path]:
    """Where an index may lie."""
    whole = path.resolve()
    folder = whole if whole.is_dir() else whole.parent
    return [place / f"{whole.name}.index.npz" for place in cache_folders(folder)]


def _index(path: Path, files: Sequence[ArchiveFile], kept: Index | None) -> tuple[Members, int]:
    """The members of the shards, read where they are not in the kept index, and how many are left out."""
    # a file that is left out may count once the shard with a later one of its path has changed
    known = {} if kept is None or kept.left_out else _shards_of(kept)
    new = [file for file in files if file not in known]
    logger.info("%s: reading what is in %d tar archive(s), once", path, len(new))
    with ThreadPoolExecutor(THREADS) as pool:
        known.update(zip(new, pool.map(scan, new), strict=True))
    names: list[str] = []
    entries = []
    for number, file in enumerate(files):
        names += known[file].names
        one = known[file].entries.copy()
        one["shard"] = number
        entries.append(one)
    members = Members.of(names, np.concatenate(entries) if entries else np.zeros(0, ENTRY))
    return members, len(names) - len(members)


def _shards_of(index: Index) -> dict[ArchiveFile, Shard]:
    found = {}
    for number, file in enumerate(index.files):
        rows = np.flatnonzero(index.members.entries["shard"] == number)
        names = [index.members.name(row) for row in rows.tolist()]
        found[file] = Shard(names, index.members.entries[rows])
    return found


def _load(place: Path, files: Sequence[ArchiveFile]) -> Index | None:
    """A kept index; None where there is none, or a damaged one."""
    try:
        if place.stat().st_size > LARGEST_INDEX:
            return None
        with np.load(place, allow_pickle=False) as content:
            if int(content["format"]) != FORMAT:
                return None
            names = content["files"].tobytes().decode("utf-8", "surrogatepass").split("\0")
            states, left_out = content["states"].tolist(), int(content["left_out"])
            members = Members(
                content["text"].tobytes(), content["ends"], content["entries"], content["hashes"],
                content["places"],
            )  # fmt: skip
    except (*DAMAGED, OSError, KeyError, TypeError, AttributeError, NotImplementedError, zipfile.BadZipFile):
        return None
    if not _is_sound(members, len(states)) or len(names) != len(states):
        return None
    folder = os.path.dirname(files[0].path) if files else ""
    known = [
        ArchiveFile(os.path.join(folder, name), (size, changed))
        for name, (size, changed) in zip(names, states, strict=True)
    ]
    return Index(members, known, left_out)


def _is_sound(members: Members, count: int) -> bool:
    """Whether the arrays fit each other, whatever wrote them."""
    number, ends = len(members.ends), members.ends
    kinds = [ends.dtype, members.entries.dtype, members.hashes.dtype, members.places.dtype]
    if kinds != [np.dtype(np.int64), ENTRY, np.dtype(np.uint32), np.dtype(np.int32)]:
        return False
    if any(one.ndim != 1 for one in (ends, members.entries, members.hashes, members.places)):
        return False
    if len(members.entries) != number or len(members.hashes) != len(members.places):
        return False
    if not number:
        return not members.text
    inside = members.places.min() >= 0 and members.places.max() < number if len(members.places) else True
    return bool(
        inside
        and ends[-1] == len(members.text)
        and ends[0] >= 0
        and (np.diff(ends) >= 0).all()
        and members.entries["shard"].max() < count
    )


def _save(places: Sequence[Path], files: Sequence[ArchiveFile], members: Members, left_out: int) -> None:
    content = io.BytesIO()
    names = "\0".join(os.path.basename(file.path) for file in files)
    np.savez(
        content,
        format=np.array(FORMAT),
        left_out=np.array(left_out),
        files=np.frombuffer(names.encode("utf-8", "surrogatepass"), np.uint8),
        states=np.array([file.state for file in files], np.int64).reshape(-1, 2),
        text=np.frombuffer(members.text, np.uint8),
        ends=members.ends,
        entries=members.entries,
        hashes=members.hashes,
        places=members.places,
    )
    for place in places:
        try:
            write_bytes(place, content.getvalue())
            return
        except UserError:
            continue
    logger.warning("%s: no writable folder for its index; it is made again every time", files[0].path)
