"""The policy of training: who of a keypoint file is learned from, what is masked, what stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.annotations.findings import report
from pose.annotations.image_files import with_header_sizes
from pose.annotations.issues import CODES, Issue, Told
from pose.annotations.json_file import no_garbage_collection
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.names import FileKeypoints, match_keypoints, name_issues, unnamed
from pose.annotations.reader import read
from pose.annotations.regions import BOX_TO_AREA, merged, regions
from pose.errors import UserError
from pose.skeleton import Skeleton

ARRAYS = (
    "image_ids", "name_bytes", "name_offsets", "sizes", "person_offsets", "keypoints", "boxes", "areas",
    "ignore_bytes", "ignore_offsets", "labelled",
)  # fmt: skip
NO_IMAGE = ("image_entry", "image_size", "huge_image")  # why images cannot be used
AT_ONCE = 1 << 15  # people whose keypoints are worked on in float64


class Parsed(NamedTuple):
    """A file's annotations as flat arrays (keys ARRAYS), and what was wrong with it."""

    arrays: dict[str, np.ndarray]
    findings: tuple[Told, ...]


class Reading(NamedTuple):
    """How a file is to be read for training."""

    skeleton: Skeleton
    partial: bool = False  # the file may lack some of the skeleton's keypoints and have others
    category: str | None = None  # name or id of the one to take
    images: Path | None = None  # where sizes are read from that the file does not give


@no_garbage_collection()
def parse_file(path: Path, how: Reading) -> Parsed:
    """Raises `UserError` for a file that cannot be trained on."""
    file = read(path, how.category, choose="data.category=NAME")
    if not file.chosen and len(file.ids) and not file.num_listed:
        raise UserError(unnamed(file))
    match = match_keypoints(file, how.skeleton, partial=how.partial)
    file = with_header_sizes(file, how.images)
    arrays, more = to_arrays(file, how, match)
    file = file.with_issues(*more)
    stops = [issue for issue in file.issues if CODES[issue.code].stops]
    if any(issue.code == "no_images" for issue in stops):  # and why
        stops += [issue for issue in file.issues if issue.code in NO_IMAGE]
    if stops:
        told = [file.told(issue) for issue in stops]
        raise UserError(report(path, told, "mend the file, or check that it is the one you mean"))
    return Parsed(arrays, tuple(map(file.told, file.issues)))


# ------------------------------------------------------------------------------------- file -> arrays


def to_arrays(
    file: KeypointFile, how: Reading, match: FileKeypoints
) -> tuple[dict[str, np.ndarray], list[Issue]]:
    """The arrays of `Parsed`, and issues that only show with a skeleton."""
    skeleton, issues = how.skeleton, []
    images = np.flatnonzero(file.images & (file.sizes > 0).all(1))
    place_of = np.full(file.num_images + 1, -1, np.int64)  # the last one is for row -1
    place_of[images] = np.arange(len(images))
    image = place_of[file.image]
    rows = np.flatnonzero(file.usable & (image >= 0))
    keypoints: np.ndarray = np.empty((len(rows), len(skeleton), 3), np.float32)
    derives = any(match.places[skeleton.keypoints.index(name)] is None for name in skeleton.derived)
    kind = np.float64 if derives else file.keypoints.dtype  # what is only copied is never rounded
    for first in range(0, len(rows), AT_ONCE):
        part = rows[first : first + AT_ONCE]
        given = file.keypoints[part].astype(kind, copy=False)  # a copy of these rows anyhow
        given[..., 2] = np.ceil(np.nan_to_num(given[..., 2]))  # COCO-WholeBody's v has fractions
        given[~file.labelled[part]] = 0
        keypoints[first : first + AT_ONCE] = _in_skeleton(given, skeleton, match.places)
    person = keypoints[..., 2].any(1) & ~file.crowd[rows]
    hidden = rows[~person]
    ignored = regions(
        [file.masks.get(row) for row in hidden.tolist()], file.boxes[hidden], file.image_size[hidden]
    )
    lost = [row for row, one in zip(hidden.tolist(), ignored, strict=True) if one is None]
    of_images: dict[int, list[dict[str, Any]]] = {}
    for place, one in zip(image[hidden].tolist(), ignored, strict=True):
        if one is not None:
            of_images.setdefault(place, []).append(one)
    people, keypoints = rows[person], keypoints[person]
    boxes, areas, without_area = _boxes_and_areas(file, people, keypoints)
    of_image = image[people]
    order = np.argsort(of_image, kind="stable")
    names = [file.file_names[row].encode("utf-8", "surrogatepass") for row in images.tolist()]
    masks = [merged(of_images.get(place, [])) for place in range(len(images))]
    arrays = {
        "image_ids": file.image_ids[images],
        "name_bytes": np.frombuffer(b"".join(names), np.uint8),
        "name_offsets": _offsets([len(name) for name in names]),
        "sizes": file.sizes[images].astype(np.int32),
        "ignore_bytes": np.frombuffer(b"".join(masks), np.uint8),
        "ignore_offsets": _offsets([len(counts) for counts in masks]),
        "person_offsets": _offsets(np.bincount(of_image, minlength=len(images)).tolist()),
        "keypoints": keypoints[order],
        "boxes": boxes[order],
        "areas": areas[order],
        # what a file of a mixture never labels says nothing about where it is not
        "labelled": np.any(keypoints[..., 2] > 0, axis=0) if how.partial else np.ones(len(skeleton), bool),
    }
    issues += [Issue("region", "annotations", np.array(lost))] if lost else []
    issues += [Issue("area_missing", "annotations", without_area)] if len(without_area) else []
    issues += [Issue("no_images", "file")] if not len(images) else []
    if len(images) and not len(people):
        issues.append(Issue("no_people", "file", details=(file.why_nobody(),)))
    issues += name_issues(file, match, skeleton)
    return arrays, issues


def _boxes_and_areas(
    file: KeypointFile, people: np.ndarray, keypoints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P, 4) and (P,) float32, and the rows of the file that have no area."""
    boxes = file.boxes[people]
    with np.errstate(invalid="ignore"):
        unusable = np.flatnonzero(~((np.abs(boxes) < 1e9).all(1) & (boxes[:, 2:] > 0).all(1)))
        known = (file.areas[people] > 0) & (file.areas[people] < 1e9)
    if len(unusable):
        boxes[unusable] = _around(keypoints[unusable])
    areas = np.where(known, file.areas[people], BOX_TO_AREA * boxes[:, 2] * boxes[:, 3])
    return boxes.astype(np.float32), areas.astype(np.float32), people[~known]


def _around(keypoints: np.ndarray) -> np.ndarray:
    """(N, 4) x, y, width, height of what encloses the labelled of keypoints (N, K, 3)."""
    seen = keypoints[..., 2] > 0
    points, infinite = keypoints[..., :2], np.float32(np.inf)
    low = np.where(seen[..., None], points, infinite).min(1, initial=np.inf)
    high = np.where(seen[..., None], points, -infinite).max(1, initial=-np.inf)
    return np.concatenate([low, np.maximum(high - low, 1)], axis=1)


def _in_skeleton(given: np.ndarray, skeleton: Skeleton, places: Sequence[int | None]) -> np.ndarray:
    """Keypoints (N, A, 3) in the order of the file -> (N, K, 3) in that of the skeleton, with its derived
    keypoints where the file has none.

    The middle is taken in float64 and rounded before anything else happens to it, as rtpose does."""
    if list(places) == [*range(given.shape[1])]:  # nearly always
        return given
    keypoints = np.zeros((len(given), len(skeleton), 3), given.dtype)
    for k, place in enumerate(places):
        if place is not None:
            keypoints[:, k] = given[:, place]
    for name, rule in skeleton.derived.items():
        k = skeleton.keypoints.index(name)
        if places[k] is not None:
            continue
        sources = keypoints[:, [skeleton.keypoints.index(source) for source in rule.middle_of]]
        visibility = sources[..., 2]
        middle = sources[..., :2].mean(1)
        middle = np.rint(middle) if rule.rounded else middle  # halves to the even number
        v = visibility.max(1) if rule.visible == "any" else visibility.min(1)
        labelled = (visibility > 0).all(1, keepdims=True)
        keypoints[:, k] = np.where(labelled, np.column_stack([middle, v]), 0)
    return keypoints


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
