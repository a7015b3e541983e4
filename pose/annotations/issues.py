"""What can be wrong with a keypoint file: one list of codes, which training, scoring and the doctor share.

The reader finds issues; a policy decides what each means for it.  Sentences are made last, from codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Level = Literal["serious", "doubtful", "note"]  # mend it; look at the examples; good to know
Where = Literal["file", "images", "annotations"]
SHOWN = 5  # rows of an issue that are described


@dataclass(frozen=True)
class Code:
    """One thing that can be wrong.  `what` follows a count, except where an issue is about the file."""

    level: Level
    what: str
    training: str = ""  # what training does about it, as the end of that sentence
    stops: bool = False  # training refuses the file


CODES: dict[str, Code] = {
    "no_images": Code("serious", "no usable image in the file", stops=True),
    "no_people": Code("serious", "no person with labelled keypoints in the file"),
    "limbs": Code("note", "the category's `skeleton` is not used"),
    "unnamed": Code(
        "doubtful", "no category lists the names of keypoints", "taken to be the skeleton's, in its order"
    ),
    "shares": Code(
        "serious",
        "person(s) with all keypoints between 0 and 1, as the whole file: shares instead of pixels?",
        "taken as pixels",
    ),
    "percent": Code(
        "doubtful",
        "person(s) with all keypoints between 0 and 100, as the whole file, though the images are larger: "
        "percent instead of pixels?",
        "taken as pixels",
    ),
    "no_sides": Code(
        "serious",
        "no keypoint name tells left from right, so mirrored images exchange the sides of keypoints; name "
        "the partners (data.skeleton={base: annotations, mirror: {NAME: PARTNER, ...}}) or turn mirroring "
        "off (data.augment.flip=0 test.flip=false)",
    ),
    # images
    "image_entry": Code(
        "serious", "image entries that are no objects, or lack a whole-number id or a file name", "left out"
    ),
    "image_size": Code("serious", "image(s) without width and height", "left out"),
    "huge_image": Code(
        "serious",
        "image(s) said to have more than 178 megapixels or a side beyond 1048576 pixels",
        "left out",
    ),
    "same_image_id": Code("serious", "image(s) whose id another image has", stops=True),
    "same_image": Code("note", "image entries that repeat another word for word", "counted once"),
    "size_read": Code("note", "image(s) without width and height", "taken from the image file's header"),
    "image_id_key": Code("note", "image(s) whose id is called image_id", "read as the id"),
    "file_name_key": Code("note", "image(s) without file_name", "the name in another key is taken"),
    "image_float": Code("note", "image(s) with a whole number written as 1.0", "read as whole numbers"),
    "image_text": Code("doubtful", "image(s) with a number written as text", "read as numbers"),
    # annotations
    "annotation_entry": Code(
        "serious", "annotation(s) that are no objects or have no category_id", "left out"
    ),
    "absent_image": Code("serious", "annotation(s) for an image that the file does not list", "left out"),
    "category": Code(
        "serious", "annotation(s) with keypoints but of a category that lists none", "left out"
    ),
    "other_category": Code("note", "annotation(s) with keypoints of another category", "left out"),
    "keypoint_length": Code(
        "serious", "keypoint list(s) of another length than the names", stops=True
    ),
    "keypoints_key": Code(
        "serious", "annotation(s) without `keypoints`, but with another list of as many numbers",
        "taken as not labelled",
    ),
    "same_annotation": Code(
        "serious", "annotation(s) that repeat another word for word", "left out"
    ),
    "same_annotation_id": Code("serious", "annotation(s) whose id another has", "kept"),
    "annotation_id": Code("serious", "annotation(s) without a whole-number id above 0", "kept"),
    "annotation_float": Code(
        "note", "annotation(s) with a whole number written as 1.0", "read as whole numbers"
    ),
    "annotation_text": Code("doubtful", "annotation(s) with a number written as text", "read as numbers"),
    "truth_text": Code("doubtful", "annotation(s) whose iscrowd is written as text", "read as true or false"),
    "iscrowd": Code("serious", "annotation(s) whose iscrowd is neither 0 nor 1", "other numbers count as 1"),
    "visibility": Code(
        "serious",
        "person(s) with a keypoint whose v is not 0, 1 or 2",
        "it counts as not labelled",
    ),
    "nested": Code(
        "note", "keypoint list(s) written as [[x, y, v], ...]", "read as one list of numbers"
    ),
    "visibility_truth": Code("note", "person(s) with a v written as true or false", "read as 1 or 0"),
    "not_finite": Code(
        "serious", "person(s) with a labelled keypoint that is no number", "it counts as not labelled"
    ),
    "not_finite_unlabelled": Code(
        "note", "person(s) with an unlabelled keypoint (v = 0) that is no number", "it is not labelled"
    ),
    "minus_one": Code(
        "serious", "person(s) with a labelled keypoint at -1, -1: not labelled?", "taken as labelled"
    ),
    "box": Code("serious", "annotation(s) whose bbox is not four finite numbers", "taken as missing"),
    "area_range": Code(
        "serious", "person(s) with an area above COCO's range (1e10 square pixels)", "kept"
    ),
    "region": Code(
        "serious",
        "crowd(s) or people without labelled keypoints that have neither a usable segmentation nor a box",
        "not masked",
    ),
    "area_missing": Code("doubtful", "labelled person(s) without an area", "0.53 of the box is taken"),
    "other_keypoints": Code("note", "keypoint(s) of the file that the skeleton does not have", "left out"),
    "other_names": Code("doubtful", "keypoint(s) with another name in the skeleton", "taken to be the same"),
}  # fmt: skip


@dataclass(frozen=True)
class Issue:
    """One code, and where in the file it was found."""

    code: str
    where: Where
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of the images or annotations
    details: tuple[str, ...] = ()  # of `shown(rows)`, or of the file; "" where there is nothing to add

    @property
    def count(self) -> int:
        return len(self.rows)


def shown(rows: np.ndarray) -> list[int]:
    """Some rows from all over the file, the first and the last among them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, SHOWN).astype(int))].tolist() if len(rows) else []


class Issues:
    """Those of images or of annotations, in the making."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.found: list[Issue] = []

    def add(self, code: str, wrong: np.ndarray, detail: Callable[[int], str] | None = None) -> None:
        """wrong: (N,) bool, one for each row; nothing is added where none is."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            details = tuple(detail(row) for row in shown(rows)) if detail is not None else ()
            self.found.append(Issue(code, self.where, rows, details))


@dataclass(frozen=True)
class Told:
    """An issue as training tells it: how often, and the first place."""

    code: str
    count: int
    first: str

    def __str__(self) -> str:
        code = CODES[self.code]
        text = f"{self.count} {code.what}" if self.count else code.what
        text += f", {code.training}" if code.training else ""
        return f"{text} (first: {self.first})" if self.first else text
