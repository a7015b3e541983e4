"""The drawings of a report.  Figures, not pyplot, which would choose a backend for the whole process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pose.metrics.matching import RECALLS, THRESHOLDS, Matches
from pose.report.errors import KINDS, Cost, Errors
from pose.report.groups import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "good": "#5fa777",
    "jitter": "#e8c15a",
    "inversion": "#9a7fc4",
    "swap": "#4d8fc9",
    "miss": "#cf5f45",
    "background": "#8a8f98",
    "missed": "#3f4550",
    "score": "#c98bb3",
    "double": "#c98bb3",
    "matched": "#5fa777",
}
FIX_NAMES = {
    "miss": "keypoints missed",
    "swap": "keypoints swapped",
    "inversion": "left and right inverted",
    "jitter": "keypoints jittering",
    "background": "people in the background",
    "missed": "people missed",
    "score": "order of scores",
    "good": "good keypoints, not exact",
}


FEW = 20  # people; the AP of fewer says little, and its bar is pale


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def precision_recall(matches: Matches) -> Figure:
    """A curve for each OKS threshold."""
    from matplotlib import colormaps

    figure = _figure(7.5, 4.6)
    axes = figure.subplots()
    curves = matches.precision()
    for i, (threshold, curve) in enumerate(zip(THRESHOLDS, curves)):
        color = colormaps["viridis"](0.92 * i / (len(curves) - 1))
        axes.plot(RECALLS, curve, color=color, label=f"{threshold:.2f}: AP {max(0, curve.mean()):.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(alpha=0.25)
    _plain(axes)
    figure.legend(title="OKS", loc="outside right center", frameon=False, fontsize=9)
    return figure


def group_bars(groups: Mapping[str, Sequence[Group]]) -> Figure:
    """AP of each group, with the number of people below its name."""
    figure = _figure(11, 3.2)
    tables = [(title, table) for title, table in groups.items() if not title.startswith("size, as")]
    panels = figure.subplots(1, len(tables), sharey=True, width_ratios=[len(table) for _, table in tables])
    for axes, (title, table) in zip(np.atleast_1d(panels), tables):
        values = [max(0, group.ap) for group in table]
        colors = ["#4d8fc9" if group.people >= FEW else "#c4d9ec" for group in table]
        bars = axes.bar(range(len(table)), values, color=colors, width=0.7)
        texts = ["–" if group.ap < 0 else f"{group.ap:.3f}" for group in table]
        axes.bar_label(bars, texts, fontsize=8, padding=2)
        names = [f"{group.name}\n{group.people}" for group in table]
        axes.set_xticks(range(len(table)), names, fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 1.08)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        _plain(axes)
    np.atleast_1d(panels)[0].set_ylabel("AP")
    return figure


def keypoint_bars(errors: Errors, names: Sequence[str]) -> Figure:
    """For each keypoint the share of each kind, and for all together."""
    counts = errors.counts()
    rows = np.concatenate([counts, counts.sum(axis=0, keepdims=True)])
    shares = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    figure = _figure(9, 1.3 + 0.27 * len(rows))
    axes = figure.subplots()
    places = np.append(np.arange(len(names)), len(names) + 0.4)
    left = np.zeros(len(rows))
    for i, kind in enumerate(KINDS):
        axes.barh(places, shares[:, i], left=left, color=COLORS[kind], label=kind, height=0.78)
        for place, start, share in zip(places, left, shares[:, i]):
            if share >= 0.035:
                axes.text(
                    start + share / 2, place, f"{100 * share:.0f}", ha="center", va="center", fontsize=8
                )
        left = left + shares[:, i]
    axes.set_yticks(places, [*(name.replace("_", " ") for name in names), "all keypoints"], fontsize=9)
    axes.set(xlim=(0, 1), xticks=[], ylim=(places[-1] + 0.6, -0.6))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(KINDS), frameon=False)
    return figure


def cost_steps(before: float, costs: Sequence[Cost]) -> Figure:
    """From the AP to 1, one kind of error after the other."""
    figure = _figure(9, 1.0 + 0.36 * (len(costs) + 1))
    axes = figure.subplots()
    axes.barh(0, before, color="#3d7a5a", height=0.7)
    axes.text(before + 0.008, 0, f"{before:.3f}", va="center", fontsize=9)
    last = before
    for place, cost in enumerate(costs, start=1):
        gain = cost.together - last
        axes.barh(place, gain, left=last, color=COLORS[cost.fix], height=0.7)
        axes.plot([last, last], [place - 1.35, place + 0.35], color="#888", linewidth=0.7)
        end = max(last, cost.together)
        side: dict[str, Any] = {"x": end + 0.008, "ha": "left"}
        if end > 0.9:
            side = {"x": min(last, cost.together) - 0.008, "ha": "right"}
        axes.text(y=place, s=f"{gain:+.3f}", va="center", fontsize=9, **side)
        last = cost.together
    axes.set_yticks(range(len(costs) + 1), ["AP", *(FIX_NAMES[cost.fix] for cost in costs)], fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.0))
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    _plain(axes)
    return figure


def score_histogram(scores: np.ndarray, errors: Errors) -> Figure:
    """Of people found: who is right, and who is not."""
    figure = _figure(7.5, 3.2)
    axes = figure.subplots()
    parts = {
        "matched": (errors.person >= 0, "with a person annotated"),
        "double": (errors.double, "found twice"),
        "background": (errors.background, "in the background"),
    }
    bins = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-6), 31)
    axes.hist(
        [scores[mask] for mask, _ in parts.values()],
        bins=list(bins),
        stacked=True,
        color=[COLORS[key] for key in parts],
        label=[f"{text}: {mask.sum()}" for mask, text in parts.values()],
    )
    axes.set(xlabel="score", ylabel="people found")
    axes.legend(frameon=False)
    _plain(axes)
    return figure
