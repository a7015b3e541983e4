"""The policy of scoring: which annotations of a keypoint file count, complete and checked, before a metric
sees them.

The libraries that compute AP assume well-formed input: they drop ground truth without a word, crash without a
name, or return a wrong AP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.numbers import NONE
from pose.annotations.reader import parse, read
from pose.annotations.regions import BOX_TO_AREA
from pose.errors import UserError

Record = dict[str, Any]
Annotated: TypeAlias = Path | str | Mapping[str, Any] | KeypointFile  # a file, its content, or as it was read

MOST_KEYPOINTS = 1e6  # of a person: a larger number was not counted


@dataclass(frozen=True)
class GroundTruth:
    """What an annotation file says of the categories to score."""

    file: KeypointFile
    people: list[Record]  # complete annotations, ours to change
    repairs: list[list[str]]  # per person: which keys of REPAIRED
    image_ids: list[int]
    category_ids: list[int]  # the ones to score
    known_categories: set[int]
    num_keypoints: int
    num_unlisted: int  # of images that the file does not list
    num_other: int  # with keypoints, of categories that are not scored
    alike: bool  # several categories that list the same keypoints


def place_of(source: object, what: str) -> str:
    """How messages name a file, or content that was given."""
    return str(source) if isinstance(source, str | Path) else f"the {what} given"


def read_truth(annotations: Annotated, category: str | None = None) -> KeypointFile:
    """The annotations to score against: a file, its content, or what was read of it."""
    if isinstance(annotations, KeypointFile):
        return annotations
    if isinstance(annotations, str | Path):
        return read(annotations, category)
    return parse(annotations, place_of(annotations, "annotations"), category)


def check_truth(file: KeypointFile) -> None:
    """Raises `UserError` for annotations that nothing can be scored against, before anybody is predicted.

    What a metric would have to guess is refused; what is said in another way (1.0, "1", NaN where v = 0) is
    read as it is meant."""
    where = str(file.source)
    if not file.num_images:
        raise UserError(f"{where}: no list 'images', or an empty one, so there is nothing to score")
    if not file.num_entries:
        raise UserError(f"{where}: no list 'annotations', or an empty one, so there is nothing to score")
    if (file.image_ids == NONE).any():
        row = int(np.flatnonzero(file.image_ids == NONE)[0])
        raise UserError(f"{where}: {file.image_name(row)}: the id of an image must be an integer")
    broken = file.issue("annotation_entry")
    if broken is not None:
        row = int(broken.rows[0])
        raise UserError(
            f"{where}: {file.annotation_name(row)}: category_id must be an integer ({broken.count} such)"
        )
    ours = np.isin(file.category, file.category_ids)
    if not (ours & (file.length != 0)).any():
        told = file.why_nobody() or "no annotation has keypoints, so this is no keypoint ground truth"
        raise UserError(f"{where}: {told}")
    absent = file.issue("absent_image")
    for row in () if absent is None else absent.rows.tolist():
        if file.image_id[row] == NONE:
            raise UserError(f"{where}: {file.annotation_name(row)}: image_id must be an integer")
    for code, text in REFUSED.items():
        issue = file.issue(code)
        if issue is not None:
            row = int(issue.rows[0])
            label = f"{where}: {file.annotation_name(row)} of image {file.image_id[row]}: {text}"
            detail = f" {issue.details[0]}" if issue.details else ""
            more = f" (and {issue.count - 1} more)" if issue.count > 1 else ""
            raise UserError(f"{label}{detail}{more}")


REFUSED = {
    "keypoint_length": "keypoints:",
    "not_finite": "keypoints have a value that is not a finite number",
    "box": "bbox must be 4 finite numbers",
}


def clean_ground_truth(file: KeypointFile, category_id: int | None = None) -> GroundTruth:
    """Records of the annotations of `category_id` (None: of every chosen category), numbered from 1.  Raises
    `UserError` as `check_truth` does."""
    check_truth(file)
    wanted = list(file.category_ids)
    if category_id is not None:
        if category_id not in wanted:
            have = ", ".join(map(str, sorted(wanted)))
            raise UserError(
                f"{file.source}: no annotation of category {category_id} has keypoints (have: {have})"
            )
        wanted = [category_id]
    ours = np.isin(file.category, wanted)
    rows = np.flatnonzero(ours & (file.image >= 0))
    used = np.zeros(len(rows), bool)
    used[1:] = _seen_before(file.ids[rows])[1:]
    people, repairs = [], []
    for count, row in enumerate(rows.tolist(), start=1):
        person, missing = _record(file, row)
        # an id is COCOeval's "matched" mark: a person with id 0 counts as missed, the same id twice hides one
        people.append({**person, "id": count})
        own = int(file.ids[row])
        repairs.append(missing + (["id"] if own in (0, NONE) or used[count - 1] else []))
    foreign = [file.issue(code) for code in ("category", "other_category")]
    return GroundTruth(
        file=file,
        people=people,
        repairs=repairs,
        image_ids=sorted(set(file.image_ids.tolist())),
        category_ids=sorted(wanted),
        known_categories=set(file.declared_ids),
        num_keypoints=file.num_body,
        num_unlisted=int((ours & (file.image < 0)).sum()),
        num_other=sum(issue.count for issue in foreign if issue is not None),
        alike=len(file.chosen) > 1 and category_id is None,
    )


def _seen_before(values: np.ndarray) -> np.ndarray:
    found = np.ones(len(values), bool)
    found[np.unique(values, return_index=True)[1]] = False
    return found


def _record(file: KeypointFile, row: int) -> tuple[Record, list[str]]:
    """A complete record of one annotation (without its id), and the names of what had to be filled in."""
    points = file.keypoints[row, : file.num_body].astype(np.float64)
    points[~np.isfinite(points)] = 0  # where v = 0, or it would have been refused
    seen = points[:, 2] > 0
    labelled = points[seen, :2]
    corners = np.concatenate([labelled.min(axis=0), labelled.max(axis=0)]) if len(labelled) else np.zeros(4)
    extent = [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]
    box = file.boxes[row].tolist() if file.has_box[row] else extent
    sides = box[2:] if min(box[2:]) > 0 else [extent[2], extent[3]]  # a box inside out has no area
    area, said = float(file.areas[row]), float(file.num_keypoints[row])
    counted = said.is_integer() and 0 <= said <= MOST_KEYPOINTS
    person = {
        "image_id": int(file.image_id[row]),
        "category_id": int(file.category[row]),
        "keypoints": points.ravel().tolist(),
        "bbox": box,
        "area": area if area >= 0 else BOX_TO_AREA * sides[0] * sides[1],
        "iscrowd": int(file.crowd[row]),
        "num_keypoints": int(said) if counted else len(labelled),
    }
    missing = [] if file.has_crowd[row] else ["iscrowd"]
    missing += [] if counted else ["num_keypoints"]
    missing += [] if file.has_box[row] else ["bbox"]
    missing += [] if area >= 0 else ["area"]
    return person, missing + ([] if file.length[row] else ["keypoints"])
