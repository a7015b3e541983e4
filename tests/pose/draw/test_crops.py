"""Where the picture of marked people is cut out, and how much larger it is shown."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.people import SIDES
from pose.draw.samples import LEAST, MARGIN, MASKED, PALE, draw_annotations
from pose.skeleton import Skeleton

SKELETON = Skeleton(
    "hands", ("nose", "left_hand", "right_hand"), limbs=(("nose", "left_hand"), ("nose", "right_hand"))
)
MARKED = np.array([True, False])
NOBODY = np.zeros((3, 3), np.float32)


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose pixels say where they are."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 16, y // 16, 4 * (x % 16) + y % 16 // 4], 2).astype(np.uint8)


def person(x: float, y: float, width: float, height: float, v: float = 2) -> np.ndarray:
    """With its nose in the middle of the upper side and its hands at the lower corners."""
    return np.array([[x, y, v], [x + width / 2, y + height, v], [x - width / 2, y + height, v]], np.float32)


def cut(image: np.ndarray, someone: np.ndarray, side: int, **options: object) -> np.ndarray:
    both = np.stack([someone, NOBODY])
    return draw_annotations(image, both, SKELETON, marked=MARKED, side=side, **options)  # type: ignore[arg-type]


def colors(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(color) for color in picture.reshape(-1, 3).tolist()}


@pytest.mark.parametrize(("width", "height"), [(60, 100), (100, 60)])
def test_a_person_stands_in_the_middle_with_its_margin_around_it(width: int, height: int) -> None:
    """0.6 of its longer side on every side of its middle, in both directions."""
    image, someone = coordinates(700, 900), person(400, 300, width, height)
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
    image, someone = coordinates(700, 900), person(x, y, 100, 100)
    drawn = cut(image, someone, side=170)
    assert drawn.shape == (170, 170, 3)
    for place in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert tuple(drawn[place]) == tuple(image[rows, columns][place])
    spots = [(int(a), int(b)) for a, b in someone[:, :2] - (columns.start, rows.start)]
    for (a, b), side in zip(spots, ("middle", "left", "right"), strict=True):
        assert tuple(drawn[b, a]) == SIDES[side]


def test_of_a_small_person_the_least_is_shown_that_may_be() -> None:
    image = coordinates(700, 900)
    drawn = cut(image, person(400, 300, 8, 8), side=LEAST)
    x0, y0 = 400 - LEAST // 2, 304 - LEAST // 2
    np.testing.assert_array_equal(drawn[:20], image[y0 : y0 + 20, x0 : x0 + LEAST])
    np.testing.assert_array_equal(drawn[-20:], image[y0 + LEAST - 20 : y0 + LEAST, x0 : x0 + LEAST])


def test_what_is_cut_out_is_enlarged_to_the_side_and_the_keypoints_with_it() -> None:
    someone = person(400, 300, 100, 100)
    drawn = cut(np.full((700, 900, 3), 90, np.uint8), someone, side=880)  # 220 pixels, four times as large
    assert drawn.shape == (880, 880, 3)
    for (x, y, _), side in zip(someone, ("middle", "left", "right"), strict=True):
        center = 4 * (np.array([x, y]) - (290, 240) + 0.5) - 0.5
        assert tuple(drawn[round(float(center[1])), round(float(center[0]))]) == SIDES[side]


def test_keypoints_that_are_not_labelled_do_not_widen_what_is_shown() -> None:
    image, someone = coordinates(700, 900), person(400, 300, 100, 100)
    someone[0] = (0, 0, 0)
    drawn = cut(image, someone, side=220)
    # hands at (350..450, 400): 100 wide and 0 high
    np.testing.assert_array_equal(drawn[:40], image[290:330, 290:510])


def test_all_who_are_marked_are_shown() -> None:
    image = np.full((700, 900, 3), 90, np.uint8)
    three = np.stack([person(200, 300, 40, 40), person(500, 300, 40, 40), person(800, 650, 40, 40)])
    drawn = draw_annotations(image, three, SKELETON, marked=np.array([True, True, False]), side=724)
    # from x 180 to 520, y 300 to 340: 340 wide, so 374 to each side of (350, 320), less at two edges
    assert drawn.shape == (694, 724, 3)
    assert tuple(drawn[300, 200]) == tuple(drawn[300, 500]) == SIDES["middle"]


def test_the_mask_is_cut_out_with_the_picture() -> None:
    image, mask = coordinates(700, 900), np.ones((700, 900), bool)
    mask[240:260, 290:310] = False  # the upper left corner of what is shown
    mask[0:100, 0:100] = False  # not shown
    drawn = cut(image, person(400, 300, 100, 100), side=220, mask=mask)
    part = image[240:460, 290:510]
    assert (drawn[:20, :20] != part[:20, :20]).any(2).all()
    assert tuple(MASKED) in colors(drawn[:20, :20])
    np.testing.assert_array_equal(drawn[:20, 20:], part[:20, 20:])
    np.testing.assert_array_equal(drawn[20:40, :40], part[20:40, :40])


def test_others_are_grey_below_those_who_are_meant() -> None:
    image = np.full((700, 900, 3), 90, np.uint8)
    same = person(400, 300, 100, 100)
    for marked in ([True, False], [False, True]):
        drawn = draw_annotations(image, np.stack([same, same]), SKELETON, marked=np.array(marked), side=440)
        assert tuple(drawn[round(2 * 60.25), round(2 * 110.25)]) == SIDES["middle"]
    apart = np.stack([same, same + (30, 0, 0)])
    assert PALE in colors(draw_annotations(image, apart, SKELETON, marked=MARKED, side=440))


def test_nothing_is_cut_out_where_everybody_is_shown_or_nobody_has_a_keypoint() -> None:
    image, someone = coordinates(700, 900), person(400, 300, 60, 100)
    whole = draw_annotations(image, someone[None], SKELETON, side=900)
    assert whole.shape == image.shape and tuple(whole[0, 0]) == tuple(image[0, 0])
    unlabelled = cut(image, NOBODY, side=900)
    np.testing.assert_array_equal(unlabelled, image)
    alone = draw_annotations(image, someone[None], SKELETON, marked=np.array([True]), side=220)
    assert alone.shape == (220, 220, 3), "whoever is marked is cut out, also where nobody else is there"
