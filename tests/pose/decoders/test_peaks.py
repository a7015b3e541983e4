"""Peaks by their neighbours and the highest point of an enlarged patch, against NumPy and OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pose.decoders import peaks
from pose.decoders.peaks import Window


@pytest.fixture(autouse=True)
def plain_opencv() -> Iterator[None]:
    """Without Intel's library, which adds up in another order: a tie may then fall to another pixel."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


def maps(seed: int, *, rough: bool = False) -> torch.Tensor:
    """(2, 3, h, w): random cells, on a grid of few values if `rough`, so that neighbours are often equal."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(0.1, 0.4, (2, 3, *rng.integers(1, 12, 2)))
    return torch.from_numpy(np.round(heat * 4) / 4 if rough else heat).float()


def is_peak(heat: np.ndarray, y: int, x: int, window: Window) -> bool:
    around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    if window in ("square", "first"):
        around += [(y - 1, x - 1), (y - 1, x + 1), (y + 1, x - 1), (y + 1, x + 1)]
    inside = [at for at in around if 0 <= at[0] < heat.shape[0] and 0 <= at[1] < heat.shape[1]]
    higher = [at for at in inside if window == "strict" or (window == "first" and at < (y, x))]
    return all(heat[y, x] > heat[at] if at in higher else heat[y, x] >= heat[at] for at in inside)


@pytest.mark.parametrize("few", [0, 1 << 30])  # times as many cells as may be peaks: always, never
@pytest.mark.parametrize("window", ["square", "first", "cross", "strict"])
@pytest.mark.parametrize("rough", [False, True])
def test_peaks_are_higher_than_their_neighbours_or_as_high(
    window: Window, rough: bool, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "FEW", few)
    for seed in range(20):
        heat = maps(seed, rough=rough)
        width = heat.shape[3]
        want = [
            (b * 3 + k, y * width + x)
            for (b, k, y, x), value in np.ndenumerate(heat.numpy())
            if value > 0.2 and is_peak(heat[b, k].numpy(), y, x, window)
        ]
        found = peaks.list_peaks(heat, 1000, 0.2, window)
        assert list(zip(*(one.tolist() for one in found), strict=True)) == want


@pytest.mark.parametrize("window", ["square", "first", "cross", "strict"])
def test_the_list_holds_the_highest_peaks_of_the_table(window: Window) -> None:
    for seed in range(20):
        heat = maps(seed, rough=seed % 2 == 0)
        for limit in (1, 3, 100):
            table = peaks.find_peaks(heat, limit, threshold=0.2, window=window)
            there = (table.heat > 0).flatten(0, 1).numpy()
            channel = there.nonzero()[0]
            cell = table.cell.flatten(0, 1).numpy()[there]
            order = np.lexsort((cell, channel))
            found = peaks.list_peaks(heat, limit, 0.2, window)
            np.testing.assert_array_equal(found, (channel[order], cell[order]))


def test_both_ways_to_find_peaks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(10):
        for window in ("square", "first", "cross", "strict"):
            heat = maps(seed, rough=True)
            here = peaks.find_peaks(heat, 5, threshold=0.2, window=window)
            with monkeypatch.context() as patched:
                patched.setattr(peaks, "_top_cells_cpu", peaks._top_cells)
                there = peaks.find_peaks(heat, 5, threshold=0.2, window=window)
            assert torch.equal(here.heat, there.heat)
            assert torch.equal(here.cell.where(here.heat > 0, 0), there.cell.where(here.heat > 0, 0))


def test_few_cells_above_the_threshold_are_compared_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    alone = peaks._highest_of_nine

    def counted(*args: Any) -> tuple[np.ndarray, np.ndarray]:
        compared.append(len(args[1]))
        return alone(*args)

    monkeypatch.setattr(peaks, "_highest_of_nine", counted)
    heat = maps(5, rough=True)
    for threshold in (0.2, 1.2):  # of 30 % and of 0.3 % of the cells
        peaks.find_peaks(heat, 5, threshold=threshold)
    assert len(compared) == 1 and compared[0] * peaks.FEW < heat.numel()


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 1])
def test_true_places_are_those_of_numpy(share: float) -> None:
    rng = np.random.default_rng(0)
    for length in (0, 8, 8 * 125, 1001):
        mask = rng.random(length) < share
        np.testing.assert_array_equal(peaks.true_places(mask), mask.nonzero()[0])


def test_clean_copies_only_maps_that_need_it() -> None:
    heat = torch.tensor([0.5, -torch.inf, 1.0, -2.0]).view(1, 1, 2, 2)
    assert peaks.clean(heat, 1.0).data_ptr() == heat.data_ptr()
    assert peaks.clean(heat).data_ptr() == heat.data_ptr()
    for value, clip, want in ((torch.nan, 1.0, -torch.inf), (torch.nan, None, -torch.inf), (3.0, 1.0, 1.0)):
        raw = heat.clone()
        raw[0, 0, 1, 1] = value
        before = raw.clone()
        cleaned = peaks.clean(raw, clip)
        assert cleaned.flatten().tolist() == [0.5, -torch.inf, 1.0, want]
        torch.testing.assert_close(raw, before, rtol=0, atol=0, equal_nan=True)  # its owner's is left alone


# ---- the highest point of an enlarged patch ----


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
        channel, index = (torch.from_numpy(one) for one in peaks.list_peaks(heat, 1000, 0.1, "cross"))
        offset, value = peaks.patch_top(heat, channel, index, factor)
        for k, cell, found, top in zip(channel, index, offset, value, strict=True):
            y, x = divmod(int(cell), heat.shape[3])
            want = top_by_opencv(heat[0, k].numpy(), y, x, factor)
            assert tuple(found.tolist()) == want[:2]
            assert float(top) == pytest.approx(want[2], rel=1e-6)
            compared += 1
    assert compared > 200


@pytest.mark.parametrize("factor", [1, 3, 8])
def test_the_short_way_to_the_top_of_a_patch_is_the_long_way(
    factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for heat in patch_cases():
        channel, index = (heat[0].flatten(1) > 1e-3).nonzero().unbind(1)
        short = peaks.patch_top(heat, channel, index, factor)
        with monkeypatch.context() as patched:
            patched.setattr(peaks, "_top_of_patches_cpu", peaks._top_of_patches)
            long = peaks.patch_top(heat, channel, index, factor)
        assert torch.equal(short[0], long[0]) and torch.equal(short[1], long[1])


def test_a_symmetric_peak_is_read_at_the_first_of_its_highest_pixels() -> None:
    grid = torch.arange(21.0)
    bell = torch.exp(-((grid - 10) ** 2) / 1.5)
    heat = (bell[:, None] * bell).view(1, 1, 21, 21)
    offset, _ = peaks.patch_top(heat, torch.tensor([0]), torch.tensor([10 * 21 + 10]), 8)
    # pixels 83 and 84 lie on either side of the centre, 83.5
    assert (offset * 8 + (10 + 0.5) * 8 - 0.5).tolist() == [[83.0, 83.0]]


def test_the_top_of_a_patch_may_lie_in_another_cell_but_in_the_map() -> None:
    heat = torch.zeros(1, 1, 6, 6)
    heat[0, 0, 0, 0], heat[0, 0, 2, 2] = 0.5, 1.0
    offset, value = peaks.patch_top(heat, torch.tensor([0]), torch.tensor([0]), 8)
    assert (offset[0] - 2).abs().max() < 0.5 and value[0] > 0.9
    heat[0, 0, 2, 2] = 0
    offset, _ = peaks.patch_top(heat, torch.tensor([0]), torch.tensor([0]), 8)
    assert (offset >= -0.5).all() and (offset <= 0.5).all()


def test_no_peaks_have_no_patches() -> None:
    none = torch.zeros(0, dtype=torch.long)
    offset, value = peaks.patch_top(torch.zeros(1, 1, 4, 4), none, none, 8)
    assert offset.shape == (0, 2) and value.shape == (0,)
