"""Skeletons on pictures."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.people import Style, draw_people, person_color
from pose.draw.sheets import contact_sheet
from pose.skeleton import Skeleton
from pose.structures import People

SKELETON = Skeleton(
    "stick", ("top", "left_foot", "right_foot"), (("top", "left_foot"), ("top", "right_foot"))
)


def stick(points: list[tuple[float, float]], heat: float = 1.0, score: float = 1.0) -> People:
    keypoints = np.array([[[x, y, heat] for x, y in points]], np.float32)
    return People(keypoints, np.array([score], np.float32))


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(M, 2) x, y of the pixels that differ."""
    return np.argwhere((before != after).any(2))[:, ::-1]


def distance_to_segment(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    along = np.clip(((points - a) @ (b - a)) / max(((b - a) ** 2).sum(), 1e-9), 0, 1)
    return np.linalg.norm(points - (a + along[:, None] * (b - a)), axis=1)


@pytest.mark.parametrize("side", [20, 100, 640, 3000])
def test_only_limbs_and_keypoints_are_drawn_over(side):
    image = np.full((side, side, 3), 90, np.uint8)
    points = [(0.5 * side, 0.2 * side), (0.3 * side, 0.8 * side), (0.7 * side, 0.8 * side)]
    drawn = draw_people(image, stick(points), SKELETON)
    spots = changed(image, drawn)
    corners = np.array(points)
    near = np.min([distance_to_segment(spots, corners[0], corners[i]) for i in (1, 2)], axis=0)
    assert near.max() < 3 + side / 40
    for x, y in corners:
        assert np.linalg.norm(spots - [x, y], axis=1).min() < 1
    middle = corners[:2].mean(axis=0)
    assert np.linalg.norm(spots - middle, axis=1).min() < 1.5  # the limb is there too


def test_the_picture_handed_in_is_not_altered():
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    before = image.copy()
    for view in (image, image[::-1], image[:, ::2]):
        draw_people(view, stick([(10, 10), (30, 40), (40, 20)]), SKELETON)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "people",
    [
        People.none(3),
        stick([(5, 5), (9, 9), (9, 5)], heat=0.0),
        stick([(5, 5), (9, 9), (9, 5)], score=0.1),
    ],
    ids=["nobody", "no keypoint", "low score"],
)
def test_nobody_means_an_unchanged_copy(people):
    image = np.full((20, 30, 3), 7, np.uint8)
    drawn = draw_people(image, people, SKELETON, Style(min_score=0.2))
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


def test_a_keypoint_that_was_not_found_is_not_drawn():
    image = np.zeros((100, 100, 3), np.uint8)
    people = stick([(50, 20), (20, 80), (80, 80)])
    people.keypoints[0, 2] = 0  # also its limb is gone; the origin stays empty
    drawn = draw_people(image, people, SKELETON)
    spots = changed(image, drawn)
    assert distance_to_segment(spots, np.array([50, 20]), np.array([20, 80])).max() < 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (20, 20), (2160, 3840)])
def test_no_size_and_no_place_is_too_odd(shape):
    image = np.zeros((*shape, 3), np.uint8)
    for far in (0.0, -50.0, 1e7, -1e7):
        assert draw_people(image, stick([(far, 3), (5, far), (far, far)]), SKELETON).shape == image.shape


def test_the_best_person_lies_on_top():
    image = np.zeros((100, 100, 3), np.uint8)
    place = [(50.0, 20.0), (20.0, 80.0), (80.0, 80.0)]
    both = People(
        np.concatenate([stick(place).keypoints, stick(place).keypoints]), np.array([0.9, 0.8], np.float32)
    )
    drawn = draw_people(image, both, SKELETON)
    for x, y in [(50, 20), (20, 80), (35, 50)]:
        assert np.abs(drawn[y, x].astype(int) - person_color(0)).max() < 20


def test_neighbouring_people_have_different_colours():
    colors = np.array([person_color(i) for i in range(8)])
    apart = np.abs(colors[:, None].astype(int) - colors[None]).sum(2) + 1000 * np.eye(8, dtype=int)
    assert apart.min() > 60
    assert colors.max() <= 255 and colors.min() >= 0


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_a_sheet_shows_every_picture_whole(count):
    shapes = [(30, 40), (400, 200), (1, 2000), (2000, 1), (320, 320)] * 2
    pictures = [np.full((*shape, 3), 10 * (i + 1), np.uint8) for i, shape in enumerate(shapes[:count])]
    sheet = contact_sheet(pictures, columns=4, cell=100)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] <= 4 * 110
    for i, picture in enumerate(pictures):
        spots = np.argwhere((sheet == 10 * (i + 1)).all(2))
        extent = np.ptp(spots, axis=0) + 1
        ratio = 100 / max(picture.shape[:2])
        np.testing.assert_allclose(extent, np.maximum(np.array(picture.shape[:2]) * ratio, 1), atol=1)
