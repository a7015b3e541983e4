"""AI Challenger's annotations to COCO's format, which everything else here reads, and back.

    python -m pose.tools.aic to-coco keypoint_validation_annotations_20170911.json \\
        --images keypoint_validation_images_20170911 -o data/aic/validation.json
    python -m pose.tools.aic from-coco data/aic/validation.json -o official.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pose.annotations.aic import AicImage, read_official, to_official
from pose.annotations.aic_coco import doubts, from_coco, to_coco
from pose.annotations.reader import read
from pose.errors import UserError, user_facing
from pose.files import write_json
from pose.options import user_path
from pose.tools.conversion import (
    add_output,
    add_source,
    check_outputs,
    project_skeleton,
    tell_findings,
    with_pictures,
)

TO_COCO = """\
  python -m pose.tools.aic to-coco keypoint_validation_annotations_20170911.json \\
      --images keypoint_validation_images_20170911 -o data/aic/validation.json"""
FROM_COCO = """\
  python -m pose.tools.aic from-coco data/aic/validation.json -o official.json"""


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    args.run(args)


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
    add_source(parser, metavar="ANNOTATIONS", help="the official JSON file")
    parser.add_argument("--strict", action="store_true", help="stop at what would otherwise be repaired")
    parser.add_argument(
        "--neck-head-slots",
        type=user_path,
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
    parser.add_argument(
        "coco", type=user_path, metavar="COCO", help="a COCO file with the 14 keypoints, by name"
    )
    add_output(parser)
    parser.set_defaults(run=_from_coco)


# -------------------------------------------------------------------------------------------------- commands


def _to_coco(args: argparse.Namespace) -> None:
    check_outputs(args.annotations, [args.output, args.neck_head_slots])
    images, findings = read_official(args.annotations, boxes=True, strict=args.strict)
    tell_findings(findings, args.annotations)
    if not images:
        raise UserError(f"{args.annotations}: no image in the file; check that it is the one you mean")
    stems = [image.image_id for image in images]
    kept = with_pictures(images, stems, args.images, skip=args.skip_missing)
    images, pictures = [image for image, _ in kept], [picture for _, picture in kept]
    tell_findings(doubts(images, pictures), args.annotations)
    layouts = {args.output: "aic14", args.neck_head_slots: "aic17_slots"}
    for path, name in layouts.items():
        if path is not None:
            write_json(path, to_coco(images, pictures, project_skeleton(name)))
            print(f"{path}: {_summary(images)}")


def _from_coco(args: argparse.Namespace) -> None:
    check_outputs(args.coco, [args.output])
    images = from_coco(read(args.coco))
    write_json(args.output, to_official(images, boxes=True))
    print(f"{args.output}: {_summary(images)}")


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


if __name__ == "__main__":
    sys.exit(user_facing(main)())
