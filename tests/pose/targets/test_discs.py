"""Discs of cells around keypoints, against their literal restatement."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pose.targets.discs import discs, draw_discs
from tests.literal.reference import deepercut_targets as literal

CORNER = 0.0  # pixel_center of pose-tensorflow: cell i at 8 i + 4


def keypoints(seed: int, people: int = 4, kinds: int = 5, size: tuple[int, int] = (96, 128)) -> torch.Tensor:
    """Some outside the picture, some not labelled (with any coordinates), some people close together."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform((-20, -20), (size[1] + 20, size[0] + 20), (2, people, kinds, 2))
    xy[:, 1] = xy[:, 0] + rng.uniform(-12, 12, xy[:, 0].shape)
    v = rng.integers(0, 3, (2, people, kinds, 1))
    return torch.from_numpy(np.concatenate([xy, v], -1).astype(np.float32))


def test_the_published_disc() -> None:
    """A joint at (100, 50): 14 cells; the refinement of cell (12, 6) is (0, -0.27472)."""
    point = torch.tensor([[[[100.0, 50.0, 2.0]]]])
    found = discs(point, 17.0, 8, (16, 20), CORNER)
    cells = sorted(divmod(i, 20) for i in found.cell[found.owned].tolist())
    expected = [(4, i) for i in (11, 12, 13)] + [(5, i) for i in (11, 12, 13)]
    expected += [(6, i) for i in range(10, 15)] + [(7, i) for i in (11, 12, 13)]
    assert cells == expected
    at = (found.cell == 6 * 20 + 12) & found.owned
    refinement = (point[..., None, :2] - found.center)[at] / 7.2801
    torch.testing.assert_close(refinement, torch.tensor([[0.0, -0.27472]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("center", [0.0, 0.5])
def test_a_cell_at_exactly_the_radius_counts(center: float) -> None:
    """8 and 15 pixels away are 17."""
    middle = 8 * 5 + 4 - center
    point = torch.tensor([[[[middle + 8, middle - 15, 2.0]]]])
    found = discs(point, 17.0, 8, (12, 12), center)
    assert 5 * 12 + 5 in found.cell[found.owned].tolist()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [17.0, 7.0, 30.5])
def test_discs_are_the_literal_ones(seed: int, radius: float) -> None:
    given = keypoints(seed)
    size, kinds = (12, 16), given.shape[2]
    found = discs(given, radius, 8, size, CORNER)
    score = draw_discs(found, size)
    neutral = np.zeros((kinds, kinds, 2)), np.ones((kinds, kinds, 2))
    for b, people in enumerate(given.double().numpy()):
        expected = literal.draw(list(people), *size, *neutral, radius=radius)
        np.testing.assert_array_equal(score[b].numpy(), expected["score"])
        locref, counted = np.zeros_like(expected["locref"]), np.zeros_like(expected["locref_mask"])
        owned = found.owned[b].numpy()
        for p, k, r in zip(*np.nonzero(owned)):
            row, column = divmod(int(found.cell[b, p, k, r]), size[1])
            offset = (given[b, p, k, :2] - found.center[b, p, k, r]).numpy() / literal.LOCREF_STD
            assert not counted[2 * k, row, column]  # one owner per cell
            locref[2 * k : 2 * k + 2, row, column] = offset
            counted[2 * k : 2 * k + 2, row, column] = 1
        np.testing.assert_array_equal(counted, expected["locref_mask"])
        np.testing.assert_allclose(locref, expected["locref"], atol=2e-5)


def test_people_at_one_place_share_no_cell() -> None:
    twice = torch.tensor([[[[50.0, 40.0, 2.0]], [[50.0, 40.0, 2.0]]]])
    found = discs(twice, 17.0, 8, (12, 16))
    assert found.owned[0, 0].sum() > 10 and not found.owned[0, 1].any()


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_has_no_disc(people: int) -> None:
    none = torch.full((2, people, 3, 3), torch.nan)
    none[..., 2] = 0
    found = discs(none, 17.0, 8, (4, 4))
    assert not found.owned.any() and not draw_discs(found, (4, 4)).any()
    assert ((found.cell >= 0) & (found.cell < 16)).all()


def test_cells_are_centred_where_the_pixel_convention_says() -> None:
    point = torch.tensor([[[[51.5, 43.5, 2.0]]]])
    found = discs(point, 3.0, 8, (12, 16))  # half a pixel less than with corners: cell 6 is at 51.5
    assert found.cell[found.owned].tolist() == [5 * 16 + 6] and found.center[found.owned].tolist() == [
        [51.5, 43.5]
    ]
