"""The image files that annotations name: where they lie, and how large they are."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np

from pose.annotations.issues import Issue
from pose.annotations.keypoint_file import KeypointFile
from pose.archives import Archive, archive_at, known_archive
from pose.files import is_regular
from pose.images import header_size

LISTED = 20_000  # files in which a missing one is looked for
THREADS = 16  # they wait for the disk, not for the processor


def locate(folder: Path, name: str) -> Path:
    """The file that annotations call `name`.  Where it is not there as written, the one file that is there
    with `/` for a backslash, in another Unicode form, without a leading slash or leading folders, or by the
    path of a URL; the path as written where there is none, or several.  In an archive also the one file whose
    path there ends so, and never one outside.  Raises `UserError` for a damaged archive."""
    path = folder / name
    archive = known_archive(folder)
    if archive is None:
        below = not name.startswith("/") and ".." not in name and path != folder
        if below and is_regular(path):  # in a folder, then; what this costs is paid for every image
            return path
        archive = archive_at(folder)
    if archive is not None:
        return folder / _in_archive(archive, folder, name)
    if is_regular(path):
        return path
    found = {os.path.realpath(other): other for other in _spellings(folder, name) if is_regular(other)}
    return next(iter(found.values())) if len(found) == 1 else path


def _in_archive(archive: Archive, folder: Path, name: str) -> str:
    """The path in an archive of the file that annotations call `name`."""
    if archive.find(name) is not None:
        return name
    others = [os.fspath(other.relative_to(folder)) for other in _spellings(folder, name)]
    found = {row for other in others if (row := archive.find(other)) is not None}
    return archive.name(found.pop()) if len(found) == 1 else next(iter(others), "(no name)")


def _spellings(folder: Path, name: str) -> Iterator[Path]:
    if "://" in name:
        name = unquote(urlsplit(name).path)
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    for first in range(len(parts)):
        for form in ("NFC", "NFD"):
            yield folder.joinpath(*(unicodedata.normalize(form, part) for part in parts[first:]))


def where_instead(folder: Path, name: str) -> str:
    """For a message about a missing file: where a file of that name lies; "" where none does nearby."""
    last = name.replace("\\", "/").rpartition("/")[2]
    wanted = unicodedata.normalize("NFC", last).lower()
    inside = known_archive(folder) is not None or folder.is_dir()
    known = _files_below(str(folder if inside else folder.parent))
    found = known.get(wanted) or known.get(wanted.rpartition(".")[0] or wanted)
    return f"; {found} is there" if found else ""


@lru_cache(maxsize=4)  # thousands of images may be missing
def _files_below(folder: str) -> dict[str, str]:
    """By their names, whole and without suffix, in lower case: the first LISTED files below a folder."""
    found: dict[str, str] = {}
    for path in islice(_walk(folder), LISTED):
        own = unicodedata.normalize("NFC", os.path.basename(path)).lower()
        for key in (own, own.rpartition(".")[0]):
            found.setdefault(key, path)
    return found


def _walk(folder: str) -> Iterator[str]:
    archive = known_archive(Path(folder))
    if archive is not None:
        yield from (os.path.join(folder, name) for name in archive.names)
        return
    for root, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".")][:100]
        yield from (os.path.join(root, file) for file in files)


def with_header_sizes(file: KeypointFile, folder: Path | None) -> KeypointFile:
    """With the sizes that the file does not give, where the images are there."""
    missing = file.issue("image_size")
    if folder is None or missing is None:
        return file
    rows = [row for row in missing.rows.tolist() if file.file_names[row]]
    archive_at(folder)  # opened once, not by every thread
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda row: header_size(locate(folder, file.file_names[row])), rows))
    sizes = file.sizes.copy()
    for row, size in zip(rows, found, strict=True):
        if size is not None:
            sizes[row] = size
    read = np.array([row for row, size in zip(rows, found, strict=True) if size is not None], np.int64)
    left = np.setdiff1d(missing.rows, read)
    others = tuple(one for one in file.issues if one.code != "image_size")
    more = [Issue("size_read", "images", read)] if len(read) else []
    more += [Issue("image_size", "images", left)] if len(left) else []
    return replace(file, sizes=sizes, issues=others).with_issues(*more)
