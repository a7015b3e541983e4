"""Bytes of an ordinary COCO file -> what `json_file` makes of it, in a third of the time and half the memory.

msgspec reads the whole file in one pass where every entry is usual.  Else it cuts the lists of images and
annotations into entries, of which `json` reads those with anything unusual, and so it does the whole file
where that is not enough: msgspec is stricter, and knows neither NaN nor half a surrogate pair.
Segmentations, most of a file, stay in its bytes until somebody asks for them: only crowds and people without
labelled keypoints are drawn.
"""

from __future__ import annotations

import codecs
import json
from array import array
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from pose.annotations.json_file import (
    IMAGE_KEYS,
    UNREAD,
    compact,
    never_drawn,
    packed_numbers,
    packed_segmentation,
)

Plain: TypeAlias = int | float | str | bool | None
Numbers: TypeAlias = list[int | float]
ABSENT = Raw()
DECODED = 1 << 20  # bytes at a time
T = TypeVar("T")


class _Annotation(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The usual keys of an annotation, with usual values."""

    id: Plain = None
    image_id: Plain | UnsetType = UNSET
    category_id: Plain | UnsetType = UNSET
    iscrowd: Plain = None
    keypoints: Raw = ABSENT  # read one by one: all lists at once would take more than the rest together
    num_keypoints: Plain = None
    bbox: Numbers | None = None
    area: Plain = None
    segmentation: Raw = ABSENT


class _Image(msgspec.Struct, gc=False):
    """The keys of an image that are used, and those by which it would be an annotation."""

    id: Plain | UnsetType = UNSET
    image_id: Plain | UnsetType = UNSET
    file_name: Plain | UnsetType = UNSET
    width: Plain | UnsetType = UNSET
    height: Plain | UnsetType = UNSET
    crowdIndex: Plain | UnsetType = UNSET
    aic_id: Plain | UnsetType = UNSET
    url: Plain | UnsetType = UNSET
    keypoints: Raw = ABSENT
    category_id: Raw = ABSENT


class _File(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The usual keys of a file, with entries of which all are usual."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: Raw = ABSENT
    info: Raw = ABSENT
    licenses: Raw = ABSENT


class _Runs(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A run-length encoding."""

    size: Numbers
    counts: Numbers | str


_file = msgspec.json.Decoder(_File)
_root = msgspec.json.Decoder(dict[str, Raw])
_entries = msgspec.json.Decoder(list[Raw])
_annotation = msgspec.json.Decoder(_Annotation)
_image = msgspec.json.Decoder(_Image)
_numbers = msgspec.json.Decoder(Numbers)
_segmentation = msgspec.json.Decoder(list[Numbers] | _Runs)


def read(raw: bytes) -> dict[str, Any] | None:
    """None for what only `json` can read, or say what is wrong with."""
    try:
        if not raw.isascii():  # msgspec does not look into text that it skips
            _check_utf8(raw)
        return _in_one_pass(raw) or _by_entries(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _check_utf8(raw: bytes) -> None:
    """Raises `UnicodeDecodeError` for other text, a part in memory at a time."""
    decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(raw)
    for first in range(0, len(raw), DECODED):
        decoder.decode(view[first : first + DECODED], first + DECODED >= len(raw))


def _in_one_pass(raw: bytes) -> dict[str, Any] | None:
    """None where anything is unusual."""
    try:
        file = _file.decode(raw)
        images, annotations = _records(file.images, _image_record), _records(file.annotations, _record)
    except msgspec.MsgspecError:
        return None
    if images is None or annotations is None:
        return None
    others = {key: getattr(file, key) for key in ("info", "licenses", "categories")}
    return {
        **{key: _by_json(value) for key, value in others.items() if value is not ABSENT},
        "images": images,
        "annotations": annotations,
    }


def _records(entries: list[Any], record: Callable[[Any], Any]) -> list[Any] | None:
    """Each entry gives way to its record at once, so that memory never holds two of all; None where one has
    none."""
    for i, entry in enumerate(entries):
        entries[i] = found = record(entry)
        if found is None:
            return None
    return entries


def _by_entries(raw: bytes) -> dict[str, Any] | None:
    root = _root.decode(raw)
    if not {"images", "annotations"} <= root.keys() or {"image_id", "file_name"} & root.keys():
        return None
    images, annotations = (_entries.decode(root.pop(key)) for key in ("images", "annotations"))
    others = {key: _by_json(value) for key, value in root.items()}
    return {
        **others,
        "images": [_read_entry(entry, _image, _image_record) for entry in images],
        "annotations": [_read_entry(entry, _annotation, _record) for entry in annotations],
    }


def _by_json(raw: Raw | bytes) -> Any:
    return json.loads(str(raw, "utf-8"), object_hook=compact)


def _read_entry(raw: Raw, decoder: msgspec.json.Decoder[T], record: Callable[[T], Any]) -> Any:
    try:
        found = record(decoder.decode(raw))
    except msgspec.MsgspecError:
        found = None
    return _by_json(raw) if found is None else found


def _record(entry: _Annotation) -> dict[str, Any] | None:
    """None for what is no annotation.  Raises MsgspecError for unusual keypoints."""
    category, box, crowd = entry.category_id, entry.bbox, entry.iscrowd
    if entry.image_id is UNSET or (entry.keypoints is ABSENT and category is UNSET):
        return None
    keypoints = None if entry.keypoints is ABSENT else packed_numbers(_numbers.decode(entry.keypoints))
    return {
        "id": entry.id,
        "image_id": entry.image_id,
        "category_id": None if category is UNSET else category,
        "iscrowd": crowd,
        "keypoints": keypoints,
        "num_keypoints": entry.num_keypoints,
        "bbox": None if box is None else packed_numbers(box),
        "area": entry.area,
        # a copy, so that the rest of the file can go
        UNREAD: b"" if never_drawn(crowd, keypoints) else bytes(entry.segmentation),
    }


def _image_record(entry: _Image) -> dict[str, Any] | None:
    """None for what is no image, or may be an annotation."""
    usual = entry.keypoints is ABSENT and entry.category_id is ABSENT
    if not usual or entry.file_name is UNSET or (entry.id is UNSET and entry.image_id is UNSET):
        return None
    return {key: value for key in IMAGE_KEYS if (value := getattr(entry, key)) is not UNSET}


def read_segmentation(raw: bytes) -> Any:
    """As `compact` leaves it."""
    if not raw:
        return None
    try:
        found = _segmentation.decode(raw)
    except msgspec.MsgspecError:
        return packed_segmentation(_by_json(raw))
    if isinstance(found, list):
        return [packed_numbers(one) for one in found]
    runs = msgspec.structs.asdict(found)
    if isinstance(found.counts, list) and found.counts:
        with suppress(TypeError, OverflowError):  # a fraction, or too many
            runs["counts"] = array("i", found.counts)
    return runs
