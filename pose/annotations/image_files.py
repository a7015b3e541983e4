"""The image files that annotations name: where they lie, and how large they are."""

from __future__ import annotations

import logging
import os
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from pose.annotations.issues import Issue
from pose.annotations.keypoint_file import KeypointFile
from pose.files import is_regular

LARGEST_IMAGE = 178  # megapixels: beyond twice its MAX_IMAGE_PIXELS Pillow raises DecompressionBombError
HEADER_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # Pillow's, of damaged files
TOO_LARGE = f"has more than {LARGEST_IMAGE} megapixels"
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # of half as many pixels
UNREAD = {".heic", ".heif", ".hif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".psd", ".pdf", ".svg"}
THREADS = 16  # they wait for the disk, not for the processor

logger = logging.getLogger("pose")


def locate(folder: Path, name: str) -> Path:
    """The file that annotations call `name`.  Where it is not there as written, the one file that is there
    with `/` for a backslash, in another Unicode form, without a leading slash or leading folders, or by the
    path of a URL; the path as written where there is none, or several."""
    path = folder / name
    if is_regular(path):
        return path
    found = {os.path.realpath(other): other for other in _spellings(folder, name) if is_regular(other)}
    return next(iter(found.values())) if len(found) == 1 else path


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
    stem = wanted.rpartition(".")[0]
    looked = 0
    for root, folders, files in os.walk(folder if folder.is_dir() else folder.parent):
        folders[:] = [one for one in folders if not one.startswith(".")][:100]
        for file in files:
            own = unicodedata.normalize("NFC", file).lower()
            if own == wanted or (stem and own.rpartition(".")[0] == stem):
                return f"; {os.path.join(root, file)} is there"
        looked += len(files)
        if looked > 20_000:
            break
    return ""


def unread_kind(start: bytes) -> str:
    """What a file that begins so is, of the kinds that people take for images; "" for any other."""
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"heif", b"mif1", b"msf1", b"hevc", b"heim", b"heis"):
        return "a HEIC photo"
    known = {b"%PDF": "a PDF", b"8BPS": "a Photoshop file", b"<svg": "an SVG drawing"}
    return next((kind for magic, kind in known.items() if start.startswith(magic)), "")


def tell_unread(files: Iterable[Path], folder: Path) -> None:
    """A warning about a folder's files that people take for images, of kinds that are not read."""
    unread = [file for file in files if file.suffix.lower() in UNREAD]
    if unread:
        kinds = ", ".join(sorted({file.suffix.lower() for file in unread}))
        logger.warning(
            "%s: %d file(s) of kinds that are not read (%s; first: %s) are left out; convert them to JPEG",
            folder, len(unread), kinds, unread[0].name,
        )  # fmt: skip


def header_size(path: Path) -> tuple[int, int] | None:
    """Height and width as the pixels are stored, from the first bytes; None for what is no image."""
    if not is_regular(path):
        return None
    try:
        with Image.open(path) as image:
            width, height = image.size
    except HEADER_ERRORS:
        return None
    return height, width


def with_header_sizes(file: KeypointFile, folder: Path | None) -> KeypointFile:
    """With the sizes that the file does not give, where the images are there."""
    missing = file.issue("image_size")
    if folder is None or missing is None:
        return file
    rows = [row for row in missing.rows.tolist() if file.file_names[row]]
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
