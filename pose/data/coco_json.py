"""COCO keypoint JSON -> flat arrays, and what is wrong with the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.data.findings import Finding, Findings, report
from pose.data.keypoint_names import entries, file_places, person_category, tell_other_names
from pose.data.numbers import LARGEST, box_of, is_number, whole
from pose.data.regions import merged, region
from pose.errors import UserError
from pose.skeleton import Skeleton, from_coco_category

ARRAYS = (
    "image_ids", "name_bytes", "name_offsets", "sizes", "person_offsets", "keypoints", "boxes", "areas",
    "ignore_bytes", "ignore_offsets",
)  # fmt: skip
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
    "no area": ("note", f"person(s) without an area; {BOX_TO_AREA} of the box is taken"),
}  # fmt: skip


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"no annotation file {path}; check data.root and the paths below it") from None
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror or error}") from None


def _read_json(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not JSON or was cut off ({error}; {len(raw)} bytes); fetch the file again"
        ) from None
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: expected a COCO data set (a mapping with images, annotations, categories), "
            f"got a {type(data).__name__}; is this a results file?"
        )
    return data


def read_skeleton(path: Path) -> Skeleton:
    """The skeleton that a COCO file's category describes."""
    category = person_category(_read_json(Path(path), read_bytes(Path(path))), Path(path))
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


def parse_file(path: Path, skeleton: Skeleton, raw: bytes | None = None) -> Parsed:
    """`raw`: the content of the file where it is known already.  Raises `UserError` for a file that cannot be
    trained on."""
    parsed = _parse(_read_json(path, read_bytes(path) if raw is None else raw), skeleton, path)
    if any(finding.level == "fatal" for finding in parsed.findings):
        advice = "mend the file, or check that it is the one you mean"
        raise UserError(report(path, parsed.findings, advice))
    return parsed


@dataclass
class _Image:
    id: int
    name: str
    size: tuple[int, int]
    people: list[tuple[np.ndarray, list[float], float]]  # keypoints in the file's order (A, 3), box, area
    ignored: list[dict[str, Any]]  # run-length encodings


def _parse(data: Mapping[str, Any], skeleton: Skeleton, path: Path) -> Parsed:
    findings = Findings(KINDS)
    images, dropped = _parse_images(entries(data, "images", path), findings)
    annotations = entries(data, "annotations", path)
    category = person_category(data, path)
    if category is None and annotations:
        raise UserError(
            f"{path}: no category lists the names of keypoints: this is no keypoint file, or the category of "
            "its people lacks `keypoints: [names]`"
        )
    places = file_places(data, skeleton, path)
    if category is not None:
        tell_other_names(category, skeleton, path)
    known = {image.id: image for image in images}
    for annotation in _of_category(annotations, category, findings):
        image = known.get(_image_id(annotation))
        if image is not None:
            _add(annotation, image, skeleton, findings)
        elif _image_id(annotation) not in dropped:
            findings.add("absent image", f"{_name(annotation)}, image {annotation.get('image_id')!r}")
    if not images:
        findings.add("no images")
    elif not any(image.people for image in images):
        findings.add("no people")
    keypoints = [person[0] for image in images for person in image.people]
    return Parsed(_flatten(images, _in_skeleton(keypoints, skeleton, places)), findings.all())


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
            images[number] = _Image(number, name, (height, width), [], [])
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


def _add(annotation: Mapping[str, Any], image: _Image, skeleton: Skeleton, findings: Findings) -> None:
    """Put one annotation among the people or the ignore regions of its image."""
    keypoints = None
    if not annotation.get("iscrowd") and annotation.get("keypoints"):
        keypoints = _parse_keypoints(annotation, image, skeleton, findings)
        if keypoints is None:
            return
    if keypoints is not None and keypoints[:, 2].any():
        box = box_of(annotation) or _box_around(keypoints)
        area: Any = annotation.get("area")
        if not (is_number(area) and area > 0):
            findings.add("no area", f"{_name(annotation)} in {image.name}")
            area = BOX_TO_AREA * box[2] * box[3]
        image.people.append((keypoints, box, float(area)))
        return
    ignored = region(annotation, image.size)
    if ignored is None:
        findings.add("region", f"{_name(annotation)} in {image.name}")
    else:
        image.ignored.append(ignored)


def _parse_keypoints(
    annotation: Mapping[str, Any], image: _Image, skeleton: Skeleton, findings: Findings
) -> np.ndarray | None:
    """(A, 3) float64, the annotated keypoints in the order of the file, v in {0, 1, 2}, coordinates of those
    that are not labelled set to 0; None for a list that does not fit."""
    values, k = annotation["keypoints"], len(skeleton.annotated)
    where = f"{_name(annotation)} in {image.name}"
    if not isinstance(values, list) or len(values) != 3 * k:
        length = f"{len(values)} numbers" if isinstance(values, list) else f"a {type(values).__name__}"
        findings.add("keypoint length", f"{where} has {length}, {skeleton.name!r} needs {3 * k}")
        return None
    try:
        keypoints = np.array(values, np.float64).reshape(k, 3)
    except (TypeError, ValueError, OverflowError):
        keypoints = np.array([v if is_number(v) else math.nan for v in values], np.float64).reshape(k, 3)
    finite = (np.abs(keypoints) < LARGEST).all(1)
    valid = np.isin(keypoints[:, 2], (0, 1, 2))
    if not finite.all():
        findings.add("not finite", where)
    if not (valid | ~finite).all():
        findings.add("visibility", f"{where}, v = {keypoints[finite & ~valid, 2][0]:g}")
    keypoints[~(finite & valid) | (keypoints[:, 2] == 0)] = 0
    return keypoints


def _box_around(keypoints: np.ndarray) -> list[float]:
    points = keypoints[keypoints[:, 2] > 0, :2]
    low, high = points.min(0), points.max(0)
    return [float(v) for v in (*low, *np.maximum(high - low, 1))]


def _in_skeleton(people: Sequence[np.ndarray], skeleton: Skeleton, places: Sequence[int]) -> np.ndarray:
    """Keypoints (A, 3) of N people in the order of the file -> (N, K, 3) float32 in that of the skeleton,
    with its derived keypoints.

    The middle is taken in float64 and rounded before anything else happens to it, as rtpose does."""
    given = np.array(people, np.float64).reshape(-1, len(places), 3)
    keypoints = np.zeros((len(given), len(skeleton), 3))
    keypoints[:, list(skeleton.annotated_index)] = given[:, list(places)]
    for name, rule in skeleton.derived.items():
        sources = keypoints[:, [skeleton.keypoints.index(source) for source in rule.middle_of]]
        visibility = sources[..., 2]
        middle = sources[..., :2].mean(1)
        middle = np.rint(middle) if rule.rounded else middle  # halves to the even number
        v = visibility.max(1) if rule.visible == "any" else visibility.min(1)
        labelled = (visibility > 0).all(1, keepdims=True)
        keypoints[:, skeleton.keypoints.index(name)] = np.where(labelled, np.column_stack([middle, v]), 0)
    return keypoints.astype(np.float32)


def _flatten(images: Sequence[_Image], keypoints: np.ndarray) -> dict[str, np.ndarray]:
    people = [person for image in images for person in image.people]
    names = [image.name.encode("utf-8", "surrogatepass") for image in images]
    ignored = [merged(image.ignored) for image in images]
    return {
        "image_ids": np.array([image.id for image in images], np.int64),
        "name_bytes": np.frombuffer(b"".join(names), np.uint8),
        "name_offsets": _offsets([len(name) for name in names]),
        "sizes": np.array([image.size for image in images], np.int32).reshape(-1, 2),
        "person_offsets": _offsets([len(image.people) for image in images]),
        "keypoints": keypoints,
        "boxes": np.array([box for _, box, _ in people], np.float32).reshape(-1, 4),
        "areas": np.array([area for _, _, area in people], np.float32),
        "ignore_bytes": np.frombuffer(b"".join(ignored), np.uint8),
        "ignore_offsets": _offsets([len(counts) for counts in ignored]),
    }


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
