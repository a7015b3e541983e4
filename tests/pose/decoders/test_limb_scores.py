"""The scores of limbs on a host are those of an accelerator, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pose.decoders.limb_scores import Grid, limb_scores, limb_scores_on_host
from pose.decoders.paf_groups import PafGroupsSettings

LIMBS, HEIGHT, WIDTH = 3, 23, 31


@pytest.mark.parametrize("mean_over", ["all", "passing"])
@pytest.mark.parametrize("length_prior", [False, True])
@pytest.mark.parametrize("include_end", [False, True])
@pytest.mark.parametrize("number", [0, 1, 500])
def test_both_ways_agree(mean_over: str, length_prior: bool, include_end: bool, number: int) -> None:
    rng = np.random.default_rng(number)
    fields = np.abs(rng.normal(0, 0.6, LIMBS * 2 * HEIGHT * WIDTH)).astype(np.float32)
    fields[rng.integers(0, len(fields), 40)] = np.nan
    fields[rng.integers(0, len(fields), 40)] = np.inf
    last = np.array([[WIDTH], [HEIGHT]]) - 0.51
    start, end = (rng.uniform(-0.49, last, (2, number)).astype(np.float32) for _ in range(2))
    end[:, : number // 20] = start[:, : number // 20]  # lines without length
    limb = rng.integers(0, LIMBS, number)
    settings = PafGroupsSettings.model_validate(
        {"mean_over": mean_over, "length_prior": length_prior, "include_end": include_end}
    )
    grid, base = Grid(torch.from_numpy(fields), HEIGHT, WIDTH, 4), limb * (2 * HEIGHT * WIDTH)
    here, a, b = (torch.from_numpy(array) for array in (base, start, end))
    expected = limb_scores(grid, here, a, b, settings).numpy()
    found = limb_scores_on_host(grid, base, start, end, settings)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert number < 500 or 0 < (found > 0).sum() < number
