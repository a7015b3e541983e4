"""COCO's keypoint metric: AP and AR by OKS, of any file with keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from pose.annotations.categories import listed_sigmas
from pose.annotations.keypoint_file import KeypointFile
from pose.config import Settings
from pose.metrics import coco_eval
from pose.metrics.base import Metric, Sampled, Scores, Written
from pose.metrics.matching import Matches, match
from pose.metrics.results import file_order, file_sigmas, records, write_results
from pose.registry import METRICS
from pose.skeleton import Skeleton
from pose.structures import People

Results: TypeAlias = Path | Sequence[Mapping[str, Any]]  # records, or the file that holds them


class OksSettings(Settings):
    """What metrics by OKS have in common."""

    sigmas: tuple[float, ...] | None = Field(None, min_length=1)
    """One OKS sigma per keypoint: comma list, skeleton name, or YAML file with a list or a skeleton."""
    backend: Literal["fast", "pycocotools"] = "fast"
    """Library that computes AP: the same numbers."""


class CocoSettings(OksSettings):
    name: Literal["coco"] = "coco"


@METRICS.register("coco", CocoSettings)
class Coco(Metric):
    """COCO's keypoint AP and AR by OKS."""

    name = "coco"
    best = "AP"
    shown: ClassVar[tuple[str, ...]] = ("AP", "AP50", "AP75")
    columns: ClassVar[tuple[str, ...]] = ("AP", "AP50", "AP75", "APM", "APL", "AR")
    order = 1
    score_options: ClassVar[tuple[str, ...]] = ("sigmas", "backend")
    test_options = ("backend",)

    settings: OksSettings

    def __init__(self, settings: OksSettings, file: KeypointFile, skeleton: Skeleton | None = None) -> None:
        super().__init__(settings, file, skeleton)
        if skeleton is not None:
            file_order(skeleton, file)  # refuses other keypoints
        self.sigmas = list(settings.sigmas) if settings.sigmas else self.own_sigmas()

    def own_sigmas(self) -> list[float] | None:
        """For the keypoints of the file; None: COCO's, where they are as many."""
        if self.skeleton is None:
            return listed_sigmas(self.file)
        return file_sigmas(self.skeleton, self.file)

    def header(self) -> dict[str, str]:
        return {"sigmas": self.sigma_label()} if self.skeleton is not None else {}

    def sigma_label(self) -> str:
        assert self.skeleton is not None
        skeleton = self.skeleton
        return f"{skeleton.sigmas[0]:g} for all" if skeleton.has_default_sigmas else skeleton.name

    def found(self, people: Mapping[int, People]) -> list[dict[str, Any]]:
        assert self.skeleton is not None
        return records(people, self.skeleton, self.file)

    def read(self, path: Path) -> Results:
        return path  # it is read and checked where it is scored, so that messages name it

    def score(self, found: Results, image_ids: Sequence[int] | None = None) -> Scores:
        scores = self.run(found, image_ids)
        return Scores(
            self.name, scores.stats, self.best, self.shown, tuple(coco_eval.rows(scores)), asdict(scores)
        )

    def run(self, found: Results, image_ids: Sequence[int] | None) -> coco_eval.CocoScores:
        return coco_eval.evaluate(
            self.file, found, sigmas=self.sigmas, image_ids=image_ids, backend=self.settings.backend
        )

    def matches(self, found: Results, image_ids: Sequence[int] | None = None) -> Matches:
        """Who was found by whom, for reports and intervals."""
        return match(self.file, found, sigmas=self.sigmas, image_ids=image_ids)

    def sampled(self, found: Results, image_ids: Sequence[int] | None = None) -> Sampled:
        return self.matches(found, image_ids)

    def write(
        self,
        people: Mapping[int, People],
        image_ids: Sequence[int],
        folder: Path,
        stem: str,
        header: Mapping[str, str],
    ) -> list[Written]:
        path = folder / f"results-{stem}.json"
        write_results(path, self.found(people))
        return [Written(path, f"results: {path}")]
