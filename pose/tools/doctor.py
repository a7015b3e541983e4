"""Looks for what is wrong with annotations and pictures, and tells what each finding does to AP and to
training, and what to do.

    python -m pose.tools.doctor --config configs/synthetic/ae_small.yaml
    python -m pose.tools.doctor -c quickstart --set val --pictures all -o doctor.html
    python -m pose.tools.doctor --annotations my.json --images my_pictures -o doctor.json

Of every picture the first bytes and the end are read, and --pictures of them are decoded.  Where a fault
changes what is scored, its cost is measured: the AP of excellent but human predictions, with and without it.
Left and right are judged by statistics: the trunk's pairs against each other, visible faces, the whole file.

Exit code: 0 where there is nothing but notes, 1 where something is worth mending (serious) or worth a look
(doubtful), 2 where the files cannot be examined.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from pose.annotations.reader import read
from pose.archives import is_folder, same_content
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.doctor.bounds import measure
from pose.doctor.checks import Fault, check, image_faults, shared_images
from pose.doctor.content import Content, content_of
from pose.doctor.diagnosis import Diagnosis, Source
from pose.doctor.images import check_images
from pose.doctor.reports import html_report, json_report, table
from pose.draw import pages
from pose.errors import UserError, user_facing
from pose.files import write_text
from pose.options import add_config_or_run, add_settings, run_settings, user_path
from pose.skeleton import Skeleton, from_dict

if TYPE_CHECKING:
    from pose.experiment import ExperimentConfig

DECODED = 200  # pictures
COSTLY = 0.01  # AP: what takes that much is serious, whatever its kind


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = add_config_or_run(parser)
    what.add_argument("--annotations", type=user_path, metavar="FILE", help="one COCO keypoint file")
    parser.add_argument(
        "--images",
        type=user_path,
        metavar="DIR",
        help="with --annotations: its pictures, a folder or an archive",
    )
    parser.add_argument(
        "--skeleton", metavar="NAME",
        help="with --annotations: one of the project's skeletons or a YAML file (default: as the file says)",
    )  # fmt: skip
    parser.add_argument(
        "--category", metavar="NAME", help="with --annotations: name or id, where several list keypoints"
    )
    parser.add_argument(
        "--orientation", choices=["auto", "stored", "exif"], default="auto",
        help="with --annotations: how photos with an EXIF turn are read (data.orientation; default auto)",
    )  # fmt: skip
    parser.add_argument("--set", choices=["train", "val", "both"], default="both", help="default: both")
    parser.add_argument(
        "--pictures", default=str(DECODED), metavar="N|all|none",
        help=f"pictures to decode as a whole; none: no picture file is opened (default {DECODED})",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=user_path, metavar="FILE", help="a report: .html or .json")
    add_settings(parser)
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    _check_options(options)
    sources = _sources(options)
    decode = _decoded(options.pictures)
    looked_at = [examine(source, decode) for source in sources]
    found = _with_shared(looked_at)
    for diagnosis in found:
        print(pages.readable(table(diagnosis)), flush=True)
    if options.output is not None:
        text = html_report(found) if options.output.suffix == ".html" else json_report(found)
        write_text(options.output, text)
        print(options.output)
    return int(any(diagnosis.ill for diagnosis in found))


def _check_options(options: argparse.Namespace) -> None:
    alone = (options.images, options.skeleton, options.category, options.orientation != "auto")
    if options.annotations is None and any(alone):
        raise UserError(
            "--images, --skeleton, --category and --orientation go with --annotations; a config says them"
        )
    if options.annotations is not None and options.settings:
        raise UserError(f"{options.settings[0]!r}: settings go with --config")
    if options.output is not None and options.output.suffix not in (".html", ".json"):
        raise UserError(f"-o {options.output}: the report is named .html or .json")


def _decoded(text: str) -> int | None:
    """How many pictures are decoded: None all, -1 none and none is opened."""
    if text in ("all", "none"):
        return None if text == "all" else -1
    if not text.isdecimal():
        raise UserError(f"--pictures {text}: expected a number, all or none")
    return int(text)


# ---------------------------------------------------------------------------- what is looked at


def _sources(options: argparse.Namespace) -> list[Source]:
    if options.annotations is not None:
        if options.images is not None and not is_folder(options.images):
            raise UserError(f"--images: no folder {options.images}, and no archive")
        skeleton = None if options.skeleton is None else named_skeleton(options.skeleton)
        return [
            Source(
                "annotations", options.annotations, options.images, skeleton,
                category=options.category, orientation=options.orientation,
            )
        ]  # fmt: skip
    return _sets(_config(options), options.set)


def _config(options: argparse.Namespace) -> ExperimentConfig:
    """With its data set, where that is drawn."""
    import torch

    from pose.engine.distributed import Processes
    from pose.experiment import Experiment, load_config
    from pose.sessions import draw_synthetic

    if options.config is not None:
        config = load_config(options.config, options.settings)
    else:
        config = Experiment.open(options.name, overrides=run_settings(options.settings, data=True)).config
    draw_synthetic(config, Processes(torch.device("cpu")))
    return config


def named_skeleton(name: str) -> Skeleton:
    """One of the project's skeletons, or that of a YAML file.  Raises `UserError`."""
    folder = config_folder() / "_skeletons"
    for file in (Path(name), folder / f"{name}.yaml"):
        if file.is_file():
            return from_dict(read_yaml(file))
    known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
    raise UserError(f"--skeleton: no skeleton {name!r} (known: {known}; or a YAML file)")


def with_known_sigmas(content: Content) -> Content:
    """A file lists no fall-offs; the project's skeleton of the same keypoints does."""
    if content.skeleton.has_default_sigmas:
        for file in sorted((config_folder() / "_skeletons").glob("*.yaml")):
            known = from_dict(read_yaml(file))
            if known.keypoints == content.skeleton.keypoints:
                return replace(content, skeleton=known)
    return content


def _sets(config: ExperimentConfig, which: str) -> list[Source]:
    """With validation_ids both sets are in one file, which is looked at once."""
    from pose.data.settings import set_files, training_files

    data = config.data
    skeleton = None if data.skeleton is None else data.skeleton.build()
    wanted = []
    if which in ("train", "both"):
        files = training_files(data)
        wanted += [(f"train {i}" if data.sets else "train", one) for i, one in enumerate(files)]
    if which == "val" or (which == "both" and not data.validation_ids):
        wanted.append(("val", set_files(data, "val")))
    flip = data.augment.flip > 0 or config.test.flip
    return [
        Source(
            label, one.annotations, one.images, skeleton, partial=data.mixed, flip=flip,
            category=data.category, choose="data.category=NAME", orientation=data.orientation,
        )
        for label, one in wanted
    ]  # fmt: skip


def examine(source: Source, decode: int | None) -> Diagnosis:
    """decode: pictures that are decoded, None all; -1: none is even opened."""
    content = with_known_sigmas(
        content_of(
            read(source.annotations, source.category, choose=source.choose), source.skeleton,
            partial=source.partial, flip=source.flip, images=source.images,
        )
    )  # fmt: skip
    faults = check(content)
    if source.images is not None and decode != -1:
        if not is_folder(source.images):
            raise UserError(
                f"no folder of pictures {source.images}; check data.root, or look at the annotations alone: "
                "--pictures none"
            )
        with tqdm(total=content.file.num_images, desc="images", unit="img", leave=False, disable=None) as bar:
            problems = check_images(content, source.images, decode, bar.update, source.orientation)
        faults = sorted(faults + image_faults(content, problems), key=_severity)
    bounds = measure(content, faults)
    costs = {} if bounds is None else bounds.costs
    ranked = [replace(fault, costly=costs.get(fault.kind, 0.0) >= COSTLY) for fault in faults]
    ranked.sort(key=lambda fault: (_severity(fault), -costs.get(fault.kind, 0.0)))
    return Diagnosis(source, content, ranked, bounds)


def _severity(fault: Fault) -> int:
    return ("serious", "doubtful", "note").index(fault.level)


def _with_shared(found: Sequence[Diagnosis]) -> list[Diagnosis]:
    """The diagnoses, that of the validation set with the pictures that it shares with training sets."""
    train = [(one.content, one.source.images) for one in found if one.source.label.startswith("train")]
    result = []
    for one in found:
        faults = one.faults
        if one.source.label == "val" and one.source.images is not None:
            folders = [(content, folder) for content, folder in train if folder is not None]
            faults = shared_images(folders, (one.content, one.source.images), same_content) + faults
            faults = sorted(faults, key=_severity)
        result.append(Diagnosis(one.source, one.content, faults, one.bounds))
    return result


if __name__ == "__main__":
    sys.exit(user_facing(main)())
