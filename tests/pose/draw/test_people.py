"""Skeletons on pictures."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.people import SIDES, Style, draw_people, person_color
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


def test_left_and_right_have_their_colours() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    people = stick([(100, 40), (40, 160), (160, 160)])
    drawn = draw_people(image, people, SKELETON, Style(color="side", fade=False))
    for spot, side in [((70, 100), "left"), ((130, 100), "right")]:  # in the middle of each leg
        np.testing.assert_allclose(drawn[spot[1], spot[0]], SIDES[side], atol=12)
    np.testing.assert_allclose(drawn[40, 100], SIDES["middle"], atol=12)


def test_an_uncertain_keypoint_is_pale_and_never_gone() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    seen = []
    for heat in (0.06, 0.3, 0.8, 1.0):
        people = stick([(100, 40), (40, 160), (160, 160)], heat=heat)
        seen.append(int(draw_people(image, people, SKELETON)[160, 40].max()))
    assert 40 < seen[0] < seen[1] - 20 < seen[2] - 40
    assert seen[2] == seen[3]  # 0.8 is as certain as heatmaps become
    full = draw_people(
        image, stick([(100, 40), (40, 160), (160, 160)], heat=0.06), SKELETON, Style(fade=False)
    )
    assert full[160, 40].max() == seen[2]


def test_names_and_labels_stand_beside_the_person_and_not_on_each_other() -> None:
    image = np.zeros((400, 600, 3), np.uint8)
    people = stick([(300, 100), (200, 300), (400, 300)])
    plain = draw_people(image, people, SKELETON)
    area = {"plain": 0}
    for name, style in {"names": Style(names=True), "labels": Style(labels=True)}.items():
        written = draw_people(image, people, SKELETON, style)
        spots = changed(plain, written)
        area[name] = len(spots)
        assert np.linalg.norm(spots[:, None] - people.keypoints[0, None, :, :2], axis=2).min(1).max() < 130
    both = draw_people(image, people, SKELETON, Style(names=True, labels=True))
    assert area["names"] > 300 and area["labels"] > 100
    assert len(changed(plain, both)) > 0.9 * sum(area.values())  # nothing covers another


def test_a_number_keeps_its_colour_whatever_the_order() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    place = [(50.0, 20.0), (20.0, 80.0), (80.0, 80.0)]
    moved = [(x + 150, y) for x, y in place]
    both = [People(np.concatenate([stick(a).keypoints, stick(b).keypoints]), np.array([0.9, 0.8], np.float32))
            for a, b in ((place, moved), (moved, place))]  # fmt: skip
    first, second = (
        draw_people(image, people, SKELETON, numbers=numbers)
        for people, numbers in zip(both, ([4, 7], [7, 4]), strict=True)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, draw_people(image, both[0], SKELETON))
