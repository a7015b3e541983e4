"""OCHuman's metric (Zhang et al.: Pose2Seg, CVPR 2019; https://github.com/liruilong940607/OCHumanApi): COCO's
AP and AR with COCO's sigmas, of images in which people hide each other.

The published files in COCO's format list the people who have keypoints and a mask; their `area` is that of
the box.  Nothing in such a file says that it is OCHuman's, so this metric counts where it is named.  A file
in OCHuman's own format is turned into the same: all people, or those of a range of overlaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pose.annotations.categories import plain_name
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import parse
from pose.errors import UserError
from pose.metrics.base import Metric
from pose.metrics.coco import Coco, OksSettings
from pose.metrics.coco_eval import COCO_SIGMAS
from pose.metrics.result_files import load_content
from pose.registry import METRICS
from pose.skeleton import Skeleton

NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle", "right_ankle",
)  # fmt: skip
# OCHuman's v: missing, visible, hidden by the person's own body, hidden by others
VISIBILITY = {0: 0, 1: 2, 2: 2, 3: 1}


class OCHumanSettings(OksSettings):
    name: Literal["ochuman"] = "ochuman"
    overlap: tuple[float, float] = Field((0.0, 1.0))
    """From, to below: people whose largest box overlap (max_iou) is in this range, of a file in OCHuman's own
    format; moderate is 0.5,0.75, hard 0.75,1."""


@METRICS.register("ochuman", OCHumanSettings)
class OCHuman(Coco):
    """COCO's AP and AR as OCHuman uses them; also of its own annotation format."""

    name = "ochuman"
    order = 0
    by_name = True
    instead_of: ClassVar[tuple[str, ...]] = ("coco",)
    score_options = (*Coco.score_options, "overlap")

    @classmethod
    def open(cls, settings: Any, path: Path, category: str | None = None) -> Metric:
        data = load_content(path, "annotations")
        if not is_native(data):
            return super().open(settings, path, category)
        return cls(settings, parse(to_coco(data, settings.overlap), path, category))

    @classmethod
    def misfit(cls, file: KeypointFile, skeleton: Skeleton | None) -> str:
        own = {plain_name(name) for name in file.names[: file.num_body]}
        return "" if own == set(NAMES) else "does not have COCO's 17 keypoints"

    def own_sigmas(self) -> list[float] | None:
        sigma = dict(zip(NAMES, COCO_SIGMAS, strict=True))
        return [sigma[plain_name(name)] for name in self.file.names[: self.file.num_body]]

    def sigma_label(self) -> str:
        return "COCO's"


def is_native(data: Any) -> bool:
    return isinstance(data, Mapping) and "keypoint_names" in data and "annotations" not in data


def to_coco(data: Mapping[str, Any], overlap: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
    """OCHuman's own format -> COCO's, as the published files were made: people with keypoints and a mask
    whose `max_iou` is in the range, images with such people, both numbered from 1."""
    names = [plain_name(str(name)) for name in data["keypoint_names"]]
    missing = [name for name in NAMES if name not in names]
    if missing:
        raise UserError(f"keypoint_names of OCHuman's file lacks {', '.join(missing)}")
    places = [names.index(name) for name in NAMES]
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for image in data.get("images", []):
        chosen = [one for one in image.get("annotations", []) if _counts(one, overlap)]
        if not chosen:
            continue
        number = len(images) + 1
        images.append({**{key: image[key] for key in ("file_name", "height", "width")}, "id": number})
        for one in chosen:
            people.append({"id": len(people) + 1, "image_id": number, **_person(one, places)})
    category = {"id": 1, "name": "person", "keypoints": list(NAMES)}
    return {"images": images, "annotations": people, "categories": [category]}


def _counts(person: Mapping[str, Any], overlap: tuple[float, float]) -> bool:
    low, high = overlap
    within = low <= person.get("max_iou", 0.0) < high
    return bool(person.get("keypoints")) and bool(person.get("segms")) and within


def _person(person: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    x1, y1, x2, y2 = person["bbox"]
    keypoints: list[Any] = []
    for place in places:
        x, y, v = person["keypoints"][3 * place : 3 * place + 3]
        keypoints += [x, y, VISIBILITY[v]]
    return {
        "category_id": 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
    }
