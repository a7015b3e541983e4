"""Results as files have them, checked and copied before a metric sees them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations import numbers
from pose.annotations.json_file import no_garbage_collection, why_no_json
from pose.annotations.keypoint_lists import flat
from pose.annotations.numbers import whole
from pose.errors import UserError
from pose.files import is_regular
from pose.metrics.ground_truth import GroundTruth, Record, as_records


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
        with no_garbage_collection():
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


@dataclass(frozen=True)
class Results:
    """N people found, as files have them."""

    image_id: np.ndarray  # (N,) int64
    category: np.ndarray  # (N,) int64
    keypoints: np.ndarray  # (N, K, 3) float64 x, y, score
    scores: np.ndarray  # (N,) float64
    areas: np.ndarray  # (N,) float64, as COCOeval takes them
    ids: np.ndarray  # (N,) int64: place in the file, from 1

    def take(self, rows: np.ndarray) -> Results:
        return Results(*(getattr(self, field.name)[rows] for field in fields(self)))

    def records(self) -> list[Record]:
        columns = {
            "image_id": self.image_id,
            "category_id": self.category,
            "keypoints": self.keypoints.reshape(len(self.ids), 3 * self.keypoints.shape[1]),
            "score": self.scores,
            "id": self.ids,
            "area": self.areas,
            "iscrowd": np.zeros(len(self.ids), np.int64),
        }
        return as_records(columns)


def clean_results(records: Any, truth: GroundTruth, where: str) -> list[Record]:
    """Checked copies of the results with the `area` that COCOeval gives them, numbered from 1."""
    return check_results(records, truth, where).records()


def check_results(records: Any, truth: GroundTruth, where: str) -> Results:
    """The results as arrays.  Raises `UserError` for those that cannot be scored."""
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        if isinstance(records, Mapping) and {"images", "annotations"} & records.keys():
            raise UserError(
                f"{where} is an annotation file; give the results, a list of people that were found"
            )
        raise UserError(f"{where}: results must be a list of records, got {type(records).__name__}")
    boxed = bool(records) and isinstance(records[0], Mapping) and bool(records[0].get("bbox"))
    return _all_together(records, truth, boxed) or _one_by_one(records, truth, boxed, where)


def _all_together(records: Sequence[Any], truth: GroundTruth, boxed: bool) -> Results | None:
    """None where any record is unusual; `_one_by_one` knows what is wrong with it, if anything."""
    if not records or set(map(type, records)) != {dict}:
        return None
    image_id, category = (
        _column([one.get(key) for one in records], {int}) for key in ("image_id", "category_id")
    )
    scores = _column([one.get("score") for one in records], {int, float})
    keypoints = _lists([one.get("keypoints") for one in records], 3 * truth.num_keypoints)
    boxes = _lists([one.get("bbox") for one in records], 4) if boxed else None
    if image_id is None or category is None or keypoints is None or scores is None:
        return None
    if boxed and boxes is None:
        return None
    known = np.isin(image_id, truth.image_ids) & np.isin(category, [*truth.known_categories])
    if not known.all():
        return None
    points = keypoints.reshape(len(records), truth.num_keypoints, 3)
    with np.errstate(over="ignore"):
        if boxes is None:
            x, y = np.moveaxis(points[..., :2], 2, 0)
            areas = (x.max(1) - x.min(1)) * (y.max(1) - y.min(1))
        else:
            areas = boxes[:, 2] * boxes[:, 3]
    return Results(image_id, category, points, scores, areas, np.arange(1, len(records) + 1))


def _lists(lists: list[Any], length: int) -> np.ndarray | None:
    """(N, length) float64 of lists of so many finite numbers; None where one is none."""
    if set(map(type, lists)) != {list} or set(map(len, lists)) != {length}:
        return None
    if not set(map(type, chain.from_iterable(lists))) <= {int, float}:
        return None
    try:
        flat = np.fromiter(chain.from_iterable(lists), np.float64, length * len(lists))
    except OverflowError:
        return None
    return flat.reshape(-1, length) if np.isfinite(flat).all() else None


def _column(values: list[Any], kinds: set[type]) -> np.ndarray | None:
    """(N,) int64 or float64 of finite numbers of these kinds; None where one is none."""
    if not set(map(type, values)) <= kinds:
        return None
    try:
        column = np.array(values, np.float64 if float in kinds else np.int64)
    except OverflowError:
        return None
    return column if np.isfinite(column).all() else None


def _one_by_one(records: Sequence[Any], truth: GroundTruth, boxed: bool, where: str) -> Results:
    images = set(truth.image_ids)
    strangers: list[int] = []
    ids, categories, points, scores, areas = [], [], [], [], []
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
        scores += floats([record.get("score")], f"{label} score", 1)
        if boxed:
            _, _, width, height = floats(record.get("bbox"), f"{label} bbox (the first result has one)", 4)
        else:
            x, y = keypoints[0::3], keypoints[1::3]
            width, height = max(x) - min(x), max(y) - min(y)
        ids.append(image_id)
        categories.append(category)
        points.append(keypoints)
        areas.append(width * height)
    if strangers:
        raise UserError(
            f"{where}: {len(strangers)} results are for images that the ground truth does not have "
            f"(the first: image {strangers[0]}); score them against the annotations of their own images"
        )
    return Results(
        np.array(ids, np.int64),
        np.array(categories, np.int64),
        np.array(points, np.float64).reshape(len(records), truth.num_keypoints, 3),
        np.array(scores, np.float64),
        np.array(areas, np.float64),
        np.arange(1, len(records) + 1),
    )
