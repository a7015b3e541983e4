"""AI Challenger's JSON: its annotations and submissions, checked while they are read, and written;
`pose.annotations.aic_coco` turns them into COCO's format and back.

A file is a list of {"image_id", "url", "keypoint_annotations": {"human1": [x, y, v] * 14, ...},
"human_annotations": {"human1": [x1, y1, x2, y2], ...}}; a submission has no boxes and no url.  v is 1 for
visible, 2 for occluded, 3 for not labelled, which is always written 0 0 3.  Nothing is sorted: images and
humans keep the order of the file, so that a file converted to COCO's format and back is the same file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations.findings import Finding, Findings, report
from pose.annotations.numbers import LARGEST, is_number
from pose.errors import UserError
from pose.files import read_text

KEYPOINTS: tuple[str, ...] = (
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck",
)  # fmt: skip
NUMBERS = 3 * len(KEYPOINTS)
NOT_LABELLED = 3  # v in AI Challenger's files; v in COCO's is 3 - v
SHARED = np.array(range(4096), object)  # one Python int for each: millions would be 32 bytes apiece
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")

OFFICIAL_KINDS = {
    "entry": ("repaired", "entry(ies) that are no mapping with a text image_id, left out"),
    "same image": ("repaired", "entry(ies) whose image_id another has; the last one counts"),
    "extension": ("repaired", "image_id(s) with an extension, a KeyError in the official script; cut off"),
    "mapping": ("repaired", "image(s) whose people are no mapping from names; taken as none"),
    "no keypoints": ("repaired", "human(s) in human_annotations only; kept without a labelled keypoint"),
    "no box": ("repaired", "human(s) in keypoint_annotations only; boxed around their labelled keypoints"),
    "length": ("repaired", f"human(s) without {NUMBERS} keypoint numbers; kept, none labelled"),
    "not finite": ("repaired", "human(s) with a keypoint that is no number; it counts as not labelled"),
    "visibility": ("repaired", "human(s) with a keypoint whose v is not 1, 2, 3; it counts as not labelled"),
    "box": ("repaired", "human(s) whose box is not 4 numbers; boxed around their labelled keypoints"),
    "corners": ("repaired", "human(s) whose box has x2 < x1 or y2 < y1; corners swapped"),
}


@dataclass(frozen=True, eq=False)
class AicImage:
    """The people of one image.  The v of predictions means nothing."""

    image_id: str  # without an extension
    humans: tuple[str, ...]  # "human3", ... in the order of the file
    keypoints: np.ndarray  # (P, 14, 3) float64 x, y, v: 1 visible, 2 occluded, 3 not labelled
    boxes: np.ndarray  # (P, 4) float64 x1, y1, x2, y2 in pixels; zeros for predictions
    url: str = ""


# ------------------------------------------------------------------------------------- reading official files


def read_official(
    path: Path, *, boxes: bool, strict: bool = False
) -> tuple[list[AicImage], tuple[Finding, ...]]:
    """The images of an official file and what was wrong with it.

    boxes: whether it holds annotations (True) or predictions (False), whose v and boxes nobody looks at.
    What is wrong is repaired and reported; nobody is dropped, because the official score counts people: a
    human with a box only, or with keypoints that cannot be read, is kept without labelled keypoints (training
    masks such people); one with keypoints only gets the box around those that are labelled, zeros if none is.
    Of two entries with the same image_id the last one counts, as in the official script.

    Raises `UserError` for a file that is no such list, with `strict` also for what would be repaired."""
    path = Path(path)
    reader = _Reader(boxes)
    content = _load(path, reader)
    images: dict[str, AicImage] = {}
    for i, entry in enumerate(content):
        if not isinstance(entry, AicImage):
            reader.findings.add("entry", f"entry {i}")
            continue
        if entry.image_id in images:
            reader.findings.add("same image", entry.image_id)
        images[entry.image_id] = entry
    if content and not reader.has_people:
        raise UserError(
            f"{path}: no entry has an image_id and keypoint_annotations, so this is no AI Challenger file; "
            "is it a COCO results file?"
        )
    findings = reader.findings.all()
    if strict and findings:
        raise UserError(report(path, findings, "mend the file or leave out --strict"))
    return list(images.values()), findings


def _load(path: Path, reader: _Reader) -> list[Any]:
    """The file's list; the reader has turned its entries into `AicImage` while they were parsed."""
    try:
        text = read_text(path, "utf-8-sig")
        content = json.loads(text, object_hook=reader.convert)
    except FileNotFoundError:
        raise UserError(f"no file {path}; check the path") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON or was cut off ({error}); fetch the file again") from None
    if isinstance(content, list):
        return content
    coco = isinstance(content, dict) and "images" in content
    kind = "a COCO data set" if coco else f"a {type(content).__name__}"
    raise UserError(f"{path}: expected AI Challenger's list of images, got {kind}; give the official file")


class _Reader:
    """Makes an `AicImage` of every entry as soon as its closing brace is read: a file of 580 000 people never
    exists as Python numbers."""

    def __init__(self, boxes: bool) -> None:
        self.boxes = boxes
        self.findings = Findings(OFFICIAL_KINDS)
        self.has_people = False

    def convert(self, entry: dict[str, Any]) -> Any:
        image_id = entry.get("image_id")
        if not isinstance(image_id, str) or not image_id:
            return entry
        self.has_people |= "keypoint_annotations" in entry
        if image_id.lower().endswith(PICTURE_SUFFIXES):
            self.findings.add("extension", repr(image_id))
            image_id = image_id[: image_id.rindex(".")] or image_id
        people = self._people(entry.get("keypoint_annotations"), f"{image_id}, keypoint_annotations")
        boxes = people
        if self.boxes:
            boxes = self._people(entry.get("human_annotations") or {}, f"{image_id}, human_annotations")
        if people.keys() != boxes.keys():
            people, boxes = self._completed(people, boxes, image_id)
        keypoints = self._keypoints(people, image_id)
        corners = self._boxes([boxes[name] for name in people], keypoints, tuple(people), image_id)
        url = entry.get("url")
        return AicImage(image_id, tuple(people), keypoints, corners, url if isinstance(url, str) else "")

    def _people(self, people: Any, where: str) -> dict[str, Any]:
        if isinstance(people, dict):
            return people
        self.findings.add("mapping", where)
        return {}

    def _completed(
        self, people: dict[str, Any], boxes: dict[str, Any], image_id: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The same humans in both; None for what is not there."""
        for kind, there, here in (("no box", people, boxes), ("no keypoints", boxes, people)):
            for name in there:
                if name not in here:
                    self.findings.add(kind, f"{image_id} {name}")
        names = dict.fromkeys((*people, *boxes))
        return {n: people.get(n, ()) for n in names}, {n: boxes.get(n, ()) for n in names}

    def _keypoints(self, people: Mapping[str, Any], image_id: str) -> np.ndarray:
        """-> (P, 14, 3) float64."""
        rows = rectangle(list(people.values()), NUMBERS)
        if rows is None:
            rows = np.array([self._row(v, f"{image_id} {name}") for name, v in people.items()], np.float64)
        keypoints = rows.reshape(-1, len(KEYPOINTS), 3)
        v = keypoints[..., 2]
        if not self.boxes:
            v[~(np.abs(v) < LARGEST)] = 0
        known = (v == 1) | (v == 2) | (v == 3) if self.boxes else np.ones_like(v, bool)
        finite = np.abs(keypoints) < LARGEST
        if known.all() and finite.all():
            return keypoints
        usable = finite.all(2)
        for name, fine, valid in zip(people, usable, known):
            if not fine.all():
                self.findings.add("not finite", f"{image_id} {name}")
            if not (valid | ~fine).all():
                self.findings.add("visibility", f"{image_id} {name}")
        keypoints[~(usable & known)] = (0, 0, NOT_LABELLED)
        return keypoints

    def _row(self, values: Any, where: str) -> list[float]:
        """One human's numbers, NaN for what is none."""
        if isinstance(values, list) and len(values) == NUMBERS:
            return [float(v) if is_number(v) else math.nan for v in values]
        if values != ():  # that it is not there has been told
            what = f"{len(values)} numbers" if isinstance(values, list) else f"a {type(values).__name__}"
            self.findings.add("length", f"{where}, {what}")
        return [0, 0, NOT_LABELLED] * len(KEYPOINTS)

    def _boxes(
        self, values: list[Any], keypoints: np.ndarray, humans: Sequence[str], image_id: str
    ) -> np.ndarray:
        """-> (P, 4) float64, x1 <= x2 and y1 <= y2."""
        if not self.boxes:
            return np.zeros((len(values), 4))
        boxes = rectangle(values, 4)
        if boxes is None or not (np.abs(boxes) < LARGEST).all():
            boxes = np.zeros((len(values), 4))
            for i, box in enumerate(values):
                if isinstance(box, list) and len(box) == 4 and all(is_number(v) for v in box):
                    boxes[i] = box
                    continue
                if box != ():
                    self.findings.add("box", f"{image_id} {humans[i]}")
                boxes[i] = box_around(keypoints[i])
        swapped = (boxes[:, 2:] < boxes[:, :2]).any(1)
        if swapped.any():
            for human, box in zip(np.array(humans)[swapped], boxes[swapped]):
                self.findings.add("corners", f"{image_id} {human}, {plain(box)}")
            boxes = np.concatenate(
                [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1
            )
        return boxes


def rectangle(rows: list[Any], width: int) -> np.ndarray | None:
    """(len(rows), width) float64, or None where the rows are not lists of that many numbers."""
    if not rows:
        return np.zeros((0, width))
    try:
        array = np.array(rows)
    except (ValueError, OverflowError):  # of different lengths
        return None
    fits = array.shape == (len(rows), width) and array.dtype.kind in "if"  # float64 at once reads texts, too
    return array.astype(np.float64) if fits else None


def box_around(keypoints: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 around the labelled ones of keypoints (14, 3); zeros where there are none."""
    points = keypoints[keypoints[:, 2] != NOT_LABELLED, :2]
    return np.concatenate([points.min(0), points.max(0)]) if len(points) else np.zeros(4)


# ------------------------------------------------------------------------------------- writing official files


def to_official(images: Sequence[AicImage], *, boxes: bool) -> list[dict[str, Any]]:
    """The official list, ready for JSON: annotations with url and boxes, or a submission without."""
    official = []
    for image in images:
        entry: dict[str, Any] = {"url": image.url} if boxes and image.url else {}
        keypoints = plain(image.keypoints.reshape(-1, NUMBERS))
        entry |= {"image_id": image.image_id, "keypoint_annotations": dict(zip(image.humans, keypoints))}
        if boxes:
            entry["human_annotations"] = dict(zip(image.humans, plain(image.boxes)))
        official.append(entry)
    return official


def plain(numbers: np.ndarray) -> list[Any]:
    """Nested lists; whole numbers are Python ints."""
    whole = np.rint(numbers)
    if (whole == numbers).all():
        if whole.size and whole.min() >= 0 and whole.max() < len(SHARED):
            return SHARED[whole.astype(np.int64)].tolist()
        return whole.astype(np.int64).tolist()
    if numbers.ndim > 1:
        return [plain(row) for row in numbers]
    return [int(value) if value.is_integer() else value for value in numbers.tolist()]
