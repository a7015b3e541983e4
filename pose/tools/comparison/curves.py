"""The trainings of several runs in one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pose.engine.log import read_log, shown_numbers
from pose.experiment import Experiment

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


def curves(experiments: Sequence[Experiment], size: tuple[float, float] = (12, 5)) -> bytes:
    """What validations gave, and loss in training (and validation, where it was asked for), over the steps,
    as a PNG."""
    from matplotlib.figure import Figure  # not pyplot, which would choose a backend for the whole process

    figure = Figure(figsize=size, layout="constrained")
    left, right = figure.subplots(1, 2)
    dotted, titles = False, []
    for i, experiment in enumerate(experiments):
        records = read_log(experiment.path("log.jsonl"))
        look: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "linestyle": STYLES[i % len(STYLES)]}
        validations = [one for one in records if one["kind"] == "validation"]
        metric, names = shown_numbers(validations[-1] if validations else {})
        score = [point for point in points(records, "validation", names[0]) if point[1] >= 0]
        titles += [f"{names[0]} ({metric})"] if score else []
        label = experiment.folder.name + ("" if score else " (no validation)")
        left.plot(*zip(*score or [(np.nan, np.nan)]), label=label, marker="o", markersize=4, lw=1.8, **look)
        for kind, marker, width in (("train", None, 1.8), ("validation", "o", 0.7)):
            if loss := points(records, kind, "loss"):
                right.plot(*zip(*loss), marker=marker, markersize=3, linewidth=width, **look)
                dotted |= kind == "validation"
    left.set(xlabel="step", ylabel=" / ".join(dict.fromkeys(titles)), title="validation during training")
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
