"""Peaks by their neighbours and UDP's step, against NumPy and OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pose.decoders import peaks
from pose.decoders.peaks import Window
from tests.literal.reference.higherhrnet_group import udp_step


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


@pytest.mark.parametrize("window", ["square", "first", "cross", "strict"])
@pytest.mark.parametrize("rough", [False, True])
def test_peaks_are_higher_than_their_neighbours_or_as_high(window: Window, rough: bool) -> None:
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


def test_dark_on_a_host_is_that_of_an_accelerator() -> None:
    compared = 0
    for seed in range(20):
        heat = maps(seed, rough=seed % 2 == 1)
        channel, index = peaks.list_peaks(heat, 1000, 0.1, "square")
        where = torch.from_numpy(channel), torch.from_numpy(index)
        expected = peaks.subpixel_offset(heat, *where, "dark").numpy()
        np.testing.assert_array_equal(peaks.dark_on_host(heat.numpy(), channel, index), expected, strict=True)
        compared += len(index)
    assert compared > 100


# ---- UDP's step ----


def every_cell(heat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Channels (B * K, 1) and cells (B * K, h * w)."""
    channels, cells = heat.shape[0] * heat.shape[1], heat[0, 0].numel()
    return torch.arange(channels)[:, None].expand(-1, cells), torch.arange(cells).expand(channels, -1)


def test_udps_step_equals_the_literal_one_at_every_cell() -> None:
    """Also at the border, and in maps of one row or column."""
    compared = 0
    for seed in range(30):
        heat = maps(seed)
        step = peaks.subpixel_offset(heat, *every_cell(heat), method="udp").view(*heat.shape, 2).numpy()
        for b, k, y, x in np.ndindex(*heat.shape):
            want = udp_step(heat[b, k].numpy(), x, y)
            np.testing.assert_allclose(step[b, k, y, x], want, rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared > 3000


def test_udps_step_finds_the_top_of_a_gaussian() -> None:
    rows, columns = np.arange(32)[:, None], np.arange(40)
    heat = np.exp(-((columns - 20.3) ** 2 + (rows - 15.8) ** 2) / 8).astype(np.float32)[None, None]
    at = torch.zeros(1, dtype=torch.long), torch.tensor([16 * 40 + 20])
    step = peaks.subpixel_offset(torch.from_numpy(heat), *at, method="udp")
    torch.testing.assert_close(step, torch.tensor([[0.3, -0.2]]), rtol=0, atol=2e-4)


def test_udps_step_is_none_where_the_map_is_flat() -> None:
    heat = torch.full((1, 1, 5, 6), 0.25)
    assert not peaks.subpixel_offset(heat, *every_cell(heat), method="udp").any()


def test_the_inner_quarter_is_none_near_the_border_and_between_equals() -> None:
    """Also in maps of one row or column."""
    inside = 0
    for seed in range(20):
        heat = maps(seed, rough=True)
        height, width = heat.shape[2:]
        step = peaks.subpixel_offset(heat, *every_cell(heat), method="inner_quarter").view(*heat.shape, 2)
        want = torch.zeros_like(step)
        for y in range(height):
            for x in range(width):
                if 1 < x < width - 1 and y > 0:
                    want[:, :, y, x, 0] = 0.25 * (heat[:, :, y, x + 1] - heat[:, :, y, x - 1]).sign()
                if 1 < y < height - 1 and x > 0:
                    want[:, :, y, x, 1] = 0.25 * (heat[:, :, y + 1, x] - heat[:, :, y - 1, x]).sign()
        assert torch.equal(step, want)
        inside += int((want[:, :, 2:-1, 2:-1] == 0).sum())
    assert inside  # between equal neighbours


def test_the_row_below_may_be_bounded() -> None:
    heat = maps(1)
    height, width = heat.shape[2:]
    assert height > 4
    plain, bounded = (
        peaks.subpixel_offset(heat, *every_cell(heat), method="quarter", last_row=last).view(*heat.shape, 2)
        for last in (None, 2)
    )
    assert torch.equal(plain[..., 0], bounded[..., 0]) and torch.equal(plain[:, :, :2], bounded[:, :, :2])
    above = torch.cat((heat[:, :, :1], heat[:, :, :-1]), 2)
    want = torch.where(heat[:, :, 2:3] > above, 0.25, -0.25)[:, :, 2:]
    assert torch.equal(bounded[:, :, 2:, :, 1], want) and not torch.equal(plain[..., 1], bounded[..., 1])
