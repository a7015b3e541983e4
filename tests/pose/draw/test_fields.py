"""Fields over pictures: colours stand where the maps are, and mean what the docstring says."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from pose.draw.fields import DIM, draw_fields

IMAGE = np.full((64, 96, 3), 100, np.uint8)
FAR = (slice(40, 64), slice(60, 96))  # where nothing is


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
