"""Annotated people on pictures."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.people import SIDES
from pose.draw.samples import LEAST, MASKED, draw_annotations
from pose.skeleton import Skeleton

SKELETON = Skeleton("hands", ("nose", "left_hand", "right_hand"), limbs=())
GREY = np.full((100, 200, 3), 90, np.uint8)


def person(v: float = 2) -> np.ndarray:
    return np.array([[100, 20, v], [150, 60, v], [50, 60, v]], np.float32)


def test_sides_have_their_colours_where_the_keypoints_are() -> None:
    drawn = draw_annotations(GREY, person()[None], SKELETON, side=400)
    assert drawn.shape == (200, 400, 3)
    for (x, y, _), side in zip(person(), ("middle", "left", "right"), strict=True):
        assert tuple(drawn[int(2 * y), int(2 * x)]) == SIDES[side]


def test_an_occluded_keypoint_is_a_ring_and_an_unlabelled_one_is_nothing() -> None:
    drawn = draw_annotations(GREY, person(1)[None], SKELETON, side=400)
    assert tuple(drawn[120, 300]) == (90, 90, 90)
    ring = drawn[105:135, 285:315].reshape(-1, 3)
    assert (ring == SIDES["left"]).all(1).any()
    np.testing.assert_array_equal(draw_annotations(GREY, person(0)[None], SKELETON, side=200), GREY)


def test_what_does_not_count_is_striped_and_nothing_else_changes() -> None:
    mask = np.ones(GREY.shape[:2], bool)
    mask[:, :100] = False
    drawn = draw_annotations(GREY, np.zeros((0, 3, 3)), SKELETON, mask=mask, side=200)
    assert (drawn[:, :100] != 90).any(2).all()
    assert (drawn[:, :100] == MASKED).all(2).any()
    np.testing.assert_array_equal(drawn[:, 100:], GREY[:, 100:])


def test_marked_people_are_cut_out_and_others_are_grey() -> None:
    image = np.full((1000, 1000, 3), 90, np.uint8)
    near, far = person(), person() + (700, 700, 0)
    both = np.stack([near, far])
    drawn = draw_annotations(image, both, SKELETON, marked=np.array([True, False]), side=500)
    assert drawn.shape[1] == 500
    assert (drawn == SIDES["left"]).all(2).any(), "large enough to be seen"
    whole = draw_annotations(image, both, SKELETON, marked=np.array([False, False]), side=500)
    assert whole.shape == (500, 500, 3)


def test_a_tiny_person_is_shown_with_what_is_around_it() -> None:
    image = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    tiny = np.array([[[200, 200, 2], [202, 200, 2], [198, 203, 2]]], np.float32)
    drawn = draw_annotations(image, tiny, SKELETON, marked=np.array([True]), side=960)
    assert drawn.shape[0] == pytest.approx(960, abs=20)  # LEAST pixels of the picture
    assert 960 / LEAST == 10


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3)])
def test_any_size_of_picture(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    for marked in (None, np.array([True])):
        drawn = draw_annotations(image, person()[None], SKELETON, marked=marked, names=True, side=120)
        assert max(drawn.shape) == 120


def test_the_picture_given_is_not_drawn_on() -> None:
    image = np.zeros((480, 480, 3), np.uint8)
    draw_annotations(image, person()[None], SKELETON, mask=np.zeros((480, 480), bool), names=True, side=480)
    assert not image.any()
