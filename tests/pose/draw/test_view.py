"""Colours over a picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pose.draw.view import View
from pose.skeleton import Skeleton

TWO = Skeleton("two", ("nose", "hand"), limbs=(("nose", "hand"),), mirror={"nose": "nose", "hand": "hand"})


def bumps(rows: int, columns: int, *places: tuple[int, int]) -> Tensor:
    """(K, rows, columns) a peak in each map, at (row, column)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 2.0) for row, column in places])


def test_colours_cover_what_is_below_them_as_far_as_they_are_opaque() -> None:
    heat = bumps(16, 24, (4, 4), (4, 20))
    view = View.of(
        np.full((64, 96, 3), 255, np.uint8), {"heatmap": heat}, TWO, None, None, [], 1.0, False, {}
    )
    blue = np.zeros((16, 24, 3)) + (0.0, 0.0, 1.0)
    np.testing.assert_allclose(view.over(blue, np.ones((16, 24))), np.zeros((64, 96, 3)) + (0, 0, 255))
    np.testing.assert_allclose(view.over(blue, np.zeros((16, 24))), view.backdrop)
    half = view.over(blue, np.full((16, 24), 0.5))
    np.testing.assert_allclose(half, 0.5 * view.backdrop + (0, 0, 127.5), rtol=1e-5)
