"""People as COCO results, in the keypoint order of an annotation file, and their COCO numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pose.annotations.categories import listed_sigmas
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.names import match_keypoints
from pose.annotations.reader import plain_name
from pose.metrics import coco_eval
from pose.metrics.coco_files import Annotated, read_truth
from pose.skeleton import Skeleton
from pose.structures import People


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
    order = list(skeleton.annotated_index) if file is None else file_order(skeleton, file)
    category = 1 if file is None else coco_eval.keypoint_category(file)
    return coco_eval.results_json({i: (p.keypoints[:, order], p.scores) for i, p in people.items()}, category)


def score(
    people: Mapping[int, People],
    annotations: Annotated,
    skeleton: Skeleton,
    image_ids: Sequence[int] | None,
    backend: Literal["fast", "pycocotools"] = "fast",
    sigmas: Sequence[float] | None = None,
) -> coco_eval.CocoScores:
    """COCO numbers over `image_ids` (None = every image of the annotations); sigmas: None = `file_sigmas`."""
    file = read_truth(annotations)
    return coco_eval.evaluate(
        file,
        records(people, skeleton, file),
        sigmas=file_sigmas(skeleton, file) if sigmas is None else sigmas,
        image_ids=image_ids,
        backend=backend,
    )
