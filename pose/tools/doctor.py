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
import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pose.config import read_yaml
from pose.data.check_content import Content, read_content
from pose.data.check_pictures import check_pictures, same_picture
from pose.data.check_texts import KINDS
from pose.data.checks import Example, Fault, check, picture_faults, shared_pictures
from pose.data.images import UnreadableImage, read_image
from pose.data.settings import set_files, training_files
from pose.draw import pages
from pose.draw.samples import LEGEND, draw_annotations
from pose.engine.distributed import Processes
from pose.errors import UserError, user_facing
from pose.evaluate.bounds import Bounds, measure
from pose.experiment import Experiment, ExperimentConfig, config_folder, load_config, run_settings
from pose.files import write_text
from pose.sessions import draw_synthetic
from pose.skeleton import Skeleton, from_dict

DECODED = 200  # pictures
COSTLY = 0.01  # AP: what takes that much is serious, whatever its kind
WIDTH = 110  # of the table on a terminal
CROP = 360  # pixels: side of an example's picture on the page


@dataclass(frozen=True)
class Source:
    """One file of annotations and its pictures."""

    label: str  # "train", "val", ...
    annotations: Path
    images: Path | None  # None: no picture is looked at
    skeleton: Skeleton | None
    partial: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """What was found in one file."""

    source: Source
    content: Content
    faults: list[Fault]
    bounds: Bounds | None

    @property
    def ill(self) -> bool:
        return any(fault.level != "note" for fault in self.faults)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="FILE", help="a config: its data set")
    what.add_argument(
        "-c", "--continue", dest="name", metavar="NAME", help="the data set of the run exp/NAME/"
    )
    what.add_argument("--annotations", type=Path, metavar="FILE", help="one COCO keypoint file")
    parser.add_argument("--images", type=Path, metavar="DIR", help="with --annotations: its pictures")
    parser.add_argument(
        "--skeleton", metavar="NAME",
        help="with --annotations: one of the project's skeletons or a YAML file (default: as the file says)",
    )  # fmt: skip
    parser.add_argument("--set", choices=["train", "val", "both"], default="both", help="default: both")
    parser.add_argument(
        "--pictures", default=str(DECODED), metavar="N|all|none",
        help=f"pictures to decode as a whole; none: no picture file is opened (default {DECODED})",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="a report: .html or .json")
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help="changes to the config")
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
    if options.annotations is None and (options.images or options.skeleton):
        raise UserError("--images and --skeleton go with --annotations; a config says both itself")
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
        if options.images is not None and not options.images.is_dir():
            raise UserError(f"--images: no folder {options.images}")
        skeleton = None if options.skeleton is None else named_skeleton(options.skeleton)
        return [Source("annotations", options.annotations, options.images, skeleton)]
    if options.config is not None:
        config = load_config(options.config, options.settings)
    else:
        config = Experiment.open(options.name, overrides=run_settings(options.settings, data=True)).config
    draw_synthetic(config, Processes(torch.device("cpu")))
    return _sets(config, options.set)


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
    data = config.data
    skeleton = None if data.skeleton is None else data.skeleton.build()
    wanted = []
    if which in ("train", "both"):
        files = training_files(data)
        wanted += [(f"train {i}" if data.sets else "train", one) for i, one in enumerate(files)]
    if which == "val" or (which == "both" and not data.validation_ids):
        wanted.append(("val", set_files(data, "val")))
    return [Source(label, one.annotations, one.images, skeleton, partial=data.mixed) for label, one in wanted]


def examine(source: Source, decode: int | None) -> Diagnosis:
    """decode: pictures that are decoded, None all; -1: none is even opened."""
    content = with_known_sigmas(read_content(source.annotations, source.skeleton, partial=source.partial))
    faults = check(content)
    if source.images is not None and decode != -1:
        if not source.images.is_dir():
            raise UserError(
                f"no folder of pictures {source.images}; check data.root, or look at the annotations alone: "
                "--pictures none"
            )
        with tqdm(total=len(content.images), desc="pictures", unit="img", leave=False, disable=None) as bar:
            problems = check_pictures(content, source.images, decode, bar.update)
        faults = sorted(faults + picture_faults(content, problems), key=_severity)
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
            faults = shared_pictures(folders, (one.content, one.source.images), same_picture) + faults
            faults = sorted(faults, key=_severity)
        result.append(Diagnosis(one.source, one.content, faults, one.bounds))
    return result


# ---------------------------------------------------------------------------- the reports


def heading(diagnosis: Diagnosis) -> str:
    content = diagnosis.content
    return (
        f"{diagnosis.source.label}: {diagnosis.source.annotations}: {len(content.images)} images, "
        f"{int(content.people.sum())} people with labelled keypoints, {int(content.crowd.sum())} crowds, "
        f"skeleton {content.skeleton.name}"
    )


def measured(diagnosis: Diagnosis) -> str:
    """The sentence about AP as it was measured; "" where it was not."""
    bounds = diagnosis.bounds
    if bounds is None:
        return ""
    return (
        f"Measured with predictions half an annotator's deviation off ({bounds.people} people in "
        f"{bounds.images} images): AP {bounds.as_it_is:.3f} against the file as it is, {bounds.mended:.3f} "
        "against the mended one."
    )


def cost(diagnosis: Diagnosis, kind: str) -> str:
    """What a kind of fault changes in AP; "" where it was not measured."""
    if diagnosis.bounds is None or kind not in diagnosis.bounds.costs:
        return ""
    return f"{-diagnosis.bounds.costs[kind]:+.3f}"  # what the fault does, not what mending it does


def place(example: Example) -> str:
    parts = [
        "" if example.image_id is None else f"image {example.image_id}",
        "" if example.annotation_id is None else f"annotation {example.annotation_id}",
        example.file,
    ]
    where = ", ".join(part for part in parts if part)
    return f"{where}: {example.detail}" if where and example.detail else where or example.detail


def table(diagnosis: Diagnosis) -> str:
    lines = [*textwrap.wrap(heading(diagnosis), WIDTH), ""]
    if not diagnosis.faults:
        return "\n".join([*lines, "  nothing found", ""])
    for fault in diagnosis.faults:
        kind = KINDS[fault.kind]
        lines += _wrapped(f"{fault.level:<8}  ", f"{fault.what}{_share(fault)}")
        if fault.level != "note":
            change = cost(diagnosis, fault.kind)
            lines += _wrapped(
                "          AP: ", f"{kind.ap}{f' (measured change: {change})' if change else ''}"
            )
            lines += _wrapped("          training: ", kind.training)
            lines += _wrapped("          do: ", kind.advice)
        shown = fault.examples if fault.level != "note" else fault.examples[:1]
        for example in shown[:3]:
            lines += _wrapped("          e.g. ", place(example))
    text = measured(diagnosis)
    return "\n".join([*lines, "", *textwrap.wrap(text, WIDTH), *([""] if text else [])])


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, WIDTH, subsequent_indent=" " * 12, drop_whitespace=True) or [head]


def _share(fault: Fault) -> str:
    if not fault.of:
        return ""
    share = 100 * fault.count / fault.of
    return f" ({share:.1f} %)" if share >= 0.1 else f" ({fault.count} of {fault.of})"


def json_report(found: Sequence[Diagnosis]) -> str:
    files = [
        {
            "set": one.source.label,
            "annotations": str(one.source.annotations),
            "images": len(one.content.images),
            "people": int(one.content.people.sum()),
            "crowds": int(one.content.crowd.sum()),
            "skeleton": one.content.skeleton.name,
            "findings": [_finding(one, fault) for fault in one.faults],
            "measured": None if one.bounds is None else asdict(one.bounds),
        }
        for one in found
    ]
    return json.dumps({"files": files}, indent=1) + "\n"


def _finding(diagnosis: Diagnosis, fault: Fault) -> dict[str, Any]:
    kind = KINDS[fault.kind]
    texts = {"ap": kind.ap, "training": kind.training, "advice": kind.advice}
    bounds = diagnosis.bounds
    return {
        "kind": fault.kind,
        "level": fault.level,
        "what": fault.what,
        "count": fault.count,
        "of": fault.of,
        **texts,
        "ap_cost": None if bounds is None else bounds.costs.get(fault.kind),
        "examples": [asdict(example) for example in fault.examples],
        "annotation_ids": diagnosis.content.ids[fault.rows].tolist(),
    }


def html_report(found: Sequence[Diagnosis]) -> str:
    sections = []
    for one in found:
        shown = [fault for fault in one.faults if fault.level != "note" or len(fault.rows)]
        body = _overview(one) + "".join(_details(one, fault) for fault in shown)
        sections.append((f"{one.source.label}: {one.source.annotations.name}", body))
    ill = sum(fault.level != "note" for one in found for fault in one.faults)
    verdict = f"{ill} findings to mend or to look at" if ill else "nothing to mend"
    legend = f"{LEGEND} Grey: other people of the picture."
    lead = f"<p>{pages.text(verdict)}.</p><p class=note>{pages.text(legend)}</p>"
    return pages.page("Annotations and pictures", sections, lead)


def _overview(diagnosis: Diagnosis) -> str:
    rows = [
        (
            fault.level, fault.what, _share(fault).strip(" ()").replace(" ", "\u00a0"),
            cost(diagnosis, fault.kind), KINDS[fault.kind].advice,
        )
        for fault in diagnosis.faults
    ]  # fmt: skip
    header = ("level", "finding", "share", "AP", "what to do")
    body = pages.table(header, rows, (0, 1, 4)) if rows else "<p>Nothing found.</p>"
    note = measured(diagnosis)
    return f"<p>{pages.text(heading(diagnosis))}</p>{body}<p class=note>{pages.text(note)}</p>"


def _details(diagnosis: Diagnosis, fault: Fault) -> str:
    kind, change = KINDS[fault.kind], cost(diagnosis, fault.kind)
    lines = [
        ("AP", f"{kind.ap}{f' (measured change: {change})' if change else ''}"),
        ("training", kind.training),
        ("what to do", kind.advice),
    ]
    text = "<br>".join(f"<b>{name}:</b> {pages.text(line)}" for name, line in lines)
    pictures = [_example(diagnosis, example) for example in fault.examples]
    heading = f"{fault.level}: {fault.what}{_share(fault)}"
    return f"<h3>{pages.text(heading)}</h3><p>{text}</p>{''.join(pictures)}"


def _example(diagnosis: Diagnosis, example: Example) -> str:
    picture = example_picture(diagnosis, example)
    if picture is None:
        return f"<p>{pages.text(place(example))}</p>"
    width = round(CROP * picture.shape[1] / max(picture.shape[:2]))
    return pages.picture(picture, place(example), width=max(width, CROP // 2))


def example_picture(diagnosis: Diagnosis, example: Example) -> np.ndarray | None:
    """The people of an example's picture, the one it is about on top; None where it cannot be read."""
    content, folder = diagnosis.content, diagnosis.source.images
    if folder is None or not example.file:
        return None
    try:
        image = read_image(folder / example.file, orientation="stored")
    except UnreadableImage:
        return None
    places = np.flatnonzero(content.image_ids == example.image_id)
    rows = np.flatnonzero(np.isin(content.image, places) & content.people)
    own = rows[content.ids[rows] == example.annotation_id] if example.annotation_id is not None else rows[:0]
    return draw_annotations(
        image, content.keypoints[rows], content.skeleton, marked=np.isin(rows, own), names=bool(len(own))
    )


if __name__ == "__main__":
    sys.exit(user_facing(main)())
