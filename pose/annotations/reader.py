"""COCO keypoint JSON -> `KeypointFile`: tolerant, and nothing is lost without an issue that counts it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations import mpii_json
from pose.annotations.categories import CHOOSE, choose_categories, list_categories
from pose.annotations.issues import Issues
from pose.annotations.json_file import check_kind, read_json
from pose.annotations.keypoint_file import Category, KeypointFile
from pose.annotations.keypoint_lists import (
    fitting_key,
    keypoint_array,
    keypoint_names,
    list_length,
    with_flat_list,
    wrong_length,
)
from pose.annotations.numbers import (
    LARGEST,
    NONE,
    number_column,
    truth_column,
    whole_column,
)
from pose.errors import UserError
from pose.images import LARGEST_IMAGE

LONGEST_SIDE = 2**20  # pixels: OpenCV reads no image with a longer one
RANGE = 1e10  # square pixels: COCO scores nobody larger
SHARES = 1.5  # a file whose coordinates are all below it, and not all whole, holds shares of images
SPREAD, LARGER = 50, 120  # coordinates in percent spread so far, in images whose sides are all larger
NAME_KEYS = ("filename", "path", "image", "coco_url", "url")  # of files without file_name


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
    issues = Issues()
    images = entries(data, "images", source)
    annotations = entries(data, "annotations", source)
    declared, listing = list_categories(entries(data, "categories", source), source)
    chosen = choose_categories(listing, category, source, choose)
    image_ids, image_columns = _images(images, issues)
    columns = _annotations(annotations, image_ids, image_columns, declared, listing, chosen, source, issues)
    return KeypointFile(
        source=source,
        categories=tuple(listing),
        chosen=tuple(chosen),
        image_ids=image_ids,
        **image_columns,
        **columns,
        issues=(),
    ).with_issues(*issues.found)


def entries(data: Mapping[str, Any], key: str, source: Path | str) -> list[Any]:
    """A list of the file's top level; empty where there is none."""
    value = data.get(key)
    if not isinstance(value, list | None):
        raise UserError(f"{source}: {key!r} must be a list, got a {type(value).__name__}")
    return value or []


# ----------------------------------------------------------------------------------------------- images


def _images(given: Sequence[Any], issues: Issues) -> tuple[np.ndarray, dict[str, Any]]:
    records = [entry if isinstance(entry, dict) else {} for entry in given]
    other_key = np.array(["id" not in one and "image_id" in one for one in records], bool)
    id_column = whole_column([one.get("id", one.get("image_id")) for one in records])
    ids = id_column.values
    heights, widths = (whole_column([one.get(key) for one in records]) for key in ("height", "width"))
    keys = [_name_key(one) for one in records]
    names = [one.get(key) for one, key in zip(records, keys, strict=True)]
    file_names = tuple(name if isinstance(name, str) else "" for name in names)
    sizes = np.stack([heights.values, widths.values], 1).reshape(-1, 2)
    sizes[(sizes <= 0).any(1) | (sizes >= 2**31).any(1)] = 0

    unnamed = np.array([not name or "\0" in name for name in file_names], bool)
    issues.add(
        "image_entry", "images", (ids == NONE) | unnamed,
        lambda row: f"id {_told(records[row].get('id'))}" if records[row] else _told(given[row]),
    )  # fmt: skip
    issues.add("image_size", "images", (sizes == 0).any(1))
    # no such image can be read, and the library that draws masks crashes: it counts on memory for each pixel
    huge = (sizes.prod(1) > 1e6 * LARGEST_IMAGE) | (sizes > LONGEST_SIDE).any(1)
    issues.add("huge_image", "images", huge, lambda row: f"{sizes[row, 1]} x {sizes[row, 0]}")
    first = _first_of(ids)
    again = (first >= 0) & (ids != NONE)
    same = again.copy()
    for row in np.flatnonzero(again).tolist():
        same[row] = _alike(records[row], records[first[row]], ("file_name", "width", "height"))
    issues.add("same_image", "images", same)
    issues.add(
        "same_image_id", "images", again & ~same,
        lambda row: f"id {ids[row]}: {file_names[first[row]]} and {file_names[row]}",
    )  # fmt: skip
    issues.add(
        "file_name_key", "images", np.array([key != "file_name" for key in keys], bool),
        lambda row: f"its {keys[row]}",
    )  # fmt: skip
    issues.add("image_id_key", "images", other_key & (ids != NONE))
    columns = (id_column, heights, widths)
    issues.add("image_float", "images", np.any([one.floats for one in columns], axis=0))
    issues.add("image_text", "images", np.any([one.texts for one in columns], axis=0))
    values = {
        key: number_column([one.get(key) for one in records])[0]
        for key in ("crowdIndex",)
        if any(key in one for one in records)
    }
    texts = {
        key: tuple(str(one.get(key) or "") for one in records)
        for key in ("aic_id", "url")
        if any(key in one for one in records)
    }
    return ids, {"file_names": file_names, "sizes": sizes, "image_values": values, "image_texts": texts}


def _name_key(record: Mapping[str, Any]) -> str:
    """Where an image's entry has the name of its file."""
    if record.get("file_name"):
        return "file_name"
    return next((key for key in NAME_KEYS if isinstance(record.get(key), str)), "file_name")


def _told(value: Any) -> str:
    return f"{value!r}"[:60]


def _first_of(values: np.ndarray) -> np.ndarray:
    """(N,) the row of the first one with the same value; -1 for a first one."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    found = first[inverse.reshape(-1)]
    return np.where(found == np.arange(len(values)), -1, found)


def _alike(one: Mapping[str, Any], other: Mapping[str, Any], keys: Sequence[str]) -> bool:
    return all(one.get(key) == other.get(key) for key in keys)


# ------------------------------------------------------------------------------------------ annotations


def _annotations(
    given: Sequence[Any],
    image_ids: np.ndarray,
    images: Mapping[str, Any],
    declared: Sequence[int],
    listing: Sequence[Category],
    chosen: Sequence[Category],
    source: Path | str,
    issues: Issues,
) -> dict[str, Any]:
    """The columns of the annotations that concern people, and of entries that cannot be assigned."""
    records = [with_flat_list(entry) if isinstance(entry, dict) else {} for entry in given]
    category = whole_column([one.get("category_id") for one in records])
    lists = np.array([list_length(one.get("keypoints")) for one in records], np.int64)
    broken = category.values == NONE
    if chosen:
        ids = [one.id for one in chosen if one.id is not None]
    else:  # no category lists keypoints: those of whom the annotations have some
        with_lists = np.unique(category.values[(lists != 0) & ~broken]).tolist()
        ids = [one for one in with_lists if one in declared or not declared]
    ours = np.isin(category.values, ids)
    places = np.flatnonzero(ours | (lists != 0) | broken)
    nested = np.array([records[place] is not given[place] for place in places.tolist()], bool)
    records = [records[place] for place in places.tolist()]
    category_ids, length, broken = category.values[places], lists[places], broken[places]

    whole_columns = {key: whole_column([one.get(key) for one in records]) for key in ("id", "image_id")}
    own, image = whole_columns["id"].values, rows_of(image_ids, whole_columns["image_id"].values)
    crowd = truth_column([one.get("iscrowd") for one in records])
    names = keypoint_names(chosen, records)
    count = len(names) if names else int(length[length > 0][0]) // 3 if (length > 0).any() else 0
    body = len(chosen[0].keypoints) if chosen else 0
    keypoints, odd = keypoint_array(records, length, count, len(names), body)
    areas, area_texts = number_column([one.get("area") for one in records])
    said, said_texts = number_column([one.get("num_keypoints") for one in records])
    boxes, has_box, box_texts = _boxes([one.get("bbox") for one in records])
    people_text = [one.get("human") for one in records]

    listed_ids = [one.id for one in listing if one.id is not None]
    foreign = ~broken & ~np.isin(category_ids, ids) & (length != 0)
    of_listing = np.isin(category_ids, listed_ids)
    people = ~broken & ~foreign
    misfit = people & (length != 0) & (length != 3 * count)
    fitting = [fitting_key(record, count) if not n else "" for record, n in zip(records, length.tolist())]
    again, same = _repeated(own, records, people, image, keypoints, boxes)
    floats = np.any([one.floats for one in whole_columns.values()], axis=0) | category.floats[places]
    texts = np.any([one.texts for one in whole_columns.values()], axis=0) | category.texts[places]

    def entry(row: int) -> str:
        record = records[row]
        return f"category_id {_told(record.get('category_id'))}" if record else _told(given[places[row]])

    described: dict[str, tuple[np.ndarray, Callable[[int], str]]] = {
        "annotation_entry": (broken, entry),
        "category": (foreign & ~of_listing, lambda row: f"category {category_ids[row]}"),
        "other_category": (foreign & of_listing, lambda row: f"category {category_ids[row]}"),
        "absent_image": (people & (image < 0), lambda row: f"image_id {_told(records[row].get('image_id'))}"),
        "keypoint_length": (misfit, lambda row: wrong_length(records[row], length[row], count, bool(names))),
        "keypoints_key": (
            people & np.array([key != "" for key in fitting], bool),
            lambda row: f"its {fitting[row]!r}",
        ),
        "same_annotation_id": (again & ~same, lambda row: f"id {own[row]}"),
        "iscrowd": (people & crowd.odd, lambda row: _told(records[row].get("iscrowd"))),
    }
    counted = {
        "same_annotation": same,
        "annotation_id": own <= 0,
        "annotation_float": floats,
        "annotation_text": texts | area_texts | said_texts | box_texts | odd["text"],
        "nested": nested,
        "truth_text": crowd.texts,
        "box": has_box & np.isnan(boxes).any(1),
    }
    for code, (wrong, detail) in described.items():
        issues.add(code, "annotations", wrong, detail)
    for code, wrong in counted.items():
        issues.add(code, "annotations", people & wrong)
    _keypoint_issues(keypoints, odd, people & ~crowd.values, images, image, areas, issues)
    hidden = people & (crowd.values | ~(keypoints[..., 2] > 0).any(1))
    return {
        "category_ids": tuple(ids),
        "declared_ids": tuple(sorted({*declared, *category.values[category.values != NONE].tolist()})),
        "names": names,
        "num_entries": len(given),
        "places": places,
        "ids": own,
        "image_id": whole_columns["image_id"].values,
        "image": image,
        "category": category_ids,
        "crowd": crowd.values,
        "length": length,
        "keypoints": keypoints,
        "num_keypoints": said,
        "areas": areas,
        "boxes": boxes,
        "has_box": has_box,
        "has_crowd": np.array([one.get("iscrowd") is not None for one in records], bool),
        "masks": {
            row: records[row]["segmentation"]
            for row in np.flatnonzero(hidden).tolist()
            if records[row].get("segmentation")
        },
        "texts": tuple(text if isinstance(text, str) else "" for text in people_text)
        if any(isinstance(text, str) for text in people_text)
        else (),
    }


def rows_of(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The first row of each wanted id among the known ones, -1 where it is not there."""
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(known, kind="stable")
    row = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    return np.where((known[row] == wanted) & (wanted != NONE), row, -1)


def _boxes(given: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 4) float64, NaN where one is unusable or missing; whether one is given; whether as text."""
    boxes = np.full((len(given), 4), np.nan)
    texts = np.zeros(len(given), bool)
    for i, box in enumerate(given):
        if isinstance(box, array) and len(box) == 4:
            boxes[i] = box
        elif isinstance(box, list | tuple | np.ndarray) and len(box) == 4:
            boxes[i], text = number_column(list(box))
            texts[i] = text.any()
    boxes[~np.isfinite(boxes).all(1)] = np.nan
    return boxes, np.array([box is not None for box in given], bool), texts


def _repeated(
    ids: np.ndarray,
    records: Sequence[Mapping[str, Any]],
    people: np.ndarray,
    image: np.ndarray,
    keypoints: np.ndarray,
    boxes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose id an earlier one has, and those of them that repeat it word for word."""
    rows = np.flatnonzero(people & (ids != NONE))
    first = np.full(len(ids), -1, np.int64)
    found = _first_of(ids[rows])
    first[rows[found >= 0]] = rows[found[found >= 0]]
    again = first >= 0
    same = again.copy()
    for row in np.flatnonzero(again).tolist():
        other = first[row]
        same[row] = (
            image[row] == image[other]
            and np.array_equal(keypoints[row], keypoints[other], equal_nan=True)
            and np.array_equal(boxes[row], boxes[other], equal_nan=True)
            and _alike(records[row], records[other], ("image_id", "iscrowd"))
        )
    return again, same


def _keypoint_issues(
    keypoints: np.ndarray,
    odd: Mapping[str, np.ndarray],
    people: np.ndarray,
    images: Mapping[str, Any],
    image: np.ndarray,
    areas: np.ndarray,
    issues: Issues,
) -> None:
    """What is wrong with the numbers of people who are no crowd."""
    if not keypoints.size:
        return
    v = keypoints[..., 2]
    finite = np.all(np.abs(keypoints) < LARGEST, axis=2)
    unlabelled = v == 0
    labelled = finite & (v > 0)
    issues.add("not_finite", "annotations", people & (~finite & ~unlabelled).any(1))
    issues.add("not_finite_unlabelled", "annotations", people & (~finite & unlabelled).any(1))
    wrong = finite & ((v < 0) | (v > 2))
    issues.add(
        "visibility", "annotations", people & wrong.any(1), lambda row: f"v = {v[row][wrong[row]][0]:g}"
    )
    issues.add("visibility_truth", "annotations", people & odd["truth"])
    minus = labelled & (keypoints[..., 0] == -1) & (keypoints[..., 1] == -1)
    issues.add("minus_one", "annotations", people & minus.any(1))
    issues.add("area_range", "annotations", people & (areas > RANGE), lambda row: f"area {areas[row]:g}")
    points = keypoints[people][labelled[people]][:, :2]
    sizes = images["sizes"][image[people & (image >= 0)]]
    if len(points) < 3 or points.min() < 0 or not np.any(points % 1):
        return
    if points.max() <= SHARES and (not len(sizes) or np.median(sizes) > 16):
        issues.add("shares", "annotations", people & labelled.any(1))
    elif (
        points.max() <= 100
        and np.ptp(points, axis=0).min() > SPREAD
        and len(sizes)
        and np.all(sizes > LARGER)
    ):
        issues.add("percent", "annotations", people & labelled.any(1))
