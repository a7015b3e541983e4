"""Whose number and colour a person has, how certain a limb looks, and what a small person is drawn with."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw import people as module
from pose.draw.people import SMALL, Style, draw_people, person_color
from pose.skeleton import Skeleton
from pose.structures import People

SKELETON = Skeleton(
    "stick", ("top", "left_foot", "right_foot"), (("top", "left_foot"), ("top", "right_foot"))
)
GREY = np.full((400, 600, 3), 90, np.uint8)
SOLID = Style(fade=False)


def triangle(x: float, y: float, side: float, *certain: float) -> np.ndarray:
    heat = certain or (1.0, 1.0, 1.0)
    return np.array(
        [[x, y, heat[0]], [x + side / 2, y + side, heat[1]], [x - side / 2, y + side, heat[2]]], np.float32
    )


def people(*persons: np.ndarray, scores: tuple[float, ...] = ()) -> People:
    return People(np.stack(persons), np.array(scores or [1.0] * len(persons), np.float32))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []

    class Written:
        def __init__(self, canvas: np.ndarray) -> None:
            self.canvas = canvas

        def write(self, text: str, *_: object, **__: object) -> bool:
            texts.append(text)
            return True

    monkeypatch.setattr(module, "Texts", Written)
    return texts


def test_a_number_belongs_to_its_person_also_where_others_are_left_out(written: list[str]) -> None:
    two = people(triangle(150, 100, 150), triangle(450, 100, 150), scores=(0.1, 0.9))
    style = Style(fade=False, labels=True, min_score=0.5)
    drawn = draw_people(GREY, two, SKELETON, style, numbers=[7, 3])
    assert written == ["4: 0.90"]
    assert tuple(drawn[100, 450]) == person_color(3)
    assert (drawn[:, :300] == 90).all()


@pytest.mark.parametrize(("scores", "expected"), [(True, ["1: 0.90", "2: 0.25"]), (False, ["1", "2"])])
def test_labels_count_from_1(written: list[str], scores: bool, expected: list[str]) -> None:
    two = people(triangle(150, 100, 150), triangle(450, 100, 150), scores=(0.9, 0.25))
    draw_people(GREY, two, SKELETON, Style(labels=True, scores=scores))
    assert written == expected


def test_a_limb_is_as_certain_as_its_less_certain_end() -> None:
    middle = (175, 188)  # y, x: half-way from the top to the left foot

    def limb(*certain: float) -> list[int]:
        return draw_people(GREY, people(triangle(150, 100, 150, *certain)), SKELETON)[middle].tolist()

    assert limb(0.2, 0.9, 0.9) == limb(0.9, 0.2, 0.9) == limb(0.2, 0.2, 0.9) != limb(0.9, 0.9, 0.2)


@pytest.mark.parametrize(("extent", "outlined"), [(SMALL - 2, False), (SMALL + 2, True)])
def test_a_small_person_has_no_outlines_which_would_cover_it(extent: float, outlined: bool) -> None:
    side = extent / 2**0.5
    drawn = draw_people(GREY, people(triangle(300, 100, side)), SKELETON, SOLID).astype(int)
    dark = drawn[..., 0] < 88  # the rims of limbs; no other red is less than that of the picture
    white = (drawn > 150).all(2)  # the rings around keypoints
    assert dark.any() == white.any() == outlined
