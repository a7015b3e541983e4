"""The annotations of a data set as flat arrays that all workers share through the page cache.

A JSON of 150 MB becomes some 40 MB of `.npy` files, parsed once.  What is wrong with a file is reported
together: what cannot be trained on stops the run; what can be repaired or left out is, and is counted and
named in a warning."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pose.annotations import cache as annotation_cache
from pose.annotations.findings import report
from pose.annotations.issues import CODES, Told
from pose.annotations.training import Reading, parse_file
from pose.errors import UserError
from pose.skeleton import Skeleton

# told, but `strict` does not stop at them
LENIENT = {"area_missing", "annotation_id", "other_names", "percent", "unnamed"}

logger = logging.getLogger("pose")


class Annotations:
    """The annotations of one file.  Images keep the order of the file and are known by their index in it.

    Only people with labelled keypoints are people here; crowds and the others make up an image's ignore
    region.  Pickling one that is cached ships the folder's name, and the arrays are mapped again.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        source: Path,
        findings: Sequence[Told] = (),
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
        self.labelled = arrays["labelled"]  # (K,) bool, False: nobody in this file has this keypoint labelled

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

    def finding(self, code: str) -> Told | None:
        return next((one for one in self.findings if one.code == code), None)


def _reopen(folder: Path, source: Path) -> Annotations:
    parsed = annotation_cache.open_folder(folder)
    if parsed is None:
        raise UserError(
            f"the cached annotations {folder} are gone, {source} was changed while in use; start again"
        )
    return Annotations(parsed.arrays, source, parsed.findings, folder)


def load_annotations(
    path: Path,
    skeleton: Skeleton,
    *,
    strict: bool = False,
    cache: bool = True,
    partial: bool = False,
    category: str | None = None,
    images: Path | None = None,
) -> Annotations:
    """The annotations in a COCO keypoint file, from the cache when the file has not changed.

    partial: the file may lack some of the skeleton's keypoints and have others.  category: name or id of the
    one to take.  images: the folder of the images, from whose headers missing sizes are read.
    Raises `UserError` for a file that cannot be read or trained on; with `strict` also for what would
    otherwise be repaired with a warning."""
    path, how = Path(path), Reading(skeleton, partial, category, images)
    if cache:
        parsed, folder = annotation_cache.through_cache(path, how)
    else:
        parsed, folder = parse_file(path, how), None
    worse = [one for one in parsed.findings if CODES[one.code].level != "note" and one.code not in LENIENT]
    if strict and worse:
        raise UserError(report(path, worse, "mend the file or unset data.strict"))
    for one in parsed.findings:
        note = CODES[one.code].level == "note"
        logger.log(logging.INFO if note else logging.WARNING, "%s: %s", path, one)
    return Annotations(parsed.arrays, path, parsed.findings, folder)
