"""COCO's AP with AI Challenger's sigmas, of files with AI Challenger's 14 keypoints: it ranks people and
knows all labelled keypoints, which the official score (`pose.metrics.aic`) does not."""

from __future__ import annotations

from typing import ClassVar, Literal

from pose.annotations.keypoint_file import KeypointFile
from pose.metrics.aic_lists import aic_sigmas, file_has_keypoints
from pose.metrics.coco import Coco, OksSettings
from pose.registry import METRICS
from pose.skeleton import Skeleton


class AicOksSettings(OksSettings):
    name: Literal["aic_oks"] = "aic_oks"


@METRICS.register("aic_oks", AicOksSettings)
class AicOks(Coco):
    """COCO's AP and AR with AI Challenger's sigmas."""

    name = "aic_oks"
    order = 0
    instead_of: ClassVar[tuple[str, ...]] = ("coco",)

    @classmethod
    def misfit(cls, file: KeypointFile, skeleton: Skeleton | None) -> str:
        return "" if file_has_keypoints(file) else "does not have AI Challenger's 14 keypoints"

    def own_sigmas(self) -> list[float]:
        return aic_sigmas(self.file, self.skeleton)

    def header(self) -> dict[str, str]:
        return {"metric": "COCO's AP by OKS; AI Challenger's score is below", **super().header()}

    def sigma_label(self) -> str:
        return "AI Challenger's"
