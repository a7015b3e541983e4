"""Results as files have them, checked and copied before a metric sees them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations import numbers
from pose.annotations.json_file import why_no_json
from pose.annotations.keypoint_lists import flat
from pose.annotations.numbers import whole
from pose.errors import UserError
from pose.files import is_regular
from pose.metrics.ground_truth import GroundTruth, Record


def load_content(source: object, what: str) -> Any:
    """The content of a file, or what was given as it is.  Raises `UserError`."""
    if not isinstance(source, str | Path):
        return source
    try:
        if not is_regular(source) and Path(source).exists():
            raise UserError(f"cannot read {what} {source}: it is no regular file")
        raw = Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {what} {source}: {error.strerror}") from error
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:  # JSON or its encoding
        raise UserError(f"{what}: {why_no_json(Path(source), raw[:512], len(raw), error)}") from None


def integer(record: Mapping[str, Any], key: str, label: str) -> int:
    """A whole number, also written as 1.0 or "1"."""
    value = record.get(key)
    found = whole(value.item() if isinstance(value, np.generic) else value)
    if found is None:
        raise UserError(f"{label}: {key} must be an integer, got {f'{value!r}'[:60]}")
    return found


def floats(values: Any, label: str, length: int) -> list[float]:
    """`values` as `length` finite floats, or a UserError that begins with `label`."""
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str) or len(values) != length:
        listed = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
        got = f"{len(values)} numbers" if listed else f"{values!r}"[:60]
        raise UserError(f"{label} must be {length} numbers, got {got}")
    only_floats = set(map(type, values)) == {float}  # nearly always, and one by one they take longer than AP
    found = list(values) if only_floats else [numbers.number(value) for value in values]
    if not all(map(math.isfinite, found)):
        raise UserError(f"{label} has a value that is not a finite number")
    return found


def clean_results(records: Any, truth: GroundTruth, where: str) -> list[Record]:
    """Checked copies of the results with the `area` that COCOeval gives them, numbered from 1."""
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        if isinstance(records, Mapping) and {"images", "annotations"} & records.keys():
            raise UserError(
                f"{where} is an annotation file; give the results, a list of people that were found"
            )
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
        keypoints = floats(flat(record.get("keypoints")), f"{label} keypoints", 3 * truth.num_keypoints)
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
