"""What the page draws lies where it is on the picture, at any size."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pose.draw.people import Style
from pose.predict.batches import BatchPredictor
from pose.predict.canvas import Prepared
from pose.predict.settings import TestSettings
from pose.predictor import Predictor
from pose.structures import Fields, FieldSpec, People
from pose.web.limits import Limits
from pose.web.views import LARGEST, Seen, Viewer, cells_of, page_sized, summary, visible
from tests.dot_people import SKELETON, dot_model, dots

STYLE = Style(fade=False)


@pytest.fixture(scope="module")
def viewer() -> Viewer:
    batches = BatchPredictor(dot_model(size=160), TestSettings())
    experiment: Any = argparse.Namespace(folder=Path("seeing"))
    return Viewer(Predictor(batches, SKELETON, experiment), Limits())


@pytest.mark.parametrize("size", [(120, 160), (160, 120), (500, 640), (1000, 2400)])
def test_people_are_drawn_where_they_are_on_the_page(viewer: Viewer, size: tuple[int, int]) -> None:
    """Small pictures are enlarged there, large ones are made smaller."""
    height, width = size
    image = np.full((*size, 3), 90, np.uint8)
    places = np.array([[0.25, 0.25], [0.75, 0.5], [0.5, 0.75]]) * (width, height)
    people = People(np.column_stack([places, np.ones(3)])[None].astype(np.float32), np.ones(1, np.float32))
    shown = page_sized(image)
    assert max(shown.shape[:2]) in (640, LARGEST)
    drawn = viewer.draw(Seen(Path("a.png"), size, shown, people, 0.0), STYLE)
    rows, columns = np.nonzero((drawn != shown).any(2))
    zoom = shown.shape[1] / width
    corners = zoom * np.array([places.min(0), places.max(0)])
    assert (np.abs(np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]]) - corners) < 20).all()


def prepared(viewer: Viewer, size: tuple[int, int]) -> Prepared:
    return viewer.predictor.batches.prepare(np.zeros((*size, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((160, 160), slice(0, 40), slice(0, 40)),
        ((80, 160), slice(10, 30), slice(0, 40)),
        ((320, 160), slice(0, 40), slice(10, 30)),
        ((1, 1000), slice(20, 21), slice(0, 40)),  # less than a cell high
    ],
)
def test_the_cells_of_a_picture_are_those_that_it_fills(
    viewer: Viewer, size: tuple[int, int], rows: slice, columns: slice
) -> None:
    assert cells_of(prepared(viewer, size), 4) == (rows, columns)


@pytest.mark.parametrize("end", [0, 1])
def test_a_picture_of_less_than_half_a_cell_at_an_end_of_the_canvas_has_a_cell(end: int) -> None:
    canvas = torch.zeros(3, 160, 160, dtype=torch.uint8)
    top = (0.0, 159.5)[end]
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, top]])
    item = Prepared(0, [canvas], matrix, (1, 160))
    assert cells_of(item, 4) == ((slice(0, 1), slice(39, 40))[end], slice(0, 40))


def test_who_is_shown_has_the_score_and_at_least_one_keypoint(viewer: Viewer) -> None:
    keypoints = np.ones((4, 3, 3), np.float32)
    keypoints[1, :, 2] = 0.2
    keypoints[2, 1:, 2] = 0.2
    people = People(keypoints, np.array([0.9, 0.9, 0.9, 0.3], np.float32))
    style = Style(min_score=0.3, min_keypoint=0.2)
    assert visible(people, style).tolist() == [True, False, True, True]
    assert visible(people, Style(min_score=0.31, min_keypoint=0.1)).tolist() == [True, True, True, False]
    seen = Seen(Path("a.png"), (20, 30), np.zeros((20, 30, 3), np.uint8), people, 0.0125)
    assert summary(seen, style).startswith("3 people (1 more below the scores)")
    assert "30 × 20 pixels" in summary(seen, style)


def test_panels_show_the_picture_and_no_padding(viewer: Viewer, tmp_path: Path) -> None:
    """As wide as the picture on the page, and as high."""
    for name, size in (("wide", (60, 160)), ("high", (160, 60))):
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), dots(size, 1)[0][..., ::-1])
        seen, panels = viewer.see(path)
        ratio = seen.shown.shape[1] / seen.shown.shape[0]
        for panel in panels.values():
            assert panel.shape[1] / panel.shape[0] == pytest.approx(ratio, rel=0.1)


def test_a_field_that_nobody_knows_has_a_picture_that_names_it(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = viewer.predictor.batches.model.head
    secret = FieldSpec(3, (0, 1, 2), (1.0,) * 3)
    readout = head.readout

    def more(stages: Sequence[Fields]) -> Fields:
        return readout([{**stage, "secret": stage["heatmap"][:, :3]} for stage in stages])

    monkeypatch.setattr(head, "fields", {**head.fields, "secret": secret})
    monkeypatch.setattr(head, "readout", more)
    other = Viewer(viewer.predictor, Limits())
    path = tmp_path / "one.png"
    cv2.imwrite(str(path), dots((100, 160), 1)[0][..., ::-1])
    _, panels = other.see(path)
    assert [*panels] == [*viewer.see(path)[1], "secret"] == other.field_names()
    assert (panels["secret"] == (235, 235, 235)).all(-1).any()  # the line
