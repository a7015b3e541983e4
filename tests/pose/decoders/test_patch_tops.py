"""The highest point of an enlarged patch, against OpenCV."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from pose.decoders.patch_tops import patch_top, patch_top_on_device
from pose.decoders.peaks import list_peaks


@pytest.fixture(autouse=True)
def plain_opencv() -> Iterator[None]:
    """Without Intel's library, which adds up in another order: a tie may then fall to another pixel."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


def top_by_opencv(heat: np.ndarray, y: int, x: int, factor: int) -> tuple[float, float, float]:
    """heat (h, w) -> x and y in cells relative to cell (x, y), and the value there."""
    left, top = max(0, x - 2), max(0, y - 2)
    patch = np.ascontiguousarray(heat[top : y + 3, left : x + 3])
    large = cv2.resize(patch, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    row, column = np.unravel_index(large.argmax(), large.shape)
    offset_x, offset_y = (
        (place + 0.5) / factor - 0.5 + first - at for place, first, at in ((column, left, x), (row, top, y))
    )
    return offset_x, offset_y, float(large[row, column])


def patch_cases() -> Iterator[torch.Tensor]:
    """(1, K, h, w): Gaussians and noise, plateaus, maps smaller than a patch."""
    for seed in range(24):
        rng = np.random.default_rng(seed)
        size = rng.integers(5, 30, 2) if seed % 3 else rng.integers(1, 6, 2)
        grid_y, grid_x = np.mgrid[: size[0], : size[1]]
        center = rng.uniform(0, size, (8, 2))[..., None, None]
        heat = np.exp(-((grid_y - center[:, 0]) ** 2 + (grid_x - center[:, 1]) ** 2) / 1.5)
        heat = heat + rng.normal(0, rng.choice([0, 0.02, 0.3]), heat.shape)
        yield torch.from_numpy(np.round(heat * 8) / 8 if seed % 4 == 1 else heat).float()[None]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_the_top_of_a_patch_is_the_pixel_of_opencv(factor: int) -> None:
    compared = 0
    for heat in patch_cases():
        channel, index = (torch.from_numpy(one) for one in list_peaks(heat, 1000, 0.1, "cross"))
        offset, value = patch_top(heat, channel, index, factor)
        for k, cell, found, top in zip(channel, index, offset, value, strict=True):
            y, x = divmod(int(cell), heat.shape[3])
            want = top_by_opencv(heat[0, k].numpy(), y, x, factor)
            assert tuple(found.tolist()) == want[:2]
            assert float(top) == pytest.approx(want[2], rel=1e-6)
            compared += 1
    assert compared > 200


@pytest.mark.parametrize("factor", [1, 3, 8])
def test_the_short_way_to_the_top_of_a_patch_is_the_long_way(factor: int) -> None:
    for heat in patch_cases():
        channel, index = (heat[0].flatten(1) > 1e-3).nonzero().unbind(1)
        short = patch_top(heat, channel, index, factor)
        long = patch_top_on_device(heat, channel, index, factor)
        assert torch.equal(short[0], long[0]) and torch.equal(short[1], long[1])


def test_a_symmetric_peak_is_read_at_the_first_of_its_highest_pixels() -> None:
    grid = torch.arange(21.0)
    bell = torch.exp(-((grid - 10) ** 2) / 1.5)
    heat = (bell[:, None] * bell).view(1, 1, 21, 21)
    offset, _ = patch_top(heat, torch.tensor([0]), torch.tensor([10 * 21 + 10]), 8)
    # pixels 83 and 84 lie on either side of the centre, 83.5
    assert (offset * 8 + (10 + 0.5) * 8 - 0.5).tolist() == [[83.0, 83.0]]


def test_the_top_of_a_patch_may_lie_in_another_cell_but_in_the_map() -> None:
    heat = torch.zeros(1, 1, 6, 6)
    heat[0, 0, 0, 0], heat[0, 0, 2, 2] = 0.5, 1.0
    offset, value = patch_top(heat, torch.tensor([0]), torch.tensor([0]), 8)
    assert (offset[0] - 2).abs().max() < 0.5 and value[0] > 0.9
    heat[0, 0, 2, 2] = 0
    offset, _ = patch_top(heat, torch.tensor([0]), torch.tensor([0]), 8)
    assert (offset >= -0.5).all() and (offset <= 0.5).all()


def test_no_peaks_have_no_patches() -> None:
    none = torch.zeros(0, dtype=torch.long)
    offset, value = patch_top(torch.zeros(1, 1, 4, 4), none, none, 8)
    assert offset.shape == (0, 2) and value.shape == (0,)
