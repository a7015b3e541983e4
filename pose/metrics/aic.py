"""AI Challenger's official score, of its own lists and of files with its 14 keypoints; the list that is
handed in, and the person threshold that suits the score."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pose.annotations.aic import KEYPOINTS, AicImage, read_official, to_official
from pose.annotations.aic_coco import from_coco
from pose.annotations.categories import plain_name
from pose.annotations.findings import Finding
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.config import Settings
from pose.errors import UserError
from pose.files import check_ends, write_json
from pose.metrics import aic_eval, aic_lists
from pose.metrics.aic_lists import AicTest
from pose.metrics.base import Metric, Scores, Written
from pose.metrics.results import file_order
from pose.registry import METRICS
from pose.skeleton import Skeleton
from pose.structures import People


class AicSettings(Settings):
    name: Literal["aic"] = "aic"
    strict: bool = False
    """Stop at anything that is wrong with a file."""
    person_threshold: float = 0.0
    """People with a lower score are left out."""
    submission: Path | None = Field(None)
    """Write AI Challenger's list of the people here."""
    tune: bool = False
    """Show AI Challenger's score by person threshold, and the best one."""


@METRICS.register("aic", AicSettings)
class Aic(Metric):
    """AI Challenger's official keypoint score."""

    name = "aic"
    best = "score"
    columns = ("score",)
    score_options = ("strict",)
    test_options = ("submission", "tune")
    takes_records = False
    annotations_help = "ground truth: official list, or COCO format"
    results_help = "official list, as handed in"

    settings: AicSettings

    def __init__(
        self,
        settings: AicSettings,
        file: KeypointFile | None = None,
        skeleton: Skeleton | None = None,
        *,
        truth: Mapping[int, AicImage] | None = None,
        names: Mapping[int, str] | None = None,
    ) -> None:
        """truth: in place of a file; names: image id -> AI Challenger's, in place of truth."""
        if settings.submission is not None and settings.submission.is_dir():
            raise UserError(f"--submission {settings.submission} is a folder; give a file in it")
        self.settings = settings
        self.skeleton = skeleton
        if file is not None:
            self.file = file
            truth = dict(zip(file.image_ids.tolist(), from_coco(file, strict=settings.strict), strict=True))
        self.truth = truth
        self.names = names or {image_id: one.image_id for image_id, one in (truth or {}).items()}
        self.places = self._places(file, skeleton)

    @staticmethod
    def _places(file: KeypointFile | None, skeleton: Skeleton | None) -> list[int]:
        """Where the people of a run have each of the 14 keypoints."""
        if skeleton is None:
            return list(range(len(KEYPOINTS)))
        if file is None:
            return aic_lists.keypoint_order(skeleton)
        names, in_file = [plain_name(name) for name in file.names], file_order(skeleton, file)
        return [in_file[names.index(name)] for name in KEYPOINTS]

    @classmethod
    def open(cls, settings: AicSettings, path: Path, category: str | None = None) -> Metric:
        """Of an official file (a list) or of one in COCO's format with the 14 keypoints (a mapping); what was
        repaired is told."""
        if _beginning(path).lstrip().startswith("{"):
            return cls(settings, read(path, category))
        truth, findings = read_official(path, boxes=True, strict=settings.strict)
        _warn(path, findings)
        return cls(settings, truth=dict(enumerate(truth)))

    @classmethod
    def without_truth(
        cls, settings: Any, file: KeypointFile | None, skeleton: Skeleton, images: Sequence[tuple[int, Path]]
    ) -> Metric:
        if settings.tune and file is None:
            raise UserError("--tune needs annotated images, and --images has none; leave one of the two out")
        if settings.tune and file is not None:
            why = cls.misfit(file, skeleton) or "has no annotations"
            raise UserError(f"--tune is for AI Challenger's score, and {file.source} {why}")
        return cls(settings, None, skeleton, names=aic_lists.picture_names(images))

    @classmethod
    def misfit(cls, file: KeypointFile, skeleton: Skeleton | None) -> str:
        return "" if aic_lists.file_has_keypoints(file) else "does not have its 14 keypoints"

    # ---- scores

    def test(self, image_ids: Sequence[int] | None = None) -> AicTest:
        """On these images, in this order (None: on all)."""
        ids = list(self.names) if image_ids is None else image_ids
        truth = None if self.truth is None else [self.truth[image_id] for image_id in ids]
        names = {image_id: self.names[image_id] for image_id in ids}
        return AicTest(truth, names, self.places, self.settings.person_threshold)

    def found(self, people: Mapping[int, People]) -> list[AicImage]:
        return self.test().found(people).above(self.settings.person_threshold)

    def read(self, path: Path) -> list[AicImage]:
        found, findings = read_official(path, boxes=False, strict=self.settings.strict)
        _warn(path, findings)
        return found

    def score(self, found: Sequence[AicImage], image_ids: Sequence[int] | None = None) -> Scores:
        """image_ids: of a COCO file; a list counts its images from 0."""
        assert self.truth is not None
        if image_ids is not None and set(image_ids) - set(self.truth):
            raise UserError("some of the images to score are not in the ground truth")
        truth = self.test(image_ids).truth
        assert truth is not None
        return self._scores(aic_eval.evaluate(truth, found))

    def evaluate(self, people: Mapping[int, People], image_ids: Sequence[int] | None = None) -> Scores:
        """Scores of exactly the list that would be handed in."""
        threshold = self.settings.person_threshold
        told = f"people with a score of {threshold:g} or more (test.person_threshold), in whole pixels:"
        scores = self.test(image_ids).scores(people)
        return self._scores(scores, told, person_threshold=threshold)

    def _scores(self, scores: aic_eval.AicScores, *lines: str, **details: Any) -> Scores:
        numbers = {"score": scores.score, **{f"score_{t}": value for t, value in scores.ap.items()}}
        lines = (*lines, *aic_eval.table(scores).splitlines())
        return Scores(self.name, numbers, self.best, lines=lines, details={**details, **asdict(scores)})

    # ---- files

    def write(
        self,
        people: Mapping[int, People],
        image_ids: Sequence[int],
        folder: Path,
        stem: str,
        header: Mapping[str, str],
    ) -> list[Written]:
        test = self.test(image_ids)
        written = [self._tune(test, people, folder, stem, header)] if self.settings.tune else []
        if self.settings.submission is not None:
            listed = test.found(people).above(test.threshold)
            write_json(self.settings.submission, to_official(listed, boxes=False))
            count = sum(len(image.humans) for image in listed)
            text = (
                f"AI Challenger's list: {count} people with a score of {test.threshold:g} or more "
                f"(test.person_threshold) on {len(listed)} pictures: {self.settings.submission}"
            )
            written.append(Written(self.settings.submission, text))
        return written

    def _tune(
        self, test: AicTest, people: Mapping[int, People], folder: Path, stem: str, header: Mapping[str, str]
    ) -> Written:
        choices, current = test.tune(people), test.threshold
        file, curve = (folder / f"tune-{stem}.{kind}" for kind in ("json", "png"))
        content = {
            "header": dict(header),
            "current": current,
            "best": asdict(aic_lists.best_choice(choices)),
            "curve": [asdict(one) for one in choices],
        }
        write_json(file, content, indent=2)
        aic_lists.draw_curve(choices, current, curve)
        return Written(file, f"{aic_lists.curve_table(choices, current)}\ncurve: {file}, {curve}")


def _beginning(path: Path) -> str:
    try:
        check_ends(path)
        with open(path, encoding="utf-8-sig") as file:
            return file.read(100)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--annotations: cannot read {path}: {error}") from error


def _warn(path: Path, findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(f"warning: {path}: {finding}", file=sys.stderr)
