"""COCO's keypoint metric: AP and AR by OKS, of any file with keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.skeletons import listed_sigmas
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
    """One OKS sigma per keypoint."""
    backend: Literal["own", "fast", "pycocotools", "hotcoco"] = "own"
    """What computes AP, with the same numbers: this package, faster-coco-eval (`fast`), pycocotools, or
    hotcoco (to be installed)."""
    areas: Literal["file", "box", "keypoints"] = "file"
    """Area of a person in OKS: as the file has it, 0.53 of the box, or that of the rectangle round the
    labelled keypoints, as DeepLabCut and SLEAP take it."""


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
    score_options: ClassVar[tuple[str, ...]] = ("sigmas", "backend", "areas")
    test_options = ("backend",)

    settings: OksSettings

    def __init__(self, settings: OksSettings, file: KeypointFile, skeleton: Skeleton | None = None) -> None:
        coco_eval.check_backend(settings.backend)
        super().__init__(settings, with_areas(file, settings.areas), skeleton)
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
        own = listed_sigmas(self.file)
        if own is not None and own != [self.skeleton.sigmas[k] for k in file_order(self.skeleton, self.file)]:
            return f"those of {Path(self.file.source).name}"
        return self.skeleton.sigma_label

    @property
    def num_keypoints(self) -> int:
        """For how many there are sigmas."""
        return self.file.num_body

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


def with_areas(file: KeypointFile, which: str) -> KeypointFile:
    """The file with the areas that `OksSettings.areas` names; those that are missing are 0.53 of the box."""
    if which == "file":
        return file
    if which == "box":
        return replace(file, areas=np.full(len(file.areas), np.nan))
    seen = file.labelled[..., None]
    points = np.nan_to_num(file.keypoints[..., :2].astype(np.float64))
    low = np.where(seen, points, np.inf).min(1, initial=np.inf)
    high = np.where(seen, points, -np.inf).max(1, initial=-np.inf)
    return replace(file, areas=np.where(file.labelled.any(1), (high - low).clip(min=0).prod(1), np.nan))
