"""Sheets of panels: those of one name below each other, with a line of text above each."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.sheets import MARGIN, Panel, captioned, panel_sheet

SIDE = 120
BAR = captioned(np.zeros((SIDE, SIDE, 3), np.uint8), "").shape[0] - SIDE


def panel(name: str, value: int, caption: str = "") -> Panel:
    return Panel(name, np.full((SIDE, SIDE, 3), value, np.uint8), caption)


def middle(sheet: np.ndarray, row: int, column: int) -> int:
    y = row * (SIDE + BAR + MARGIN) + BAR + SIDE // 2
    return int(sheet[y, column * (SIDE + MARGIN) + SIDE // 2, 0])


def test_panels_of_one_name_stand_below_each_other() -> None:
    rows = [[panel("a", 10), panel("c", 30)], [panel("a", 11), panel("b", 21)]]
    sheet = panel_sheet(rows)
    assert sheet.shape == (2 * (SIDE + BAR) + MARGIN, 3 * SIDE + 2 * MARGIN, 3)
    found = [[middle(sheet, row, column) for column in range(3)] for row in range(2)]
    assert found == [[10, 30, 255], [11, 255, 21]]


def test_more_names_than_columns_go_on_further_down() -> None:
    rows = [[panel(str(i), 10 + i) for i in range(3)], [panel(str(i), 20 + i) for i in range(2)]]
    sheet = panel_sheet(rows, columns=2)
    found = [[middle(sheet, row, column) for column in range(2)] for row in range(3)]
    assert found == [[10, 11], [20, 21], [12, 255]]  # no empty row for what the second row lacks
    assert sheet.shape[0] == 3 * (SIDE + BAR) + 2 * MARGIN


@pytest.mark.parametrize(
    "text", ["short", "far too long for so narrow a picture, by any measure", "é \N{SNOWMAN}"]
)
@pytest.mark.parametrize("width", [20, 120, 3000])
def test_the_text_is_inside_its_bar(text: str, width: int) -> None:
    picture = np.full((30, width, 3), 90, np.uint8)
    drawn = captioned(picture, text)
    assert drawn.shape[1] == width and (drawn[-30:] == 90).all()
    bar = drawn[:-30, :, 0].astype(int)
    assert (bar > 120).any() or width == 20
    assert (bar[[0, -1]] == 24).all() and (bar[:, -2:] == 24).all()
