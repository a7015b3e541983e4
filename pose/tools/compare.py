"""Runs side by side: what differs between their configs, and which is better by how much, and how surely.

    python -m pose.tools.compare quickstart other [-m single|multi] [--tag TAG] [-o FOLDER]

Each run must have been tested (python -m pose.test -c NAME -m MODE).  Prints Markdown tables and writes them
to FOLDER/compare.md, with the curves of all runs in FOLDER/curves.png and, with --latex, FOLDER/compare.tex
(default FOLDER: exp/compare).  Intervals hold 95 % of 1000 rounds in which the tested pictures are drawn
anew, with replacement; every round draws the same pictures for all runs, so that a difference may be sure
where the intervals of two runs overlap.  Runs that were tested on different pictures are compared on the
common ones.  `data.root` and `data.val.*` may be set, where annotations have been moved.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pose import config as cfg
from pose.data.selection import validation_images
from pose.data.settings import set_files
from pose.engine.log import read_log
from pose.errors import UserError, user_facing
from pose.evaluate import aic_lists, coco
from pose.evaluate.coco import STATS
from pose.evaluate.matching import Matches, match
from pose.evaluate.validation import file_sigmas
from pose.experiment import RUNS, Experiment
from pose.files import write_bytes, write_text
from pose.model import build_model
from pose.report.bootstrap import ROUNDS, Bootstrap, Interval, bootstrap
from pose.run_folders import summarize

CHANGEABLE = ("data.root=", "data.val.", "data.year=")
COLUMNS = ("AP", "AP50", "AP75", "APM", "APL", "AR")
# keys that say where things lie or how fast they are read, not what is learnt
BESIDE = ("data.root", "data.cache", "data.workers", "data.strict", "head.statistics", "train.keep",
          "train.log_every", "train.save_minutes", "train.save_steps")  # fmt: skip
# Okabe and Ito's colours, which people with any colour vision can tell apart, without the yellow
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F5FB5")
STYLES = (
    "-",
    "--",
    "-.",
    (0, (1, 1.2)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (3, 2)),
    (0, (6, 1, 1, 1)),
)
LONGEST = 48  # characters of a config's value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-m", "--mode", choices=["single", "multi"], default="single", help="scales")
    parser.add_argument("--tag", help="of the tests, as given to pose.test")
    parser.add_argument("-o", "--output", type=Path, default=RUNS / "compare", metavar="FOLDER")
    parser.add_argument("--latex", action="store_true", help="write the table of numbers as LaTeX too")
    parser.add_argument("--all", action="store_true", help="also keys that only some of the configs have")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"draws of pictures (default {ROUNDS})")
    parser.add_argument("names", nargs="+", metavar="NAME", help="runs in exp/, and data.root=FOLDER")
    options = parser.parse_intermixed_args(arguments)
    options.settings = [text for text in options.names if "=" in text]
    options.names = [text for text in options.names if "=" not in text]
    for text in options.settings:
        if not text.startswith(CHANGEABLE):
            raise UserError(f"{text!r} cannot be changed here; data.root, data.val.* and data.year can")
    if len(options.names) < 2:
        raise UserError("give two runs or more; python -m pose.tools.list shows those there are")
    if len(set(options.names)) < len(options.names):
        raise UserError(f"a run is named twice: {', '.join(options.names)}")
    if options.rounds < 100:
        raise UserError(f"--rounds {options.rounds}: expected 100 or more, or the intervals say nothing")
    return options


# ------------------------------------------------------------------------------------------- what was tested


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
        ids = [image_id for image_id, _ in validation_images(config.data, config.skeleton)]
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
    content = coco.read_annotations(first.annotations)
    is_aic = aic_lists.file_has_keypoints(content)
    skeleton = first.experiment.config.skeleton
    content = aic_lists.with_sigmas(content, skeleton) if is_aic else content
    sigmas = file_sigmas(skeleton, content)
    others = [run.name for run in runs if file_sigmas(run.experiment.config.skeleton, content) != sigmas]
    if others:
        remarks.append(f"All by the sigmas of {first.name}, which {', '.join(others)} was not tested by.")
    matches = [_match(run, content, sigmas, common) for run in runs]
    return Compared(common, bootstrap(matches, rounds), remarks)


def _match(run: Tested, content: Mapping[str, Any], sigmas: Sequence[float], ids: Sequence[int]) -> Matches:
    return match(content, run.results, sigmas=sigmas, image_ids=ids)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# ------------------------------------------------------------------------------------------ configs and sizes


def flat(plain: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted keys; lists are values."""
    result: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{above}{key}.")
        else:
            result[f"{above}{key}"] = value
    return result


def settings_of(run: Tested) -> dict[str, Any]:
    """The run's config as it was tested, flat."""
    settings = flat(cfg.to_plain(run.experiment.config))
    noted = run.metrics.get("settings", {})
    tested = flat({key: noted[key] for key in ("test", "head") if isinstance(noted.get(key), Mapping)})
    decoder = "head.decoder.name"
    if tested.get(decoder, settings.get(decoder)) != settings.get(decoder):  # by another one than configured
        settings = {key: value for key, value in settings.items() if not key.startswith("head.decoder.")}
    return {key: value for key, value in (settings | tested).items() if key not in BESIDE}


def config_rows(runs: Sequence[Tested], every_key: bool = False) -> list[list[str]]:
    """Key and each run's value, for the keys that differ.

    every_key: also those that not all runs have, because their components are others; "-" where there is
    none."""
    absent = object()
    every = [settings_of(run) for run in runs]
    sections = dict.fromkeys(key.rpartition(".")[0] for one in every for key in one)
    keys = dict.fromkeys(key for one in every for key in one)
    if len({one.get("data.skeleton.name") for one in every}) > 1:  # they differ in everything
        keys = {k: None for k in keys if not k.startswith("data.skeleton.") or k == "data.skeleton.name"}
    rows = []
    for key in sorted(keys, key=lambda key: [*sections].index(key.rpartition(".")[0])):
        values = [one.get(key, absent) for one in every]
        if all(value == values[0] for value in values) or (absent in values and not every_key):
            continue
        rows.append([key, *("-" if value is absent else shown(value) for value in values)])
    return rows


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= LONGEST:
        return text
    if isinstance(value, list):  # lists that differ must not look the same
        return f"{len(value)} values ({hashlib.sha256(text.encode()).hexdigest()[:4]})"
    return f"{text[: LONGEST - 3]}..."


def parameters(experiment: Experiment) -> int:
    """Numbers that are learnt."""
    config = experiment.config
    with torch.device("meta"):
        model = build_model(config.backbone, config.head, config.skeleton, config.input)
    return sum(one.numel() for one in model.parameters())


# ----------------------------------------------------------------------------------------------------- tables


def number(value: float) -> str:
    """In hundredths, as papers write it."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def with_interval(one: Interval, sign: str = "") -> str:
    if math.isnan(one.value):
        return "-"
    if math.isnan(one.low):
        return f"{100 * one.value:{sign}.1f}"
    return f"{100 * one.value:{sign}.1f} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def verdict(one: Interval) -> str:
    if math.isnan(one.low):
        return "not known"
    if one.excludes_zero:
        return "better" if one.value > 0 else "worse"
    return "not sure: 0 is inside"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The first `left` columns stand left, the others right; as wide as they need."""
    cells = [[one.replace("|", "\\|") for one in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        placed = (
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(placed)} |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def number_rows(runs: Sequence[Tested], numbers: Bootstrap) -> tuple[list[str], list[list[str]]]:
    """The table of a paper."""
    header = ["run", "backbone", "head", "M par.", "steps", "epochs", *COLUMNS]
    rows = []
    for place, run in enumerate(runs):
        config, done = run.experiment.config, summarize(run.experiment.folder)
        epochs = f"{config.train.epochs * done.step / done.total:.3g}" if done.total and done.step else "-"
        rows.append([
            run.name, config.backbone.name, config.head.name, f"{parameters(run.experiment) / 1e6:.2f}",
            str(done.step or "-"), epochs, *(number(numbers.of(place, name).value) for name in COLUMNS),
        ])  # fmt: skip
    return header, rows


def difference_rows(runs: Sequence[Tested], numbers: Bootstrap) -> tuple[list[str], list[list[str]]]:
    header = ["run", "AP [95 %]", f"to {runs[0].name} [95 %]", "which is", "AR [95 %]"]
    rows = []
    for place, run in enumerate(runs):
        apart = numbers.difference(place, "AP")
        to_first = [with_interval(apart, "+"), verdict(apart)] if place else ["-", "-"]
        rows.append(
            [
                run.name,
                with_interval(numbers.of(place, "AP")),
                *to_first,
                with_interval(numbers.of(place, "AR")),
            ]
        )
    return header, rows


def document(runs: Sequence[Tested], compared: Compared, options: argparse.Namespace) -> str:
    """All tables, as Markdown."""
    scales = f"{options.mode}{f', {options.tag}' if options.tag else ''}"
    settings = config_rows(runs, options.all)
    names = [run.name for run in runs]
    parts = [
        f"# {', '.join(names)}",
        f"Scales: {scales}.  {len(compared.image_ids)} pictures of {runs[0].annotations.name}.  COCO's AP "
        "and AR by OKS, times 100.",
        *compared.remarks,
        markdown(*number_rows(runs, compared.numbers), left=3),
        f"Intervals hold 95 % of {options.rounds} draws of the pictures, the same for all runs:",
        markdown(*difference_rows(runs, compared.numbers)),
        "What differs between the configs (`-`: has no such key):"
        if options.all
        else "What differs between the configs, of the keys that all have (--all: of all keys):",
        markdown(["key", *names], settings, left=1 + len(names)) if settings else "Nothing.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def latex(runs: Sequence[Tested], numbers: Bootstrap) -> str:
    """For the package booktabs; the best of each column is bold."""
    best = dict(zip(STATS, np.nan_to_num(numbers.whole, nan=-1).max(axis=0)))
    lines = [rf"\begin{{tabular}}{{l{'r' * len(COLUMNS)}}}", r"\toprule"]
    heads = ["AP", "AP$^{50}$", "AP$^{75}$", "AP$^{M}$", "AP$^{L}$", "AR"]
    lines += [" & ".join(["", *heads]) + r" \\", r"\midrule"]
    for place, run in enumerate(runs):
        cells = [run.name.replace("_", r"\_")]  # of what a run's name may have only this is special
        for name in COLUMNS:
            value = numbers.of(place, name).value
            text = number(value).replace("-", "--")
            cells.append(rf"\textbf{{{text}}}" if value == best[name] else text)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


# ----------------------------------------------------------------------------------------------------- curves


def curves(experiments: Sequence[Experiment], size: tuple[float, float] = (12, 5)) -> bytes:
    """Validation AP, and loss in training (and validation, where it was asked for), over the steps, as a
    PNG."""
    import io

    from matplotlib.figure import Figure  # not pyplot, which would choose a backend for the whole process

    figure = Figure(figsize=size, layout="constrained")
    left, right = figure.subplots(1, 2)
    dotted = False
    for i, experiment in enumerate(experiments):
        records = read_log(experiment.path("log.jsonl"))
        look: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "linestyle": STYLES[i % len(STYLES)]}
        score = [point for point in points(records, "validation", "AP") if point[1] >= 0]
        label = experiment.folder.name + ("" if score else " (no validation)")
        left.plot(*zip(*score or [(np.nan, np.nan)]), label=label, marker="o", markersize=4, lw=1.8, **look)
        for kind, marker, width in (("train", None, 1.8), ("validation", "o", 0.7)):
            if loss := points(records, kind, "loss"):
                right.plot(*zip(*loss), marker=marker, markersize=3, linewidth=width, **look)
                dotted |= kind == "validation"
    left.set(xlabel="step", ylabel="COCO AP (OKS)", title="validation during training")
    left.set_xlim(left=0)
    left.set_ylim(bottom=0)
    title = "loss in training (and validation: dots)" if dotted else "loss in training"
    right.set(xlabel="step", ylabel="loss (each head its own)", yscale="log", title=title)
    right.set_xlim(left=0)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    columns = min(len(experiments), 4)
    figure.legend(loc="outside lower center", ncols=columns, handlelength=4, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    return content.getvalue()


def points(records: Sequence[Mapping[str, Any]], kind: str, key: str) -> list[tuple[float, float]]:
    """(step, value) where there is one."""
    return [(one["step"], one[key]) for one in records if one["kind"] == kind and one.get(key) is not None]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.output.exists() and not options.output.is_dir():
        raise UserError(f"-o {options.output} is a file; give a folder")
    runs = [read_tested(name, options.mode, options.tag, options.settings) for name in options.names]
    compared = compare(runs, options.rounds)
    text = document(runs, compared, options)
    print(text)
    written = [options.output / "compare.md", options.output / "curves.png"]
    write_text(written[0], text)
    write_bytes(written[1], curves([run.experiment for run in runs]))
    if options.latex:
        written.append(options.output / "compare.tex")
        write_text(written[2], latex(runs, compared.numbers))
    print("\n".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(user_facing(main)())
