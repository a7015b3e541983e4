"""Annotated people on pictures."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.people import SIDES
from pose.draw.samples import LEAST, MARGIN, MASKED, MOST_DRAWN, PALE, draw_annotations
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


# ------------------------------------------------------------------------------------------------------------
# Where the picture of marked people is cut out, and how much larger it is shown.


LIMBED = Skeleton(
    "hands", ("nose", "left_hand", "right_hand"), limbs=(("nose", "left_hand"), ("nose", "right_hand"))
)
MARKED = np.array([True, False])
NOBODY = np.zeros((3, 3), np.float32)


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose pixels say where they are."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 16, y // 16, 4 * (x % 16) + y % 16 // 4], 2).astype(np.uint8)


def person_at(x: float, y: float, width: float, height: float, v: float = 2) -> np.ndarray:
    """With its nose in the middle of the upper side and its hands at the lower corners."""
    return np.array([[x, y, v], [x + width / 2, y + height, v], [x - width / 2, y + height, v]], np.float32)


def cut(image: np.ndarray, someone: np.ndarray, side: int, **options: object) -> np.ndarray:
    both = np.stack([someone, NOBODY])
    return draw_annotations(image, both, LIMBED, marked=MARKED, side=side, **options)  # type: ignore[arg-type]


def colors(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(color) for color in picture.reshape(-1, 3).tolist()}


@pytest.mark.parametrize(("width", "height"), [(60, 100), (100, 60)])
def test_a_person_stands_in_the_middle_with_its_margin_around_it(width: int, height: int) -> None:
    """0.6 of its longer side on every side of its middle, in both directions."""
    image, someone = coordinates(700, 900), person_at(400, 300, width, height)
    reach = round((0.5 + MARGIN) * 100)
    x0, y0 = 400 - reach, 300 + height // 2 - reach
    drawn = cut(image, someone, side=2 * reach)  # as large as what is cut out: its pixels are the picture's
    assert drawn.shape == (2 * reach, 2 * reach, 3)
    rows, columns = slice(y0, y0 + 2 * reach), slice(x0, x0 + 2 * reach)
    frame = np.ones(drawn.shape[:2], bool)
    frame[40:-40, 40:-40] = False  # the person is inside
    np.testing.assert_array_equal(drawn[frame], image[rows, columns][frame])
    for (x, y, _), side in zip(someone, ("middle", "left", "right"), strict=True):
        assert tuple(drawn[int(y) - y0, int(x) - x0]) == SIDES[side]


@pytest.mark.parametrize(
    ("x", "y", "columns", "rows"),
    [
        (60, 10, slice(0, 170), slice(0, 170)),  # the corner of the left and the upper edge
        (840, 590, slice(730, 900), slice(530, 700)),  # of the right and the lower one
    ],
)
def test_at_the_edges_of_the_picture_there_is_less_of_it(x: int, y: int, columns: slice, rows: slice) -> None:
    image, someone = coordinates(700, 900), person_at(x, y, 100, 100)
    drawn = cut(image, someone, side=170)
    assert drawn.shape == (170, 170, 3)
    for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert tuple(drawn[place]) == tuple(image[rows, columns][place])
    spots = [(int(a), int(b)) for a, b in someone[:, :2] - (columns.start, rows.start)]
    for (a, b), side in zip(spots, ("middle", "left", "right"), strict=True):
        assert tuple(drawn[b, a]) == SIDES[side]


def test_of_a_small_person_the_least_is_shown_that_may_be() -> None:
    image = coordinates(700, 900)
    drawn = cut(image, person_at(400, 300, 8, 8), side=LEAST)
    x0, y0 = 400 - LEAST // 2, 304 - LEAST // 2
    np.testing.assert_array_equal(drawn[:20], image[y0 : y0 + 20, x0 : x0 + LEAST])
    np.testing.assert_array_equal(drawn[-20:], image[y0 + LEAST - 20 : y0 + LEAST, x0 : x0 + LEAST])


def test_what_is_cut_out_is_enlarged_to_the_side_and_the_keypoints_with_it() -> None:
    someone = person_at(400, 300, 100, 100)
    drawn = cut(np.full((700, 900, 3), 90, np.uint8), someone, side=880)  # 220 pixels, four times as large
    assert drawn.shape == (880, 880, 3)
    for (x, y, _), side in zip(someone, ("middle", "left", "right"), strict=True):
        center = 4 * (np.array([x, y]) - (290, 240) + 0.5) - 0.5
        assert tuple(drawn[round(float(center[1])), round(float(center[0]))]) == SIDES[side]


def test_keypoints_that_are_not_labelled_do_not_widen_what_is_shown() -> None:
    image, someone = coordinates(700, 900), person_at(400, 300, 100, 100)
    someone[0] = (0, 0, 0)
    drawn = cut(image, someone, side=220)
    # hands at (350..450, 400): 100 wide and 0 high
    np.testing.assert_array_equal(drawn[:40], image[290:330, 290:510])


def test_all_who_are_marked_are_shown() -> None:
    image = np.full((700, 900, 3), 90, np.uint8)
    three = np.stack([person_at(200, 300, 40, 40), person_at(500, 300, 40, 40), person_at(800, 650, 40, 40)])
    drawn = draw_annotations(image, three, LIMBED, marked=np.array([True, True, False]), side=724)
    # from x 180 to 520, y 300 to 340: 340 wide, so 374 to each side of (350, 320), less at two edges
    assert drawn.shape == (694, 724, 3)
    assert tuple(drawn[300, 200]) == tuple(drawn[300, 500]) == SIDES["middle"]


def test_the_mask_is_cut_out_with_the_picture() -> None:
    image, mask = coordinates(700, 900), np.ones((700, 900), bool)
    mask[240:260, 290:310] = False  # the upper left corner of what is shown
    mask[0:100, 0:100] = False  # not shown
    drawn = cut(image, person_at(400, 300, 100, 100), side=220, mask=mask)
    part = image[240:460, 290:510]
    assert (drawn[:20, :20] != part[:20, :20]).any(2).all()
    assert tuple(MASKED) in colors(drawn[:20, :20])
    np.testing.assert_array_equal(drawn[:20, 20:], part[:20, 20:])
    np.testing.assert_array_equal(drawn[20:40, :40], part[20:40, :40])


def test_others_are_grey_below_those_who_are_meant() -> None:
    image = np.full((700, 900, 3), 90, np.uint8)
    same = person_at(400, 300, 100, 100)
    for marked in ([True, False], [False, True]):
        drawn = draw_annotations(image, np.stack([same, same]), LIMBED, marked=np.array(marked), side=440)
        assert tuple(drawn[round(2 * 60.25), round(2 * 110.25)]) == SIDES["middle"]
    apart = np.stack([same, same + (30, 0, 0)])
    assert PALE in colors(draw_annotations(image, apart, LIMBED, marked=MARKED, side=440))


def test_nothing_is_cut_out_where_everybody_is_shown_or_nobody_has_a_keypoint() -> None:
    image, someone = coordinates(700, 900), person_at(400, 300, 60, 100)
    whole = draw_annotations(image, someone[None], LIMBED, side=900)
    assert whole.shape == image.shape and tuple(whole[0, 0]) == tuple(image[0, 0])
    unlabelled = cut(image, NOBODY, side=900)
    np.testing.assert_array_equal(unlabelled, image)
    alone = draw_annotations(image, someone[None], LIMBED, marked=np.array([True]), side=220)
    assert alone.shape == (220, 220, 3), "whoever is marked is cut out, also where nobody else is there"


def test_of_thousands_of_people_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bool] = []
    monkeypatch.setattr("pose.draw.samples._draw_person", lambda *given: drawn.append(given[-1]))
    marked = np.zeros(5000, bool)
    marked[7] = True
    draw_annotations(GREY, np.repeat(person()[None], 5000, 0), SKELETON, marked=marked)
    assert len(drawn) == MOST_DRAWN and drawn[-1] and drawn.count(True) == 1
