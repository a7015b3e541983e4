"""COCO annotations and results, read, checked and copied, before a metric sees them.

The libraries that compute AP assume well-formed input: they drop ground truth without a word, crash without a
name, or return a wrong AP.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations.coco_json import BOX_TO_AREA
from pose.errors import UserError

Record = dict[str, Any]


@dataclass(frozen=True)
class GroundTruth:
    """What an annotation file says of the categories to score."""

    people: list[Record]  # complete annotations, ours to change
    repairs: list[list[str]]  # per person: which keys of REPAIRED
    image_ids: list[int]
    category_ids: list[int]  # with keypoints: the ones to score
    known_categories: set[int]
    num_keypoints: int
    num_unlisted: int


def place_of(source: object, what: str) -> str:
    """How messages name a file, or content that was given."""
    return str(source) if isinstance(source, str | Path) else f"the {what} given"


def load_content(source: object, what: str) -> Any:
    """The content of a file, or what was given as it is.  Raises `UserError`."""
    if not isinstance(source, str | Path):
        return source
    try:
        return json.loads(Path(source).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {what} {source}: {error.strerror}") from error
    except ValueError as error:  # JSON or its encoding
        raise UserError(f"{what} {source} is not valid JSON (cut off while written?): {error}") from error


def list_of(data: Any, key: str, where: str) -> Sequence[Mapping[str, Any]]:
    value = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(value, Sequence) or not all(isinstance(entry, Mapping) for entry in value):
        raise UserError(f"{where}: no list {key!r} of objects, so this is no COCO annotation file")
    if not value:
        raise UserError(f"{where}: {key!r} is empty, so there is nothing to score")
    return value


def integer(record: Mapping[str, Any], key: str, label: str) -> int:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UserError(f"{label}: {key} must be an integer, got {value!r}")
    return int(value)


def _number(value: Any) -> float:
    """`value` as a float; NaN for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any length
        return math.inf


def floats(values: Any, label: str, length: int) -> list[float]:
    """`values` as `length` finite floats, or a UserError that begins with `label`."""
    if not isinstance(values, Sequence | np.ndarray) or len(values) != length:
        got = f"{len(values)} numbers" if isinstance(values, Sequence | np.ndarray) else repr(values)
        raise UserError(f"{label} must be {length} numbers, got {got}")
    only_floats = set(map(type, values)) == {float}  # nearly always, and one by one they take longer than AP
    numbers = list(values) if only_floats else [_number(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{label} has a value that is not a finite number")
    return numbers


def clean_ground_truth(data: Any, where: str, category_id: int | None) -> GroundTruth:
    """Checked copies of the annotations of `category_id` (None: of every category with keypoints), numbered
    from 1.  Raises `UserError` that begins with `where`."""
    images = [integer(image, "id", f"{where}: image") for image in list_of(data, "images", where)]
    raw = list_of(data, "annotations", where)
    categories = [integer(entry, "category_id", f"{where}: annotation {entry.get('id')!r}") for entry in raw]
    listed_categories = [entry for entry in data.get("categories") or () if isinstance(entry, Mapping)]
    declared = {integer(entry, "id", f"{where}: category") for entry in listed_categories}
    scored = {category for entry, category in zip(raw, categories, strict=True) if entry.get("keypoints")}
    if not scored:
        raise UserError(f"{where}: no annotation has keypoints, so this is no keypoint ground truth")
    if category_id is not None and category_id not in scored:
        have = ", ".join(map(str, sorted(scored)))
        raise UserError(f"{where}: no annotation of category {category_id} has keypoints (have: {have})")
    wanted = scored if category_id is None else {category_id}
    chosen = [entry for entry, category in zip(raw, categories, strict=True) if category in wanted]
    num_keypoints = len(next(entry["keypoints"] for entry in chosen if entry.get("keypoints"))) // 3

    image_of = [integer(entry, "image_id", f"{where}: annotation {entry.get('id')!r}") for entry in chosen]
    known = set(images)
    listed = [entry for entry, image_id in zip(chosen, image_of, strict=True) if image_id in known]
    people, repairs = [], []
    used_ids = {"0", "None"}
    for number, entry in enumerate(listed, start=1):
        person, missing = _clean_annotation(entry, num_keypoints, where)
        # an id is COCOeval's "matched" mark: a person with id 0 counts as missed, the same id twice hides one
        people.append({**person, "id": number})
        repairs.append(missing + (["id"] if str(entry.get("id")) in used_ids else []))
        used_ids.add(str(entry.get("id")))
    return GroundTruth(
        people=people,
        repairs=repairs,
        image_ids=sorted(known),
        category_ids=sorted(wanted),
        known_categories=declared | set(categories),
        num_keypoints=num_keypoints,
        num_unlisted=len(chosen) - len(listed),
    )


def _clean_annotation(entry: Mapping[str, Any], num_keypoints: int, where: str) -> tuple[Record, list[str]]:
    """A complete copy of one annotation (without its id), and the names of what had to be filled in."""
    label = f"{where}: annotation {entry.get('id')!r} of image {entry['image_id']}:"
    raw = entry.get("keypoints") or [0.0] * (3 * num_keypoints)
    keypoints = floats(raw, f"{label} keypoints", 3 * num_keypoints)
    points = np.asarray(keypoints).reshape(-1, 3)
    labelled = points[points[:, 2] > 0, :2]
    corners = np.concatenate([labelled.min(axis=0), labelled.max(axis=0)]) if len(labelled) else np.zeros(4)
    extent = [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]
    has_box = entry.get("bbox") is not None
    box = floats(entry["bbox"], f"{label} bbox", 4) if has_box else extent
    area = _number(entry.get("area"))
    area_is_valid = math.isfinite(area) and area >= 0
    person = {
        "image_id": int(entry["image_id"]),
        "category_id": entry["category_id"],
        "keypoints": keypoints,
        "bbox": box,
        "area": area if area_is_valid else BOX_TO_AREA * box[2] * box[3],
        "iscrowd": int(bool(entry.get("iscrowd"))),
        "num_keypoints": len(labelled) if entry.get("num_keypoints") is None else entry["num_keypoints"],
    }
    missing = [key for key in ("iscrowd", "num_keypoints", "bbox") if entry.get(key) is None]
    missing += [] if area_is_valid else ["area"]
    return person, missing + ([] if entry.get("keypoints") else ["keypoints"])


def clean_results(records: Any, truth: GroundTruth, where: str) -> list[Record]:
    """Checked copies of the results with the `area` that COCOeval gives them, numbered from 1."""
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        raise UserError(f"{where}: results must be a list of records, got {type(records).__name__}")
    people: list[Record] = []
    images = set(truth.image_ids)
    strangers: list[int] = []
    boxed = bool(records) and isinstance(records[0], Mapping) and bool(records[0].get("bbox"))
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping):
            raise UserError(f"{where}: result {number} is not an object: {record!r:.80}")
        image_id = integer(record, "image_id", f"{where}: result {number}")
        label = f"{where}: result {number}, image {image_id}:"
        category = integer(record, "category_id", label[:-1])
        if category not in truth.known_categories:
            raise UserError(f"{label} no category {category} in the ground truth (has: {truth.category_ids})")
        if image_id not in images:
            strangers.append(image_id)
        keypoints = floats(record.get("keypoints"), f"{label} keypoints", 3 * truth.num_keypoints)
        (score,) = floats([record.get("score")], f"{label} score", 1)
        if boxed:
            _, _, width, height = floats(record.get("bbox"), f"{label} bbox (the first result has one)", 4)
        else:
            x, y = keypoints[0::3], keypoints[1::3]
            width, height = max(x) - min(x), max(y) - min(y)
        person = {"image_id": image_id, "category_id": category, "keypoints": keypoints, "score": score}
        people.append({**person, "id": number, "area": width * height, "iscrowd": 0})
    if strangers:
        raise UserError(
            f"{where}: {len(strangers)} results are for images that the ground truth does not have "
            f"(the first: image {strangers[0]}); score them against the annotations of their own images"
        )
    return people
