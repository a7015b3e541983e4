"""pose.geometry: one pixel convention, checked against OpenCV, PyTorch and a literal pose-ae-train."""

from __future__ import annotations

import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pose import geometry
from tests.literal.reference.pose_ae_training import get_transform

CENTERS = [0.5, 0.0]


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_grid_and_pixels_are_inverse(stride: int, center: float) -> None:
    points = np.random.default_rng(0).uniform(-50, 600, (7, 5, 2))
    back = geometry.to_pixels(geometry.to_grid(points, stride, center), stride, center)
    np.testing.assert_allclose(back, points, atol=1e-9)
    as_tensor = geometry.to_grid(torch.from_numpy(points), stride, center)
    np.testing.assert_allclose(as_tensor.numpy(), geometry.to_grid(points, stride, center))


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_cell_lies_where_resizing_takes_it_from(stride: int) -> None:
    """On a ramp whose value is x, a resized picture holds the x of its cells' centres."""
    width = 64
    ramp = np.tile(np.arange(width, dtype=np.float32), (16, 1))
    centers = geometry.to_pixels(np.arange(width // stride), stride)
    small = F.interpolate(torch.from_numpy(ramp)[None, None], (4, width // stride), mode="bilinear")[0, 0, 0]
    np.testing.assert_allclose(small.numpy(), centers, atol=1e-5)
    by_area = cv2.resize(ramp, (width // stride, 4), interpolation=cv2.INTER_AREA)[0]
    np.testing.assert_allclose(by_area, centers, atol=1e-5)
    matrix = geometry.resize((1 / stride, 1 / stride))
    warped = geometry.warp(ramp, matrix, (4, width // stride))[0]
    np.testing.assert_allclose(warped, centers, atol=0.04)  # warpAffine rounds to 1/32 pixel
    np.testing.assert_allclose(
        geometry.apply(matrix, np.stack([centers, centers], -1))[:, 0], range(len(centers))
    )


@pytest.mark.parametrize("size", [(24, 40), (33, 17)])
def test_an_enlarged_ramp(size: tuple[int, int]) -> None:
    ramp = np.tile(np.arange(40, dtype=np.float32), (10, 1))
    big = F.interpolate(torch.from_numpy(ramp)[None, None], (30, 120), mode="bilinear")[0, 0, 0].numpy()
    inverse = geometry.invert(geometry.resize((3.0, 3.0)))
    expected = geometry.apply(inverse, np.stack([np.arange(120.0), np.zeros(120)], -1))[:, 0]
    np.testing.assert_allclose(big, expected.clip(0, 39), atol=1e-5)


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("stride", [2, 4])
def test_a_grid_mirrors_onto_itself(stride: int, center: float) -> None:
    width = 64
    cells = np.arange(width // stride)
    mirrored = geometry.to_grid(
        geometry.mirror_x(geometry.to_pixels(cells, stride, center), width, center), stride, center
    )
    np.testing.assert_allclose(mirrored, cells[::-1], atol=1e-9)
    x = np.linspace(-3, width, 20)
    np.testing.assert_allclose(geometry.mirror_x(geometry.mirror_x(x, width, center), width, center), x)
    by_matrix = geometry.apply(geometry.mirror_matrix(width, center), np.stack([x, x], -1))
    np.testing.assert_allclose(by_matrix, np.stack([geometry.mirror_x(x, width, center), x], -1))


def test_mirroring_is_what_flipping_the_array_does() -> None:
    image = np.arange(3 * 10, dtype=np.float32).reshape(3, 10)
    np.testing.assert_array_equal(geometry.warp(image, geometry.mirror_matrix(10), (3, 10)), image[:, ::-1])
    assert geometry.mirror_x(0, 10) == 9


def random_affine(rng: np.random.Generator, center: float = 0.5, flip: bool | None = None) -> np.ndarray:
    return geometry.affine(
        size=(120, 160),
        output_size=(96, 128),
        side=float(rng.uniform(80, 200)),
        rotation=float(rng.uniform(-40, 40)),
        shift=(float(rng.uniform(-10, 10)), float(rng.uniform(-10, 10))),
        flip=bool(rng.random() < 0.5) if flip is None else flip,
        pixel_center=center,
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_drawn_dot_lands_where_its_point_goes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = random_affine(rng)
    point = geometry.apply(geometry.invert(matrix), rng.uniform(20, 70, 2)).round()  # seen in the output
    y, x = np.mgrid[:120, :160]
    dot = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 3**2)).astype(np.float32)
    out = geometry.warp(dot, matrix, (96, 128))
    y, x = np.mgrid[:96, :128]
    seen = np.array([(out * x).sum(), (out * y).sum()]) / out.sum()
    np.testing.assert_allclose(seen, geometry.apply(matrix, point), atol=0.1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("center", CENTERS)
def test_inverse_composition_and_order(seed: int, center: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_affine(rng, center), random_affine(rng, center)
    points = rng.uniform(-100, 300, (4, 3, 2))
    np.testing.assert_allclose(
        geometry.apply(geometry.invert(a), geometry.apply(a, points)), points, atol=1e-8
    )
    np.testing.assert_allclose(
        geometry.apply(geometry.compose(a, b), points),
        geometry.apply(b, geometry.apply(a, points)),
        atol=1e-8,
    )
    np.testing.assert_allclose(geometry.compose(a), a)


def test_what_an_affine_shows() -> None:
    """The square of `side` around the centre fills the shorter output side; rotation is counter-clockwise."""
    plain = geometry.affine(size=(100, 200), output_size=(64, 128), side=50)
    edges = np.array([[99.5, 24.5], [99.5, 74.5]])  # the top and bottom of the square, in the middle
    np.testing.assert_allclose(geometry.apply(plain, edges), [[63.5, -0.5], [63.5, 63.5]])
    turned = geometry.affine(size=(100, 100), output_size=(100, 100), side=100, rotation=90)
    np.testing.assert_allclose(geometry.apply(turned, np.array([99.0, 49.5])), [49.5, 0.0], atol=1e-9)
    moved = geometry.affine(size=(100, 100), output_size=(100, 100), side=100, shift=(10, 0))
    np.testing.assert_allclose(geometry.apply(moved, np.array([59.5, 49.5])), [49.5, 49.5])


@pytest.mark.parametrize("seed", range(6))
def test_pixel_center_0_is_pose_ae_train(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(200, 640, 2)
    scale = max(height, width) / 200 * rng.uniform(0.75, 1.25)
    dx, dy = rng.uniform(-40, 40, 2) * scale
    rotation = rng.uniform(-30, 30)
    literal = get_transform((width / 2 + dx, height / 2 + dy), scale, 512, rotation)
    matrix = {
        flip: geometry.affine(
            size=(height, width),
            output_size=(512, 512),
            side=200 * scale,
            rotation=-rotation,
            shift=(dx, dy),
            flip=flip,
            pixel_center=0.0,
        )
        for flip in (False, True)
    }
    np.testing.assert_allclose(matrix[False], literal, atol=1e-9)
    points = rng.uniform(0, 600, (9, 2))
    expected = geometry.apply(literal, points)
    expected[:, 0] = 512 - expected[:, 0]
    np.testing.assert_allclose(geometry.apply(matrix[True], points), expected, atol=1e-9)
    # a keypoint's cell is its truncated quarter
    quarter = expected / 4
    cells = np.floor(geometry.to_grid(expected, 4, 0.0) + 0.5)
    np.testing.assert_array_equal(cells, np.floor(quarter))


def test_apply_keeps_the_kind_of_float_and_takes_integers() -> None:
    matrix = geometry.resize((2.0, 3.0))
    assert geometry.apply(matrix, np.zeros((3, 2), np.float32)).dtype == np.float32
    np.testing.assert_allclose(geometry.apply(matrix, np.array([[1, 1]])), [[2.5, 4.0]])
    assert geometry.apply(matrix, np.zeros((0, 17, 2))).shape == (0, 17, 2)


def test_round_up_is_exact_for_scales_as_people_write_them() -> None:
    for base in range(64, 2049, 64):
        for percent in range(5, 301, 5):
            exact = math.ceil(Fraction(base * percent, 6400)) * 64
            assert geometry.round_up(base * (percent / 100), 64) == exact
    assert [geometry.round_up(size, 4) for size in (1, 4, 4.1, 0.5)] == [4, 4, 8, 4]


def test_nearest_keeps_labels() -> None:
    mask = (np.random.default_rng(0).random((40, 40)) > 0.5).astype(np.uint8) * 255
    out = geometry.warp(mask, geometry.resize((1.7, 0.6)), (30, 50), nearest=True)
    assert set(np.unique(out)) <= {0, 255}
    filled = geometry.warp(
        np.zeros((4, 4, 3), np.uint8), geometry.resize((1.0, 1.0)), (6, 6), border=(9, 8, 7)
    )
    assert filled[5, 5].tolist() == [9, 8, 7]


def test_a_halved_picture_has_its_first_pixel_where_the_convention_says() -> None:
    """rtpose's (x + .5) s - .5 against pose-tensorflow's x s."""
    corner = np.zeros((1, 2))
    np.testing.assert_allclose(geometry.apply(geometry.resize((0.5, 0.5), 0.5), corner), [[-0.25, -0.25]])
    np.testing.assert_allclose(geometry.apply(geometry.resize((0.5, 0.5), 0.0), corner), [[0.0, 0.0]])
