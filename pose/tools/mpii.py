"""MPII Human Pose's annotations to COCO's format, which everything else here reads; and its people cut out
one by one, as pose-tensorflow prepares them for single-person training.

    python -m pose.tools.mpii to-coco mpii_human_pose_v1_u12_1.mat --images data/mpii/images \\
        -o data/mpii/train.json --hold-out 10 --crops data/mpii/crops
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from pose.annotations import mpii_coco
from pose.annotations.aic_coco import Picture
from pose.annotations.findings import Findings
from pose.annotations.mpii import MpiiImage, read_official
from pose.annotations.mpii_coco import Crop, Entry, plan_crop
from pose.errors import UserError, user_facing
from pose.files import write_json
from pose.images import UnreadableImage, read_image
from pose.options import user_path
from pose.skeleton import Skeleton
from pose.tools.conversion import (
    add_source,
    check_outputs,
    project_skeleton,
    tell_findings,
    tell_missing,
    with_pictures,
)

QUALITY = 95  # of the JPEGs of cut out people

TO_COCO = """\
  python -m pose.tools.mpii to-coco mpii_human_pose_v1_u12_1.mat --images data/mpii/images \\
      -o data/mpii/train.json --hold-out 10 --crops data/mpii/crops"""


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.mpii",
        description="Convert MPII Human Pose's annotations to COCO's format.",
        epilog=f"example:\n{TO_COCO}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_to_coco(commands)
    return parser


def _add_to_coco(commands: Any) -> None:
    parser = commands.add_parser(
        "to-coco",
        help="official annotations -> COCO's format",
        description="Official annotations -> COCO's format, with the keypoints of the skeleton mpii14. The "
        "id of an image is its number in MPII's list. Training pictures in which nobody has points are left "
        "out: their people are not annotated.",
        epilog=f"example:\n{TO_COCO}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_source(parser, metavar="MAT", help="mpii_human_pose_v1_u12_1.mat")
    parser.add_argument(
        "--split",
        choices=("train", "all"),
        default="train",
        help="all: also the test pictures, whose people have no published points (default train)",
    )
    parser.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="every N-th training image goes to OUT-val.json; the points of test images are not published",
    )
    parser.add_argument(
        "--crops",
        type=user_path,
        metavar="FOLDER",
        help="also cut out each person who is far enough from others (MPII's single_person), 400 px tall, "
        "with 130 px around: pictures of one person each, and OUT.json (and OUT-val.json) of them in FOLDER",
    )
    parser.add_argument(
        "--everyone",
        action="store_true",
        help="with --crops: cut out the other people, too, with 65 px around; not for OUT-val.json",
    )
    parser.set_defaults(run=_to_coco)


# -------------------------------------------------------------------------------------------------- commands


class Found(NamedTuple):
    image: MpiiImage
    picture: Picture


@dataclass(frozen=True)
class Outputs:
    """The files to write; `val` without --hold-out and crops without --crops are None."""

    train: Path
    val: Path | None
    crops: Path | None

    @property
    def sets(self) -> list[Path]:
        return [self.train] if self.val is None else [self.train, self.val]

    def of_crops(self, file: Path) -> Path | None:
        return None if self.crops is None else self.crops / file.name


def _to_coco(args: argparse.Namespace) -> None:
    outputs = _outputs(args)
    listed, findings = read_official(args.annotations)
    tell_findings(findings, args.annotations)
    images = [one for one in listed if (one.labelled if one.training else args.split == "all")]
    held = {one.number for one in _held_out(images, args.hold_out)}
    count = sum(one.training for one in images)
    if not count:
        raise UserError(
            f"{args.annotations}: no training image has people with points; give the official file"
        )
    if args.hold_out is not None and not held:
        raise UserError(f"--hold-out {args.hold_out}: there are only {count} training images with points")
    stems = [image.stem for image in images]
    kept = [Found(*one) for one in with_pictures(images, stems, args.images, skip=args.skip_missing)]
    layout = project_skeleton("mpii14")
    sets = {outputs.train: [one for one in kept if one.image.number not in held]}
    if outputs.val is not None:
        sets[outputs.val] = [one for one in kept if one.image.number in held]
    if outputs.crops is not None:
        damaged = _write_crops(sets, outputs, args, layout)
        sets = {path: [one for one in some if one.image.number not in damaged] for path, some in sets.items()}
    for path, some in sets.items():
        _write(path, *_whole_pictures(some, layout), layout)


def _outputs(args: argparse.Namespace) -> Outputs:
    if args.hold_out is not None and args.hold_out < 2:
        raise UserError(f"--hold-out {args.hold_out}: expected 2 or more, to keep images for training")
    if args.everyone and args.crops is None:
        raise UserError("--everyone is about the people that --crops cuts out; give --crops FOLDER, too")
    file = args.output
    val = None if args.hold_out is None else file.with_name(f"{file.stem}-val{file.suffix}")
    outputs = Outputs(file, val, args.crops)
    check_outputs(args.annotations, [*outputs.sets, *(outputs.of_crops(one) for one in outputs.sets)])
    if args.crops is not None and args.crops.resolve() == args.images.resolve():
        raise UserError(f"--crops {args.crops} is the folder of --images; give another one")
    return outputs


def _held_out(images: Sequence[MpiiImage], every: int | None) -> list[MpiiImage]:
    """The same ones whatever pictures are missing and whatever --split is."""
    return [] if every is None else [one for one in images if one.training][every - 1 :: every]


def _whole_pictures(found: Iterable[Found], layout: Skeleton) -> tuple[list[Entry], list[Entry]]:
    """COCO's images and annotations."""
    images: list[Entry] = []
    people: list[Entry] = []
    for image, picture in found:
        images.append({"id": image.number, **picture._asdict()})
        people += mpii_coco.whole_picture(image, (picture.height, picture.width), layout)
    return images, people


def _write(path: Path, images: Sequence[Entry], people: Sequence[Entry], layout: Skeleton) -> None:
    write_json(path, mpii_coco.data_set(images, people, layout))
    counts = [one["num_keypoints"] for one in people if one["num_keypoints"]]
    print(
        f"{path}: {len(images)} images, {len(counts)} people with {sum(counts)} labelled keypoints, "
        f"{len(people) - len(counts)} without"
    )


# ------------------------------------------------------------------------------------------------- the crops


def _write_crops(
    sets: Mapping[Path, Sequence[Found]], outputs: Outputs, args: argparse.Namespace, layout: Skeleton
) -> set[int]:
    """Cut people out of the pictures of every set; returns the images whose picture proved damaged."""
    assert outputs.crops is not None
    try:
        outputs.crops.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--crops: cannot make the folder {outputs.crops}: {error.strerror}") from None
    findings = Findings(mpii_coco.CROP_KINDS)
    plans = {
        path: [
            (one, _plans(one, args.everyone and path == outputs.train, findings, layout))
            for one in some
        ]
        for path, some in sets.items()
    }  # fmt: skip
    tell_findings(findings.all(), args.annotations)
    problems = _cut([pair for some in plans.values() for pair in some if pair[1]], args.images, outputs.crops)
    total = sum(map(len, plans.values()))
    tell_missing([*problems.values()], total, args.images, args.skip_missing)
    for path, some in plans.items():
        chosen = [(one, crops) for one, crops in some if one.image.number not in problems]
        file = outputs.of_crops(path)
        assert file is not None
        _write(file, *_cut_out(chosen, layout), layout)
    return {*problems}


def _plans(one: Found, everyone: bool, findings: Findings, layout: Skeleton) -> list[Crop]:
    """Of the people of a picture who have keypoints of the skeleton."""
    image, picture = one
    size = (picture.height, picture.width)
    crops = []
    for person in image.people:
        known = mpii_coco.in_skeleton(person.points, layout)[:, 2].any()
        if known and (person.separate or everyone):
            others = [other for other in image.people if other is not person]
            crop = plan_crop(person, others, size)
            if isinstance(crop, Crop):
                crops.append(crop)
            else:
                findings.add(crop, f"{image.name}, person {person.number}")
    return crops


def _cut(jobs: Sequence[tuple[Found, list[Crop]]], source: Path, folder: Path) -> dict[int, str]:
    """Write the people of each picture; what was wrong with a picture, by the number of its image."""

    def cut(job: tuple[Found, list[Crop]]) -> str:
        (image, picture), crops = job
        try:
            pixels = read_image(source / picture.file_name, orientation="stored")
        except UnreadableImage:
            return f"{picture.file_name} is damaged"
        for crop in crops:
            path = folder / _crop_name(image, crop)
            try:
                crop.cut(pixels).save(path, quality=QUALITY)
            except OSError as error:
                raise UserError(f"cannot write {path}: {error.strerror or error}") from None
        return ""

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(jobs), desc="cutting people out", unit="img", leave=False, disable=None) as bar,
    ):
        problems = {}
        for ((image, _), _), problem in zip(jobs, pool.map(cut, jobs), strict=True):
            bar.update()
            if problem:
                problems[image.number] = problem
    return problems


def _cut_out(
    found: Iterable[tuple[Found, Sequence[Crop]]], layout: Skeleton
) -> tuple[list[Entry], list[Entry]]:
    """COCO's images and annotations of crops, one person each.  `crop` says where a pixel was: x of the
    picture = (x + left + 0.5) / factor - 0.5."""
    images: list[Entry] = []
    people: list[Entry] = []
    for (image, picture), crops in found:
        for crop in crops:
            number = len(images) + 1
            height, width = crop.size
            origin = {"file_name": picture.file_name, "id": image.number, "person": crop.person.number}
            place = {"factor": crop.factor, "left": crop.left, "top": crop.top}
            file = {"file_name": _crop_name(image, crop), "width": width, "height": height}
            images.append({"id": number, **file, "crop": {**origin, **place}})
            people.append(crop.annotation(number, layout))
    return images, people


def _crop_name(image: MpiiImage, crop: Crop) -> str:
    return f"{image.stem}_{crop.person.number}.jpg"


if __name__ == "__main__":
    sys.exit(user_facing(main)())
