"""The bars of groups: the AP of few people is pale."""

from __future__ import annotations

from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from pose.report.figures import FEW, group_bars
from pose.report.groups import Group


def group(name: str, people: int, ap: float) -> Group:
    return Group(name, people, missed=0, ap=ap, ap50=ap, ap75=ap, ar=ap)


def test_bars_of_few_people_are_pale_and_those_of_nobody_have_no_height() -> None:
    rows = [
        group("many", 500, 0.5),
        group("just enough", FEW, 0.7),
        group("few", FEW - 1, 0.9),
        group("none", 0, -1),
    ]
    figure = group_bars({"size, as COCO has it": rows[:1], "size": rows})
    (axes,) = figure.axes  # COCO's sizes are in the table only
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    assert len(bars) == len(axes.patches)
    assert [round(bar.get_height(), 3) for bar in bars] == [0.5, 0.7, 0.9, 0]
    strong, enough, pale, nobody = [sum(to_rgb(bar.get_facecolor())) for bar in bars]
    assert strong == enough < pale == nobody
    assert [label.get_text() for label in axes.texts] == ["0.500", "0.700", "0.900", "–"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [f"{g.name}\n{g.people}" for g in rows]
