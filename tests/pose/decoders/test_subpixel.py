"""The steps within a cell, against NumPy, each other and the literal step of UDP."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pose.decoders.peaks import list_peaks
from pose.decoders.subpixel import dark_on_host, quarter_cells, subpixel_offset
from tests.literal.reference.higherhrnet_group import udp_step


def maps(seed: int, *, rough: bool = False) -> torch.Tensor:
    """(2, 3, h, w): random cells, on a grid of few values if `rough`, so that neighbours are often equal."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(0.1, 0.4, (2, 3, *rng.integers(1, 12, 2)))
    return torch.from_numpy(np.round(heat * 4) / 4 if rough else heat).float()


def every_cell(heat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Channels (B * K, 1) and cells (B * K, h * w)."""
    channels, cells = heat.shape[0] * heat.shape[1], heat[0, 0].numel()
    return torch.arange(channels)[:, None].expand(-1, cells), torch.arange(cells).expand(channels, -1)


@pytest.mark.parametrize("last_row", [None, 0, 3, 50])
def test_quarter_cells_are_the_cells_and_their_quarter_steps(last_row: int | None) -> None:
    for seed in range(20):
        heat = maps(seed, rough=seed % 2 == 0)
        channel, index = every_cell(heat)
        width = heat.shape[3]
        cells = torch.stack((index % width, index.div(width, rounding_mode="floor")), -1).double()
        want = cells + subpixel_offset(heat, channel, index, "quarter", last_row)
        found = quarter_cells(heat.numpy(), channel.numpy(), index.numpy(), last_row)
        np.testing.assert_array_equal(found, want.numpy())


def test_udps_step_equals_the_literal_one_at_every_cell() -> None:
    """Also at the border, and in maps of one row or column."""
    compared = 0
    for seed in range(30):
        heat = maps(seed)
        step = subpixel_offset(heat, *every_cell(heat), method="udp").view(*heat.shape, 2).numpy()
        for b, k, y, x in np.ndindex(*heat.shape):
            want = udp_step(heat[b, k].numpy(), x, y)
            np.testing.assert_allclose(step[b, k, y, x], want, rtol=1e-4, atol=1e-5)
            compared += 1
    assert compared > 3000


def test_udps_step_finds_the_top_of_a_gaussian() -> None:
    rows, columns = np.arange(32)[:, None], np.arange(40)
    heat = np.exp(-((columns - 20.3) ** 2 + (rows - 15.8) ** 2) / 8).astype(np.float32)[None, None]
    at = torch.zeros(1, dtype=torch.long), torch.tensor([16 * 40 + 20])
    step = subpixel_offset(torch.from_numpy(heat), *at, method="udp")
    torch.testing.assert_close(step, torch.tensor([[0.3, -0.2]]), rtol=0, atol=2e-4)


def test_udps_step_is_none_where_the_map_is_flat() -> None:
    heat = torch.full((1, 1, 5, 6), 0.25)
    assert not subpixel_offset(heat, *every_cell(heat), method="udp").any()


def test_the_inner_quarter_is_none_near_the_border_and_between_equals() -> None:
    """Also in maps of one row or column."""
    inside = 0
    for seed in range(20):
        heat = maps(seed, rough=True)
        height, width = heat.shape[2:]
        step = subpixel_offset(heat, *every_cell(heat), method="inner_quarter").view(*heat.shape, 2)
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
        subpixel_offset(heat, *every_cell(heat), method="quarter", last_row=last).view(*heat.shape, 2)
        for last in (None, 2)
    )
    assert torch.equal(plain[..., 0], bounded[..., 0]) and torch.equal(plain[:, :, :2], bounded[:, :, :2])
    above = torch.cat((heat[:, :, :1], heat[:, :, :-1]), 2)
    want = torch.where(heat[:, :, 2:3] > above, 0.25, -0.25)[:, :, 2:]
    assert torch.equal(bounded[:, :, 2:, :, 1], want) and not torch.equal(plain[..., 1], bounded[..., 1])


def test_dark_moves_a_quarter_where_the_map_has_no_top_or_ends() -> None:
    heat = torch.zeros(1, 1, 5, 5)
    heat[0, 0, 2, 2:4] = 1  # flat along x
    heat[0, 0, 0, 0], heat[0, 0, 0, 1] = 0.9, 0.5
    index = torch.tensor([[[0]]])
    args = heat, torch.zeros(1, 1, 1, dtype=torch.long), index
    torch.testing.assert_close(
        subpixel_offset(*args, method="dark"), subpixel_offset(*args, method="quarter")
    )
    every = torch.arange(25).view(1, 1, 25)
    assert subpixel_offset(heat, args[1], every, method="dark").abs().max() <= 1


def test_dark_on_a_host_is_that_of_an_accelerator() -> None:
    compared = 0
    for seed in range(20):
        heat = maps(seed, rough=seed % 2 == 1)
        channel, index = list_peaks(heat, 1000, 0.1, "square")
        where = torch.from_numpy(channel), torch.from_numpy(index)
        expected = subpixel_offset(heat, *where, "dark").numpy()
        np.testing.assert_array_equal(dark_on_host(heat.numpy(), channel, index), expected, strict=True)
        compared += len(index)
    assert compared > 100
