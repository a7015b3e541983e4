"""Random geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose import geometry
from pose.data.augment import AugmentSettings, no_augmentation
from pose.data.warps import draw_affine, draw_person_affine

SIZE, OUTPUT = (90, 160), (128, 128)


def rng(position: int = 0) -> np.random.Generator:
    return np.random.default_rng([3, position])


def test_without_augmentation_the_long_side_fills_the_input() -> None:
    matrix, flip = draw_affine(rng(), no_augmentation(), SIZE, OUTPUT)
    np.testing.assert_allclose(matrix, geometry.affine(size=SIZE, output_size=OUTPUT, side=160), atol=1e-12)
    assert not flip


def test_without_augmentation_a_square_of_the_input_size_is_untouched() -> None:
    matrix, _ = draw_affine(rng(), no_augmentation(), OUTPUT, OUTPUT)
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize("pixel_center", [0.5, 0.0])
def test_affine_round_trip(pixel_center: float) -> None:
    points = rng().uniform(0, 100, (7, 2))
    for position in range(20):
        matrix, _ = draw_affine(rng(position), AugmentSettings(), SIZE, OUTPUT, pixel_center)
        back = geometry.apply(geometry.invert(matrix), geometry.apply(matrix, points))
        np.testing.assert_allclose(back, points, atol=1e-9)


def test_geometry_stays_in_its_ranges() -> None:
    """Scale, rotation and shift read back from many matrices fill their ranges and never leave them."""
    settings = AugmentSettings()
    sides, angles, shifts, flips = [], [], [], []
    for position in range(600):
        matrix, flip = draw_affine(rng(position), settings, SIZE, OUTPUT)
        upright = geometry.compose(matrix, geometry.mirror_matrix(OUTPUT[1])) if flip else matrix
        scale = np.sqrt(np.linalg.det(upright[:, :2]))
        side = OUTPUT[0] / scale
        center = geometry.apply(geometry.invert(upright), np.array([63.5, 63.5])) - [79.5, 44.5]
        sides.append(side / 160)
        angles.append(np.degrees(np.arctan2(upright[0, 1], upright[0, 0])))
        shifts.append(center / side)
        flips.append(flip)
    for values, low, high in [(sides, 0.75, 1.25), (angles, -30.0, 30.0), (shifts, -0.2, 0.2)]:
        margin = 0.02 * (high - low)
        assert low - 1e-9 <= np.min(values) < low + margin
        assert high - margin < np.max(values) <= high + 1e-9
    assert 0.4 < np.mean(flips) < 0.6


def test_higher_hrnet_scales_by_the_short_side() -> None:
    settings = AugmentSettings(scale=(0.75, 1.5), scale_of="short", rotation=0.0, shift=0.0, flip=0.0)
    matrices = [draw_affine(rng(position), settings, SIZE, OUTPUT)[0] for position in range(400)]
    factors = [OUTPUT[0] / matrix[0, 0] / 90 for matrix in matrices]
    assert 0.75 <= min(factors) < 0.77 and 1.47 < max(factors) <= 1.5


def test_switching_one_change_off_leaves_the_others() -> None:
    full, _ = draw_affine(rng(), AugmentSettings(flip=0.0), SIZE, OUTPUT)
    upright, _ = draw_affine(rng(), AugmentSettings(flip=0.0, rotation=0.0), SIZE, OUTPUT)
    assert np.isclose(np.linalg.det(full[:, :2]), np.linalg.det(upright[:, :2]))


# -------------------------------------------------------------------------------- a crop round a person

BOXES = np.array([[10, 20, 30, 40], [90, 5, 20, 60.5], [50, 30, 80, 16]], np.float32)


def person_affines(
    settings: AugmentSettings, output: tuple[int, int], boxes: np.ndarray = BOXES, pixel_center: float = 0.5
) -> list[tuple[np.ndarray, bool]]:
    return [
        draw_person_affine(rng(position), settings, boxes, SIZE, output, pixel_center)
        for position in range(600)
    ]


def unmirrored(matrix: np.ndarray, flip: bool, width: int, pixel_center: float = 0.5) -> np.ndarray:
    return geometry.compose(matrix, geometry.mirror_matrix(width, pixel_center)) if flip else matrix


@pytest.mark.parametrize("pixel_center", [0.5, 0.0])
@pytest.mark.parametrize("output", [(368, 368), (192, 256), (512, 512)])
def test_a_person_is_scaled_turned_and_put_near_the_middle(
    output: tuple[int, int], pixel_center: float
) -> None:
    """Height, angle, place read back from many matrices fill their ranges and never leave them."""
    settings = AugmentSettings(crop="person", rotation=40.0, person_shift=40.0)
    box = BOXES[1:2]
    middle = np.array([90 + 10, 5 + 60.5 / 2]) - pixel_center
    heights, angles, places, flips = [], [], [], []
    for matrix, flip in person_affines(settings, output, box, pixel_center):
        upright = unmirrored(matrix, flip, output[1], pixel_center)
        heights.append(60.5 * np.sqrt(np.linalg.det(upright[:, :2])) / min(output))
        angles.append(np.degrees(np.arctan2(upright[0, 1], upright[0, 0])))
        center = np.array([output[1], output[0]]) / 2 - pixel_center
        places.append(geometry.apply(upright, middle) - center)
        flips.append(flip)
    for values, low, high in [(heights, 0.3, 0.66), (angles, -40, 40), (places, -40, 40)]:
        margin = 0.02 * (high - low)
        assert low - 1e-6 <= np.min(values) < low + margin
        assert high - margin < np.max(values) <= high + 1e-6
    assert abs(np.corrcoef(*np.array(places).T)[0, 1]) < 0.15  # each axis on its own
    assert abs(np.corrcoef(heights, angles)[0, 1]) < 0.15
    assert 0.4 < np.mean(flips) < 0.6


def test_the_height_of_a_person_is_that_of_cmu() -> None:
    """There: factor 0.6 / s * U(0.5, 1.1) with s = height of the box / 368, for an input of 368 pixels."""
    still: dict[str, Any] = {"rotation": 0.0, "person_shift": 0.0, "flip": 0.0}
    settings = AugmentSettings(crop="person", person_scale=(0.8, 0.8), **still)
    matrix, _ = draw_person_affine(rng(), settings, BOXES[:1], SIZE, (368, 368))
    assert matrix[0, 0] == matrix[1, 1] == pytest.approx(0.6 / (40 / 368) * 0.8)
    np.testing.assert_allclose(geometry.apply(matrix, np.array([24.5, 39.5])), [183.5, 183.5], atol=1e-9)


def test_a_box_without_a_height_is_a_pixel_high() -> None:
    for height in (0.0, 1e-30):
        box = np.array([[20, 30, 50, height]], np.float32)
        matrix, _ = draw_person_affine(rng(), AugmentSettings(crop="person"), box, SIZE, OUTPUT)
        assert np.sqrt(abs(np.linalg.det(matrix[:, :2]))) <= 0.66 * min(OUTPUT) + 1e-6


def test_every_person_is_chosen_as_often() -> None:
    settings = AugmentSettings(crop="person", person_shift=0.0)
    chosen = []
    for matrix, _ in person_affines(settings, OUTPUT):
        middle = geometry.apply(geometry.invert(matrix), np.array([63.5, 63.5]))
        apart = np.linalg.norm(BOXES[:, :2] + BOXES[:, 2:] / 2 - 0.5 - middle, axis=1)
        assert apart.min() < 1e-4
        chosen.append(apart.argmin())
    assert (np.bincount(chosen, minlength=3) > 160).all()


def test_a_mirrored_crop_is_the_mirror_image() -> None:
    for position in range(20):
        plain, mirrored = (
            draw_person_affine(
                rng(position), AugmentSettings(crop="person", flip=flip), BOXES, SIZE, (96, 160)
            )
            for flip in (0.0, 1.0)
        )
        assert (plain[1], mirrored[1]) == (False, True)
        np.testing.assert_allclose(unmirrored(*mirrored, 160), plain[0], atol=1e-9)
