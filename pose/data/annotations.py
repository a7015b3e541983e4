"""COCO keypoint annotations, parsed once into flat arrays that all workers share through the page cache.

A JSON of 150 MB becomes some 40 MB of `.npy` files in `.cache/` beside it, mapped and never copied.  What is
wrong with a file is collected and reported together: what cannot be trained on stops the run, what can be
repaired is repaired, counted and named in a warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pose.errors import UserError
from pose.skeleton import Skeleton, from_coco_category

FORMAT = 2  # raise it whenever the same JSON would give other arrays
BOX_TO_AREA = 0.53  # a person's share of its box, where a file gives no area; CrowdPose's figure
ARRAYS = (
    "image_ids", "name_bytes", "name_offsets", "sizes", "person_offsets", "keypoints", "boxes", "areas",
    "ignore_bytes", "ignore_offsets",
)  # fmt: skip
ABANDONED = 24 * 3600.0  # seconds after which another process's unfinished cache is rubbish

logger = logging.getLogger("pose")

LARGEST = 1e9  # coordinates and areas beyond this are no numbers

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


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file: how often, and the first place."""

    kind: str
    count: int
    first: str

    @property
    def level(self) -> str:
        return KINDS[self.kind][0]

    def __str__(self) -> str:
        sentence = KINDS[self.kind][1]
        text = f"{self.count} {sentence}" if self.count else sentence
        return f"{text} (first: {self.first})" if self.first else text


class _Findings:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def add(self, kind: str, example: str = "") -> None:
        self.counts[kind] = self.counts.get(kind, 0) + bool(example)
        self.first.setdefault(kind, example)

    def all(self) -> tuple[Finding, ...]:
        found = [kind for kind in KINDS if kind in self.first]
        return tuple(Finding(kind, self.counts[kind], self.first[kind]) for kind in found)


class Annotations:
    """The annotations of one file.  Images keep the order of the file and are known by their index in it.

    Only people with labelled keypoints are people here; crowds and the others make up an image's ignore
    region.  Pickling one that is cached ships the folder's name, and the arrays are mapped again.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        source: Path,
        findings: Sequence[Finding] = (),
        folder: Path | None = None,
    ) -> None:
        self.source = source
        self.findings = tuple(findings)
        self.folder = folder
        self._arrays = dict(arrays)
        self.image_ids = arrays["image_ids"]  # (N,) int64
        self.sizes = arrays["sizes"]  # (N, 2) int32: height, width
        self._people = arrays["person_offsets"]  # (N + 1,) int64 into the three below
        self._keypoints = arrays["keypoints"]  # (people, K, 3) float32: x, y, v in the skeleton's order
        self._boxes = arrays["boxes"]  # (people, 4) float32: x, y, width, height
        self._areas = arrays["areas"]  # (people,) float32, pixels squared

    def __len__(self) -> int:
        return len(self.image_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is not None:
            return _reopen, (self.folder, self.source)
        return Annotations, (self._arrays, self.source, self.findings)

    @property
    def num_people(self) -> int:
        return len(self._areas)

    def _text(self, name: str, index: int) -> bytes:
        start, end = self._arrays[f"{name}_offsets"][index : index + 2]
        return self._arrays[f"{name}_bytes"][start:end].tobytes()

    def file_name(self, index: int) -> str:
        return self._text("name", index).decode("utf-8", "surrogatepass")

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        height, width = self.sizes[index].tolist()
        return height, width

    def keypoints(self, index: int) -> np.ndarray:
        """(P, K, 3) float32, read-only: x, y, v of the image's people, derived keypoints too."""
        return self._keypoints[self._people[index] : self._people[index + 1]]

    def boxes(self, index: int) -> np.ndarray:
        """(P, 4) float32: x, y, width, height."""
        return self._boxes[self._people[index] : self._people[index + 1]]

    def areas(self, index: int) -> np.ndarray:
        """(P,) float32, pixels squared."""
        return self._areas[self._people[index] : self._people[index + 1]]

    def ignore_mask(self, index: int) -> np.ndarray | None:
        """(height, width) uint8, 1 on crowds and people without labelled keypoints; None where there are
        none."""
        counts = self._text("ignore", index)
        return coco_mask.decode({"size": list(self.size(index)), "counts": counts}) if counts else None

    def with_people(self) -> np.ndarray:
        """Indices of the images with people, ascending."""
        return np.flatnonzero(np.diff(self._people) > 0)

    def indices_of(self, image_ids: Sequence[int]) -> np.ndarray:
        """Indices of the images with these ids, ascending; ids the file does not have are left out."""
        return np.flatnonzero(np.isin(self.image_ids, np.asarray(image_ids, np.int64)))


def load_annotations(
    path: Path, skeleton: Skeleton, *, strict: bool = False, cache: bool = True
) -> Annotations:
    """The annotations in a COCO keypoint file, from the cache when the file has not changed.

    Raises `UserError` for a file that cannot be read or trained on; with `strict` also for what would
    otherwise be repaired with a warning."""
    annotations = _through_cache(Path(path), skeleton) if cache else _from_source(Path(path), skeleton)
    repaired = [finding for finding in annotations.findings if finding.level == "repaired"]
    if strict and repaired:
        raise UserError(_report(annotations.source, repaired, "mend the file or unset data.strict"))
    for finding in annotations.findings:
        logger.log(logging.INFO if finding.level == "note" else logging.WARNING, "%s: %s", path, finding)
    return annotations


def read_skeleton(path: Path) -> Skeleton:
    """The skeleton that a COCO file's category describes."""
    category = _person_category(_read_json(Path(path), _read_bytes(Path(path))), Path(path))
    if category is None:
        raise UserError(
            f"{path}: no category lists the names of the keypoints; add `keypoints: [names]` to the category "
            "of its people"
        )
    return from_coco_category(category)


def file_places(data: Mapping[str, Any], skeleton: Skeleton, source: Path | str) -> tuple[int, ...]:
    """The place in the keypoint lists of a COCO file of each of `skeleton.annotated`; `data` is the content
    of the file, `source` its name for messages.

    Keypoints are known by their names, whatever their order.  As many other names are taken to be the same
    keypoints in the same order, but only for a skeleton without derived keypoints, and where no name that
    both have stands in another place.  Raises `UserError` for any other names."""
    category = _person_category(data, source)
    own = skeleton.annotated
    if category is None:
        if skeleton.derived:
            raise UserError(
                f"{source}: no category lists the names of the keypoints, without which "
                f"{', '.join(skeleton.derived)} of the skeleton {skeleton.name!r} cannot be worked out; "
                "give the file the `categories` of the training annotations"
            )
        return tuple(range(len(own)))
    names = _names(category, source)
    if sorted(names) == sorted(own):
        return tuple(names.index(name) for name in own)
    moved = any(names.index(name) != i for i, name in enumerate(own) if name in names)
    if len(names) == len(own) and not skeleton.derived and not moved:
        return tuple(range(len(own)))
    raise UserError(_other_names(category, names, skeleton, source))


# ----------------------------------------------------------------------------------------- reading the JSON


def _read_bytes(path: Path) -> bytes:
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


def _list(data: Mapping[str, Any], key: str, path: Path | str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list | None):
        raise UserError(f"{path}: {key!r} must be a list, got a {type(value).__name__}")
    return value or []


def _person_category(data: Mapping[str, Any], path: Path | str) -> dict[str, Any] | None:
    """The one category that lists keypoints."""
    categories = [c for c in _list(data, "categories", path) if isinstance(c, dict) and c.get("keypoints")]
    if len(categories) > 1:
        names = ", ".join(repr(category.get("name")) for category in categories)
        raise UserError(f"{path}: {len(categories)} categories list keypoints ({names}); keep one per file")
    return categories[0] if categories else None


def _names(category: Mapping[str, Any], source: Path | str) -> list[str]:
    names = category["keypoints"]
    if not isinstance(names, list):
        raise UserError(f"{source}: category {category.get('name')!r}: keypoints must be a list of names")
    return [str(name) for name in names]


def _other_names(
    category: Mapping[str, Any], names: Sequence[str], skeleton: Skeleton, source: Path | str
) -> str:
    """The sentence about keypoints that cannot be matched."""
    own = skeleton.annotated
    reordered = len(names) == len(own) and not skeleton.derived
    what = "some other keypoints, and the rest in another order," if reordered else "other keypoints"
    derived = f"; {', '.join(skeleton.derived)} can be worked out from these names only"
    only_here = [name for name in names if name not in own]
    only_there = [name for name in own if name not in names]
    return (
        f"{source}: its category {category.get('name')!r} has {what} than the skeleton {skeleton.name!r} "
        f"({len(names)} against {len(own)}; only in the file: {_few(only_here)}; only in the skeleton: "
        f"{_few(only_there)}{derived if skeleton.derived else ''}); set data.skeleton to that of this file"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])]) or "none"


def _tell_other_names(category: Mapping[str, Any], skeleton: Skeleton, path: Path) -> None:
    """Warn of names that are matched by their place."""
    names = _names(category, path)
    if sorted(names) == sorted(skeleton.annotated):
        return
    k = next(i for i, name in enumerate(names) if name != skeleton.keypoints[i])
    logger.warning(
        "%s: keypoint %d is called %r there and %r in the skeleton %r: taken to be the same",
        path, k + 1, names[k], skeleton.keypoints[k], skeleton.name,
    )  # fmt: skip


def _report(path: Path, findings: Sequence[Finding], advice: str) -> str:
    return f"{path} cannot be used:\n" + "\n".join(f"  {f}" for f in findings) + f"\n{advice}"


def _from_source(path: Path, skeleton: Skeleton, raw: bytes | None = None) -> Annotations:
    arrays, findings = _parse(_read_json(path, _read_bytes(path) if raw is None else raw), skeleton, path)
    if any(finding.level == "fatal" for finding in findings):
        raise UserError(_report(path, findings, "mend the file, or check that it is the one you mean"))
    return Annotations(arrays, path, findings)


# ------------------------------------------------------------------------------------- JSON -> flat arrays


@dataclass
class _Image:
    id: int
    name: str
    size: tuple[int, int]
    people: list[tuple[np.ndarray, list[float], float]]  # keypoints in the file's order (A, 3), box, area
    ignored: list[dict[str, Any]]  # run-length encodings


def _parse(
    data: Mapping[str, Any], skeleton: Skeleton, path: Path
) -> tuple[dict[str, np.ndarray], tuple[Finding, ...]]:
    findings = _Findings()
    images, dropped = _parse_images(_list(data, "images", path), findings)
    annotations = _list(data, "annotations", path)
    category = _person_category(data, path)
    if category is None and annotations:
        raise UserError(
            f"{path}: no category lists the names of keypoints: this is no keypoint file, or the category of "
            "its people lacks `keypoints: [names]`"
        )
    places = file_places(data, skeleton, path)
    if category is not None:
        _tell_other_names(category, skeleton, path)
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
    return _flatten(images, _in_skeleton(keypoints, skeleton, places)), findings.all()


def _whole(value: Any) -> int | None:
    """A whole number that fits an int64; 640.0 counts as one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    ok = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value if ok else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < LARGEST  # neither nan nor infinite


def _image_id(annotation: Mapping[str, Any]) -> int:
    number = _whole(annotation.get("image_id"))
    return number if number is not None else -(2**63) - 1  # an id that no image has


def _parse_images(entries: Sequence[Any], findings: _Findings) -> tuple[list[_Image], set[int]]:
    """The usable images, and the ids of those left out."""
    images: dict[int, _Image] = {}
    dropped: set[int] = set()
    for i, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        number, name = _whole(entry.get("id")), entry.get("file_name")
        height, width = _whole(entry.get("height")) or 0, _whole(entry.get("width")) or 0
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
    annotations: Sequence[Any], category: Mapping[str, Any] | None, findings: _Findings
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


def _add(annotation: Mapping[str, Any], image: _Image, skeleton: Skeleton, findings: _Findings) -> None:
    """Put one annotation among the people or the ignore regions of its image."""
    keypoints = None
    if not annotation.get("iscrowd") and annotation.get("keypoints"):
        keypoints = _parse_keypoints(annotation, image, skeleton, findings)
        if keypoints is None:
            return
    if keypoints is not None and keypoints[:, 2].any():
        box = _box(annotation) or _box_around(keypoints)
        area: Any = annotation.get("area")
        if not (_is_number(area) and area > 0):
            findings.add("no area", f"{_name(annotation)} in {image.name}")
            area = BOX_TO_AREA * box[2] * box[3]
        image.people.append((keypoints, box, float(area)))
        return
    region = _region(annotation, image.size)
    if region is None:
        findings.add("region", f"{_name(annotation)} in {image.name}")
    else:
        image.ignored.append(region)


def _parse_keypoints(
    annotation: Mapping[str, Any], image: _Image, skeleton: Skeleton, findings: _Findings
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
        keypoints = np.array([v if _is_number(v) else math.nan for v in values], np.float64).reshape(k, 3)
    finite = (np.abs(keypoints) < LARGEST).all(1)
    valid = np.isin(keypoints[:, 2], (0, 1, 2))
    if not finite.all():
        findings.add("not finite", where)
    if not (valid | ~finite).all():
        findings.add("visibility", f"{where}, v = {keypoints[finite & ~valid, 2][0]:g}")
    keypoints[~(finite & valid) | (keypoints[:, 2] == 0)] = 0
    return keypoints


def _box(annotation: Mapping[str, Any]) -> list[float] | None:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(_is_number(v) for v in box) or min(box[2:]) <= 0:
        return None
    return [float(v) for v in box]


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
    ignored = [_merged(image.ignored) for image in images]
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


# ---------------------------------------------------------------------------------- regions to be ignored


def _merged(regions: list[dict[str, Any]]) -> bytes:
    return coco_mask.merge(regions)["counts"] if regions else b""


def _region(annotation: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any] | None:
    """The run-length encoding of an annotation's segmentation, or of its box where that cannot be used."""
    height, width = size
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        runs = _runs(segmentation, size)
        if runs is not None:
            return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    if isinstance(segmentation, list):
        polygons = [p for p in (_polygon(points, size) for points in segmentation) if p is not None]
        if polygons:
            return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    box = _box(annotation)
    if box is None:
        return None
    x0, y0 = min(max(box[0], 0.0), width), min(max(box[1], 0.0), height)
    x1, y1 = min(max(box[0] + box[2], x0), width), min(max(box[1] + box[3], y0), height)
    return coco_mask.frPyObjects(np.array([[x0, y0, x1 - x0, y1 - y0]], np.float64), height, width)[0]


def _polygon(points: Any, size: tuple[int, int]) -> list[float] | None:
    """x0, y0, x1, y1, ... inside the picture: the C library draws every pixel of an edge, however far out."""
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2:
        return None
    if not all(_is_number(v) for v in points):
        return None
    return [min(max(float(v), 0.0), float(size[1 - i % 2])) for i, v in enumerate(points)]


def _runs(rle: Mapping[str, Any], size: tuple[int, int]) -> list[int] | None:
    """The run lengths of an encoding, checked: the C library trusts them and would write past the picture."""
    counts = rle.get("counts")
    if rle.get("size") != list(size):
        return None
    runs = _decode_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        return None
    return runs if sum(runs) == size[0] * size[1] else None


def _decode_counts(text: str) -> list[int] | None:
    """COCO's compressed text -> run lengths: digits of base 32 from 48 on, the lowest first, 32 = more
    follow; from the fourth run on, a number is the difference to the run two before it."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if shift == 0 else None


# -------------------------------------------------------------------------------------------------- cache


def _through_cache(path: Path, skeleton: Skeleton) -> Annotations:
    roots = _cache_roots(path)
    digest, raw = _digest(path, roots)
    rules = {name: asdict(rule) for name, rule in skeleton.derived.items()}
    wanted = json.dumps([FORMAT, skeleton.keypoints, rules], sort_keys=True)
    key = hashlib.sha256(f"{digest} {wanted}".encode()).hexdigest()[:16]
    for root in roots:
        found = _open(root / f"{path.stem}-{key}", path)
        if found is not None:
            return found
    parsed: Annotations | None = None
    for root in roots:
        folder = root / f"{path.stem}-{key}"
        try:
            with _locked(root):
                found = _open(folder, path)  # made by another process while this one waited
                if found is not None:
                    return found
                parsed = parsed or _from_source(path, skeleton, raw)
                _store(folder, parsed, digest)
                _remove_stale(root, path.stem, digest)
        except OSError:
            continue
        found = _open(folder, path)
        if found is not None:
            return found
    logger.warning("%s: no writable folder for a cache; every process keeps its own copy in memory", path)
    return parsed or _from_source(path, skeleton, raw)


def _cache_roots(path: Path) -> list[Path]:
    """Beside the file; else the user's cache, apart for each folder because stems repeat."""
    roots = [path.resolve().parent / ".cache"]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        folder = hashlib.sha256(str(path.resolve().parent).encode()).hexdigest()[:8]
        roots.append(Path(home) / "bottomup-pose" / folder)
    return roots


def _digest(path: Path, roots: Sequence[Path]) -> tuple[str, bytes | None]:
    """sha256 of the file, remembered by its size and time of change; and its bytes if they had to be read."""
    try:
        before = path.stat()
    except OSError:
        before = None
    if before is not None:
        for root in roots:
            size, changed, digest = _read_index(root).get(path.name, (None, None, ""))
            if (size, changed) == (before.st_size, before.st_mtime_ns):
                return digest, None
    raw = _read_bytes(path)
    digest = hashlib.sha256(raw).hexdigest()
    if before is not None and len(raw) == before.st_size:
        for root in roots:
            with contextlib.suppress(OSError):
                _write_index(root, path.name, [before.st_size, before.st_mtime_ns, digest])
                break
    return digest, raw


def _read_index(root: Path) -> dict[str, list[Any]]:
    try:
        index = json.loads((root / "sources.json").read_bytes())
        return {name: entry for name, entry in index.items() if len(entry) == 3}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write_index(root: Path, name: str, entry: list[Any]) -> None:
    """Two writers at once may lose an entry, which costs one more hash."""
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".sources.{os.getpid()}.{secrets.token_hex(4)}"
    temporary.write_text(json.dumps({**_read_index(root), name: entry}))
    os.replace(temporary, root / "sources.json")


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One process parses, the others wait; where the system has no locks, all parse and the first to finish
    wins."""
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield


def _store(folder: Path, annotations: Annotations, digest: str) -> None:
    """Written under another name, then renamed: a folder of this name is always whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    meta = {
        "format": FORMAT,
        "source": digest,
        "findings": [asdict(finding) for finding in annotations.findings],
    }
    try:
        temporary.mkdir()
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", annotations._arrays[name])
        (temporary / "meta.json").write_text(json.dumps(meta))
        if folder.exists():  # it could not be opened, or it would have been used
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was first
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _open(folder: Path, source: Path) -> Annotations | None:
    """A cache folder, mapped; None for one that is absent or damaged."""
    meta = _read_meta(folder)
    if meta.get("format") != FORMAT:
        return None
    try:
        arrays = {name: _map(folder / f"{name}.npy") for name in ARRAYS}
        findings = [Finding(**finding) for finding in meta["findings"]]
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    whole = len(arrays["keypoints"]) == len(arrays["areas"]) == arrays["person_offsets"][-1]
    return Annotations(arrays, source, findings, folder) if whole else None


def _map(file: Path) -> np.ndarray:
    try:
        mapped = np.load(file, mmap_mode="r")
    except ValueError:  # an empty array cannot be mapped; anything else fails here again
        return np.load(file)
    return np.asarray(mapped)  # the same memory without the subclass, which makes every slice slow


def _reopen(folder: Path, source: Path) -> Annotations:
    annotations = _open(folder, source)
    if annotations is None:
        raise UserError(
            f"the cached annotations {folder} are gone, {source} was changed while in use; start again"
        )
    return annotations


def _remove_stale(root: Path, stem: str, digest: str) -> None:
    """Drop the caches of earlier contents of this file and what killed processes left behind."""
    now = time.time()
    for folder in root.iterdir():
        if re.fullmatch(re.escape(stem) + r"-[0-9a-f]{16}", folder.name):
            meta = _read_meta(folder)
            if meta.get("source") != digest or meta.get("format") != FORMAT:
                shutil.rmtree(folder, ignore_errors=True)
        elif folder.name.startswith(f".{stem}-") and folder.is_dir():
            with contextlib.suppress(OSError):
                if now - folder.stat().st_mtime > ABANDONED:
                    shutil.rmtree(folder, ignore_errors=True)
