"""The picture files of an annotation file: whether they are there, whole, and of the size that it says."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pose.data.images import HEADER_ERRORS, UnreadableImage, jpeg_ends, read_image
from pose.doctor.content import Content

THREADS = 16  # they wait for the disk, not for the processor
AT_ONCE = 256  # pictures between two steps of a bar
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
EXIF_ORIENTATION = 0x0112
SEED = 0  # of the pictures that are decoded

Problem = tuple[int, str, str]  # place of the image, kind, what is wrong


def check_pictures(
    content: Content, folder: Path, decode: int | None = None, step: Callable[[int], object] | None = None
) -> list[Problem]:
    """The first bytes and the end of every picture, and all of `decode` of them (None: of all), drawn at
    random.  step: told how many are done now and then."""
    places = [place for place, image in enumerate(content.images) if isinstance(image.get("file_name"), str)]
    count = len(places) if decode is None else min(decode, len(places))
    drawn = set(np.random.default_rng(SEED).permutation(places)[:count].tolist())

    def look(place: int) -> Problem | None:
        height, width = content.sizes[place]
        path = folder / str(content.images[place]["file_name"])
        problem = _look(path, (int(height), int(width)), whole=place in drawn)
        return (place, *problem) if problem else None

    found: list[Problem] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for some in _chunks(places):
            found += [problem for problem in pool.map(look, some) if problem is not None]
            if step is not None:
                step(len(some))
    return found


def _chunks(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(places), AT_ONCE):
        yield places[first : first + AT_ONCE]


def _look(path: Path, size: tuple[int, int], whole: bool) -> tuple[str, str] | None:
    """Kind and what is wrong; None where nothing is."""
    try:
        with open(path, "rb") as file, Image.open(file) as picture:
            width, height = picture.size
            turned = picture.getexif().get(EXIF_ORIENTATION) in TURNED
            if picture.format == "JPEG" and not jpeg_ends(file):
                return "picture_damaged", "cut off: no end of the JPEG"
    except FileNotFoundError:
        return "picture_missing", ""
    except HEADER_ERRORS:
        return "picture_damaged", "no picture, or its first bytes are damaged"
    if min(size) > 0 and (height, width) != size:
        said = f"{width} x {height}, the annotations say {size[1]} x {size[0]}"
        return "picture_size", f"{said}{'; EXIF turns it' if turned and (width, height) == size else ''}"
    if whole:
        try:
            read_image(path, orientation="stored")
        except UnreadableImage as error:
            return "picture_damaged", str(error).removeprefix(f"{path} ")
    return None


def same_picture(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes; False where one is missing."""
    try:
        return one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
