"""Fields over pictures: colours stand where the maps are, and mean what the docstring says."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.draw.fields import field_panels
from pose.draw.people import person_color
from pose.draw.sheets import Panel
from pose.draw.view import DIM
from pose.skeleton import Skeleton
from pose.structures import Drawn, People

IMAGE = np.full((64, 96, 3), 100, np.uint8)
DRAWN: dict[str, Drawn | None] = {
    "heatmap": "heat",
    "paf": "vectors",
    "tag": "value",
    "locref": "offsets",
    "pairwise": "offsets_to_others",
}
FAR = (slice(40, 64), slice(50, 74))  # where nothing is, nor a wheel of colours


def draw_fields(image: np.ndarray, fields: dict[str, Tensor], num_keypoints: int) -> dict[str, np.ndarray]:
    return {panel.name: panel.picture for panel in field_panels(image, fields, DRAWN, num_keypoints)}


def bump(row: int, column: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 4.0)


def hue(pixel: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*(pixel / 255).tolist())[0]


def test_each_kind_of_keypoint_has_its_colour_and_the_background_has_none() -> None:
    heat = torch.stack((bump(4, 4), bump(4, 16), torch.ones(16, 24)))
    drawn = draw_fields(IMAGE, {"heatmap": heat}, num_keypoints=2)["heatmap"]
    assert drawn.shape == IMAGE.shape and drawn.dtype == np.uint8
    np.testing.assert_allclose(drawn[FAR], DIM * 100, atol=1)
    one, other = drawn[18, 18], drawn[18, 66]
    assert one.max() > 200 and other.max() > 200 and abs(hue(one) - hue(other)) > 0.2


@pytest.mark.parametrize(("x", "y", "expected"), [(1, 0, 0.0), (0, 1, 0.25), (-1, 0, 0.5), (0, -1, 0.75)])
def test_the_direction_of_a_limb_is_its_hue(x: float, y: float, expected: float) -> None:
    there = bump(4, 4)
    weak = 0.3 * there  # of another limb, in another direction
    paf = torch.stack((x * there, y * there, y * weak, -x * weak))
    drawn = draw_fields(IMAGE, {"paf": paf}, num_keypoints=2)["paf"]
    np.testing.assert_allclose(drawn[FAR], DIM * 100, atol=1)
    away = abs(hue(drawn[18, 18]) - expected)
    assert min(away, 1 - away) < 0.05


def test_people_with_different_tags_have_different_hues() -> None:
    heat = torch.stack((bump(4, 4), bump(4, 16)))
    tag = torch.zeros(2, 4, 16, 24)  # two passes, two keypoints with two numbers each
    tag[:, ::2, :, 12:] = 5
    drawn = draw_fields(IMAGE, {"heatmap": heat, "tag": tag}, num_keypoints=2)
    assert set(drawn) == {"heatmap", "tag"}
    assert abs(hue(drawn["tag"][18, 18]) - hue(drawn["tag"][18, 66])) > 0.3


def test_maps_that_are_empty_or_not_finite_are_drawn() -> None:
    fields = {"heatmap": torch.full((2, 16, 24), float("nan")), "paf": torch.zeros(4, 16, 24)}
    for drawn in draw_fields(IMAGE, fields, num_keypoints=2).values():
        assert drawn.shape == IMAGE.shape


# ------------------------------------------------------------------------------- what is weak, dark or broken

HEAT = torch.stack((bump(4, 4), bump(4, 16)))
DOTS = Skeleton("dots", ("nose", "foot_sole"), limbs=(("nose", "foot_sole"),))


def by_name(fields: dict[str, torch.Tensor], **more: Any) -> dict[str, Panel]:
    return {panel.name: panel for panel in field_panels(IMAGE, fields, DRAWN, DOTS, **more)}


def test_weak_maps_are_shown_stronger_and_the_caption_says_so() -> None:
    weak, full = by_name({"heatmap": 0.03 * HEAT})["heatmap"], by_name({"heatmap": HEAT})["heatmap"]
    assert weak.picture[18, 18].max() > 0.6 * full.picture[18, 18].max()
    assert weak.caption == "heatmap max 0.03, shown x 25" and full.caption == "heatmap max 1"
    nothing = by_name({"heatmap": 1e-6 * HEAT})["heatmap"].picture
    np.testing.assert_allclose(nothing, DIM * 100, atol=1)


def test_the_background_map_and_each_keypoint_have_panels() -> None:
    heat = torch.cat((HEAT, 1 - HEAT.amax(0, keepdim=True)))
    panels = by_name({"heatmap": heat, "paf": torch.zeros(2, 16, 24)}, each=True)
    assert list(panels) == ["heatmap", "background", "heatmap/0", "heatmap/1", "paf", "paf/0"]
    assert panels["background"].picture[18, 18].max() > 200
    np.testing.assert_allclose(panels["background"].picture[FAR], DIM * 100, atol=1)
    assert panels["heatmap/1"].picture[18, 66].max() > 200 > 60 > panels["heatmap/1"].picture[18, 18].max()
    assert panels["heatmap/1"].caption.startswith("foot sole max 1")
    assert panels["paf/0"].caption.startswith("nose > foot sole")


def test_a_dark_picture_can_still_be_seen() -> None:
    dark = np.full((64, 96, 3), 4, np.uint8)
    dark[:, 48:] = 16
    drawn = draw_fields(dark, {"heatmap": 0 * HEAT}, 2)["heatmap"]
    assert drawn[30, 70].mean() > 35 and drawn[30, 20].mean() < 20


def test_values_that_are_not_finite_are_counted() -> None:
    broken = HEAT.clone()
    broken[0, :8] = torch.nan
    broken[1, :4] = torch.inf
    panels = by_name({"heatmap": broken, "tag": broken[None]}, people=People.none(2))
    assert ", 38% not finite" in panels["heatmap"].caption and ", 38% not finite" in panels["tag"].caption


def test_what_does_not_count_is_hatched() -> None:
    mask = torch.ones(1, 16, 24)
    mask[:, :, :6] = 0
    hatched = by_name({"heatmap": HEAT, "mask": mask})["heatmap"].picture.astype(int)
    plain = by_name({"heatmap": HEAT})["heatmap"].picture.astype(int)
    differs = (hatched != plain).any(-1)
    assert not differs[:, 24:].any() and differs[:, :24].all()
    stripes = (hatched[:, :24] == 200).all(-1)
    assert 0.1 < stripes.mean() < 0.4


# ----------------------------------------------------------------------------------------------------- people


def people(*places: tuple[int, int]) -> People:
    """Two keypoints of each person: at a place (x, y), and 16 pixels to the right of it."""
    keypoints = np.ones((len(places), 2, 3), np.float32)
    for i, (x, y) in enumerate(places):
        keypoints[i, :, :2] = (x, y), (x + 16, y)
    return People(keypoints, np.ones(len(places), np.float32))


def test_tags_of_two_passes_are_not_averaged_away() -> None:
    """A mirrored pass may order people the other way round."""
    tag = torch.zeros(2, 2, 16, 24)
    tag[0, :, :, 12:] = 4
    tag[1, :, :, :12] = 4
    panel = by_name({"heatmap": HEAT, "tag": tag})["tag"]
    assert abs(hue(panel.picture[18, 18]) - hue(panel.picture[18, 66])) > 0.3
    assert panel.caption.startswith("tag, main axis of 2, ")


def test_a_target_tag_that_is_known_at_one_cell_colours_its_whole_spot() -> None:
    tag, known = torch.zeros(2, 16, 24), torch.zeros(2, 16, 24, dtype=torch.bool)
    tag[1, 4, 16] = 1
    known[0, 4, 4] = known[1, 4, 16] = True
    panel = by_name({"heatmap": HEAT, "tag": tag, "tag_known": known})["tag"]
    assert panel.caption == "tag 0 (red) to 1 (violet)"
    assert hue(panel.picture[18, 14]) < 0.05 and abs(hue(panel.picture[14, 62]) - 0.8) < 0.05


def test_people_stand_in_their_colours_with_their_tags_in_it() -> None:
    tag = torch.zeros(1, 2, 16, 24)
    tag[..., 12:] = 5
    found = people((10, 10), (70, 40))
    panels = by_name({"heatmap": HEAT, "tag": tag}, people=found, numbers=[1, 0])
    drawn = panels["tag_people"].picture
    assert hue(drawn[10, 10]) < 0.05 and abs(hue(drawn[40, 70]) - 0.8) < 0.05
    for (y, x), number in (((10, 18), 1), ((40, 78), 0)):
        np.testing.assert_allclose(drawn[y, x], person_color(number), atol=30)
    dots = panels["tag_values"].picture
    columns = [
        np.nonzero((np.abs(dots.astype(int) - person_color(number)).max(-1) < 30).any(0))[0]
        for number in (0, 1)
    ]  # of labels and dots
    assert columns[0].max() > columns[1].max() + 20
    assert panels["tag_values"].caption == "tags 0 to 5, a row per person"


@pytest.mark.parametrize("zoom", [1.0, 2.0])
def test_a_peak_has_an_arrow_to_its_keypoint(zoom: float) -> None:
    locref = torch.zeros(4, 16, 24)
    locref[0], locref[3] = 9, -8
    panel = by_name({"heatmap": HEAT, "locref": locref}, zoom=zoom)["locref"]
    assert panel.caption == "locref at 2 peaks, up to 9 px"
    plain = by_name({"heatmap": HEAT, "locref": 0 * locref})["locref"].picture.astype(int)
    differs = (np.abs(panel.picture - plain) > 60).any(-1)
    y, x = np.nonzero(differs[:, :48])  # the nose's
    assert x.max() == pytest.approx(17.5 + 9 * zoom, abs=3.5) and np.ptp(y) < 10
    y, x = np.nonzero(differs[:, 48:])
    assert y.min() == pytest.approx(17.5 - 8 * zoom, abs=3.5) and np.ptp(x) < 10


def test_arrows_lead_along_limbs_where_they_are_known() -> None:
    pairwise = torch.zeros(4, 16, 24)
    pairwise[0], pairwise[2] = 44, -20  # nose -> hand, hand -> nose
    known = torch.ones(2, 16, 24, dtype=torch.bool)
    both = by_name({"heatmap": HEAT, "pairwise": pairwise})["pairwise"]
    assert both.caption == "pairwise along limbs, up to 44 px"
    known[0] = False
    one = by_name({"heatmap": HEAT, "pairwise": pairwise, "pairwise_known": known})["pairwise"]
    assert one.caption == "pairwise along limbs, up to 20 px"
    assert (both.picture[18, 30] != one.picture[18, 30]).any()  # on the way from the nose
    assert (both.picture[18, 64] == one.picture[18, 64]).all()
    without = draw_fields(IMAGE, {"heatmap": HEAT, "pairwise": pairwise}, 2)
    assert list(without) == ["heatmap", "pairwise"]


def test_flat_maps_have_no_arrows() -> None:
    heat = 0.5 + 0.02 * HEAT
    panel = by_name({"heatmap": heat, "locref": torch.ones(4, 16, 24)})["locref"]
    assert panel.caption == "locref at 0 peaks, up to 0 px"


# ------------------------------------------------------------------------------------------------------------
# Panels where a map has other cells than squares, several keypoints, or people who are left out.


TWO = Skeleton("two", ("nose", "hand"), limbs=(("nose", "hand"),), mirror={"nose": "nose", "hand": "hand"})
NAMES = ("a", "b", "c")
THREE = Skeleton("three", NAMES, limbs=(("a", "b"), ("b", "c"), ("a", "c")), mirror={n: n for n in NAMES})


def bumps(rows: int, columns: int, *places: tuple[int, int]) -> Tensor:
    """(K, rows, columns) a peak in each map, at (row, column)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 2.0) for row, column in places])


def panels(fields: dict[str, Tensor], skeleton: Skeleton, **options: Any) -> dict[str, Panel]:
    return {panel.name: panel for panel in field_panels(IMAGE, fields, DRAWN, skeleton, **options)}


def person(*points: tuple[float, float]) -> np.ndarray:
    return np.array([[x, y, 1] for x, y in points], np.float32)


def people_of(*persons: np.ndarray, scores: tuple[float, ...] = ()) -> People:
    return People(np.stack(persons), np.array(scores or [1.0] * len(persons), np.float32))


def test_tags_are_read_at_the_cells_of_keypoints_whatever_the_shape_of_a_cell() -> None:
    """4 pixels wide and 8 high."""
    heat = bumps(8, 24, (1, 2), (6, 20))
    tag = torch.zeros(1, 2, 8, 24)
    tag[0, 1, 6, 20] = 5  # at the hand, and nowhere else
    one = people_of(person((10, 12), (82, 52)))
    drawn = panels({"heatmap": heat, "tag": tag}, TWO, people=one)
    assert hue(drawn["tag_people"].picture[12, 10]) < 0.05
    assert abs(hue(drawn["tag_people"].picture[52, 82]) - 0.8) < 0.05
    assert drawn["tag_values"].caption == "tags 0 to 5, a row per person"


@pytest.mark.parametrize("sign", [1, -1])
def test_tags_of_several_numbers_rise_with_the_annotated_people_as_their_targets_do(sign: int) -> None:
    heat = bumps(16, 24, (4, 4), (4, 8)) + bumps(16, 24, (12, 16), (12, 20))
    tag = torch.zeros(2, 2, 16, 24)
    tag[:, :, 8:] = sign * torch.tensor([3.0, 4.0])[:, None, None, None]
    truth = people_of(person((18, 18), (34, 18)), person((66, 50), (82, 50)))
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
    one = people_of(person((4 * (6 + away) + 1.5, 33.5), (90, 60)))
    drawn = panels({"heatmap": heat, "locref": locref}, TWO, people=one, numbers=[5])["locref"].picture
    near = drawn[30:38, 22:32].reshape(-1, 3).astype(int)
    assert (np.abs(near - person_color(5)).max(1) < 12).any() == mine


# ----------------------------------------------------------------------------------------------- new fields


def of_new(drawn: Drawn | None, maps: Tensor, **more: Any) -> list[Panel]:
    """Panels of a field that no head of the package has, beside a heatmap."""
    return field_panels(
        IMAGE, {"new": maps, "heatmap": HEAT}, {"new": drawn, "heatmap": "heat"}, DOTS, **more
    )


@pytest.mark.parametrize(
    ("drawn", "maps", "names"),
    [
        ("heat", 3, ["new"]),
        ("vectors", 6, ["new"]),
        ("value", 4, ["new", "new_people", "new_values"]),
        ("offsets", 4, ["new"]),
        ("offsets_to_others", 4, ["new"]),
    ],
)
def test_a_new_field_is_drawn_by_its_kind(drawn: Drawn, maps: int, names: list[str]) -> None:
    values = torch.stack([bump(4, 4), bump(4, 16), bump(12, 8), -bump(4, 4), bump(8, 8), bump(12, 20)])[:maps]
    panels = of_new(drawn, values, people=people((10, 10)))
    assert sorted(panel.name for panel in panels) == sorted(["heatmap", *names])
    shown = {panel.name: panel for panel in panels}
    assert "not drawn" not in shown["new"].caption and shown["new"].caption.startswith("new")
    empty = {panel.name: panel for panel in of_new(drawn, 0 * values, people=people((10, 10)))}
    assert (shown["new"].picture != empty["new"].picture).any()
    if drawn in ("heat", "vectors"):
        each = [panel.name for panel in of_new(drawn, values, each=True)]
        assert {f"new/{k}" for k in range(3)} <= {*each}


@pytest.mark.parametrize(
    ("drawn", "shape", "reason"),
    [
        (None, (3, 16, 24), "the head does not say how"),
        ("vectors", (3, 16, 24), "it has 3"),
        ("value", (3, 16, 24), "values of 2 keypoints"),
        ("offsets", (6, 16, 24), "are 4 maps, and it has 6"),
        ("offsets_to_others", (2, 16, 24), "are 4 maps, and it has 2"),
    ],
)
def test_a_field_that_cannot_be_drawn_is_named(
    drawn: Drawn | None, shape: tuple[int, ...], reason: str
) -> None:
    shown = {panel.name: panel for panel in of_new(drawn, torch.ones(shape), people=people((10, 10)))}
    assert list(shown["new"].picture.shape) == [64, 96, 3] and set(shown) == {"heatmap", "new"}
    assert shown["new"].caption.startswith("new: not drawn") and reason in shown["new"].caption
    assert (shown["new"].picture > 200).any()  # the line is on the picture too: a web page has no captions


@pytest.mark.parametrize("name", ["tag", "locref", "pairwise"])
def test_what_is_drawn_on_heat_is_named_where_there_is_none(name: str) -> None:
    (panel,) = field_panels(IMAGE, {name: torch.ones(4, 16, 24)}, DRAWN, DOTS)
    assert panel.caption == f"{name}: not drawn, there is no heatmap to draw it on"


def test_passes_of_new_fields_are_averaged() -> None:
    for kind in ("heat", "vectors"):
        maps = torch.stack((bump(4, 4), bump(4, 16)))
        two, one = of_new(kind, torch.stack((maps, 0 * maps))), of_new(kind, 0.5 * maps)  # type: ignore[arg-type]
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(two, one, strict=True))
