"""All runs in exp/: what they are, how far they are, how well they do.

    python -m pose.tools.list
    python -m pose.tools.list --sort best
    python -m pose.tools.list --json

`best` is the best of a run's validations during training by its `metric`, often on a part of the images;
`tested` is what pose.test wrote, by mode (and tag).  A run that logged in the last 10 minutes is said to be
running.  The newest (or best, or largest) comes first; --json has every test, with its tag.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence

from pose.errors import UserError, user_facing
from pose.options import user_path
from pose.run_folders import RUNS, Summary, run_folders, summarize

HEADER = ("run", "network", "skeleton", "steps", "state", "best", "metric", "date", "size", "tested")
LEFT = ("run", "network", "skeleton", "state", "metric", "tested")
ORDERS = ("date", "name", "best", "steps", "size")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.list",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sort", type=_order, choices=ORDERS, default="date")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--runs", type=user_path, default=RUNS, metavar="FOLDER", help=f"default {RUNS}/")
    return parser.parse_args(arguments)


def _order(text: str) -> str:
    return "best" if text == "AP" else text  # its name before there were other metrics


def in_order(runs: Sequence[Summary], by: str) -> list[Summary]:
    """The best score is that of a test where there is one, else of a validation."""
    if by == "name":
        return sorted(runs, key=lambda run: run.name)
    keys = {
        "date": lambda run: run.changed,
        "best": lambda run: max(whole_tests(run).values(), default=(run.best or 0) - 2),
        "steps": lambda run: run.step,
        "size": lambda run: run.size,
    }
    return sorted(runs, key=keys[by], reverse=True)


def whole_tests(run: Summary) -> dict[str, float]:
    """Without those on a part of the pictures (`--limit`)."""
    return {stem: score for stem, score in run.tested.items() if "limit" not in stem}


def _score(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"  # -1: there was nobody to find


def tested(run: Summary) -> str:
    """The tests without a tag, and how many others there are."""
    shown = [mode for mode in ("single", "multi") if mode in run.tested] or list(run.tested)[:1]
    plain = [f"{stem} {_score(run.tested[stem])}{_other_metric(run, stem)}" for stem in shown]
    more = len(run.tested) - len(plain)
    return ", ".join(plain) + (f" (+{more})" if more else "") or "-"


def _other_metric(run: Summary, stem: str) -> str:
    title = run.tested_by.get(stem, run.metric)
    same = title in (run.metric, run.metric.rpartition(" ")[2])  # old files do not name the metric
    return "" if same or run.metric == title.rpartition(" ")[2] else f" {title}"


def row(run: Summary) -> tuple[str, ...]:
    network = f"{run.backbone} + {run.head}" if run.backbone and run.head else "-"
    steps = f"{run.step}/{run.total}" if run.total else str(run.step or "-")
    return (
        run.name,
        network,
        run.skeleton or "-",
        steps,
        run.state,
        "-" if run.best is None else f"{run.best:.3f}",
        run.metric or "-",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed)),
        readable_size(run.size),
        tested(run),
    )


def readable_size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def table(runs: Sequence[Summary]) -> str:
    """Columns as wide as they need; what is wrong with a run stands below its line."""
    rows = [row(run) for run in runs]
    widths = [max(map(len, column)) for column in zip(HEADER, *rows)]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.ljust(width) if name in LEFT else cell.rjust(width)
            for name, cell, width in zip(HEADER, cells, widths, strict=True)
        )
        return "  ".join(placed).rstrip()

    lines = [line(HEADER), "  ".join("-" * width for width in widths)]
    for run, cells in zip(runs, rows, strict=True):
        lines.append(line(cells))
        lines += [f"  ! {problem}" for problem in run.problems]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    folders = run_folders(options.runs)
    if not folders:
        raise UserError(
            f"there are no runs in {options.runs}/ yet; start one with python -m pose.train -e NAME --config "
            "FILE, or go to the folder that holds exp/"
        )
    runs = in_order([summarize(folder) for folder in folders], options.sort)
    if options.json:
        print(json.dumps([dataclasses.asdict(run) for run in runs], indent=1))
    else:
        print(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(user_facing(main)())
