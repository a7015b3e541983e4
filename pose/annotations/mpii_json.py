"""MPII Human Pose as a JSON list of people, as the HRNet family and MMPose ship it, -> COCO's objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pose.annotations.mpii import POINTS


def is_mpii(data: Any) -> bool:
    """Whether it is a list of `{"image": ..., "joints": [[x, y], ...], "joints_vis": [...], ...}`."""
    first = data[0] if isinstance(data, list) and data else None
    return isinstance(first, dict) and {"image", "joints"} <= first.keys()


def _visibility(value: Any) -> Any:
    """v of a keypoint; what is neither 0 nor 1 is left for the reader to look at."""
    return 2 if value == 1 else 0 if value == 0 else value


def to_coco(people: Sequence[Any]) -> dict[str, Any]:
    """A COCO file's content: one annotation for each person, images in the order in which they first appear,
    without sizes.  `joints_vis` is 1 for what is labelled, which becomes v = 2."""
    ids: dict[str, int] = {}
    annotations = []
    for person in people:
        if not isinstance(person, dict):
            annotations.append(person)  # the reader counts it
            continue
        name = person.get("image")
        joints, seen = person.get("joints"), person.get("joints_vis")
        numbers: Any = joints
        if isinstance(joints, list) and isinstance(seen, list) and len(joints) == len(seen):
            pairs = [
                (*xy, _visibility(v)) if isinstance(xy, list) else (None,) for xy, v in zip(joints, seen)
            ]
            numbers = [value for pair in pairs for value in pair]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": ids.setdefault(name, len(ids) + 1) if isinstance(name, str) else None,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": numbers,
            }
        )
    return {
        "images": [{"id": number, "file_name": name} for name, number in ids.items()],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(POINTS)}],
    }
