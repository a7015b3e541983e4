"""Bytes of a JSON file -> its objects, packed; and what a file that is no COCO file is instead."""

from __future__ import annotations

import gc
import hashlib
import json
import stat
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pose.errors import UserError

# what is asked for; other keys, such as captions, would only take memory
ANNOTATION_KEYS = (
    "id", "image_id", "category_id", "iscrowd", "keypoints", "num_keypoints", "bbox", "area", "segmentation",
    "human", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts",
)  # fmt: skip
IMAGE_KEYS = ("id", "image_id", "file_name", "width", "height", "crowdIndex", "aic_id", "url")
KNOWN = frozenset(ANNOTATION_KEYS)
HASHED = 1 << 20  # bytes at a time
LISTS = "_lists"  # added to an annotation: lengths of other lists of numbers that it has
UNREAD = "_segmentation"  # instead of `segmentation`: its bytes

MADE_BY = (  # keys at the top -> whose format it is, how to turn it into COCO's
    ({"shapes", "imagePath"}, "labelme's file of one image", "export the folder as COCO"),
    ({"_via_img_metadata"}, "a project of the VGG Image Annotator", "export it as COCO"),
    ({"_via_settings"}, "a project of the VGG Image Annotator", "export it as COCO"),
    ({"project", "metadata", "view"}, "a project of the VGG Image Annotator", "export it as COCO"),
    ({"meta_info", "instance_info"}, "a predictions file of MMPose", "give the annotations"),
    ({"items", "categories"}, "a Datumaro file", "export it as COCO keypoints"),
    ({"predictions", "version"}, "a predictions file", "give the annotations"),
    ({"people", "version"}, "OpenPose's output for one image", "give COCO annotations"),
    ({"skeletons", "videos"}, "a SLEAP project", "export it as COCO"),
)  # fmt: skip
SUFFIXES = {
    ".txt": "a text file (YOLO's labels?)", ".yaml": "a YAML file (of YOLO or DeepLabCut?)",
    ".yml": "a YAML file (of YOLO, DeepLabCut?)", ".csv": "a table (CSV)", ".xml": "XML (CVAT, Pascal VOC?)",
    ".h5": "HDF5 (DeepLabCut?)", ".slp": "a SLEAP project", ".mat": "a MATLAB file", ".zip": "an archive",
}  # fmt: skip
MAGIC = {
    b"PK\x03\x04": "an archive (zip); unpack it", b"\x89HDF": "HDF5 (DeepLabCut, SLEAP?)",
    b"\x1f\x8b": "compressed (gzip); unpack it", b"MATLAB": "a MATLAB file", b"<?xml": "XML (CVAT, VOC?)",
    b"<annotation": "XML (CVAT, VOC?)", b"<!DOCTYPE": "a web page", b"<html": "a web page",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself (git lfs pull)",
    b"SQLite": "an SQLite database", b"\x80": "a Python pickle", b"\x93NUMPY": "a NumPy array",
    b"PAR1": "a Parquet table", b"\xff\xd8": "an image (JPEG)", b"\x89PNG": "an image (PNG)",
}  # fmt: skip


def read_bytes(path: Path) -> bytes:
    """The content of a regular file; raises `UserError` as `readable` does."""
    with readable(path):
        return path.read_bytes()


def file_digest(path: Path) -> str:
    """sha256 of a regular file, a part in memory at a time; raises `UserError` as `readable` does."""
    digest = hashlib.sha256()
    with readable(path), open(path, "rb", buffering=0) as file:
        while part := file.read(HASHED):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises `UserError` for what is missing, cannot be read or is no regular file: a pipe never ends."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a folder" if path.is_dir() else "no regular file"
            raise UserError(f"{path} is {what}; give a COCO keypoint file (JSON)")
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"no annotation file {path}; check data.root and the paths below it") from None
    except OSError as error:
        raise UserError(f"cannot read the annotations {path}: {error.strerror or error}") from None
    except ValueError as error:  # a name that no file can have
        raise UserError(f"cannot read the annotations {str(path)!r}: {error}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file, objects that look like images and annotations cut to the keys that are used
    and their numbers packed."""
    from pose.annotations import quick_json  # it needs this module

    raw = read_bytes(path)
    size = len(raw)
    start = raw[:512]
    with no_garbage_collection():
        usual = quick_json.read(raw)
        if usual is not None:
            return usual
        try:
            text = raw.decode(json.detect_encoding(raw), "surrogatepass")
            del raw  # as large as the text
            return json.loads(text, object_hook=compact)
        except (ValueError, RecursionError) as error:
            raise UserError(why_no_json(path, start, size, error)) from None


def segmentations_of(annotations: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Those of annotations that `read_json` has read; None where there is none."""
    from pose.annotations import quick_json

    return [
        one.get("segmentation") if one.get(UNREAD) is None else quick_json.read_segmentation(one[UNREAD])
        for one in annotations
    ]


def why_no_json(path: Path, start: bytes, size: int, error: Exception) -> str:
    """What is wrong with a file that is no JSON.  start: its first bytes; error: of the parser."""
    if not start.strip():
        return f"{path} is empty; fetch or write the file again"
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    kind = kind or SUFFIXES.get(path.suffix.lower())
    if kind:
        return f"{path} is {kind}; a COCO keypoint file (JSON) is needed"
    lines = start.decode("utf-8", "replace").lstrip().splitlines()
    if "Extra data" in str(error) and len(lines) > 1 and all(line.startswith("{") for line in lines[:2]):
        return (
            f"{path} has one JSON object a line (JSON lines); write one object with images, annotations and "
            "categories, as COCO does, or one list of results"
        )
    if start.lstrip()[:2] == b"{'":
        return f"{path} is printed by Python, not JSON; write it with json.dump"
    return f"{path} is not JSON or was cut off ({error}; {size} bytes); fetch the file again"


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Python does not look for reference cycles inside: while millions of objects are made that have none, it
    would look through all of them again and again, which takes as long as reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def compact(entry: dict[str, Any]) -> dict[str, Any]:
    """An object of the file as soon as it is read, in a fifth of the memory: whole numbers up to 32767 take
    two bytes, what nobody asks for is dropped."""
    if "image_id" in entry and ("keypoints" in entry or "category_id" in entry):
        if entry.keys() <= KNOWN:
            kept, lists = entry, {}
        else:
            kept = {key: entry[key] for key in ANNOTATION_KEYS if key in entry}
            lists = {
                key: len(value)
                for key, value in entry.items()
                if isinstance(value, list) and key not in kept and value and isinstance(value[0], int | float)
            }
        for key in ("keypoints", "bbox"):
            if isinstance(kept.get(key), list):
                kept[key] = packed(kept[key])
        if "segmentation" in kept:
            unused = never_drawn(kept.get("iscrowd"), kept.get("keypoints"))
            kept["segmentation"] = None if unused else packed_segmentation(kept["segmentation"])
        if lists:
            kept[LISTS] = lists
        return kept
    if "file_name" in entry and ("id" in entry or "image_id" in entry):
        return {key: entry[key] for key in IMAGE_KEYS if key in entry}
    return entry


def never_drawn(crowd: Any, keypoints: Any) -> bool:
    """Whether an annotation is a person with labelled keypoints, whose segmentation nobody asks for.

    crowd: its `iscrowd`, whatever it is; keypoints: its packed numbers x, y, v, x, y, v, ...; with anything
    else the answer is no."""
    if type(keypoints) is not array or not (crowd is None or crowd == 0):
        return False
    visibility = keypoints[2::3]
    return any(visibility) and max(visibility) > 0


WHOLE, MIXED = {int}, {int, float}


def packed(values: list[Any]) -> list[Any] | array[Any]:
    """The numbers of a list as an array of the smallest kind; the list itself where it has anything else."""
    kinds = set(map(type, values))
    if not kinds <= MIXED:
        return values  # looked at one by one later
    if kinds <= WHOLE:
        try:
            return array("h", values)
        except OverflowError:
            pass
    try:
        return array("d", values)
    except OverflowError:  # a whole number beyond 1e308
        return values


def packed_numbers(values: list[int | float]) -> list[Any] | array[Any]:
    """As `packed`, of a list that is known to have numbers only: none is asked for its type."""
    try:
        if not values or type(values[0]) is not float:  # one fraction is enough
            return array("h", values)
    except (TypeError, OverflowError):
        pass
    try:
        return array("d", values)
    except OverflowError:
        return values


def packed_segmentation(value: Any) -> Any:
    """Polygons or run lengths with their lists of numbers packed; anything else as it is."""
    if isinstance(value, list):
        return [packed(one) if isinstance(one, list) else one for one in value]
    if isinstance(value, dict) and isinstance(value.get("counts"), list):
        counts = value["counts"]
        if set(map(type, counts)) == WHOLE:
            with suppress(OverflowError):
                return {**value, "counts": array("i", counts)}
    return value


def check_kind(data: Any, source: Path | str) -> Mapping[str, Any]:
    """`data` itself, if it can be a COCO file.  Raises a `UserError` that says what it is instead."""
    where = str(source)
    first = data[0] if isinstance(data, list) and data else None
    if isinstance(first, dict):
        if "keypoint_annotations" in first:
            raise UserError(
                f"{where} is AI Challenger's own file; turn it into COCO's format with "
                "python -m pose.tools.aic to-coco"
            )
        if "annotations" in first and "data" in first:
            raise UserError(f"{where} is an export of Label Studio; export it there as COCO")
        if {"keypoints", "bbox", "image_id"} & first.keys():
            raise UserError(
                f"{where} is a results file (a list of people); give the annotations that it belongs to"
            )
    if not isinstance(data, dict):
        others = f" of objects with {', '.join(map(str, [*first][:4]))}" if isinstance(first, dict) else ""
        raise UserError(
            f"{where}: expected a COCO data set (a mapping with images, annotations, categories), "
            f"got a {type(data).__name__}{others}; export it as COCO keypoints"
        )
    for keys, what, advice in MADE_BY:
        if keys <= data.keys() and "images" not in data:
            raise UserError(f"{where} is {what}, not a COCO file; {advice}")
    nested = next(iter(data.values()), None)
    if "images" not in data and isinstance(nested, dict) and {"filename", "regions"} <= nested.keys():
        raise UserError(f"{where} is an export of the VGG Image Annotator; export it there as COCO")
    if data and not {"images", "annotations", "categories"} & data.keys():
        others = ", ".join(map(str, [*data][:4]))
        raise UserError(
            f"{where} is no COCO file: it has none of images, annotations, categories, but {others}; "
            "export it as COCO keypoints"
        )
    return data
