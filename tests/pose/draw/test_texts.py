"""Words on pictures: readable, inside the canvas, never on each other."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw.texts import Texts, word


def canvas(height: int = 120, width: int = 400) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def box(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spots = np.argwhere((before != after).any(2))
    return spots.min(0), spots.max(0)


@pytest.mark.parametrize("size", [8, 20, 60])
def test_letters_are_as_high_as_they_were_asked_for(size: int) -> None:
    _, alpha = word("left_knee Hg", size, (255, 0, 0))
    assert 0.7 * size < len(alpha) < 1.8 * size
    assert alpha.max() == 1 and alpha.min() == 0


def test_words_at_one_spot_are_moved_apart_until_there_is_no_room() -> None:
    picture = canvas()
    texts = Texts(picture)
    seen = np.zeros(picture.shape[:2], int)
    written = 0
    for _ in range(40):
        before = picture.copy()
        if not texts.write("elbow", (200, 60), 14, (250, 200, 0)):
            np.testing.assert_array_equal(before, picture)
            break
        seen += (before != picture).any(2)
        written += 1
    assert 4 <= written < 40
    assert seen.max() == 1


def test_a_word_stands_to_the_right_of_its_spot_else_to_the_left_and_above_on_request() -> None:
    for x, above, check in (
        (100.0, False, lambda low, high: low[1] > 100),
        (395.0, False, lambda low, high: high[1] < 395),
        (100.0, True, lambda low, high: high[0] < 60 and low[1] < 100 < high[1]),
    ):
        picture = canvas()
        assert Texts(picture).write("hip", (x, 60.0), 14, (0, 255, 0), above=above)
        assert check(*box(canvas(), picture))


@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (300, 8)])
def test_no_word_leaves_the_canvas(shape: tuple[int, int]) -> None:
    picture = canvas(*shape)
    assert not Texts(picture).write("a long name of a keypoint", (5, 5), 20, (255, 0, 0))
    np.testing.assert_array_equal(picture, canvas(*shape))
