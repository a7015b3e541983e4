"""The policy of scoring: which annotations of a keypoint file count, complete and checked, before a metric
sees them.

The libraries that compute AP assume well-formed input: they drop ground truth without a word, crash without a
name, or return a wrong AP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
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
class Targets:
    """N annotations, complete: what a file leaves out is filled in."""

    image_id: np.ndarray  # (N,) int64
    category: np.ndarray  # (N,) int64
    keypoints: np.ndarray  # (N, K, 3) float64 x, y, v
    boxes: np.ndarray  # (N, 4) float64 x, y, width, height
    areas: np.ndarray  # (N,) float64
    crowd: np.ndarray  # (N,) bool
    num_keypoints: np.ndarray  # (N,) int64
    ids: np.ndarray  # (N,) int64, from 1: an id is COCOeval's "matched" mark, and 0 counts as missed

    def take(self, rows: np.ndarray) -> Targets:
        return Targets(*(getattr(self, field.name)[rows] for field in fields(self)))

    @cached_property
    def labelled(self) -> np.ndarray:
        """(N,) bool: with a labelled keypoint."""
        return np.any(self.keypoints[..., 2] > 0, axis=1)

    def records(self) -> list[Record]:
        """As COCO's files have them."""
        columns = {
            "image_id": self.image_id,
            "category_id": self.category,
            "keypoints": self.keypoints.reshape(len(self.ids), 3 * self.keypoints.shape[1]),
            "bbox": self.boxes,
            "area": self.areas,
            "iscrowd": self.crowd.astype(np.int64),
            "num_keypoints": self.num_keypoints,
            "id": self.ids,
        }
        return as_records(columns)


def as_records(columns: Mapping[str, np.ndarray]) -> list[Record]:
    """Columns of N values or lists -> N records."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row)) for row in rows]


@dataclass(frozen=True)
class GroundTruth:
    """What an annotation file says of the categories to score."""

    file: KeypointFile
    targets: Targets
    repaired: dict[str, np.ndarray]  # keys of REPAIRED -> (N,) bool
    image_ids: list[int]
    category_ids: list[int]  # the ones to score
    known_categories: set[int]
    num_keypoints: int
    num_unlisted: int  # of images that the file does not list
    num_other: int  # with keypoints, of categories that are not scored
    alike: bool  # several categories that list the same keypoints

    @cached_property
    def people(self) -> list[Record]:
        """Complete annotations, ours to change."""
        return self.targets.records()


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
    targets, repaired = _complete(file, rows)
    foreign = [file.issue(code) for code in ("category", "other_category")]
    return GroundTruth(
        file=file,
        targets=targets,
        repaired=repaired,
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


def _complete(file: KeypointFile, rows: np.ndarray) -> tuple[Targets, dict[str, np.ndarray]]:
    """Rows of a file, and what had to be filled in of each."""
    points = file.keypoints[rows, : file.num_body].astype(np.float64)
    points[~np.isfinite(points)] = 0  # where v = 0, or it would have been refused
    seen = points[..., 2] > 0
    count = seen.sum(1)
    low = np.where(seen[..., None], points[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(seen[..., None], points[..., :2], -np.inf).max(1, initial=-np.inf)
    extent = np.concatenate([low, high], 1)
    extent[count == 0] = 0
    extent[:, 2:] -= extent[:, :2]
    has_box = file.has_box[rows]
    boxes = np.where(has_box[:, None], file.boxes[rows], extent)
    # a box inside out has no area
    sides = np.where((boxes[:, 2:].min(1) > 0)[:, None], boxes[:, 2:], extent[:, 2:])
    with np.errstate(over="ignore"):
        shares = BOX_TO_AREA * sides[:, 0] * sides[:, 1]
    given, said = file.areas[rows], file.num_keypoints[rows]
    has_area = given >= 0
    counted = (np.trunc(said) == said) & (said >= 0) & (said <= MOST_KEYPOINTS)
    own = file.ids[rows]
    again = np.zeros(len(rows), bool)
    again[1:] = _seen_before(own)[1:]
    targets = Targets(
        image_id=file.image_id[rows],
        category=file.category[rows],
        keypoints=points,
        boxes=boxes,
        areas=np.where(has_area, given, shares),
        crowd=file.crowd[rows],
        num_keypoints=np.where(counted, said, count).astype(np.int64),
        ids=np.arange(1, len(rows) + 1),
    )
    return targets, {
        "iscrowd": ~file.has_crowd[rows],
        "num_keypoints": ~counted,
        "bbox": ~has_box,
        "area": ~has_area,
        "keypoints": file.length[rows] == 0,
        "id": (own == 0) | (own == NONE) | again,
    }
