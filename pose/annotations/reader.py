"""COCO keypoint JSON -> `KeypointFile`: tolerant, and nothing is lost without an issue that counts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations import mpii_json
from pose.annotations.categories import CHOOSE, choose_categories, list_categories
from pose.annotations.issues import Issue, Issues
from pose.annotations.json_file import check_kind, no_garbage_collection, read_json, segmentations_of
from pose.annotations.keypoint_file import Category, KeypointFile
from pose.annotations.keypoint_lists import (
    AT_ONCE,
    fitting_key,
    keypoint_array,
    keypoint_names,
    list_length,
    with_flat_list,
    wrong_length,
)
from pose.annotations.numbers import LARGEST, NONE, Columns, first_of, rows_of, truth_column, whole_column
from pose.errors import UserError
from pose.images import LARGEST_IMAGE

LONGEST_SIDE = 2**20  # pixels: OpenCV reads no image with a longer one
RANGE = 1e10  # square pixels: COCO scores nobody larger
SHARES = 1.5  # a file whose coordinates are all below it, and not all whole, holds shares of images
SPREAD, LARGER = 50, 120  # coordinates in percent spread so far, in images whose sides are all larger
NAME_KEYS = ("filename", "path", "image", "coco_url", "url")  # of files without file_name


@no_garbage_collection()
def read(path: Path | str, category: str | None = None, *, choose: str = CHOOSE) -> KeypointFile:
    """What a file says.  category: name or id of the one to take, where several list different keypoints;
    choose: how messages tell to name it.

    Raises `UserError` for what is no COCO keypoint file, or has several categories to choose from."""
    data = read_json(Path(path))
    return parse(mpii_json.to_coco(data) if mpii_json.is_mpii(data) else data, path, category, choose=choose)


def parse(
    data: Any, source: Path | str, category: str | None = None, *, choose: str = CHOOSE
) -> KeypointFile:
    """As `read`, of a file's content, which is left as it is."""
    data = check_kind(data, source)
    declared, listing = list_categories(entries(data, "categories", source), source)
    chosen = choose_categories(listing, category, source, choose)
    images, image_issues = _images(entries(data, "images", source))
    annotations, annotation_issues = _annotations(
        entries(data, "annotations", source), images, declared, listing, chosen
    )
    return KeypointFile(
        source=source, categories=tuple(listing), chosen=tuple(chosen), **images, **annotations, issues=()
    ).with_issues(*image_issues, *annotation_issues)


def entries(data: Mapping[str, Any], key: str, source: Path | str) -> list[Any]:
    """A list of the file's top level; empty where there is none."""
    value = data.get(key)
    if not isinstance(value, list | None):
        raise UserError(f"{source}: {key!r} must be a list, got a {type(value).__name__}")
    return value or []


# ----------------------------------------------------------------------------------------------- images


def _images(given: Sequence[Any]) -> tuple[dict[str, Any], list[Issue]]:
    """The columns of the images."""
    records = [entry if isinstance(entry, dict) else {} for entry in given]
    columns = Columns(records)
    ids = columns.whole("id", "image_id")
    sizes = np.stack([columns.whole("height"), columns.whole("width")], 1).reshape(-1, 2)
    sizes[(sizes <= 0).any(1) | (sizes >= 2**31).any(1)] = 0
    keys = [_name_key(one) for one in records]
    names = [one.get(key) for one, key in zip(records, keys, strict=True)]
    file_names = tuple(name if isinstance(name, str) else "" for name in names)

    unnamed = np.array([not name or "\0" in name for name in file_names], bool)
    first = first_of(ids)
    again = first >= 0
    same = _alike(again, first, records, ("file_name", "width", "height"))
    # no such image can be read, and the library that draws masks crashes: it counts on memory for each pixel
    huge = (sizes.prod(1) > 1e6 * LARGEST_IMAGE) | (sizes > LONGEST_SIDE).any(1)
    other_id = ~np.array(["id" in one for one in records], bool) & (ids != NONE)
    issues = Issues("images")
    issues.add(
        "image_entry", (ids == NONE) | unnamed,
        lambda row: f"id {_told(records[row].get('id'))}" if records[row] else _told(given[row]),
    )  # fmt: skip
    issues.add("image_size", (sizes == 0).any(1))
    issues.add("huge_image", huge, lambda row: f"{sizes[row, 1]} x {sizes[row, 0]}")
    issues.add("same_image", same)
    issues.add(
        "same_image_id", again & ~same,
        lambda row: f"id {ids[row]}: {file_names[first[row]]} and {file_names[row]}",
    )  # fmt: skip
    issues.add("file_name_key", np.array(keys, str) != "file_name", lambda row: f"its {keys[row]}")
    issues.add("image_id_key", other_id)
    issues.add("image_float", columns.floats)
    issues.add("image_text", columns.texts)
    known = {key for one in records for key in one}
    return {
        "image_ids": ids,
        "file_names": file_names,
        "sizes": sizes,
        "image_values": {key: columns.numbers(key) for key in ("crowdIndex",) if key in known},
        "image_texts": {
            key: tuple(str(value or "") for value in columns.given(key))
            for key in ("aic_id", "url")
            if key in known
        },
    }, issues.found


def _name_key(record: Mapping[str, Any]) -> str:
    """Where an image's entry has the name of its file."""
    if record.get("file_name"):
        return "file_name"
    return next((key for key in NAME_KEYS if isinstance(record.get(key), str)), "file_name")


def _told(value: Any) -> str:
    return f"{value!r}"[:60]


def _alike(
    again: np.ndarray, first: np.ndarray, records: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> np.ndarray:
    """(N,) bool: which of `again` say the same as the row `first`."""
    alike = again.copy()
    for row in np.flatnonzero(again).tolist():
        alike[row] = all(records[row].get(key) == records[first[row]].get(key) for key in keys)
    return alike


# ------------------------------------------------------------------------------------------ annotations


def _annotations(
    given: Sequence[Any],
    images: Mapping[str, Any],
    declared: Sequence[int],
    listing: Sequence[Category],
    chosen: Sequence[Category],
) -> tuple[dict[str, Any], list[Issue]]:
    """The columns of the annotations that concern people, and of entries that cannot be assigned."""
    everything = [with_flat_list(entry) if isinstance(entry, dict) else {} for entry in given]
    category = whole_column([one.get("category_id") for one in everything]).values
    length = np.array([list_length(one.get("keypoints")) for one in everything], np.int64)
    if chosen:
        ids = [one.id for one in chosen if one.id is not None]
    else:  # no category lists keypoints: those of whom the annotations have some
        with_lists = np.unique(category[(length != 0) & (category != NONE)]).tolist()
        ids = [one for one in with_lists if one in declared or not declared]
    declared_ids = tuple(sorted({*declared, *category[category != NONE].tolist()}))
    places = np.flatnonzero(np.isin(category, ids) | (length != 0) | (category == NONE))
    records, length, category = [everything[i] for i in places.tolist()], length[places], category[places]

    columns = Columns(records)
    columns.whole("category_id")
    own, image_id = columns.whole("id"), columns.whole("image_id")
    areas, said, boxes = columns.numbers("area"), columns.numbers("num_keypoints"), columns.boxes("bbox")
    image, has_box = rows_of(images["image_ids"], image_id), columns.has("bbox")
    crowd = truth_column(columns.given("iscrowd"))
    names = keypoint_names(chosen, records)
    count = len(names) if names else int(length[length > 0][0]) // 3 if (length > 0).any() else 0
    body = len(chosen[0].keypoints) if chosen else 0
    keypoints, odd = keypoint_array(records, length, count, len(names), body)

    broken = category == NONE
    foreign = ~broken & ~np.isin(category, ids) & (length != 0)
    of_listing = np.isin(category, [one.id for one in listing if one.id is not None])
    people = ~broken & ~foreign
    fitting = [fitting_key(record, count) if not n else "" for record, n in zip(records, length.tolist())]
    first = first_of(np.where(people, own, NONE))
    again = first >= 0
    same = _alike(again, first, records, ("image_id", "iscrowd"))
    for row in np.flatnonzero(same).tolist():
        same[row] = all(
            np.array_equal(column[row], column[first[row]], equal_nan=True)
            for column in (image, keypoints, boxes)
        )
    issues = Issues("annotations")
    issues.add(
        "annotation_entry", broken,
        lambda row: f"category_id {_told(records[row].get('category_id'))}" if records[row]
        else _told(given[places[row]]),
    )  # fmt: skip
    issues.add("category", foreign & ~of_listing, lambda row: f"category {category[row]}")
    issues.add("other_category", foreign & of_listing, lambda row: f"category {category[row]}")
    issues.add(
        "absent_image", people & (image < 0), lambda row: f"image_id {_told(records[row].get('image_id'))}"
    )
    issues.add(
        "keypoint_length", people & (length != 0) & (length != 3 * count),
        lambda row: wrong_length(records[row], length[row], count, bool(names)),
    )  # fmt: skip
    issues.add("keypoints_key", people & (np.array(fitting, str) != ""), lambda row: f"its {fitting[row]!r}")
    issues.add("same_annotation_id", again & ~same, lambda row: f"id {own[row]}")
    issues.add("iscrowd", people & crowd.odd, lambda row: _told(records[row].get("iscrowd")))
    for code, wrong in {
        "same_annotation": same,
        "annotation_id": own <= 0,
        "annotation_float": columns.floats,
        "annotation_text": columns.texts | odd["text"],
        "nested": np.array([record is not given[i] for record, i in zip(records, places.tolist())], bool),
        "truth_text": crowd.texts,
        "box": has_box & np.isnan(boxes).any(1),
    }.items():
        issues.add(code, people & wrong)
    alone = people & ~crowd.values
    _keypoint_issues(keypoints, odd, alone, images["sizes"][image[alone & (image >= 0)]], issues)
    issues.add("area_range", alone & (areas > RANGE), lambda row: f"area {areas[row]:g}")
    fits = (length == 3 * count) | (length == 0)
    hidden = np.flatnonzero(people & fits & (crowd.values | ~(keypoints[..., 2] > 0).any(1))).tolist()
    segmentations = segmentations_of([records[row] for row in hidden])
    texts = columns.given("human")
    return {
        "category_ids": tuple(ids),
        "declared_ids": declared_ids,
        "names": names,
        "num_entries": len(given),
        "places": places,
        "ids": own,
        "image_id": image_id,
        "image": image,
        "category": category,
        "crowd": crowd.values,
        "length": length,
        "keypoints": keypoints,
        "num_keypoints": said,
        "areas": areas,
        "boxes": boxes,
        "has_box": has_box,
        "has_crowd": columns.has("iscrowd"),
        "masks": {row: segmentation for row, segmentation in zip(hidden, segmentations) if segmentation},
        "texts": tuple(text if isinstance(text, str) else "" for text in texts)
        if any(isinstance(text, str) for text in texts)
        else (),
    }, issues.found


def _keypoint_issues(
    keypoints: np.ndarray,
    odd: Mapping[str, np.ndarray],
    people: np.ndarray,
    sizes: np.ndarray,
    issues: Issues,
) -> None:
    """What is wrong with the numbers of people who are no crowd, whose images have these sizes."""
    if not keypoints.size:
        return
    wrong = {
        code: np.zeros(len(keypoints), bool) for code in ("not_finite", "unlabelled", "v", "minus", "any")
    }
    count, fractions, low, high = 0, False, np.full(2, np.inf), np.full(2, -np.inf)
    for first in range(0, len(keypoints), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        x, y, v = np.ascontiguousarray(np.moveaxis(keypoints[part], 2, 0))
        finite = _finite(x, y, v)
        unlabelled, labelled = v == 0, finite & (v > 0)
        wrong["not_finite"][part] = (~finite & ~unlabelled).any(1)
        wrong["unlabelled"][part] = (~finite & unlabelled).any(1)
        wrong["v"][part] = (finite & ((v < 0) | (v > 2))).any(1)
        wrong["minus"][part] = (labelled & (x == -1) & (y == -1)).any(1)
        wrong["any"][part] = labelled.any(1)
        meant = labelled & people[part, None]
        points = np.stack([x[meant], y[meant]])
        count += points.shape[1]
        fractions = fractions or not np.array_equal(points, np.floor(points))
        low = np.minimum(low, points.min(1, initial=np.inf))
        high = np.maximum(high, points.max(1, initial=-np.inf))
    issues.add("not_finite", people & wrong["not_finite"])
    issues.add("not_finite_unlabelled", people & wrong["unlabelled"])
    issues.add(
        "visibility", people & wrong["v"],
        lambda row: f"v = {keypoints[row, _bad_visibility(keypoints[row]), 2][0]:g}",
    )  # fmt: skip
    issues.add("visibility_truth", people & odd["truth"])
    issues.add("minus_one", people & wrong["minus"])
    if count < 3 or low.min() < 0 or not fractions:
        return
    if high.max() <= SHARES and (not len(sizes) or np.median(sizes) > 16):
        issues.add("shares", people & wrong["any"])
    elif high.max() <= 100 and (high - low).min() > SPREAD and len(sizes) and sizes.min() > LARGER:
        issues.add("percent", people & wrong["any"])


def _bad_visibility(keypoints: np.ndarray) -> np.ndarray:
    """(..., K, 3) -> (..., K) bool: numbers whose v is not 0 to 2."""
    x, y, v = np.moveaxis(keypoints, -1, 0)
    return _finite(x, y, v) & ((v < 0) | (v > 2))


def _finite(x: np.ndarray, y: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST) & (np.abs(v) < LARGEST)
