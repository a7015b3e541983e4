"""What the converters of annotation files have in common: options, the sizes of pictures, those that are
missing, and that no file is written over."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image
from tqdm import tqdm

from pose import config
from pose import skeleton as skeletons
from pose.annotations.aic import PICTURE_SUFFIXES
from pose.annotations.aic_coco import Picture
from pose.annotations.findings import Finding
from pose.archives import archive_at, open_file
from pose.config_files import config_folder
from pose.errors import UserError
from pose.images import HEADER_ERRORS, jpeg_ends
from pose.options import user_path
from pose.skeleton import Skeleton

CHUNK = 64  # pictures that a thread looks at before it asks for more
THREADS = 16  # they wait for the disk, not for the processor
SHOWN = 5  # pictures that a message names

logger = logging.getLogger("pose")

T = TypeVar("T")


def add_source(parser: argparse.ArgumentParser, *, metavar: str, help: str) -> None:
    """What to convert, as `options.annotations`; --images, --skip-missing and -o."""
    parser.add_argument("annotations", type=user_path, metavar=metavar, help=help)
    parser.add_argument(
        "--images", required=True, type=user_path, metavar="DIR", help="its folder or archive of pictures"
    )
    add_output(parser)
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out images whose picture is missing or damaged, instead of stopping",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """-o, --output: a file."""
    parser.add_argument(
        "-o", "--output", required=True, type=user_path, metavar="OUT.json", help="file to write"
    )


def check_outputs(source: Path, outputs: Sequence[Path | None]) -> None:
    """No file is read and written, or written twice."""
    paths = [path.resolve() for path in (source, *outputs) if path is not None]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UserError(f"{path} is named twice; give every output a file of its own")


def with_pictures(
    images: Sequence[T], stems: Sequence[str], folder: Path, *, skip: bool
) -> list[tuple[T, Picture]]:
    """Images and their pictures, which are found by their names without extension (`stems`).  An image whose
    picture is missing or damaged is left out with `skip`; otherwise it is a `UserError`."""
    found = _read_pictures(stems, folder)
    tell_missing([one for one in found if isinstance(one, str)], len(images), folder, skip)
    return [(image, one) for image, one in zip(images, found, strict=True) if isinstance(one, Picture)]


def _read_pictures(stems: Sequence[str], folder: Path) -> list[Picture | str]:
    """Names and sizes from the first bytes of files: nothing is decoded or turned (EXIF).  A JPEG without an
    end is damaged; a sentence stands for a picture that cannot be used."""
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
    return found


def _picture_names(folder: Path) -> dict[str, str]:
    """Name without extension -> name, `.jpg` where there are several."""
    archive = archive_at(folder)
    try:
        there = os.listdir(folder) if archive is None else map(os.path.basename, archive.names)
        files = [name for name in there if name.lower().endswith(PICTURE_SUFFIXES)]
    except OSError as error:
        raise UserError(f"--images: cannot read the folder {folder}: {error.strerror or error}") from None
    return {name[: name.rindex(".")]: name for name in sorted(files, key=lambda n: (n.endswith(".jpg"), n))}


def _read_picture(folder: Path, name: str, stem: str) -> Picture | str:
    """A sentence where it cannot be used."""
    if not name:
        return f"no {stem}.jpg"
    try:
        with open_file(folder / name) as file, Image.open(file) as picture:
            width, height = picture.size
            if picture.format == "JPEG" and not jpeg_ends(file):
                return f"{name} is cut off"
        return Picture(name, width, height)
    except HEADER_ERRORS:
        return f"{name} is damaged or no picture"


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


def tell_findings(findings: Iterable[Finding], source: Path) -> None:
    for finding in findings:
        logger.warning("%s: %s", source, finding)


def project_skeleton(name: str) -> Skeleton:
    """One of configs/_skeletons/."""
    return skeletons.from_dict(config.read_yaml(config_folder() / "_skeletons" / f"{name}.yaml"))
