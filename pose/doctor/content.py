"""A COCO keypoint file as flat arrays of what it says, right or wrong, for `checks` to look at."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations.coco_json import read_json
from pose.annotations.names import entries, listed_names, match_keypoints, person_category
from pose.annotations.numbers import whole
from pose.errors import UserError
from pose.skeleton import Skeleton, from_coco_category, from_dict

SLACK = 1.0  # pixels that a keypoint may lie beyond the picture's last pixel
NO_ID = -(2**63)  # of an image or an annotation without a whole-number id


@dataclass(frozen=True)
class Content:
    """N annotations with keypoints or of the category with keypoints, I images.  Nothing is left out or
    mended: NaN is no number."""

    source: Path
    skeleton: Skeleton  # whose keypoints the arrays have
    partial: bool  # a set of a mixture: it may lack some of them
    other_names: str  # a sentence where the file has other keypoints than the skeleton wanted; else ""
    bad_limbs: str  # a sentence where the category's limbs make no skeleton; else ""
    names: tuple[str, ...]  # of the file's keypoints, in its order
    category: int | None  # the one with keypoints
    images: Sequence[Mapping[str, Any]]
    image_ids: np.ndarray  # (I,) int64, NO_ID where there is none
    sizes: np.ndarray  # (I, 2) height, width; 0 where there is none
    entries: Sequence[Mapping[str, Any]]  # the annotations
    ids: np.ndarray  # (N,) int64, NO_ID where there is none
    image: np.ndarray  # (N,) int64, place of the image in the file; -1 where it is not listed
    crowd: np.ndarray  # (N,) bool
    fits: np.ndarray  # (N,) bool: its keypoint list has the length of the names, or there is none
    given: np.ndarray  # (N, A, 3) float32, keypoints in the order of the file; 0 where there is no list
    places: tuple[int | None, ...]  # K: where the file has each of the skeleton's keypoints
    num_keypoints: np.ndarray  # (N,) float64, NaN where the file does not say
    areas: np.ndarray  # (N,) float64, NaN
    boxes: np.ndarray  # (N, 4) float64 x, y, width, height; NaN

    @cached_property
    def keypoints(self) -> np.ndarray:
        """(N, K, 3) float32 in the order of the skeleton: 0, 0, 0 where one is not labelled, is no number,
        has another v than 0, 1, 2, or lies at 0, 0, which nobody means."""
        ordered = np.zeros((len(self.entries), len(self.skeleton), 3), np.float32)
        for k, place in enumerate(self.places):
            if place is not None:
                ordered[:, k] = self.given[:, place]
        usable = np.isfinite(ordered).all(-1) & np.isin(ordered[..., 2], (1, 2))
        usable &= (ordered[..., :2] != 0).any(-1)
        ordered[~usable] = 0
        return ordered

    @cached_property
    def people(self) -> np.ndarray:
        """(N,) bool: no crowd, at least one labelled keypoint, of a listed image."""
        return (self.keypoints[..., 2] > 0).any(1) & ~self.crowd & (self.image >= 0)

    @cached_property
    def picture_sizes(self) -> np.ndarray:
        """(N, 2) height, width of each annotation's picture; 0 where it is not listed or does not say."""
        sizes = np.zeros((len(self.entries), 2))
        listed = self.image >= 0
        sizes[listed] = self.sizes[self.image[listed]]
        return sizes

    @cached_property
    def extents(self) -> np.ndarray:
        """(N, 4) float64 x0, y0, x1, y1 of the labelled keypoints in the picture; NaN without."""
        seen = (self.keypoints[..., 2] > 0) & (self.beyond <= 0)
        corners = [
            pick(np.where(seen, self.keypoints[..., axis], fill), axis=1)
            for pick, fill in ((np.min, np.inf), (np.max, -np.inf))
            for axis in (0, 1)
        ]
        box = np.stack(corners, 1).astype(np.float64)
        box[~seen.any(1)] = np.nan
        return box

    @cached_property
    def beyond(self) -> np.ndarray:
        """(N, K) pixels that a labelled keypoint lies outside the picture, at most 0 inside; 0 where the size
        is not known."""
        size = self.picture_sizes[:, None, ::-1]
        outside = np.maximum(-self.keypoints[..., :2], self.keypoints[..., :2] - (size - 1)).max(-1)
        known = (size > 0).all(-1) & (self.keypoints[..., 2] > 0)
        return np.where(known, outside, 0)

    @cached_property
    def outside(self) -> np.ndarray:
        """(N, K) bool: labelled keypoints that lie outside the picture, by more than rounding explains."""
        return self.beyond > SLACK

    def file_name(self, annotation: int) -> str:
        """Of the annotation's picture."""
        place = int(self.image[annotation])
        return str(self.images[place].get("file_name", "")) if place >= 0 else ""


def read_content(path: Path, skeleton: Skeleton | None = None, *, partial: bool = False) -> Content:
    """skeleton: None takes the file's own; a file with other keypoints is read by its own, too.

    partial: the file may have other keypoints than the skeleton (a set of a mixture).  Raises `UserError`
    for a file that is no COCO keypoint file at all."""
    return content_of(read_json(Path(path)), Path(path), skeleton, partial=partial)


def content_of(
    data: Mapping[str, Any], source: Path, skeleton: Skeleton | None = None, *, partial: bool = False
) -> Content:
    """As `read_content`, of a file's content."""
    category = person_category(data, source)
    if category is None:
        raise UserError(
            f"{source}: no category lists the names of keypoints, so this is no keypoint file; add "
            "`keypoints: [names]` to the category of its people"
        )
    names = tuple(listed_names(category, source))
    own, bad_limbs = _own_skeleton(category)
    skeleton, other_names = skeleton or own, ""
    try:
        places = match_keypoints(data, skeleton, source, partial=partial).places
    except UserError as error:
        skeleton, other_names = own, str(error)
        places = match_keypoints(data, own, source).places
    images = [entry if isinstance(entry, dict) else {} for entry in entries(data, "images", source)]
    image_ids = _ids(images, "id")
    own_id = whole(category.get("id"))
    chosen = [
        entry
        for entry in entries(data, "annotations", source)
        if isinstance(entry, dict) and (entry.get("category_id") == own_id or entry.get("keypoints"))
    ]
    given, fits = _keypoints(chosen, len(names))
    return Content(
        source=source, skeleton=skeleton, partial=partial, other_names=other_names, bad_limbs=bad_limbs,
        names=names, category=own_id,
        images=images, image_ids=image_ids,
        sizes=np.array([[_side(image, "height"), _side(image, "width")] for image in images]).reshape(-1, 2),
        entries=chosen, ids=_ids(chosen, "id"), image=_places(image_ids, _ids(chosen, "image_id")),
        crowd=np.array([bool(entry.get("iscrowd")) for entry in chosen], bool),
        fits=fits, given=given, places=places,
        num_keypoints=np.array([_number(entry.get("num_keypoints")) for entry in chosen], np.float64),
        areas=np.array([_number(entry.get("area")) for entry in chosen], np.float64),
        boxes=np.array([_box(entry.get("bbox")) for entry in chosen], np.float64).reshape(-1, 4),
    )  # fmt: skip


def _own_skeleton(category: Mapping[str, Any]) -> tuple[Skeleton, str]:
    """That of the category; without its limbs, or without sides where a mirror image is missing, and why,
    where they make no skeleton."""
    try:
        return from_coco_category(category), ""
    except UserError as error:
        plain = {key: value for key, value in category.items() if key in ("name", "keypoints")}
        why = str(error)
    try:
        return from_coco_category(plain), why
    except UserError:
        names = category["keypoints"]
        return from_dict({"keypoints": names, "mirror": {str(name): str(name) for name in names}}), why


def _ids(records: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    found = (whole(record.get(key)) for record in records)
    return np.fromiter((NO_ID if number is None else number for number in found), np.int64, len(records))


def _places(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of each wanted id its first place among the known ones, -1 where it is not there."""
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(known, kind="stable")
    place = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    return np.where((known[place] == wanted) & (wanted != NO_ID), place, -1)


def _keypoints(chosen: Sequence[Mapping[str, Any]], count: int) -> tuple[np.ndarray, np.ndarray]:
    rows, fits = np.zeros((len(chosen), 3 * count), np.float32), np.ones(len(chosen), bool)
    with np.errstate(over="ignore"):
        for i, entry in enumerate(chosen):
            values = entry.get("keypoints")
            if isinstance(values, array) and len(values) == 3 * count:
                rows[i] = values
            elif isinstance(values, list) and len(values) == 3 * count:
                rows[i] = [_number(value) for value in values]
            elif values is not None and (not isinstance(values, list | array) or len(values)):
                fits[i] = False
    return rows.reshape(-1, count, 3), fits


def _number(value: Any) -> float:
    """NaN for what is no number, or one whose square is none; JSON has integers of any length."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < 1e100 else math.nan


def _box(value: Any) -> Sequence[float]:
    if not isinstance(value, list | array) or len(value) != 4:
        return (math.nan,) * 4
    return [_number(side) for side in value]


def _side(image: Mapping[str, Any], key: str) -> float:
    return float(max(whole(image.get(key)) or 0, 0))
