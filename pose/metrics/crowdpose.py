"""CrowdPose's metric (Li et al.: CrowdPose, CVPR 2019; https://github.com/jeffffffli/CrowdPose): COCO's AP,
and AP on easy, medium and crowded images.

It differs from COCO's: the area in OKS is 0.53 of the box, also where a file has areas; a person counts by
`num_keypoints` as the file has it, which leaves out head and neck, while OKS compares all that are labelled;
there are no medium and large people.  Images are easy below a `crowdIndex` of 0.2 and hard from 0.8 on, as in
the published code (the paper says 0.1); the three numbers are rounded to 4 digits there, and here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from pose.annotations.categories import plain_name
from pose.annotations.keypoint_file import KeypointFile
from pose.metrics import coco_eval
from pose.metrics.base import NOTHING, Sampled, Scores
from pose.metrics.coco import Coco, OksSettings, Results
from pose.metrics.coco_eval import MAX_PEOPLE
from pose.metrics.matching import Matches
from pose.registry import METRICS
from pose.skeleton import Skeleton

INDEX = "crowdIndex"
GROUPS = {"AP_easy": (-np.inf, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, np.inf)}  # from, to below
STATS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
UNCOUNTED = ("head", "top_head", "head_top", "neck")  # by num_keypoints
# in the order of the published files: shoulders, elbows, wrists, hips, knees, ankles, head, neck
SIGMAS = tuple(np.repeat([0.079, 0.072, 0.062, 0.107, 0.087, 0.089, 0.079], 2).tolist())
NAMES = tuple(
    f"{side}_{part}"
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)


class CrowdPoseSettings(OksSettings):
    name: Literal["crowdpose"] = "crowdpose"


@METRICS.register("crowdpose", CrowdPoseSettings)
class CrowdPose(Coco):
    """CrowdPose's AP and AR, and AP on easy, medium and crowded images."""

    name = "crowdpose"
    columns = ("AP", "AP50", "AP75", *GROUPS, "AR")
    order = 0
    instead_of: ClassVar[tuple[str, ...]] = ("coco",)
    score_options = ("sigmas", "backend")  # the area is a rule

    def __init__(self, settings: OksSettings, file: KeypointFile, skeleton: Skeleton | None = None) -> None:
        super().__init__(settings, file, skeleton)
        self.file = with_rules(self.file)

    @classmethod
    def misfit(cls, file: KeypointFile, skeleton: Skeleton | None) -> str:
        return "" if INDEX in file.image_values else f"has no image with a {INDEX}"

    def own_sigmas(self) -> list[float] | None:
        """CrowdPose's where the keypoints are: by name, or 14 that are not named otherwise."""
        names = [plain_name(name) for name in self.file.names]
        if set(names) >= set(NAMES) and len(names) == len(SIGMAS):
            known = dict(zip(NAMES, SIGMAS))
            return [known.get(name, SIGMAS[-1]) for name in names]
        own = super().own_sigmas()
        return list(SIGMAS) if own is None and self.file.num_body == len(SIGMAS) else own

    def sigma_label(self) -> str:
        return "CrowdPose's" if self.sigmas == list(SIGMAS) else super().sigma_label()

    def score(self, found: Results, image_ids: Sequence[int] | None = None) -> Scores:
        whole = self.run(found, image_ids)
        whole = replace(whole, repaired={**whole.repaired, "area": 0})  # it is the rule
        numbers = {name: whole.stats[name] for name in STATS}
        groups = group_places(self.file, image_ids)
        lines = coco_eval.number_rows(numbers)
        for name, ids in groups.items():
            numbers[name] = round(self.run(found, ids).stats["AP"], 4) if ids else NOTHING
            lines.append(_row(name, numbers[name], len(ids)))
        details = {
            **asdict(whole),
            "stats": numbers,
            "groups": {name: len(ids) for name, ids in groups.items()},
        }
        lines += coco_eval.count_rows(whole)
        return Scores(self.name, numbers, self.best, self.shown, tuple(lines), details)

    def sampled(self, found: Results, image_ids: Sequence[int] | None = None) -> Sampled:
        matches = self.matches(found, image_ids)
        index = dict(zip(self.file.image_ids.tolist(), self.file.image_values[INDEX].tolist(), strict=True))
        return CrowdMatches(matches, np.array([index[image_id] for image_id in matches.image_ids]))


@dataclass(frozen=True)
class CrowdMatches:
    """CrowdPose's numbers over any choice of images."""

    matches: Matches
    index: np.ndarray  # (I,) crowd index of `image_ids`

    @property
    def image_ids(self) -> list[int]:
        return self.matches.image_ids

    def stats(self, picked: np.ndarray | None = None) -> dict[str, float]:
        chosen = np.arange(len(self.index)) if picked is None else np.asarray(picked)
        numbers = self.matches.stats(picked)
        own = {name: numbers[name] for name in STATS}
        for name, (low, high) in GROUPS.items():
            group = chosen[(self.index[chosen] >= low) & (self.index[chosen] < high)]
            ap = self.matches.ranking.average_precision(group)[0] if len(group) else NOTHING
            own[name] = round(float(ap), 4)
        return own


def with_rules(file: KeypointFile) -> KeypointFile:
    """The file without areas, and with the labelled keypoints counted where it does not count them."""
    counted = np.array([plain_name(name) not in UNCOUNTED for name in file.names] or True, bool)
    said = np.where(np.isnan(file.num_keypoints), (file.labelled & counted).sum(1), file.num_keypoints)
    return replace(file, areas=np.full(len(file.areas), np.nan), num_keypoints=said)


def group_places(file: KeypointFile, image_ids: Sequence[int] | None) -> dict[str, list[int]]:
    """The images of each group; those without a crowd index are in none."""
    index = dict(zip(file.image_ids.tolist(), file.image_values[INDEX].tolist(), strict=True))
    chosen = list(index) if image_ids is None else image_ids
    return {
        name: [image_id for image_id in chosen if low <= index.get(image_id, np.nan) < high]
        for name, (low, high) in GROUPS.items()
    }


def _row(name: str, value: float, count: int) -> str:
    group = name.removeprefix("AP_")
    return (
        f" Average Precision  (AP) @[ IoU=0.50:0.95 | crowd={group:>6}| maxDets={MAX_PEOPLE:>3} ] = "
        f"{value:0.3f}  ({count} images)"
    )
