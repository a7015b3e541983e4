"""AI Challenger's annotations to COCO's format, which everything else here reads, and back.

    python -m pose.tools.aic to-coco keypoint_validation_annotations_20170911.json \\
        --images keypoint_validation_images_20170911 -o data/aic/validation.json
    python -m pose.tools.aic from-coco data/aic/validation.json -o official.json
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from pose import config, skeleton
from pose.data.aic import PICTURE_SUFFIXES, AicImage, read_official, to_official
from pose.data.aic_coco import Picture, from_coco, to_coco
from pose.errors import UserError, user_facing
from pose.evaluate.coco import read_annotations, write_json
from pose.experiment import config_folder

CHUNK = 64  # pictures that a thread looks at before it asks for more
THREADS = 16  # they wait for the disk, not for the processor
TAIL = 4096  # bytes in which a JPEG's end marker is looked for first
SHOWN = 5  # pictures that a message names

TO_COCO = """\
  python -m pose.tools.aic to-coco keypoint_validation_annotations_20170911.json \\
      --images keypoint_validation_images_20170911 -o data/aic/validation.json"""
FROM_COCO = """\
  python -m pose.tools.aic from-coco data/aic/validation.json -o official.json"""

logger = logging.getLogger("pose")


def main(arguments: Sequence[str] | None = None) -> int | None:
    args = _parser().parse_args(arguments)
    args.run(args)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.aic",
        description="Convert AI Challenger's annotations to COCO's format and back.",
        epilog=f"examples:\n{TO_COCO}\n{FROM_COCO}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_to_coco(commands)
    _add_from_coco(commands)
    return parser


def _add_to_coco(commands: Any) -> None:
    parser = commands.add_parser(
        "to-coco",
        help="official annotations -> COCO's format",
        description="Official annotations -> COCO's format; what is wrong in the file is repaired and told.",
        epilog=f"example:\n{TO_COCO}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("annotations", type=Path, metavar="ANNOTATIONS", help="the official JSON file")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="its folder of pictures")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="file to write")
    parser.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out images whose picture is missing or damaged, instead of stopping",
    )
    parser.add_argument("--strict", action="store_true", help="stop at what would otherwise be repaired")
    parser.add_argument(
        "--neck-head-slots",
        type=Path,
        metavar="FILE",
        help="also write the 14 keypoints in COCO's 17 slots, neck and head top first (skeleton aic17_slots)",
    )
    parser.set_defaults(run=_to_coco)


def _add_from_coco(commands: Any) -> None:
    parser = commands.add_parser(
        "from-coco",
        help="COCO's format -> official annotations",
        description="COCO's format -> official annotations; a file that was converted becomes what it was.",
        epilog=f"example:\n{FROM_COCO}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("coco", type=Path, metavar="COCO", help="a COCO file with the 14 keypoints, by name")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="file to write")
    parser.set_defaults(run=_from_coco)


# -------------------------------------------------------------------------------------------------- commands


def _to_coco(args: argparse.Namespace) -> None:
    _check_outputs(args.annotations, [args.output, args.neck_head_slots])
    images, findings = read_official(args.annotations, boxes=True, strict=args.strict)
    for finding in findings:
        logger.warning("%s: %s", args.annotations, finding)
    if not images:
        raise UserError(f"{args.annotations}: no image in the file; check that it is the one you mean")
    found = read_pictures(images, args.images)
    if found.problems:
        _tell_missing(found, len(images), args.images, args.skip_missing)
    kept = [(image, picture) for image, picture in zip(images, found.pictures) if picture is not None]
    images, pictures = [image for image, _ in kept], [picture for _, picture in kept]
    layouts = {args.output: "aic14", args.neck_head_slots: "aic17_slots"}
    for path, name in layouts.items():
        if path is not None:
            layout = skeleton.from_dict(config.read_yaml(config_folder() / "_skeletons" / f"{name}.yaml"))
            write_json(path, to_coco(images, pictures, layout))
            print(f"{path}: {_summary(images)}")


def _from_coco(args: argparse.Namespace) -> None:
    _check_outputs(args.coco, [args.output])
    content = read_annotations(args.coco)
    if not isinstance(content, dict):
        raise UserError(f"{args.coco}: expected a COCO data set, got a list; is it an official file already?")
    images = from_coco(content, args.coco)
    write_json(args.output, to_official(images, boxes=True))
    print(f"{args.output}: {_summary(images)}")


def _check_outputs(source: Path, outputs: Sequence[Path | None]) -> None:
    """No file is read and written, or written twice."""
    paths = [path.resolve() for path in (source, *outputs) if path is not None]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UserError(f"{path} is named twice; give every output a file of its own")


def _summary(images: Sequence[AicImage]) -> str:
    counts = np.zeros(4, np.int64)
    for image in images:
        counts += np.bincount(image.keypoints[..., 2].astype(np.int64).ravel(), minlength=4)
    people = sum(len(image.humans) for image in images)
    _, visible, occluded, unlabelled = counts.tolist()
    return (
        f"{len(images)} images, {people} people; "
        f"keypoints: {visible} visible, {occluded} occluded, {unlabelled} not labelled"
    )


# ---------------------------------------------------------------------------------------------- the pictures


class Pictures(NamedTuple):
    """The picture of each image, None where it cannot be used, and why."""

    pictures: list[Picture | None]
    problems: list[str]


def read_pictures(images: Sequence[AicImage], folder: Path) -> Pictures:
    """Names and sizes of the images' files, from their first bytes, without decoding and without turning
    (EXIF); a JPEG without an end is damaged."""
    names = _picture_names(folder)
    jobs = [(folder, names.get(image.image_id, ""), image.image_id) for image in images]
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


def _read_picture(folder: Path, name: str, image_id: str) -> Picture | str:
    """A sentence where it cannot be used."""
    if not name:
        return f"no {image_id}.jpg"
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


def _tell_missing(found: Pictures, total: int, folder: Path, skip: bool) -> None:
    """Warn of pictures that cannot be used, or stop."""
    more = len(found.problems) - SHOWN
    listed = "; ".join(found.problems[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    what = f"{folder}: {len(found.problems)} of {total} pictures are missing or damaged ({listed})"
    if len(found.problems) == total:
        raise UserError(f"{what}; check --images")
    if not skip:
        raise UserError(f"{what}; fetch them again, or leave their images out with --skip-missing")
    logger.warning("%s; their images are left out", what)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
