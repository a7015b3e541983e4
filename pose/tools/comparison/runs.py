"""Runs that were tested, matched with the same pictures and scored in the same draws of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.data.selection import validation_images
from pose.data.settings import set_files
from pose.errors import UserError
from pose.experiment import Experiment
from pose.metrics.base import Metric, fitting, settings_of
from pose.metrics.coco import Coco
from pose.report.bootstrap import Bootstrap, bootstrap


@dataclass(frozen=True)
class Tested:
    """A run with the outcome of a test."""

    experiment: Experiment
    metrics: Mapping[str, Any]
    results: list[dict[str, Any]]
    annotations: Path
    image_ids: list[int]

    @property
    def name(self) -> str:
        return self.experiment.folder.name


def read_tested(name: str, mode: str, tag: str | None, settings: Sequence[str]) -> Tested:
    """Raises `UserError` where the run has not been tested so, or what it was tested on is gone."""
    experiment = Experiment.open(name, overrides=settings)
    stem = f"{mode}-{tag}" if tag else mode
    again = f"python -m pose.test -c {name} -m {mode}{f' --tag {tag}' if tag else ''}"
    metrics, results = (
        _read(experiment.path(f"{kind}-{stem}.json"), name, again) for kind in ("metrics", "results")
    )
    if not isinstance(metrics, dict) or "stats" not in metrics or not isinstance(results, list):
        raise UserError(f"{experiment.path(f'metrics-{stem}.json')} is not of pose.test; test again: {again}")
    return Tested(experiment, metrics, results, *_tested_on(experiment, metrics, again))


def _read(file: Path, name: str, again: str) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"the run {name} has no {file.name}; test it first: {again}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} ({error}); test again: {again}") from None


def _tested_on(experiment: Experiment, metrics: Mapping[str, Any], again: str) -> tuple[Path, list[int]]:
    """The annotation file and the image ids of a test."""
    config = experiment.config
    named = [Path(metrics[key]) for key in ("annotations",) if key in metrics]
    files = [set_files(config.data, "val").annotations, *named]
    there = [file for file in files if file.is_file()]
    if not there:
        raise UserError(
            f"the annotations that {experiment.folder.name} was tested on are not there ({files[-1]}); say "
            "where they are with data.root=FOLDER"
        )
    same = [file for file in there if file in named] or there
    ids = metrics.get("image_ids")
    if ids is None:  # of a version that did not note them
        ids = [one.id for one in validation_images(config.data, config.skeleton)]
        if len(ids) != metrics.get("num_images"):
            raise UserError(
                f"the test of {experiment.folder.name} does not say which pictures it was on; test again: "
                f"{again}"
            )
    return same[0], list(ids)


class Compared(NamedTuple):
    """All runs on the same pictures."""

    image_ids: list[int]
    numbers: Bootstrap
    title: str  # of the metric
    columns: tuple[str, ...]  # its numbers in tables
    remarks: list[str]


def compare(runs: Sequence[Tested], rounds: int) -> Compared:
    """Raises `UserError` for runs that have nothing in common to be compared on."""
    first = runs[0]
    remarks = []
    for other in runs[1:]:
        if _digest(other.annotations) != _digest(first.annotations):
            raise UserError(
                f"{first.name} was tested on {first.annotations} and {other.name} on {other.annotations}; "
                f"test one on the other's: python -m pose.test -c {other.name} data.val.annotations=FILE "
                "data.val.images=FOLDER"
            )
    common = [i for i in first.image_ids if all(i in ids for ids in (set(run.image_ids) for run in runs[1:]))]
    if not common:
        raise UserError("these runs were tested on different pictures, with none in common; test them again")
    if any(len(run.image_ids) != len(common) for run in runs):
        counts = ", ".join(f"{run.name} on {len(run.image_ids)}" for run in runs)
        remarks.append(f"Tested on different pictures ({counts}); compared on the {len(common)} common ones.")
    file = read(first.annotations, first.experiment.config.data.category)
    metrics = _metrics(runs, file)
    metric = metrics[0]
    others = [
        run.name
        for run, own in zip(runs, metrics, strict=True)
        if isinstance(own, Coco) and isinstance(metric, Coco) and own.sigmas != metric.sigmas
    ]
    if others:
        remarks.append(f"All by the sigmas of {first.name}, which {', '.join(others)} was not tested by.")
    sampled = [metric.sampled(run.results, common) for run in runs]
    title = (metric.__doc__ or metric.name).partition("\n")[0].rstrip(".")
    return Compared(common, bootstrap(sampled, rounds), title, metric.columns or (metric.best,), remarks)


def _metrics(runs: Sequence[Tested], file: KeypointFile) -> list[Metric]:
    """The metric that the first run was tested by (of those that read COCO results), of every run."""
    config = runs[0].experiment.config
    wanted = str(runs[0].metrics.get("metric", config.test.metric))
    fit = [one for one in fitting(file, config.skeleton, wanted) if one.takes_records]
    if not fit:
        raise UserError(f"no metric that reads results fits {file.source}")
    own = settings_of(fit[0].name, dict(config.test))
    return [fit[0](own, file, run.experiment.config.skeleton) for run in runs]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
