from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from pose.decoders import tag_search


def search_cases() -> Iterator[tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]]:
    """heat (2, 3, h, w), tag, channel, mean: near and far tags, also NaN and infinite ones, ties, empty and
    negative maps, unclipped heat."""
    for number in range(60):
        rng = np.random.default_rng(number)
        size = (2, 3, int(rng.integers(1, 40)), int(rng.integers(1, 40)))
        heat = rng.normal(0, rng.choice([0.02, 0.3, 3]), size)
        if number % 3 == 1:
            heat = np.round(heat * 4) / 4
        if number % 5 == 4:
            heat[0], heat[1, 1] = 0, -np.abs(heat[1, 1])
        tag = rng.normal(0, rng.choice([0.3, 3, 30]), (*size[:2], int(rng.integers(1, 4)), *size[2:]))
        channel, mean = rng.integers(0, 6, 40), rng.normal(0, 4, (40, tag.shape[2]))
        if number % 3 == 2:
            tag, mean = np.round(tag * 2) / 2, np.round(mean * 2) / 2
        if number % 7 == 6:
            tag[rng.random(tag.shape) < 0.1] = np.nan
            tag[rng.random(tag.shape) < 0.1] = np.inf
        yield torch.from_numpy(heat).float(), torch.from_numpy(tag).float(), channel, mean


@pytest.mark.parametrize("pairs, bins", [(1 << 18, 60000), (50, 9)])
@pytest.mark.parametrize("weight", [1.0, 100.0])
def test_both_searches_find_the_first_best_cell_of_the_whole_map(
    weight: float, pairs: int, bins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_search, "PAIRS_AT_ONCE", pairs)
    monkeypatch.setattr(tag_search, "MOST_BINS", bins)
    open_rows = 0
    search_map = tag_search._search_map

    def counted(*args: Any) -> int:
        nonlocal open_rows
        open_rows += 1
        return search_map(*args)

    monkeypatch.setattr(tag_search, "_search_map", counted)
    monkeypatch.setattr(tag_search, "CELLS_AT_ONCE", 3000)
    total = 0
    for heat, tag, channel, mean in search_cases():
        h = heat.flatten(0, 1).flatten(1).numpy()[channel]
        t = tag.flatten(0, 1).flatten(2).numpy()[channel]
        distance = np.sqrt(((t.transpose(0, 2, 1) - mean[:, None]) ** 2).sum(2))
        merit = h - weight * np.round(distance)
        best = np.where(np.isnan(merit), -np.inf, merit).argmax(1)
        maps = heat.flatten(2).numpy(), tag.flatten(3).numpy()
        pruned = tag_search.search_pruned(*maps, channel, mean, weight)
        whole = tag_search.search_all(heat, tag, torch.from_numpy(channel), torch.from_numpy(mean), weight)
        np.testing.assert_array_equal(pruned, best)
        np.testing.assert_array_equal(whole.numpy(), best)
        total += len(channel)
    assert 0 < open_rows < total  # the short look and the full search both had work


def test_a_root_rounds_to_zero_up_to_the_stated_square() -> None:
    square = tag_search.ROUNDS_TO_ZERO
    assert np.rint(np.sqrt(square)) == 0 and np.rint(np.sqrt(np.nextafter(square, 1))) == 1
