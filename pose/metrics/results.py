"""People on a data set's pictures -> COCO numbers, with the work shared among processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pose.annotations.names import match_keypoints, person_category, plain_name
from pose.metrics import coco
from pose.skeleton import Skeleton, from_coco_category
from pose.structures import People


def file_order(skeleton: Skeleton, annotations: Mapping[str, Any]) -> list[int]:
    """Indices into `skeleton.keypoints` of the keypoints of an annotation file (its content), in the order of
    the file.  The skeleton may have more: derived ones, or those of another set of a mixture."""
    where = "the annotations"
    category = person_category(annotations, where)
    listed = category["keypoints"] if category else []
    known = {plain_name(name) for name in skeleton.keypoints}
    some = bool(listed) and {plain_name(str(name)) for name in listed} <= known
    order = match_keypoints(annotations, skeleton, where, partial=some).order
    return [k for k in order if k is not None]


def file_sigmas(skeleton: Skeleton, annotations: Mapping[str, Any]) -> list[float]:
    """The fall-offs for a file's keypoints: its own where its category lists `sigmas`, for a name may mean
    another precision in another set; else the skeleton's."""
    return listed_sigmas(annotations) or [skeleton.sigmas[k] for k in file_order(skeleton, annotations)]


def listed_sigmas(annotations: Mapping[str, Any]) -> list[float] | None:
    """Those that the category of an annotation file lists, if it does."""
    category = person_category(annotations, "the annotations")
    if not category or not category.get("sigmas"):
        return None
    own = {key: category.get(key) for key in ("name", "keypoints", "sigmas")}  # nothing else counts here
    return list(from_coco_category(own).sigmas)


def records(
    people: Mapping[int, People], skeleton: Skeleton, annotations: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """COCO results records in the category and the keypoint order of the annotation file, whose content
    `annotations` is; without one in category 1 and the order of `skeleton.annotated`."""
    order = list(skeleton.annotated_index) if annotations is None else file_order(skeleton, annotations)
    category = 1 if annotations is None else coco.keypoint_category(annotations)
    return coco.results_json({i: (p.keypoints[:, order], p.scores) for i, p in people.items()}, category)


def score(
    people: Mapping[int, People],
    annotations: Path | Mapping[str, Any],
    skeleton: Skeleton,
    image_ids: Sequence[int] | None,
    backend: Literal["fast", "pycocotools"] = "fast",
) -> coco.CocoScores:
    """COCO numbers over `image_ids` (None = every picture of the annotations); `annotations` is a file or its
    content."""
    content = annotations if isinstance(annotations, Mapping) else coco.read_annotations(annotations)
    return coco.evaluate(
        content,
        records(people, skeleton, content),
        sigmas=file_sigmas(skeleton, content),
        image_ids=image_ids,
        backend=backend,
    )
