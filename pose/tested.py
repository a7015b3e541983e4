"""What a test leaves behind: results, the numbers of every metric that fits, a page, drawings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pose import config as cfg
from pose import zoo
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.data.images import Orientation, SetImage
from pose.data.settings import set_files
from pose.errors import UserError
from pose.experiment import Experiment
from pose.files import write_json, write_picture, write_text
from pose.geometry import round_up
from pose.metrics.base import Metric, Scores, Written, bind, settings_of
from pose.metrics.coco import Coco
from pose.metrics.coco_eval import header_lines
from pose.metrics.results import records, write_results
from pose.options import was_given
from pose.predict.images import Outcome
from pose.predict.published_canvas import PUBLISHED
from pose.predict.settings import TestSettings
from pose.registry import METRICS
from pose.report.analysis import analyse_matches, file_skeleton
from pose.report.page import picture_reader, render
from pose.sessions import drawn
from pose.structures import InputSettings, People

VAL2017, VAL2017_IMAGES = "person_keypoints_val2017.json", 5000  # what AP is published for


@dataclass(frozen=True)
class Report:
    """Report of a test with the options of `pose.test`."""

    options: argparse.Namespace
    experiment: Experiment
    weights: Path
    images: Sequence[SetImage]
    precision: str  # of the network's arithmetic
    multiple: int  # of the canvases' sides

    def check(self) -> None:
        """Raises `UserError` for what cannot be scored or written, before hours are spent on people."""
        _ = self.metrics, self.others
        self._records({})
        if self.options.report:
            self._oks()

    def write(self, people: dict[int, People], outcome: Outcome) -> None:
        first = self.metrics[:1]
        written = [file for metric in first for file in self._written(metric, people)]
        results = self.experiment.path(f"results-{self.stem}.json")
        if results not in [one.path for one in written]:
            written.append(self._results(people, results))
        scores = self._score(people, outcome) if self.metrics else []
        if scores and (line := self.beside_published(scores[0])):
            print(line)
        rest = [*self.metrics[1:], *self.others]
        for one in written:
            print(one.text)
        if self.options.report:
            self._analyse(people, scores)
        for one in [file for metric in rest for file in self._written(metric, people)]:
            print(one.text)
        if outcome.unreadable:
            print(f"pictures skipped (unreadable or too small): {len(outcome.unreadable)}")
        if self.options.save_pictures:
            self._draw(people, self.experiment.path(f"pictures-{self.stem}.png"))

    # ---- what is tested

    @property
    def stem(self) -> str:
        """Part of the names of all files; a quick look leaves those of the whole test alone."""
        options = self.options
        limit = f"limit{options.limit}" if options.limit else ""
        return "-".join(filter(None, [options.mode, "images" if options.images else "", options.tag, limit]))

    @property
    def orientation(self) -> Orientation:
        """A list for AI Challenger is about pixels as they are stored, like annotations."""
        if self.options.images:
            return "stored" if self.options.submission else "exif"
        return self.experiment.config.data.orientation

    @property
    def annotations(self) -> Path:
        return set_files(self.experiment.config.data, "val").annotations

    @cached_property
    def file(self) -> KeypointFile | None:
        """The annotation file; None for a folder of images."""
        if self.options.images:
            return None
        return read(self.annotations, self.experiment.config.data.category, choose="data.category=NAME")

    @property
    def ids(self) -> list[int]:
        return [one.id for one in self.images]

    # ---- metrics

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings of all metrics, by name: each takes its own."""
        return {**dict(self.experiment.config.test), **vars(self.options)}

    @cached_property
    def metrics(self) -> list[Metric]:
        """Those that fit the annotations, the one that chooses best.pt first."""
        config = self.experiment.config
        if self.file is None:
            return []
        return bind(self.file, config.skeleton, config.test.metric, self.settings)

    @cached_property
    def others(self) -> list[Metric]:
        """Those that cannot score, but have something to write that was asked for."""
        scoring = {metric.name for metric in self.metrics}
        skeleton, images = self.experiment.config.skeleton, [(one.id, one.path) for one in self.images]
        found = []
        for name in METRICS.names():
            metric, config = METRICS[name]
            if name not in scoring and was_given(self.options, config, metric.test_options):
                own = metric.without_truth(settings_of(name, self.settings), self.file, skeleton, images)
                found += [own] if own is not None else []
        return found

    def _oks(self) -> Coco:
        """The metric that the page is about."""
        oks = next((metric for metric in self.metrics if isinstance(metric, Coco)), None)
        if oks is None and self.metrics:
            raise UserError(f"--report is about OKS, and no metric by OKS fits {self.annotations}")
        if oks is None:
            raise UserError(f"--report needs annotated images, and {self.annotations} has none; leave it out")
        return oks

    # ---- what is written

    def header(self) -> dict[str, str]:
        config, mode = self.experiment.config, self.options.mode
        chosen = self.annotations.name
        if config.data.validation_ids:
            chosen += f", ids of {Path(config.data.validation_ids).name}"
        subset = "a fixed random subset" if self.options.limit else "all"
        whom = "only those with people" if config.data.validation_people_only else "with and without people"
        return {
            "run": self.experiment.folder.name,
            "weights": self.weights.name,
            "mode": mode,
            "flip": "on" if config.test.flip else "off",
            "scales": ", ".join(f"{scale:g}" for scale in getattr(config.test, mode)),
            "resize": resize_rule(config.test, config.input, self.multiple),
            "images": f"{len(self.images)} of {chosen} ({subset}, {whom})",
            "precision": self.precision,
            **({"runtime": self.options.runtime} if self.options.runtime != "torch" else {}),
            **(self.metrics[0].header() if self.metrics else {}),
            **({"settings": ", ".join(self.options.settings)} if self.options.settings else {}),
        }

    def _written(self, metric: Metric, people: dict[int, People]) -> list[Written]:
        return metric.write(people, self.ids, self.experiment.folder, self.stem, self.header())

    def _records(self, people: dict[int, People]) -> list[dict[str, Any]]:
        """COCO results, in the order of the annotation file where it lists keypoints."""
        named = self.file if self.file is not None and self.file.chosen else None
        return records(people, self.experiment.config.skeleton, named)

    def _results(self, people: dict[int, People], path: Path) -> Written:
        """Where no metric writes results."""
        entries = self._records(people)
        write_results(path, entries)
        told = f"{len(entries)} people on {len(people)} pictures: {path}"
        if self.options.images:
            names = {one.id: str(one.path) for one in self.images}
            write_json(self.experiment.path(f"images-{self.stem}.json"), names)
        elif not self.metrics:
            told = f"nothing to score: {self.annotations} has no annotations; {told}"
        return Written(path, told)

    def _score(self, people: dict[int, People], outcome: Outcome) -> list[Scores]:
        config = self.experiment.config
        scores = [metric.evaluate(people, self.ids) for metric in self.metrics]
        print("\n".join([*header_lines(self.header()), *(one.table() for one in scores)]))
        metrics = {
            "header": self.header(),
            "metric": scores[0].metric,
            "scores": {one.metric: one.plain() for one in scores},
            "stats": dict(scores[0].numbers),
            **scores[0].details,
            **{one.metric: one.details for one in scores[1:]},
            "annotations": str(self.annotations),
            "image_ids": self.ids,
            "unreadable": [outcome.unreadable[i] for i in sorted(outcome.unreadable)],
            "settings": {"test": cfg.to_plain(config.test), "head": cfg.to_plain(config.head)},
        }
        write_json(self.experiment.path(f"metrics-{self.stem}.json"), metrics, indent=2)
        return scores

    def beside_published(self, scores: Scores) -> str:
        """For a network of the zoo, a line with its published AP, and the difference where all of COCO's
        val2017 was tested; "" for other runs."""
        prefix, _, name = self.experiment.folder.name.partition("-")
        if prefix != "zoo" or name not in zoo.names():
            return ""
        network = zoo.entry(name)
        published = network.score(self.options.mode)
        if published is None:
            return f"published: nothing for -m {self.options.mode}"
        line = f"published ({network.source.system}, {network.data}, {self.options.mode}): AP {published:.3f}"
        whole = self.file is not None and len(self.images) == VAL2017_IMAGES
        if network.data == "COCO" and whole and self.annotations.name == VAL2017:
            return f"{line}, here {scores.value:.3f}, difference {scores.value - published:+.3f}"
        return f"{line}; to compare, test all of {VAL2017} (COCO)" if network.data == "COCO" else line

    def _analyse(self, people: dict[int, People], scores: Sequence[Scores]) -> None:
        metric = self._oks()
        matches = metric.matches(metric.found(people), self.ids)
        analysis = analyse_matches(matches, file_skeleton(metric.file, self.experiment.config.skeleton))
        header = {key: value for key, value in self.header().items() if key != "metric"}
        for other in scores:
            if other.metric != metric.name:
                header[other.title] = f"{other.value:.6f} (all that follows is by COCO's rules)"
        page = self.experiment.path(f"report-{self.stem}.html")
        sizes = {one.id: one.size for one in self.images if one.size is not None}
        reader = picture_reader({one.id: one.path for one in self.images}, sizes, self.orientation)
        write_text(page, render(analysis, header, reader, scores))
        print(f"report: {page}")

    def _draw(self, people: dict[int, People], output: Path) -> None:
        chosen = [one for one in self.images if one[0] in people][: self.options.save_pictures]
        write_picture(output, drawn(self.experiment.config, chosen, people, orientation=self.orientation))
        print(f"pictures: {output}")


def resize_rule(settings: TestSettings, input: InputSettings, multiple: int) -> str:
    """How a picture becomes a canvas at scale 1, for people; `multiple`: of the canvas's sides."""
    size = settings.input_size or input.size
    if settings.resize in ("letterbox", "squash"):
        height, width = (round_up(side, multiple) for side in size)
        return f"{settings.resize} {width} x {height}"
    if settings.resize == "original":
        return f"as it is, at most {size[0] * size[1] / 1e6:.2f} megapixels, multiples of {multiple}"
    if settings.resize in PUBLISHED:
        at = "scale 1" if settings.resize == "mmpose1" else "the smallest scale"
        return f"{settings.resize}: short side {min(size)}, multiples of 64 at {at}"
    name, side = ("short side", min(size)) if settings.resize == "short_side" else ("long side", max(size))
    return f"{name} {side}, multiples of {multiple}"
