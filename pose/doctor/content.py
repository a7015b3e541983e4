"""The policy of the doctor: a file as it is, right or wrong, with the keypoints of a skeleton."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pose.annotations.image_files import with_header_sizes
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.names import match_keypoints, unnamed
from pose.annotations.skeletons import bad_limbs, own_skeleton
from pose.errors import UserError
from pose.skeleton import Skeleton

SLACK = 1.0  # pixels that a keypoint may lie beyond the image's last pixel


@dataclass(frozen=True)
class Content:
    """N annotations of a file, and the skeleton whose K keypoints are looked at."""

    file: KeypointFile
    skeleton: Skeleton
    partial: bool  # a set of a mixture: it may lack some of the keypoints
    flip: bool  # training or testing mirrors images
    other_names: str  # a sentence where the file has other keypoints than the skeleton wanted; else ""
    bad_limbs: str  # a sentence where the category's limbs make no skeleton; else ""
    places: tuple[int | None, ...]  # K: where the file has each of the skeleton's keypoints

    @cached_property
    def keypoints(self) -> np.ndarray:
        """(N, K, 3) float32 in the order of the skeleton: 0, 0, 0 where one is not labelled, is no number,
        has another v than 0 to 2, or lies at 0, 0, which nobody means."""
        ordered = np.zeros((len(self.file.ids), len(self.skeleton), 3), np.float32)
        for k, place in enumerate(self.places):
            if place is not None:
                ordered[:, k] = np.where(self.file.labelled[:, place, None], self.file.keypoints[:, place], 0)
        ordered[~(ordered[..., :2] != 0).any(-1)] = 0
        return ordered

    @cached_property
    def extents(self) -> np.ndarray:
        """(N, 4) float64 x0, y0, x1, y1 of the labelled keypoints in the image; NaN without."""
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
        """(N, K) pixels that a labelled keypoint lies outside the image, at most 0 inside; 0 where the size
        is not known."""
        size = self.file.image_size[:, None, ::-1]
        outside = np.maximum(-self.keypoints[..., :2], self.keypoints[..., :2] - (size - 1)).max(-1)
        known = (size > 0).all(-1) & (self.keypoints[..., 2] > 0)
        return np.where(known, outside, 0)

    @cached_property
    def outside(self) -> np.ndarray:
        """(N, K) bool: labelled keypoints that lie outside the image, by more than rounding explains."""
        return self.beyond > SLACK


def content_of(
    file: KeypointFile,
    skeleton: Skeleton | None = None,
    *,
    partial: bool = False,
    flip: bool = True,
    images: Path | None = None,
) -> Content:
    """skeleton: None takes the file's own; a file with other keypoints is read by its own, too.

    partial: the file may have other keypoints than the skeleton (a set of a mixture).  flip: images are
    mirrored.  images: where sizes are read from that the file does not give.  Raises `UserError` for a file
    without names of keypoints, where the skeleton does not have as many."""
    if file.chosen:
        own = own_skeleton(file)
    elif skeleton is None or file.num_listed != len(skeleton.annotated):
        raise UserError(unnamed(file, skeleton))
    else:
        own = skeleton
    skeleton, other_names = skeleton or own, ""
    try:
        places = match_keypoints(file, skeleton, partial=partial).places
    except UserError as error:
        skeleton, other_names = own, str(error)
        places = match_keypoints(file, own).places
    return Content(
        file=with_header_sizes(file, images), skeleton=skeleton, partial=partial, flip=flip,
        other_names=other_names, bad_limbs=bad_limbs(file), places=places,
    )  # fmt: skip
