"""What the converters of annotation files have in common: the sizes of pictures, those that are missing, and
that no file is written over."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image
from tqdm import tqdm

from pose.data.aic import PICTURE_SUFFIXES
from pose.data.aic_coco import Picture
from pose.errors import UserError

CHUNK = 64  # pictures that a thread looks at before it asks for more
THREADS = 16  # they wait for the disk, not for the processor
TAIL = 4096  # bytes in which a JPEG's end marker is looked for first
SHOWN = 5  # pictures that a message names

logger = logging.getLogger("pose")


def check_outputs(source: Path, outputs: Sequence[Path | None]) -> None:
    """No file is read and written, or written twice."""
    paths = [path.resolve() for path in (source, *outputs) if path is not None]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UserError(f"{path} is named twice; give every output a file of its own")


class Pictures(NamedTuple):
    """The picture of each image, None where it cannot be used, and why."""

    pictures: list[Picture | None]
    problems: list[str]


def read_pictures(stems: Sequence[str], folder: Path) -> Pictures:
    """Names and sizes of files, by their names without extension, from their first bytes: nothing is decoded
    or turned (EXIF).  A JPEG without an end is damaged."""
    names = _picture_names(folder)
    jobs = [(folder, names.get(stem, ""), stem) for stem in stems]
    chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    found: list[Picture | str] = []
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(jobs), desc="reading sizes", unit="img", leave=False, disable=None) as bar,
    ):
        for some in pool.map(lambda chunk: [_read_picture(*job) for job in chunk], chunks):
            found += some
            bar.update(len(some))
    return Pictures(
        [picture if isinstance(picture, Picture) else None for picture in found],
        [problem for problem in found if isinstance(problem, str)],
    )


def _picture_names(folder: Path) -> dict[str, str]:
    """Name without extension -> name, `.jpg` where there are several."""
    try:
        files = [name for name in os.listdir(folder) if name.lower().endswith(PICTURE_SUFFIXES)]
    except OSError as error:
        raise UserError(f"--images: cannot read the folder {folder}: {error.strerror or error}") from None
    return {name[: name.rindex(".")]: name for name in sorted(files, key=lambda n: (n.endswith(".jpg"), n))}


def _read_picture(folder: Path, name: str, stem: str) -> Picture | str:
    """A sentence where it cannot be used."""
    if not name:
        return f"no {stem}.jpg"
    try:
        with open(folder / name, "rb") as file, Image.open(file) as picture:
            width, height = picture.size
            if picture.format == "JPEG" and _cut_off(file):
                return f"{name} is cut off"
        return Picture(name, width, height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow's readers raise
        return f"{name} is damaged or no picture"


def _cut_off(file: BinaryIO) -> bool:
    """Whether a JPEG has no end marker after its last scan; some have other data behind it."""
    size = file.seek(0, os.SEEK_END)
    for start in dict.fromkeys((max(size - TAIL, 0), 0)):
        file.seek(start)
        tail = file.read()
        if tail.rfind(b"\xff\xd9") > tail.rfind(b"\xff\xda"):
            return False
    return True


def tell_missing(problems: Sequence[str], total: int, folder: Path, skip: bool) -> None:
    """Warn of pictures that cannot be used, or stop."""
    if not problems:
        return
    more = len(problems) - SHOWN
    listed = "; ".join(problems[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    what = f"{folder}: {len(problems)} of {total} pictures are missing or damaged ({listed})"
    if len(problems) == total:
        raise UserError(f"{what}; check --images")
    if not skip:
        raise UserError(f"{what}; fetch them again, or leave their images out with --skip-missing")
    logger.warning("%s; their images are left out", what)
