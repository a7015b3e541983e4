"""Diagnoses for people and programs: a table on the terminal, JSON, and a page with pictures."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations.image_files import locate
from pose.annotations.numbers import NONE
from pose.data.images import read_of_size
from pose.doctor.checks import Example, Fault
from pose.doctor.diagnosis import Diagnosis
from pose.doctor.texts import KINDS
from pose.draw import pages
from pose.draw.samples import LEGEND, draw_annotations
from pose.images import UnreadableImage, read_image

WIDTH = 110  # of the table on a terminal
CROP = 360  # pixels: side of an example's picture on the page


def heading(diagnosis: Diagnosis) -> str:
    file = diagnosis.content.file
    return (
        f"{diagnosis.source.label}: {diagnosis.source.annotations}: {file.num_images} images, "
        f"{int(file.people.sum())} people with labelled keypoints, {file.crowd.sum()} crowds, "
        f"skeleton {diagnosis.content.skeleton.name}"
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
        about_file = not fault.of
        for example in fault.examples[: None if about_file else 3 if fault.level != "note" else 1]:
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
            "images": one.content.file.num_images,
            "people": int(one.content.file.people.sum()),
            "crowds": int(one.content.file.crowd.sum()),
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
        "annotation_ids": _annotation_ids(diagnosis, fault),
    }


def _annotation_ids(diagnosis: Diagnosis, fault: Fault) -> list[int | None]:
    ids = diagnosis.content.file.ids[fault.rows].tolist()
    return [None if number == NONE else number for number in ids]


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


def _as_annotated(path: Path, diagnosis: Diagnosis, example: Example) -> np.ndarray:
    """The image as its annotations mean it; of another size, as it is stored."""
    file, orientation = diagnosis.content.file, diagnosis.source.orientation
    rows = np.flatnonzero(file.image_ids == example.image_id)
    size = tuple(file.sizes[rows[0]].tolist()) if len(rows) and file.sizes[rows[0]].all() else None
    try:
        return read_of_size(path, size, orientation)
    except UnreadableImage:
        return read_image(path, orientation="stored")


def example_picture(diagnosis: Diagnosis, example: Example) -> np.ndarray | None:
    """The people of an example's picture, the one it is about on top; None where it cannot be read."""
    content, folder = diagnosis.content, diagnosis.source.images
    if folder is None or not example.file:
        return None
    try:
        image = _as_annotated(locate(folder, example.file), diagnosis, example)
    except UnreadableImage:
        return None
    file = content.file
    places = np.flatnonzero(file.image_ids == example.image_id)
    rows = np.flatnonzero(np.isin(file.image, places) & content.file.people)
    own = rows[file.ids[rows] == example.annotation_id] if example.annotation_id is not None else rows[:0]
    return draw_annotations(
        image, content.keypoints[rows], content.skeleton, marked=np.isin(rows, own), names=bool(len(own))
    )
