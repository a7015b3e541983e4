"""People as COCO results, in the keypoint order of an annotation file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations.categories import plain_name
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.names import match_keypoints
from pose.annotations.skeletons import listed_sigmas
from pose.errors import UserError
from pose.files import write_json
from pose.metrics.ground_truth import Record
from pose.skeleton import Skeleton
from pose.structures import People


def results_json(
    people_by_image: Mapping[int, tuple[np.ndarray, np.ndarray]], category_id: int = 1
) -> list[Record]:
    """COCO results records of the people found, in the order given.

    people_by_image: image id -> keypoints (N, K, 3) x, y in pixels of the original image and score, 0 = not
    found; scores (N,).  COCOeval compares all K positions and has no "not found": such a keypoint is placed
    at the mean of the person's found ones (its score stays 0); a person with no found keypoint is dropped.
    Keypoints are rounded to 3 decimals.  Raises UserError where a found position or a score is not finite.
    """
    records = []
    for image_id, (keypoints, scores) in people_by_image.items():
        keypoints, scores = np.asarray(keypoints, np.float64), np.asarray(scores, np.float64)
        for person, score in zip(keypoints, scores, strict=True):
            found = person[:, 2] > 0
            if not np.isfinite([score, *person[:, 2], *person[found, :2].ravel()]).all():
                raise UserError(f"image {image_id}: a person has a score or a keypoint that is not finite")
            if not found.any():
                continue
            records.append(
                {
                    "image_id": int(image_id),
                    "category_id": category_id,
                    "keypoints": place_missing(person).round(3).ravel().tolist(),
                    "score": float(score),
                }
            )
    return records


def place_missing(person: np.ndarray) -> np.ndarray:
    """person (K, 3), of whom some keypoint is found: the others come to the mean of these, with score 0."""
    found = person[:, 2] > 0
    return np.where(found[:, None], person, [*person[found, :2].mean(axis=0), 0.0])


def write_results(path: Path | str, records: Sequence[Mapping[str, Any]]) -> None:
    """Compact JSON, written by `write_json`."""
    write_json(path, list(records))


def keypoint_category(file: KeypointFile) -> int:
    """The category of a COCO file that lists keypoints, which results must name (1 where none does)."""
    own = file.chosen[0].id if file.chosen else None
    return 1 if own is None else own


def file_order(skeleton: Skeleton, file: KeypointFile) -> list[int]:
    """Indices into `skeleton.keypoints` of the keypoints of an annotation file, in the order of the file.
    The skeleton may have more: derived ones, or those of another set of a mixture."""
    known = {plain_name(name) for name in skeleton.keypoints}
    some = bool(file.names) and {plain_name(name) for name in file.names} <= known
    order = match_keypoints(file, skeleton, partial=some).order
    return [k for k in order if k is not None]


def file_sigmas(skeleton: Skeleton, file: KeypointFile) -> list[float]:
    """The fall-offs for a file's keypoints: its own where its category lists `sigmas`, for a name may mean
    another precision in another set; else the skeleton's."""
    return listed_sigmas(file) or [skeleton.sigmas[k] for k in file_order(skeleton, file)]


def records(
    people: Mapping[int, People], skeleton: Skeleton, file: KeypointFile | None = None
) -> list[dict[str, Any]]:
    """COCO results records in the category and the keypoint order of the annotation file; without one in
    category 1 and the order of `skeleton.annotated`."""
    order = list(skeleton.annotated_index) if file is None else file_order(skeleton, file)[: file.num_body]
    category = 1 if file is None else keypoint_category(file)
    return results_json({i: (p.keypoints[:, order], p.scores) for i, p in people.items()}, category)
