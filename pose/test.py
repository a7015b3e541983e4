"""Test a run: people on every picture of its validation set, and the COCO AP table.

    python -m pose.test -c NAME -m single            one scale
    python -m pose.test -c NAME -m multi             several scales
    python -m pose.test -c NAME --report             and a page about its errors
    python -m pose.test -c NAME --images DIR         people of a folder's pictures, without a score
    python -m pose.test -c NAME --tune               AI Challenger: which people to leave out of its list
    python -m pose.test -c NAME --submission FILE    AI Challenger's list, of the set or of --images DIR

Reads exp/NAME/config.yaml; `test.*`, `head.decoder.*` and where the data lie (`data.root`, `data.val.*`,
`data.year` and a few more) may be set on the command line.  Writes results-MODE.json (COCO results) and
metrics-MODE.json to the run folder; --report adds report-MODE.html, which opens offline: curves, groups of
people, errors by kind and what AP they cost, the worst pictures.  Results have the keypoints in the order of
the annotation file, for a folder of pictures in that of data.skeleton; derived ones such as a neck are left
out.  Where the annotations have AI Challenger's 14 keypoints, its official score is told beside COCO's AP;
it is that of the list which --submission writes, without people below test.person_threshold.
All visible GPUs work; under torchrun, all processes.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from pose import config as cfg
from pose.annotations.aic import to_official
from pose.annotations.image_files import is_regular, tell_unread
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.data.images import Orientation, SetImage
from pose.data.settings import set_files
from pose.engine.distributed import Processes, processes
from pose.errors import UserError, user_facing
from pose.experiment import Experiment, run_settings
from pose.files import write_json, write_picture, write_text
from pose.geometry import round_up
from pose.metrics import aic_eval, aic_lists, coco_eval
from pose.metrics.aic_lists import AicTest
from pose.metrics.results import file_sigmas, records, score
from pose.model import resolve_precision
from pose.options import TEST_SETTINGS, add_device, add_mode, add_run, add_settings, add_weights, user_path
from pose.predict.images import Outcome, replicas
from pose.predict.predict_set import predict_set
from pose.predict.settings import TestSettings
from pose.report.analysis import analyse, file_skeleton
from pose.report.page import picture_reader, render
from pose.sessions import draw_synthetic, drawn, load_model, test_workers, validation_set
from pose.structures import InputSettings, People

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run(parser)
    add_mode(parser)
    add_weights(parser)
    parser.add_argument(
        "--images", type=user_path, metavar="DIR", help="predict the pictures of a folder instead of the set"
    )
    parser.add_argument(
        "--submission", type=user_path, metavar="FILE", help="write AI Challenger's list of the people here"
    )
    parser.add_argument(
        "--tune", action="store_true", help="AI Challenger's score by person threshold, and the best one"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="test a fixed random subset of N pictures")
    parser.add_argument(
        "--save-pictures", type=int, default=0, metavar="N", help="draw the people of N pictures"
    )
    parser.add_argument(
        "--report", action="store_true", help="write a page about errors, their cost and the worst pictures"
    )
    parser.add_argument("--tag", help="goes into the names of the files, to keep what other settings gave")
    parser.add_argument("--backend", choices=["fast", "pycocotools"], default="fast", help="who computes AP")
    add_device(parser)
    add_settings(parser, f"{TEST_SETTINGS}, data.root, data.val.*")
    options = parser.parse_intermixed_args(arguments)
    run_settings(options.settings, data=True)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: expected 1 picture or more")
    if options.tag is not None and not re.fullmatch(r"[\w.+-]+", options.tag):
        raise UserError(f"--tag {options.tag!r}: use letters, digits, '.', '_', '+' and '-'")
    if options.tune and options.images:
        raise UserError("--tune needs annotated pictures, and --images has none; leave one of the two out")
    if options.report and options.images:
        raise UserError("--report needs annotated pictures, and --images has none; leave one of the two out")
    if options.save_pictures < 0:
        raise UserError(f"--save-pictures {options.save_pictures}: expected 0 or more")
    return options


def folder_images(folder: Path) -> list[SetImage]:
    """The pictures of a folder, numbered from 1 in the order of their names."""
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give its folder" if folder.exists() else f"no folder {folder}")
    everything = sorted(folder.rglob("*"))
    tell_unread(everything, folder)
    files = [file for file in everything if is_image(file, folder)]
    if not files:
        raise UserError(f"{folder} holds no pictures ({', '.join(sorted(PICTURES))})")
    return [SetImage(number, file) for number, file in enumerate(files, start=1)]


def is_image(file: Path, folder: Path) -> bool:
    """By its suffix; hidden files, and those in hidden folders, are no images: `._x.jpg`, `__MACOSX`."""
    parts = file.relative_to(folder).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return file.suffix.lower() in PICTURES and not hidden and is_regular(file)


def devices(options: argparse.Namespace, group: Processes) -> list[torch.device]:
    if group.distributed or group.device.type != "cuda" or ":" in options.device:
        return [group.device]
    return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]


def test(options: argparse.Namespace, group: Processes) -> int:
    experiment = Experiment.open(options.name, overrides=options.settings)
    config = experiment.config
    model, weights = load_model(experiment, options.weights, group.device)
    if options.images:
        images = folder_images(options.images)[: options.limit]
    else:
        draw_synthetic(config, group)
        images = validation_set(config, group, options.limit)
    report = Report(options, experiment, weights, images, group.device, model.size_multiple)
    group.first(report.check)
    start = time.perf_counter()
    people, outcome = predict_set(
        replicas(model, devices(options, group)),
        images,
        config.test,
        gather=group.gather,
        share=(group.rank, group.world_size),
        mode=options.mode,
        workers=test_workers(config),
        strict=config.data.strict,
        orientation=report.orientation,
    )
    seconds = time.perf_counter() - start
    if group.main:
        print(speed(outcome, seconds, len(images)), file=sys.stderr)
        report.write(people, outcome)
    return 0


def speed(outcome: Outcome, seconds: float, count: int) -> str:
    timing = outcome.timing
    done = max(1, timing.images)
    return (
        f"{count} pictures in {seconds:.1f} s; per picture {1e3 * timing.wait / done:.1f} ms waiting for "
        f"data, {1e3 * timing.forward / done:.1f} forward, {1e3 * timing.decode / done:.1f} decode beside it"
    )


def resize_rule(settings: TestSettings, input: InputSettings, multiple: int) -> str:
    """How a picture becomes a canvas at scale 1, for people; `multiple`: of the canvas's sides."""
    size = settings.input_size or input.size
    if settings.resize in ("letterbox", "squash"):
        height, width = (round_up(side, multiple) for side in size)
        return f"{settings.resize} {width} x {height}"
    if settings.resize == "original":
        return f"as it is, at most {size[0] * size[1] / 1e6:.2f} megapixels, multiples of {multiple}"
    name, side = ("short side", min(size)) if settings.resize == "short_side" else ("long side", max(size))
    return f"{name} {side}, multiples of {multiple}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What a test leaves behind."""

    options: argparse.Namespace
    experiment: Experiment
    weights: Path
    images: Sequence[SetImage]
    device: torch.device
    multiple: int  # of the canvases' sides

    def check(self) -> None:
        """Raises `UserError` for what cannot be reported, before hours are spent on people."""
        options = self.options
        if options.tune and not self.is_aic:
            raise UserError(
                f"--tune is for AI Challenger's score, and {self.annotations} does not have its 14 keypoints"
            )
        if options.submission and options.submission.is_dir():
            raise UserError(f"--submission {options.submission} is a folder; give a file in it")
        if self.is_aic or options.submission:
            _ = self.aic_test

    def write(self, people: dict[int, People], outcome: Outcome) -> None:
        options, experiment = self.options, self.experiment
        results = experiment.path(f"results-{self.stem}.json")
        entries = records(people, experiment.config.skeleton, self.content)
        coco_eval.write_results(results, entries)
        if options.images:
            names = {one.id: str(one.path) for one in self.images}
            write_json(experiment.path(f"images-{self.stem}.json"), names)
            print(f"{len(entries)} people on {len(people)} pictures: {results}")
        else:
            self._score(people, outcome)
            print(f"results: {results}")
        if options.report:
            self._analyse(people, entries)
        if options.tune:
            self._tune(people)
        if options.submission:
            listed = self.aic_test.found(people).above(self.aic_test.threshold)
            write_json(options.submission, to_official(listed, boxes=False))
            count = sum(len(image.humans) for image in listed)
            print(
                f"AI Challenger's list: {count} people with a score of {self.aic_test.threshold:g} or more "
                f"(test.person_threshold) on {len(listed)} pictures: {options.submission}"
            )
        if outcome.unreadable:
            print(f"pictures skipped (unreadable or too small): {len(outcome.unreadable)}")
        if options.save_pictures:
            self._draw(people, experiment.path(f"pictures-{self.stem}.png"))

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

    @cached_property
    def content(self) -> KeypointFile | None:
        """The annotation file; None for a folder of pictures."""
        if self.options.images:
            return None
        return read(self.annotations, self.experiment.config.data.category, choose="data.category=NAME")

    @property
    def is_aic(self) -> bool:
        """Whether there is an official score."""
        return self.content is not None and aic_lists.file_has_keypoints(self.content)

    @cached_property
    def aic_test(self) -> AicTest:
        config, threshold = self.experiment.config, self.experiment.config.test.person_threshold
        return AicTest.on([one[:2] for one in self.images], self.content, config.skeleton, threshold)

    @property
    def annotations(self) -> Path:
        return set_files(self.experiment.config.data, "val").annotations

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
            "precision": resolve_precision(config.test.precision, self.device),
            **({"metric": "COCO's AP by OKS; AI Challenger's score is below"} if self.is_aic else {}),
            "sigmas": self._sigmas(),
            **({"settings": ", ".join(self.options.settings)} if self.options.settings else {}),
        }

    def _sigmas(self) -> str:
        if self.is_aic:
            return "AI Challenger's"
        skeleton = self.experiment.config.skeleton
        return f"{skeleton.sigmas[0]:g} for all" if skeleton.has_default_sigmas else skeleton.name

    @property
    def sigmas(self) -> list[float]:
        """To score the annotations by."""
        assert self.content is not None
        skeleton = self.experiment.config.skeleton
        if self.is_aic:
            return aic_lists.aic_sigmas(self.content, skeleton)
        return file_sigmas(skeleton, self.content)

    def _score(self, people: dict[int, People], outcome: Outcome) -> None:
        config = self.experiment.config
        assert self.content is not None
        ids = [one.id for one in self.images]
        scores = score(people, self.content, config.skeleton, ids, self.options.backend, self.sigmas)
        print(coco_eval.table(scores, self.header()))
        official = self._official(people) if self.is_aic else {}
        metrics = {
            "header": self.header(),
            **dataclasses.asdict(scores),
            **official,
            "annotations": str(self.annotations),
            "image_ids": [one.id for one in self.images],
            "unreadable": [outcome.unreadable[i] for i in sorted(outcome.unreadable)],
            "settings": {"test": cfg.to_plain(config.test), "head": cfg.to_plain(config.head)},
        }
        write_json(self.experiment.path(f"metrics-{self.stem}.json"), metrics, indent=2)

    def _official(self, people: dict[int, People]) -> dict[str, Any]:
        threshold = self.aic_test.threshold
        scores = self.aic_test.scores(people)
        print(f"people with a score of {threshold:g} or more (test.person_threshold), in whole pixels:")
        print(aic_eval.table(scores))
        return {"aic": {"person_threshold": threshold, **dataclasses.asdict(scores)}}

    def _tune(self, people: dict[int, People]) -> None:
        choices, current = self.aic_test.tune(people), self.aic_test.threshold
        file, curve = (self.experiment.path(f"tune-{self.stem}.{kind}") for kind in ("json", "png"))
        print(aic_lists.curve_table(choices, current))
        content = {
            "header": self.header(),
            "current": current,
            "best": dataclasses.asdict(aic_lists.best_choice(choices)),
            "curve": [dataclasses.asdict(one) for one in choices],
        }
        write_json(file, content, indent=2)
        aic_lists.draw_curve(choices, current, curve)
        print(f"curve: {file}, {curve}")

    def _analyse(self, people: dict[int, People], entries: Sequence[Mapping[str, Any]]) -> None:
        """entries: the people as COCO results."""
        assert self.content is not None
        analysis = analyse(
            self.content,
            entries,
            file_skeleton(self.content, self.experiment.config.skeleton),
            sigmas=self.sigmas,
            image_ids=[one.id for one in self.images],
        )
        header = {key: value for key, value in self.header().items() if key != "metric"}
        if self.is_aic:
            official = self.aic_test.scores(people).score
            header["AI Challenger's score"] = f"{official:.6f} (all that follows is by COCO's rules)"
        page = self.experiment.path(f"report-{self.stem}.html")
        write_text(page, render(analysis, header, picture_reader({one.id: one.path for one in self.images})))
        print(f"report: {page}")

    def _draw(self, people: dict[int, People], output: Path) -> None:
        chosen = [one for one in self.images if one[0] in people][: self.options.save_pictures]
        write_picture(output, drawn(self.experiment.config, chosen, people, orientation=self.orientation))
        print(f"pictures: {output}")


def main() -> int:
    options = parse()
    with processes(options.device) as group:
        return test(options, group)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
