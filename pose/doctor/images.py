"""The image files of an annotation file: whether they are there, valid, and of the size that it says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pose.annotations.image_files import locate, where_instead
from pose.annotations.issues import shown
from pose.archives import is_file, open_file
from pose.data.images import Orientation
from pose.doctor.content import Content
from pose.images import (
    HEADER_ERRORS,
    TOO_LARGE,
    UnreadableImage,
    jpeg_ends,
    orientation_of,
    read_image,
    stored_size,
    turns_sides,
)

THREADS = 16  # they wait for the disk, not for the processor
AT_ONCE = 256  # images between two steps of a bar
SEED = 0  # of the images that are decoded

Problem = tuple[int, str, str]  # row of the image, kind, what is wrong


def check_images(
    content: Content,
    folder: Path,
    decode: int | None = None,
    step: Callable[[int], object] | None = None,
    orientation: Orientation = "auto",
) -> list[Problem]:
    """The first bytes and the end of every image, and all of `decode` of them (None: of all), drawn at
    random. step: told how many are done now and then.  orientation: how the config reads images."""
    file = content.file
    rows = [row for row, name in enumerate(file.file_names) if name]
    count = len(rows) if decode is None else min(decode, len(rows))
    drawn = set(np.random.default_rng(SEED).permutation(rows)[:count].tolist())
    annotated = set(file.image[file.image >= 0].tolist())

    def look(row: int) -> Problem | None:
        height, width = file.sizes[row]
        name = file.file_names[row]
        size = (int(height), int(width))
        problem = _look(folder, name, size, row in annotated, orientation, whole=row in drawn)
        return (row, *problem) if problem else None

    found: list[Problem] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for some in _chunks(rows):
            found += [problem for problem in pool.map(look, some) if problem is not None]
            if step is not None:
                step(len(some))
    # a folder is searched for those only that are shown: a wrong folder lacks a hundred thousand
    missing = np.array([row for row, kind, _ in found if kind == "image_missing"], np.int64)
    nearby = {row: where_instead(folder, file.file_names[row]).removeprefix("; ") for row in shown(missing)}
    return [(row, kind, nearby.get(row, detail)) for row, kind, detail in found]


def _chunks(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(rows), AT_ONCE):
        yield rows[first : first + AT_ONCE]


def _look(
    folder: Path, name: str, size: tuple[int, int], annotated: bool, orientation: Orientation, whole: bool
) -> tuple[str, str] | None:
    """Kind and what is wrong; None where nothing is."""
    path = locate(folder, name)
    if not is_file(path):
        if os.path.exists(path):  # Path.exists raises where a name is too long
            return "image_corrupt", "no regular file"
        return "image_missing", ""
    try:
        with open_file(path) as file, Image.open(file) as image:
            stored = stored_size(image)
            turn = orientation_of(image)
            if image.format == "JPEG" and not jpeg_ends(file):
                return "image_corrupt", "cut off: no end of the JPEG"
    except Image.DecompressionBombError:
        return "image_corrupt", TOO_LARGE
    except HEADER_ERRORS:
        return "image_corrupt", "no image, or its first bytes are damaged"
    if whole:
        try:
            read_image(path, orientation="stored")
        except UnreadableImage as error:
            return "image_corrupt", str(error).removeprefix(f"{path} ")
    shown = stored[::-1] if turns_sides(turn) else stored
    fits = (
        min(size) <= 0
        or size in {"stored": (stored,), "exif": (shown,), "auto": (stored, shown)}[orientation]
    )
    if not fits:
        hint = f"; EXIF turns it (orientation {turn})" if shown == size or stored == size else ""
        return "image_mismatch", f"{stored[1]} x {stored[0]}, the annotations say {size[1]} x {size[0]}{hint}"
    if turn == 1 or not annotated or orientation != "auto":
        return None
    if stored != shown and min(size) > 0:  # the size tells
        return ("image_turned", f"orientation {turn}") if size == shown else None
    return "image_turn_unclear", f"orientation {turn}"
