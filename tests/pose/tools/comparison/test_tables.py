"""Tables in which every number is the one of its run, and which LaTeX and Markdown read."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pose.metrics.coco import Coco
from pose.metrics.coco_eval import STATS
from pose.report.bootstrap import Bootstrap
from pose.tools.comparison.tables import difference_rows, for_latex, latex, latex_title, markdown

COLUMNS = Coco.columns
NAMES = ["one", "some_run", "c+d.2"]


def some_numbers(runs: int = len(NAMES), rounds: int = 200) -> Bootstrap:
    rng = np.random.default_rng(3)
    whole = rng.uniform(0.2, 0.9, (runs, len(STATS)))
    return Bootstrap(STATS, whole, whole + rng.normal(0, 0.03, (rounds, runs, len(STATS))))


def latex_rows(text: str) -> list[list[str]]:
    """Cells of every line of a tabular, the header first."""
    return [
        [cell.strip() for cell in line.removesuffix(r"\\").split("&")]
        for line in text.splitlines()
        if line.endswith(r"\\")
    ]


def test_every_row_has_the_tabulars_columns() -> None:
    text = latex(NAMES, some_numbers(), COLUMNS)
    spec = re.search(r"^\\begin\{tabular\}\{(.*)\}$", text, re.MULTILINE)
    assert spec is not None
    columns = re.sub(r"@\{[^}]*\}", "", spec[1])
    assert set(columns) == {"l", "r"}
    assert {len(row) for row in latex_rows(text)} == {len(columns)} == {2 + len(COLUMNS)}
    assert text.count("{") == text.count("}") and text.count("\n") == len(NAMES) + 7


def test_latex_has_the_intervals_of_markdown() -> None:
    numbers = some_numbers()
    intervals = [row[1] for row in difference_rows(NAMES, numbers, COLUMNS)[1]]
    for row, printed in zip(latex_rows(latex(NAMES, numbers, COLUMNS))[1:], intervals, strict=True):
        value = row[1].removeprefix(r"\textbf{").removesuffix("}")
        around = row[2].removeprefix(r"{\scriptsize ").removesuffix("}")
        assert f"{value} {around}" == printed and around.startswith("[")


def test_the_best_of_each_column_is_bold_and_no_interval_is() -> None:
    numbers = some_numbers()
    _, *found = latex_rows(latex(NAMES, numbers, COLUMNS))
    for column, name in zip([1, *range(3, 3 + len(COLUMNS))], COLUMNS):
        best = int(numbers.whole[:, STATS.index(name)].argmax())
        assert [r"\textbf" in row[column] for row in found] == [i == best for i in range(len(NAMES))]
    assert not any(r"\textbf" in row[2] for row in found)


def test_what_is_not_known_is_a_dash_and_has_no_interval() -> None:
    numbers = some_numbers()
    place, ap = 1, STATS.index("AP")
    numbers.whole[place, ap] = np.nan
    numbers.samples[:, 2, ap] = np.nan  # no draw had anything to score
    _, *found = latex_rows(latex(NAMES, numbers, COLUMNS))
    assert found[place][1:3] == ["--", ""] and found[2][2] == "" and found[2][1] not in ("--", "")
    rows = difference_rows(NAMES, numbers, COLUMNS)[1]
    assert rows[place][1] == "-" and re.fullmatch(r"\d+\.\d", rows[2][1])
    assert [row[3] for row in rows] == ["-", "not known", "not known"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain", "plain"),
        ("a_b__c", r"a\_b\_\_c"),
        ("a-b", "a-b"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("lr1e-3+flip.2", "lr1e-3+flip.2"),
    ],
)
def test_names_are_set_as_they_are_written(name: str, written: str) -> None:
    assert for_latex(name) == written
    assert written.replace("{}", "").replace("\\", "") == name
    assert latex([name], some_numbers(1), COLUMNS).count(f"\n{written} & ") == 1


def test_a_run_is_compared_with_the_first_in_the_same_draws() -> None:
    numbers = some_numbers(2)
    numbers.samples[:, 1] = numbers.samples[:, 0] + 0.001  # far within both intervals, yet sure
    numbers.whole[1] = numbers.whole[0] + 0.001
    header, rows = difference_rows(["one", "other"], numbers, COLUMNS)
    assert header[2] == "to one [95 %]" and rows[0][2:4] == ["-", "-"]
    assert rows[1][2:4] == ["+0.1 [+0.1, +0.1]", "better"]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("AP", "AP"),
        ("AP50", "AP$^{50}$"),
        ("APM", "AP$^{M}$"),
        ("AP_hard", "AP$^{hard}$"),
        ("PCK", "PCK"),
        ("a_b", r"a\_b"),
    ],
)
def test_titles_of_columns_are_as_papers_write_them(name: str, title: str) -> None:
    assert latex_title(name) == title


def test_a_metric_with_one_number_has_one_interval() -> None:
    numbers = some_numbers(2)
    header, rows = difference_rows(["one", "other"], numbers, ["AP"])
    assert len(header) == len(rows[0]) == 4


def test_markdown_is_aligned_and_keeps_bars_inside_cells() -> None:
    lines = markdown(["run", "AP"], [["a|b", "7"], ["longer name", "12.5"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3] * 4
    assert lines[2].startswith(r"| a\|b ") and lines[2].endswith("    7 |") and lines[1].endswith("-: |")
