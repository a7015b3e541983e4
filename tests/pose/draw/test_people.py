"""Skeletons on pictures."""

from __future__ import annotations

import numpy as np
import pytest

from pose.draw import people as module
from pose.draw.people import SIDES, SMALL, Style, draw_people, person_color
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


# ------------------------------------------------------------------------------------------------------------
# Whose number and colour a person has, how certain a limb looks, and what a small person is drawn with.


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
