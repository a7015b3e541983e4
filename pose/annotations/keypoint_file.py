"""What a keypoint file says, as flat arrays, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations.issues import CODES, Issue, Told
from pose.annotations.numbers import LARGEST, NONE


@dataclass(frozen=True)
class Category:
    """A category that lists keypoints."""

    id: int | None
    name: str
    keypoints: tuple[str, ...]  # as they are written
    entry: Mapping[str, Any]  # the file's own object, with its limbs, sigmas and grouping order


@dataclass(frozen=True)
class KeypointFile:
    """I image entries and N annotations: those with keypoints, those of the chosen categories, and entries
    that cannot be assigned.  Nothing is left out or repaired beyond doubt: NaN is no number, NONE no whole
    number.

    Rows of `issues` count images or annotations as these arrays do."""

    source: Path | str  # for messages
    categories: tuple[Category, ...]  # that list keypoints
    chosen: tuple[Category, ...]  # of these, whose annotations are people; all list the same keypoints
    category_ids: tuple[
        int, ...
    ]  # of the chosen ones; where no category lists keypoints: those with keypoints
    declared_ids: tuple[int, ...]  # of all categories of the file and of its annotations
    names: tuple[str, ...]  # A: of the keypoints, in the order of the file; () where no category lists them
    issues: tuple[Issue, ...]
    # images
    image_ids: np.ndarray  # (I,) int64
    file_names: tuple[str, ...]  # I, "" where there is none
    sizes: np.ndarray  # (I, 2) int64 height, width; 0 where there is none
    image_values: Mapping[str, np.ndarray]  # further numbers of the images (I,) float64: "crowdIndex"
    image_texts: Mapping[str, tuple[str, ...]]  # further texts of the images (I): "aic_id", "url"
    # annotations
    num_entries: int  # of the whole list, of any category
    places: np.ndarray  # (N,) int64 in the file's list
    ids: np.ndarray  # (N,) int64
    image_id: np.ndarray  # (N,) int64
    image: np.ndarray  # (N,) int64 row of the image; -1 where it is not listed
    category: np.ndarray  # (N,) int64
    crowd: np.ndarray  # (N,) bool
    length: np.ndarray  # (N,) int64 of the keypoint list; 0 where there is none
    keypoints: (
        np.ndarray
    )  # (N, A, 3) float32 or, where that loses something, float64: x, y, v; 0 without a list
    num_keypoints: np.ndarray  # (N,) float64, as the file says
    areas: np.ndarray  # (N,) float64
    boxes: np.ndarray  # (N, 4) float64 x, y, width, height
    masks: Mapping[int, Any]  # row -> segmentation, of crowds and people without labelled keypoints
    has_box: np.ndarray  # (N,) bool: a bbox is given, whatever it is
    has_crowd: np.ndarray  # (N,) bool: iscrowd is given
    texts: tuple[str, ...]  # N: `human` of AI Challenger's files; () where no annotation has one

    @property
    def num_images(self) -> int:
        return len(self.image_ids)

    @property
    def num_listed(self) -> int:
        """A."""
        return self.keypoints.shape[1]

    @property
    def num_body(self) -> int:
        """Keypoints of the list `keypoints`, without COCO-WholeBody's further lists."""
        return len(self.chosen[0].keypoints) if self.chosen else self.num_listed

    @cached_property
    def finite(self) -> np.ndarray:
        """(N, A) bool: x, y and v are numbers that can be meant."""
        x, y, v = np.moveaxis(np.abs(self.keypoints) < LARGEST, 2, 0)
        return x & y & v  # `all` over an axis of three takes six times as long

    @cached_property
    def labelled(self) -> np.ndarray:
        """(N, A) bool: numbers, with 0 < v <= 2.  COCO-WholeBody's hands and faces have fractions."""
        v = self.keypoints[..., 2]
        return self.finite & (v > 0) & (v <= 2)

    @cached_property
    def ours(self) -> np.ndarray:
        """(N,) bool: of a chosen category, with a keypoint list that fits or none."""
        fits = (self.length == 3 * self.num_listed) | (self.length == 0)
        return np.isin(self.category, self.category_ids) & fits

    @cached_property
    def usable(self) -> np.ndarray:
        """(N,) bool: ours, of a listed image, and no repetition."""
        return self.ours & (self.image >= 0) & ~self.repeated

    @cached_property
    def people(self) -> np.ndarray:
        """(N,) bool: who is a person to learn from: usable, no crowd, at least one labelled keypoint."""
        return self.usable & ~self.crowd & self.labelled.any(1)

    @cached_property
    def ignored(self) -> np.ndarray:
        """(N,) bool: crowds and people without labelled keypoints, whose region is not learned from."""
        return self.usable & ~self.people

    @cached_property
    def repeated(self) -> np.ndarray:
        """(N,) bool: another annotation word for word."""
        return self._rows("same_annotation", len(self.ids))

    @cached_property
    def image_size(self) -> np.ndarray:
        """(N, 2) int64 height, width of each annotation's image; 0 where it is not listed or does not say."""
        listed = (self.image >= 0)[:, None]
        return (
            np.where(listed, self.sizes[self.image], 0) if len(self.sizes) else np.zeros((len(self.ids), 2))
        )

    @cached_property
    def images(self) -> np.ndarray:
        """(I,) bool: entries that are images of their own, with an id and a file name."""
        wrong = self._rows("image_entry", self.num_images) | self._rows("same_image", self.num_images)
        return ~(wrong | self._rows("huge_image", self.num_images))

    def _rows(self, code: str, count: int) -> np.ndarray:
        marked = np.zeros(count, bool)
        for issue in self.issues:
            if issue.code == code:
                marked[issue.rows] = True
        return marked

    def issue(self, code: str) -> Issue | None:
        return next((one for one in self.issues if one.code == code), None)

    def with_issues(self, *more: Issue) -> KeypointFile:
        """In the order of CODES."""
        order = list(CODES)
        every = sorted((*self.issues, *more), key=lambda one: order.index(one.code))
        return replace(self, issues=tuple(every))

    def annotation_name(self, row: int) -> str:
        """How messages call an annotation: `annotation 17 in 0001.jpg`."""
        number = int(self.ids[row])
        name = f"annotation {number}" if number != NONE else f"entry {self.places[row]} of the annotations"
        image = self.name_of_image(row)
        return f"{name} in {image}" if image else name

    def name_of_image(self, row: int) -> str:
        """File name of an annotation's image; "" where there is none."""
        return self.file_names[self.image[row]] if self.image[row] >= 0 else ""

    def image_name(self, row: int) -> str:
        return self.file_names[row] or f"entry {row} of the images"

    def told(self, issue: Issue) -> Told:
        """The issue, with its first place by name."""
        detail = issue.details[0] if issue.details else ""
        if issue.where == "file":
            return Told(issue.code, issue.count, detail)
        first = (self.image_name if issue.where == "images" else self.annotation_name)(int(issue.rows[0]))
        return Told(issue.code, issue.count, f"{first}: {detail}" if detail else first)

    def why_nobody(self) -> str:
        """Why there may be no person in a file that was meant to have some; "" where nothing tells."""
        strays = self.issue("category") or self.issue("other_category")
        if strays is None or not self.chosen:
            return ""
        stray = int(self.category[strays.rows[0]])
        own = ", ".join(f"{one.name!r} (id {one.id})" for one in self.chosen[:3])
        lists = "lists no keypoints" if strays.code == "category" else "was not chosen"
        return (
            f"{strays.count} annotation(s) with keypoints are of category {stray}, which {lists}; {own} does"
        )
