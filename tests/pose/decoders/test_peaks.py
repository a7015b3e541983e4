"""Peaks by their neighbours, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pose.decoders import peaks
from pose.decoders.peaks import Window


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
