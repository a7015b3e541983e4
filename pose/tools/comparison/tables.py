"""Tables of the numbers of several runs: Markdown, and LaTeX for papers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pose.report.bootstrap import Bootstrap, Interval
from pose.run_folders import summarize

if TYPE_CHECKING:
    from pose.experiment import Experiment
    from pose.tools.comparison.runs import Tested


def number(value: float) -> str:
    """In hundredths, as papers write it."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def with_interval(one: Interval, sign: str = "") -> str:
    if math.isnan(one.value):
        return "-"
    value, around = f"{100 * one.value:{sign}.1f}", brackets(one, sign)
    return f"{value} {around}" if around else value


def brackets(one: Interval, sign: str = "") -> str:
    """The interval alone; "" where it is not known."""
    return "" if math.isnan(one.low) else f"[{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


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


def number_rows(
    runs: Sequence[Tested], numbers: Bootstrap, columns: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """The table of a paper; columns: the metric's numbers in it."""
    header = ["run", "backbone", "head", "M par.", "steps", "epochs", *columns]
    rows = []
    for place, run in enumerate(runs):
        config, done = run.experiment.config, summarize(run.experiment.folder)
        epochs = f"{config.train.epochs * done.step / done.total:.3g}" if done.total and done.step else "-"
        rows.append([
            run.name, config.backbone.name, config.head.name, f"{parameters(run.experiment) / 1e6:.2f}",
            str(done.step or "-"), epochs, *(number(numbers.of(place, name).value) for name in columns),
        ])  # fmt: skip
    return header, rows


def parameters(experiment: Experiment) -> int:
    """Numbers that are learnt."""
    import torch

    config = experiment.config
    with torch.device("meta"):
        model = config.build_model()
    return sum(one.numel() for one in model.parameters())


def difference_rows(
    names: Sequence[str], numbers: Bootstrap, columns: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Intervals of the first and the last of the columns, and of what lies between each run and the first
    one."""
    best, others = columns[0], [name for name in columns[-1:] if name != columns[0]]
    header = ["run", f"{best} [95 %]", f"to {names[0]} [95 %]", "which is"]
    header += [f"{name} [95 %]" for name in others]
    rows = []
    for place, name in enumerate(names):
        apart = numbers.difference(place, best)
        to_first = [with_interval(apart, "+"), verdict(apart)] if place else ["-", "-"]
        intervals = [with_interval(numbers.of(place, key)) for key in (best, *others)]
        rows.append([name, intervals[0], *to_first, *intervals[1:]])
    return header, rows


def latex(names: Sequence[str], numbers: Bootstrap, columns: Sequence[str]) -> str:
    """For the package booktabs; the best of each column is bold, and the interval of the first is a column of
    its own, so that the numbers stand below each other."""
    best = dict(zip(numbers.names, np.nan_to_num(numbers.whole, nan=-1).max(axis=0)))
    first, *others = map(latex_title, columns)
    heads = [first, r"{\scriptsize [95\,\%]}", *others]
    lines = [
        f"% needs the package booktabs; in brackets: 95 % of {len(numbers.samples)} draws of the pictures",
        rf"\begin{{tabular}}{{lr@{{ }}l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        r"\midrule",
    ]
    for place, run in enumerate(names):
        cells = [for_latex(run)]
        for name in columns:
            one = numbers.of(place, name)
            text = number(one.value).replace("-", "--")
            cells.append(rf"\textbf{{{text}}}" if one.value == best[name] else text)
            if name == columns[0]:
                around = brackets(one)
                cells.append(rf"{{\scriptsize {around}}}" if around else "")
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def latex_title(name: str) -> str:
    """`AP50` -> `AP$^{50}$`, `APM` -> `AP$^{M}$`, `AP_easy` -> `AP$^{easy}$`."""
    found = re.fullmatch(r"([A-Z]{2})_?(\d+|[ML]|(?<=_)\w+)", name)
    return rf"{found[1]}$^{{{found[2]}}}$" if found else for_latex(name)


def for_latex(name: str) -> str:
    """A run's name may have letters, digits, `.`, `_`, `+` and `-`: only `_` is special to LaTeX, and `--`,
    which it would make one long dash."""
    return re.sub("-(?=-)", "-{}", name).replace("_", r"\_")
