"""COCO keypoint JSON -> flat arrays, and what is wrong with the file."""

from __future__ import annotations

import contextlib
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.annotations.findings import Finding, Findings, report
from pose.annotations.names import (
    FileKeypoints,
    entries,
    match_keypoints,
    person_category,
    tell_other_names,
)
from pose.annotations.numbers import LARGEST, box_of, is_number, whole
from pose.annotations.regions import merged, region
from pose.errors import UserError
from pose.skeleton import Skeleton, from_coco_category

ARRAYS = (
    "image_ids", "name_bytes", "name_offsets", "sizes", "person_offsets", "keypoints", "boxes", "areas",
    "ignore_bytes", "ignore_offsets", "labelled",
)  # fmt: skip
ANNOTATION_KEYS = (
    "id", "image_id", "category_id", "iscrowd", "keypoints", "num_keypoints", "bbox", "area", "segmentation",
)  # fmt: skip
IMAGE_KEYS = ("id", "file_name", "width", "height")
PEOPLE_AT_ONCE = 1 << 15  # whose keypoints are looked at in float64
BOX_TO_AREA = 0.53  # a person's share of its box, where a file gives no area; CrowdPose's figure

# What can be wrong -> (level, sentence): "fatal" stops, "repaired" warns (stops when strict), "note" informs
KINDS = {
    "no images": ("fatal", "no usable image in the file"),
    "same image id": ("fatal", "image(s) whose id another image has"),
    "keypoint length": ("fatal", "keypoint list(s) that do not fit the skeleton"),
    "image entry": ("repaired", "image(s) without a whole-number id or a file name, left out"),
    "image size": ("repaired", "image(s) without width and height, left out"),
    "no people": ("repaired", "no person with labelled keypoints in the file"),
    "annotation": ("repaired", "annotation(s) that are no mapping or have no category_id, left out"),
    "same annotation id": ("repaired", "annotation(s) whose id another has; true copies are left out"),
    "absent image": ("repaired", "annotation(s) for an image that is not in the file, left out"),
    "visibility": ("repaired", "person(s) with a keypoint whose v is not 0, 1, 2; it counts as not labelled"),
    "not finite": ("repaired", "person(s) with a keypoint that is no number; it counts as not labelled"),
    "region": ("repaired", "crowd(s) or unlabelled people without a usable segmentation or box, not masked"),
    "other keypoints": ("note", "keypoint(s) that the skeleton does not have, left out"),
    "no area": ("note", f"person(s) without an area; {BOX_TO_AREA} of the box is taken"),
}  # fmt: skip


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"no annotation file {path}; check data.root and the paths below it") from None
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror or error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The content of a COCO file: of images IMAGE_KEYS and of annotations ANNOTATION_KEYS, numbers packed."""
    raw = read_bytes(path)
    size = len(raw)
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        del raw  # as large as the text
        data = json.loads(text, object_hook=_compact)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not JSON or was cut off ({error}; {size} bytes); fetch the file again"
        ) from None
    first = data[0] if isinstance(data, list) and data else None
    if isinstance(first, dict) and "keypoint_annotations" in first:
        raise UserError(
            f"{path} is AI Challenger's own file; turn it into COCO's format with "
            "python -m pose.tools.aic to-coco"
        )
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: expected a COCO data set (a mapping with images, annotations, categories), "
            f"got a {type(data).__name__}; is this a results file?"
        )
    return data


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """An object of the file as soon as it is read, in a fifth of the memory: whole numbers up to 32767 take
    two bytes, what nobody asks for is dropped."""
    if "image_id" in entry:
        for key in ("keypoints", "bbox"):
            if isinstance(entry.get(key), list):
                entry[key] = _packed(entry[key])
        return {key: entry[key] for key in ANNOTATION_KEYS if key in entry}
    if "file_name" in entry:
        return {key: entry[key] for key in IMAGE_KEYS if key in entry}
    return entry


def _packed(values: list[Any]) -> list[Any] | array[Any]:
    for kind in ("h", "d"):
        with contextlib.suppress(TypeError, OverflowError):
            return array(kind, values)
    return values  # they are looked at later


def read_skeleton(path: Path) -> Skeleton:
    """The skeleton that a COCO file's category describes."""
    category = person_category(read_json(Path(path)), Path(path))
    if category is None:
        raise UserError(
            f"{path}: no category lists the names of the keypoints; add `keypoints: [names]` to the category "
            "of its people"
        )
    return from_coco_category(category)


class Parsed(NamedTuple):
    """A file's annotations as flat arrays (keys ARRAYS), and what was wrong with it."""

    arrays: dict[str, np.ndarray]
    findings: tuple[Finding, ...]


def parse_file(path: Path, skeleton: Skeleton, *, partial: bool = False) -> Parsed:
    """partial: the file may have other keypoints than the skeleton.

    Raises `UserError` for a file that cannot be trained on."""
    parsed = _parse(read_json(path), skeleton, path, partial)
    if any(finding.level == "fatal" for finding in parsed.findings):
        advice = "mend the file, or check that it is the one you mean"
        raise UserError(report(path, parsed.findings, advice))
    return parsed


@dataclass
class _Image:
    id: int
    name: str
    size: tuple[int, int]
    ignored: list[dict[str, Any]]  # run-length encodings


Labels = list[tuple[int, dict[str, Any]]]  # index of the image, annotation


def _parse(data: Mapping[str, Any], skeleton: Skeleton, path: Path, partial: bool) -> Parsed:
    findings = Findings(KINDS)
    images, dropped = _parse_images(entries(data, "images", path), findings)
    annotations = entries(data, "annotations", path)
    category = person_category(data, path)
    if category is None and annotations:
        raise UserError(
            f"{path}: no category lists the names of keypoints: this is no keypoint file, or the category of "
            "its people lacks `keypoints: [names]`"
        )
    file = match_keypoints(data, skeleton, path, partial=partial)
    tell_other_names(file, skeleton, path)
    for name, k in zip(file.names, file.order, strict=True):
        if k is None:
            findings.add("other keypoints", name)
    known = {image.id: index for index, image in enumerate(images)}
    people: Labels = []
    regions: Labels = []
    for annotation in _of_category(annotations, category, findings):
        index = known.get(_image_id(annotation))
        if index is None:
            if _image_id(annotation) not in dropped:
                findings.add("absent image", f"{_name(annotation)}, image {annotation.get('image_id')!r}")
        elif annotation.get("iscrowd") or not annotation.get("keypoints"):
            regions.append((index, annotation))
        elif _fits(annotation, images[index], file, skeleton, findings):
            people.append((index, annotation))
    keypoints = np.empty((len(people), len(skeleton), 3), np.float32)
    for first in range(0, len(people), PEOPLE_AT_ONCE):
        part = slice(first, first + PEOPLE_AT_ONCE)
        given = _keypoints(people[part], images, len(file.names), findings)
        keypoints[part] = _in_skeleton(given, skeleton, file.places)
    unlabelled = ~keypoints[..., 2].any(1)
    for i in np.flatnonzero(unlabelled).tolist():
        regions.append(people[i])
    for index, annotation in regions:
        _ignore(annotation, images[index], findings)
    people = [people[i] for i in np.flatnonzero(~unlabelled).tolist()]
    keypoints = keypoints[~unlabelled]
    if not images:
        findings.add("no images")
    elif not people:
        findings.add("no people")
    arrays = {
        **_image_arrays(images),
        **_person_arrays(people, images, keypoints, findings),
        # what a file of a mixture never labels says nothing about where it is not
        "labelled": np.any(keypoints[..., 2] > 0, axis=0) if partial else np.ones(len(skeleton), bool),
    }
    return Parsed(arrays, findings.all())


def _image_id(annotation: Mapping[str, Any]) -> int:
    number = whole(annotation.get("image_id"))
    return number if number is not None else -(2**63) - 1  # an id that no image has


def _parse_images(entries: Sequence[Any], findings: Findings) -> tuple[list[_Image], set[int]]:
    """The usable images, and the ids of those left out."""
    images: dict[int, _Image] = {}
    dropped: set[int] = set()
    for i, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        number, name = whole(entry.get("id")), entry.get("file_name")
        height, width = whole(entry.get("height")) or 0, whole(entry.get("width")) or 0
        if number is None or not isinstance(name, str) or not name:
            findings.add("image entry", f"entry {i}, id {entry.get('id')!r}")
        elif number in images:
            findings.add("same image id", f"id {number}: {images[number].name} and {name}")
        elif not (0 < height < 2**31 and 0 < width < 2**31):
            findings.add("image size", f"{name}")
            dropped.add(number)
        else:
            images[number] = _Image(number, name, (height, width), [])
    return list(images.values()), dropped


def _name(annotation: Mapping[str, Any]) -> str:
    return f"annotation {annotation.get('id')!r}"


def _of_category(
    annotations: Sequence[Any], category: Mapping[str, Any] | None, findings: Findings
) -> Iterator[dict[str, Any]]:
    """The annotations of the person category, without copies of one already seen."""
    seen: dict[Any, dict[str, Any]] = {}
    for i, annotation in enumerate(annotations):
        if not isinstance(annotation, dict) or "category_id" not in annotation:
            findings.add("annotation", f"entry {i}")
            continue
        if category is None or annotation["category_id"] != category.get("id"):
            continue
        own = annotation.get("id")
        if isinstance(own, int | str):
            other = seen.setdefault(own, annotation)
            if other is not annotation:
                findings.add("same annotation id", f"id {own!r}")
                if all(other.get(k) == annotation.get(k) for k in ("image_id", "keypoints", "bbox")):
                    continue
        yield annotation


def _ignore(annotation: Mapping[str, Any], image: _Image, findings: Findings) -> None:
    """Add a crowd or an unlabelled person to the ignore region of its image."""
    ignored = region(annotation, image.size)
    if ignored is None:
        findings.add("region", f"{_name(annotation)} in {image.name}")
    else:
        image.ignored.append(ignored)


def _fits(
    annotation: Mapping[str, Any], image: _Image, file: FileKeypoints, skeleton: Skeleton, findings: Findings
) -> bool:
    """Whether the keypoint list has the length that the names ask for."""
    values, wanted = annotation["keypoints"], 3 * len(file.names)
    if isinstance(values, list | array) and len(values) == wanted:
        return True
    length = f"{len(values)} numbers" if isinstance(values, list | array) else f"a {type(values).__name__}"
    needs = f"{_name(annotation)} in {image.name} has {length}, {skeleton.name!r} needs {wanted}"
    findings.add("keypoint length", needs)
    return False


def _keypoints(people: Labels, images: Sequence[_Image], count: int, findings: Findings) -> np.ndarray:
    """(N, A, 3) float64, the keypoints in the order of the file, v in {0, 1, 2}; what is not labelled, or no
    number, is 0, 0, 0.  The annotations lose theirs, which would fill the memory twice."""
    rows = np.empty((len(people), 3 * count))
    for row, (_, annotation) in zip(rows, people, strict=True):
        row[:] = _numbers(annotation.pop("keypoints"))
    keypoints = rows.reshape(-1, count, 3)
    finite = np.all(np.abs(keypoints) < LARGEST, axis=2)
    valid = np.isin(keypoints[..., 2], (0, 1, 2))
    for kind, wrong in (("not finite", ~finite), ("visibility", finite & ~valid)):
        for i in np.flatnonzero(wrong.any(1)).tolist():
            index, annotation = people[i]
            value = f", v = {keypoints[i, wrong[i], 2][0]:g}" if kind == "visibility" else ""
            findings.add(kind, f"{_name(annotation)} in {images[index].name}{value}")
    keypoints[~(finite & valid) | (keypoints[..., 2] == 0)] = 0
    return keypoints


def _numbers(values: Sequence[Any]) -> Sequence[float]:
    """As numbers, NaN for what is none."""
    if isinstance(values, array):
        return values
    return [float(v) if is_number(v) else math.nan for v in values]


def _box_around(keypoints: np.ndarray) -> list[float]:
    points = keypoints[keypoints[:, 2] > 0, :2]
    low, high = points.min(0), points.max(0)
    return [float(v) for v in (*low, *np.maximum(high - low, 1))]


def _in_skeleton(given: np.ndarray, skeleton: Skeleton, places: Sequence[int | None]) -> np.ndarray:
    """Keypoints (N, A, 3) in the order of the file -> (N, K, 3) in that of the skeleton, with its derived
    keypoints where the file has none.

    The middle is taken in float64 and rounded before anything else happens to it, as rtpose does."""
    keypoints = np.zeros((len(given), len(skeleton), 3))
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


def _image_arrays(images: Sequence[_Image]) -> dict[str, np.ndarray]:
    names = [image.name.encode("utf-8", "surrogatepass") for image in images]
    ignored = [merged(image.ignored) for image in images]
    return {
        "image_ids": np.array([image.id for image in images], np.int64),
        "name_bytes": np.frombuffer(b"".join(names), np.uint8),
        "name_offsets": _offsets([len(name) for name in names]),
        "sizes": np.array([image.size for image in images], np.int32).reshape(-1, 2),
        "ignore_bytes": np.frombuffer(b"".join(ignored), np.uint8),
        "ignore_offsets": _offsets([len(counts) for counts in ignored]),
    }


def _person_arrays(
    people: Labels, images: Sequence[_Image], keypoints: np.ndarray, findings: Findings
) -> dict[str, np.ndarray]:
    """Sorted by image, in each in the order of the file."""
    boxes, areas = np.empty((len(people), 4), np.float32), np.empty(len(people), np.float32)
    for i, (index, annotation) in enumerate(people):
        box = box_of(annotation) or _box_around(keypoints[i])
        area: Any = annotation.get("area")
        if not (is_number(area) and area > 0):
            findings.add("no area", f"{_name(annotation)} in {images[index].name}")
            area = BOX_TO_AREA * box[2] * box[3]
        boxes[i], areas[i] = box, area
    of_image = np.array([index for index, _ in people], np.int64)
    order = np.argsort(of_image, kind="stable")
    return {
        "person_offsets": _offsets(np.bincount(of_image, minlength=len(images)).tolist()),
        "keypoints": keypoints[order],
        "boxes": boxes[order],
        "areas": areas[order],
    }


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
