"""Panels where a map has other cells than squares, several keypoints, or people who are left out."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.draw.arrows import MOST, peaks
from pose.draw.fields import field_panels, field_sheet
from pose.draw.people import Style, person_color
from pose.draw.sheets import Panel
from pose.draw.view import View
from pose.skeleton import Skeleton
from pose.structures import People

IMAGE = np.full((64, 96, 3), 100, np.uint8)
TWO = Skeleton("two", ("nose", "hand"), limbs=(("nose", "hand"),), mirror={"nose": "nose", "hand": "hand"})
NAMES = ("a", "b", "c")
THREE = Skeleton("three", NAMES, limbs=(("a", "b"), ("b", "c"), ("a", "c")), mirror={n: n for n in NAMES})


def bumps(rows: int, columns: int, *places: tuple[int, int]) -> Tensor:
    """(K, rows, columns) a peak in each map, at (row, column)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 2.0) for row, column in places])


def panels(fields: dict[str, Tensor], skeleton: Skeleton, **options: Any) -> dict[str, Panel]:
    return {panel.name: panel for panel in field_panels(IMAGE, fields, skeleton, **options)}


def hue(pixel: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(pixel / 255).tolist())[0]


def person(*points: tuple[float, float]) -> np.ndarray:
    return np.array([[x, y, 1] for x, y in points], np.float32)


def people(*persons: np.ndarray, scores: tuple[float, ...] = ()) -> People:
    return People(np.stack(persons), np.array(scores or [1.0] * len(persons), np.float32))


def test_tags_are_read_at_the_cells_of_keypoints_whatever_the_shape_of_a_cell() -> None:
    """4 pixels wide and 8 high."""
    heat = bumps(8, 24, (1, 2), (6, 20))
    tag = torch.zeros(1, 2, 8, 24)
    tag[0, 1, 6, 20] = 5  # at the hand, and nowhere else
    one = people(person((10, 12), (82, 52)))
    drawn = panels({"heatmap": heat, "tag": tag}, TWO, people=one)
    assert hue(drawn["tag_people"].picture[12, 10]) < 0.05
    assert abs(hue(drawn["tag_people"].picture[52, 82]) - 0.8) < 0.05
    assert drawn["tag_values"].caption == "tags 0 to 5, a row per person"


@pytest.mark.parametrize("sign", [1, -1])
def test_tags_of_several_numbers_rise_with_the_annotated_people_as_their_targets_do(sign: int) -> None:
    heat = bumps(16, 24, (4, 4), (4, 8)) + bumps(16, 24, (12, 16), (12, 20))
    tag = torch.zeros(2, 2, 16, 24)
    tag[:, :, 8:] = sign * torch.tensor([3.0, 4.0])[:, None, None, None]
    truth = people(person((18, 18), (34, 18)), person((66, 50), (82, 50)))
    drawn = panels({"heatmap": heat, "tag": tag}, TWO, people=truth, truth=truth)["tag"].picture
    assert hue(drawn[18, 18]) < 0.05 < 0.7 < hue(drawn[50, 66])


def test_every_cell_has_the_tag_of_the_nearest_that_is_known() -> None:
    heat = bumps(16, 24, (4, 4), (4, 4)) + bumps(16, 24, (12, 20), (12, 20))
    tag, known = torch.zeros(2, 16, 24), torch.zeros(2, 16, 24, dtype=torch.bool)
    known[:, 4, 4] = known[:, 12, 20] = True
    tag[:, 4, 4], tag[:, 12, 20] = 1, 2
    drawn = panels({"heatmap": heat, "tag": tag, "tag_known": known}, TWO)["tag"]
    assert drawn.caption == "tag 1 (red) to 2 (violet)"
    assert hue(drawn.picture[22, 22]) < 0.05 and abs(hue(drawn.picture[46, 78]) - 0.8) < 0.05


def test_an_arrow_leads_to_the_keypoint_that_it_is_about() -> None:
    """Of each keypoint, the others only are listed."""
    heat = bumps(16, 24, (4, 4), (4, 20), (12, 12))
    at = [(17.5, 17.5), (81.5, 17.5), (49.5, 49.5)]
    ways = [(k, other) for k in range(3) for other in range(3) if other != k]
    for k, other in ways:
        pairwise, known = torch.zeros(3, 2, 2, 16, 24), torch.zeros(3, 2, 16, 24, dtype=torch.bool)
        for a, b in ways:
            place = [c for c in range(3) if c != a].index(b)
            pairwise[a, place] = torch.tensor([v - u for u, v in zip(at[a], at[b])])[:, None, None]
            known[a, place] = (a, b) == (k, other)
        fields = {"heatmap": heat, "pairwise": pairwise.flatten(0, 2), "pairwise_known": known.flatten(0, 1)}
        drawn = panels(fields, THREE)["pairwise"]
        fields["pairwise_known"] = torch.zeros_like(fields["pairwise_known"])
        plain = panels(fields, THREE)["pairwise"].picture.astype(int)
        y, x = np.nonzero((np.abs(drawn.picture - plain) > 40).any(-1))
        (u, v), (s, t) = at[k], at[other]
        off = np.abs((x - u) * (t - v) - (y - v) * (s - u)) / np.hypot(s - u, t - v)
        assert len(x) > 20 and off.max() < 6, f"the line from {k} to {other}"
        assert drawn.caption.endswith(f"up to {np.hypot(s - u, t - v):.3g} px")


@pytest.mark.parametrize(("away", "mine"), [(2, True), (4, False)])
def test_a_peak_has_the_colour_of_the_person_there_and_of_nobody_else(away: int, mine: bool) -> None:
    heat = bumps(16, 24, (8, 6), (8, 30))
    locref = torch.zeros(4, 16, 24)
    one = people(person((4 * (6 + away) + 1.5, 33.5), (90, 60)))
    drawn = panels({"heatmap": heat, "locref": locref}, TWO, people=one, numbers=[5])["locref"].picture
    near = drawn[30:38, 22:32].reshape(-1, 3).astype(int)
    assert (np.abs(near - person_color(5)).max(1) < 12).any() == mine


def test_of_a_flat_top_and_of_neighbours_there_is_one_peak() -> None:
    maps = np.zeros((2, 12, 16), np.float32)
    maps[0, 4:6, 4:6] = 1
    maps[0, 4, 12] = 0.5
    maps[1, 5, 5] = 0.8
    found = peaks(maps, 0.1)
    assert [place[0] for place in found] == [0, 1, 0]
    assert found[1:] == [(1, 5, 5), (0, 4, 12)], "the highest first; maps do not hide each other's"
    assert len(peaks(np.ones((1, 400, 400), np.float32), 0.5)) == MOST


def test_colours_cover_what_is_below_them_as_far_as_they_are_opaque() -> None:
    heat = bumps(16, 24, (4, 4), (4, 20))
    view = View.of(np.full((64, 96, 3), 255, np.uint8), {"heatmap": heat}, TWO, None, None, [], 1.0, False)
    blue = np.zeros((16, 24, 3)) + (0.0, 0.0, 1.0)
    np.testing.assert_allclose(view.over(blue, np.ones((16, 24))), np.zeros((64, 96, 3)) + (0, 0, 255))
    np.testing.assert_allclose(view.over(blue, np.zeros((16, 24))), view.backdrop)
    half = view.over(blue, np.full((16, 24), 0.5))
    np.testing.assert_allclose(half, 0.5 * view.backdrop + (0, 0, 127.5), rtol=1e-5)


def test_a_sheet_leaves_out_the_people_that_the_style_does_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pose.draw import fields as module

    sheets: list[list[list[Panel]]] = []

    def sheet(rows: list[list[Panel]]) -> np.ndarray:
        sheets.append(rows)
        return IMAGE

    monkeypatch.setattr(module, "panel_sheet", sheet)
    heat = bumps(16, 24, (4, 4), (4, 8))
    found = people(person((18, 18), (34, 18)), person((66, 50), (82, 50)), scores=(0.9, 0.2))
    for least in (0.0, 0.5):
        tagged = {"heatmap": heat, "tag": torch.zeros(1, 2, 16, 24)}
        field_sheet(IMAGE, TWO, (tagged, found), style=Style(fade=False, min_score=least))
    both, one = ({panel.name: panel for panel in rows[0]} for rows in sheets)
    assert both["people"].caption == "2 found"
    assert one["people"].caption == "1 found (1 more below 0.5)"
    for name in ("people", "tag_people"):
        near = (slice(44, 57), slice(60, 90))  # the second one
        assert (both[name].picture[near] != one[name].picture[near]).any(), name
