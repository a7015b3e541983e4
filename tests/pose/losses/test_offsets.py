"""Losses on offsets."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.literal import deepercut_targets as literal
from pose.losses.offsets import gather_cells, masked_huber


def test_gathering_reads_each_keypoints_own_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, 6, generator=generator)
    index = torch.randint(0, 30, (2, 2, 3, 7), generator=generator)
    found = gather_cells(maps, index)
    assert found.shape == (2, 2, 3, 7, 4)
    for b, p, k, r in np.ndindex(2, 2, 3, 7):
        row, column = divmod(int(index[b, p, k, r]), 6)
        assert torch.equal(found[b, p, k, r], maps[b, k, :, row, column])


def test_huber_is_the_literal_one_for_each_image() -> None:
    generator = torch.Generator().manual_seed(1)
    prediction, target = (
        3 * torch.randn(4, 3, 5, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    counts = torch.rand(4, 3, 5, generator=generator) > 0.4
    counts[3] = False  # an image without any
    target[~counts] = torch.nan  # never looked at
    each = [
        literal.huber(prediction[b].numpy(), target[b].nan_to_num().numpy(), counts[b].numpy())
        for b in range(4)
    ]
    result = masked_huber(prediction.requires_grad_(), target, counts)
    torch.testing.assert_close(result.item(), float(np.mean(each)))
    result.backward()
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()
    assert not prediction.grad[~counts].any() and prediction.grad[counts].all()
