"""Draw the people of a results file or of an annotation file onto their pictures.

    python -m pose.tools.draw --annotations data/synthetic/annotations/person_keypoints_val.json \\
        --images data/synthetic/val --results exp/quickstart/results-single.json -o drawn
    python -m pose.tools.draw --annotations my.json --images photos -o drawn --color side --names

With --results, what was found; without, what is annotated.  Writes a picture for each picture of the
annotation file to the folder of -o, under the same name, and sheet.png with the first of them side by side.
Annotations count pixels as they are stored, so photos are not turned upright.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pose import config as cfg
from pose import skeleton as skeletons
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.annotations.skeletons import own_skeleton
from pose.config_files import config_folder
from pose.data.images import read_annotated
from pose.draw.options import add_style, style_of
from pose.draw.people import Style, draw_people
from pose.draw.sheets import contact_sheet
from pose.errors import UserError, user_facing
from pose.files import write_picture
from pose.images import UnreadableImage
from pose.metrics.ground_truth import Record, clean_ground_truth
from pose.metrics.result_files import clean_results, load_content
from pose.options import user_path
from pose.skeleton import Skeleton
from pose.structures import People

Named = tuple[int, str, tuple[int, int] | None]  # id, file name, height and width of an image

SHEET = 12  # pictures on the sheet


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.draw",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--annotations", required=True, type=user_path, help="COCO format")
    parser.add_argument(
        "--images", required=True, type=user_path, metavar="DIR", help="folder or archive of the pictures"
    )
    parser.add_argument(
        "--results", type=user_path, help="COCO keypoint results to draw instead of the annotations"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=user_path, metavar="FOLDER", help="for the pictures"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures of the file")
    parser.add_argument(
        "--category", metavar="NAME", help="name or id of the category, where several list keypoints"
    )
    parser.add_argument("--ids", type=int, nargs="+", metavar="ID", help="only the pictures with these ids")
    add_style(parser, min_score=0.0)
    options = parser.parse_args(arguments)
    if options.output.resolve() == options.images.resolve():
        raise UserError(f"-o {options.output} holds the pictures themselves; name another folder")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: expected 1 picture or more")
    return options


def file_skeleton(content: KeypointFile) -> Skeleton:
    """The skeleton that the file describes; for files without limbs the project's own of these keypoints."""
    if not content.chosen:
        return skeletons.from_dict(cfg.read_yaml(config_folder() / "_skeletons" / "coco17.yaml"))
    own = own_skeleton(content)
    if own.limbs:
        return own
    for file in sorted((config_folder() / "_skeletons").glob("*.yaml")):
        known = skeletons.from_dict(cfg.read_yaml(file))
        if known.keypoints == own.keypoints:
            return known
    return own


def people_of(entries: list[Record], num_keypoints: int) -> People:
    """One picture's annotations or results.  The score of an annotated keypoint is 1, or 0.5 where it is
    occluded."""
    if not entries:
        return People.none(num_keypoints)
    keypoints = np.array([entry["keypoints"] for entry in entries], np.float32).reshape(-1, num_keypoints, 3)
    annotated = "score" not in entries[0]
    if annotated:
        keypoints[..., 2] = keypoints[..., 2].clip(0, 2) / 2
    scores = np.array([1.0 if annotated else entry["score"] for entry in entries], np.float32)
    order = np.argsort(-scores, kind="stable")
    return People(keypoints[order], scores[order])


def chosen(content: KeypointFile, options: argparse.Namespace) -> list[Named]:
    """Id, file name and size of the images to draw."""
    sizes = [(height, width) if height and width else None for height, width in content.sizes.tolist()]
    images = list(zip(content.image_ids.tolist(), content.file_names, sizes, strict=True))
    if options.ids:
        known = {one[0]: one for one in images}
        if missing := [number for number in options.ids if number not in known]:
            raise UserError(f"--ids {missing[0]}: {options.annotations} has no image of this id")
        images = [known[number] for number in options.ids]
    return images[: options.limit]


def drawings(
    images: list[Named],
    by_image: Mapping[int, list[Record]],
    skeleton: Skeleton,
    style: Style,
    options: argparse.Namespace,
) -> Iterator[tuple[str, np.ndarray | str]]:
    """(file name, drawn picture, or why there is none)."""
    for number, name, size in images:
        try:
            image = read_annotated(options.images, name, size)
        except UnreadableImage as error:
            yield name, str(error)
            continue
        yield name, draw_people(image, people_of(by_image[number], len(skeleton)), skeleton, style)


def inside(name: str) -> Path:
    """The place of a picture below the output folder, whatever an annotation file says."""
    path = Path(name)
    return Path(path.name) if path.is_absolute() or ".." in path.parts else path


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    style = replace(style_of(options), scores=options.results is not None)
    content = read(options.annotations, options.category)
    truth = clean_ground_truth(content)
    skeleton = file_skeleton(content)
    if len(skeleton) != truth.num_keypoints:
        raise UserError(
            f"{options.annotations}: people have {truth.num_keypoints} keypoints, but its category lists "
            f"{len(skeleton)}; mend `categories`"
        )
    entries = truth.people
    if options.results:
        results = load_content(options.results, "results")
        entries = clean_results(results, truth, str(options.results))
    by_image: dict[int, list[Record]] = defaultdict(list)
    for entry in entries:
        by_image[entry["image_id"]].append(entry)
    images = chosen(content, options)
    first: list[np.ndarray] = []
    bad: list[str] = []
    for name, drawn in tqdm(
        drawings(images, by_image, skeleton, style, options), total=len(images), unit="img", disable=None
    ):
        if isinstance(drawn, str):
            bad.append(drawn)
            continue
        write_picture(options.output / inside(name), drawn)
        if len(first) < SHEET:
            first.append(drawn)
    for text in bad:
        print(f"not drawn: {text}", file=sys.stderr)
    if not first:
        raise UserError(
            f"none of the {len(images)} pictures could be read; is --images {options.images} right?"
        )
    write_picture(options.output / "sheet.png", contact_sheet(first))
    print(f"{len(images) - len(bad)} pictures and sheet.png: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(user_facing(main)())
