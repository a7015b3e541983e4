"""The one painter: what stands beside an image is enlarged with it, and lies where it lies there."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pose import panels
from pose.draw.people import Style, person_color
from pose.draw.sheets import Panel
from pose.panels import Painter, enlarged, moved
from pose.registry import HEADS
from pose.skeleton import Skeleton
from pose.structures import FieldSpec, People
from tests.drawn_heads import SKELETON

IMAGE = np.full((64, 96, 3), 100, np.uint8)
DOTS = Skeleton("dots", ("nose", "foot_sole"), limbs=(("nose", "foot_sole"),))
SPECS = {
    "heatmap": FieldSpec(2, (0, 1), (1.0, 1.0), drawn="heat"),
    "paf": FieldSpec(2, (0, 1), (-1.0, 1.0), drawn="vectors"),
    "tag": FieldSpec(2, (0, 1), (1.0, 1.0), "stack", drawn="value"),
}


def bumps(*places: tuple[int, int]) -> Tensor:
    """(K, 16, 24) a peak in each map, at (row, column)."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    return torch.stack([torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 2.0) for row, column in places])


HEAT = bumps((4, 4), (4, 16))


def people(*places: tuple[int, int], scores: tuple[float, ...] = ()) -> People:
    """Two keypoints of each person: at a place (x, y), and 16 pixels to the right of it."""
    keypoints = np.ones((len(places), 2, 3), np.float32)
    for i, (x, y) in enumerate(places):
        keypoints[i, :, :2] = (x, y), (x + 16, y)
    return People(keypoints, np.array(scores or [1.0] * len(places), np.float32))


# -------------------------------------------------------------------------------------------------- one frame


@pytest.mark.parametrize("zoom", [1.0, 2.0, 6.0, 3.5, (2.0, 5.0), 0.5])
def test_a_keypoint_on_a_bright_pixel_lies_in_its_middle_when_both_are_enlarged(
    zoom: float | tuple[float, float],
) -> None:
    """Whatever `input.pixel_center` is: the keypoints were warped to the input together with the pixels."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:12, 20:22] = 255  # two by two pixels, so that a smaller image has one
    large = enlarged(image, zoom)[..., 0].astype(float)
    y, x = np.mgrid[: large.shape[0], : large.shape[1]]
    middle = np.array([(x * large).sum(), (y * large).sum()]) / large.sum()
    person = People(np.array([[[20.5, 10.5, 1], [20.5, 10.5, 0]]], np.float32), np.ones(1, np.float32))
    found = moved(person, zoom).keypoints[0]
    np.testing.assert_allclose(found[0, :2], middle, atol=0.02)
    assert (found[1] == 0).all() and person.keypoints[0, 1, 0] == 20.5  # left as it was


def test_trainer_visualize_browse_and_web_have_one_painter() -> None:
    users = set()
    for file in sorted(Path(panels.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "pose.draw.fields":
                users.add(file.name)
    assert users == {"panels.py"}


# ------------------------------------------------------------------------------------------------- the fields


@pytest.mark.parametrize("name", HEADS.names())
def test_every_head_says_how_its_fields_are_drawn(name: str) -> None:
    head = HEADS.build(HEADS[name].config(), SKELETON)
    assert all(spec.drawn for spec in head.fields.values())


def test_a_field_that_nobody_knows_is_named_on_a_sheet_and_the_rest_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specs = {"secret": FieldSpec(3, (0, 1, 2), (1.0,) * 3), **SPECS}
    fields = {"secret": torch.zeros(3, 16, 24), "heatmap": HEAT, "paf": torch.zeros(2, 16, 24)}
    rows = rows_of(
        monkeypatch, lambda: Painter(specs, DOTS).sheet(IMAGE, (fields, people()), (fields, people()))
    )
    assert [[panel.name for panel in row] for row in rows] == 2 * [["people", "heatmap", "paf", "secret"]]
    assert rows[0][-1].caption.startswith("target secret: not drawn, ")
    assert Painter(specs, DOTS).sheet(IMAGE, (fields, people())).ndim == 3


# -------------------------------------------------------------------------------------------------- the sheet


def rows_of(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], object]) -> list[list[Panel]]:
    """The panels of a sheet that `draw` makes."""
    kept: list[list[Panel]] = []

    def sheet(rows: list[list[Panel]]) -> np.ndarray:
        kept.extend(rows)
        return IMAGE

    with monkeypatch.context() as patch:
        patch.setattr(panels, "panel_sheet", sheet)
        draw()
    return kept


def test_a_found_person_has_the_colour_of_the_annotated_one() -> None:
    fields = {"heatmap": HEAT}
    truth, found = people((10, 10), (60, 40)), people((61, 41), (30, 55), (11, 10))
    sheet = Painter(SPECS, DOTS).sheet(IMAGE, (fields, found), (fields, truth))
    bar = sheet.shape[0] // 2 - 64 - 3
    for row, y, x, number in [(0, 10, 18, 0), (0, 40, 68, 1), (1, 10, 19, 0), (1, 41, 69, 1), (1, 55, 38, 2)]:
        line = sheet[row * (64 + bar + 6) + bar + y, x]
        np.testing.assert_allclose(line, person_color(number), atol=40)


def test_targets_predictions_and_stages_have_a_row_each() -> None:
    fields = {"heatmap": HEAT, "paf": torch.zeros(2, 16, 24)}
    nobody = (fields, People.none(2))
    heights = [
        Painter(SPECS, DOTS).sheet(IMAGE, nobody, *more, stages=stages).shape[0]
        for more, stages in (((), ()), ((nobody,), ()), ((nobody,), (fields, {"paf": fields["paf"]})))
    ]
    one = heights[0] + 6
    assert heights == [one - 6, 2 * one - 6, 4 * one - 6]


def test_a_sheet_leaves_out_the_people_that_the_style_does_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tagged = {"heatmap": bumps((4, 4), (4, 8)), "tag": torch.zeros(1, 2, 16, 24)}
    found = people((18, 18), (66, 50), scores=(0.9, 0.2))
    painter, sheets = Painter(SPECS, DOTS), []
    for least in (0.0, 0.5):
        style = Style(fade=False, min_score=least)
        draw = partial(painter.sheet, IMAGE, (tagged, found), style=style)
        sheets.append(rows_of(monkeypatch, draw))
    both, one = ({panel.name: panel for panel in rows[0]} for rows in sheets)
    assert both["people"].caption == "2 found"
    assert one["people"].caption == "1 found (1 more below 0.5)"
    for name in ("people", "tag_people"):
        near = (slice(44, 57), slice(60, 90))  # the second one
        assert (both[name].picture[near] != one[name].picture[near]).any(), name
