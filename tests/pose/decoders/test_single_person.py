"""One person per image, each keypoint where its map is highest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pose.decoders.single_person import SinglePerson, SinglePersonSettings
from pose.registry import DECODERS
from pose.skeleton import Skeleton

TWO = Skeleton("two", ("a", "b"))


def decoder(pixel_center: float = 0.5, **settings: Any) -> SinglePerson:
    return SinglePerson(SinglePersonSettings(**settings), TWO, pixel_center)


def peaks(*cells: tuple[int, int], size: tuple[int, int] = (9, 12)) -> Tensor:
    """One image, a peak of 0.8 per keypoint at (x, y)."""
    heat = torch.zeros(1, len(cells), *size)
    for k, (x, y) in enumerate(cells):
        heat[0, k, y, x] = 0.8
    return heat


def test_with_refinement_it_is_the_literal_formula() -> None:
    """(x, y) = 8 cell + 4 + refinement, at the highest cell of each map."""
    rng = np.random.default_rng(0)
    heat, locref = rng.uniform(0, 1, (3, 2, 9, 12)), rng.normal(0, 5, (3, 4, 9, 12))
    found = decoder(0.0)(
        heatmap=torch.from_numpy(heat).float(), locref=torch.from_numpy(locref).float(), stride=8
    )
    assert [len(people) for people in found] == [1, 1, 1]
    for b, people in enumerate(found):
        for k in range(2):
            y, x = np.unravel_index(heat[b, k].argmax(), (9, 12))
            expected = 8 * x + 4 + locref[b, 2 * k, y, x], 8 * y + 4 + locref[b, 2 * k + 1, y, x]
            np.testing.assert_allclose(people.keypoints[0, k, :2], expected, rtol=1e-5, atol=1e-5)
            assert people.keypoints[0, k, 2] == pytest.approx(heat[b, k].max())
        assert people.scores[0] == pytest.approx(heat[b].max((1, 2)).mean(), rel=1e-6)


@pytest.mark.parametrize(("pixel_center", "shift"), [(0.5, 3.5), (0.0, 4.0)])
def test_without_it_the_heat_tells_the_place_within_the_cell(pixel_center: float, shift: float) -> None:
    heat = peaks((5, 4), (2, 6))
    heat[0, 0, 4, 6] = 0.5  # the larger neighbour lies to the right
    expected = [[8 * 5.25 + shift, 8 * 3.75 + shift], [8 * 1.75 + shift, 8 * 5.75 + shift]]
    (found,) = decoder(pixel_center)(heat, 8)
    assert found.keypoints[0, :, :2].tolist() == expected
    (centre,) = decoder(pixel_center, subpixel="none")(heat, 8)
    assert centre.keypoints[0, 0, :2].tolist() == [40 + shift, 32 + shift]


def test_of_equal_cells_the_first_counts_and_other_fields_do_not() -> None:
    heat = torch.full((1, 2, 4, 4), 0.25)
    (found,) = decoder(subpixel="none")(heatmap=heat, stride=4, pairwise=torch.zeros(1, 4, 4, 4), tag=None)
    assert found.keypoints[0].tolist() == [[1.5, 1.5, 0.25]] * 2


def test_there_is_a_person_even_where_there_is_nothing() -> None:
    heat = torch.full((2, 2, 4, 4), torch.nan)
    heat[1] = -1
    for found in decoder()(heat, 4):
        assert len(found) == 1 and found.scores.tolist() == [0] and (found.keypoints[..., 2] == 0).all()
        assert np.isfinite(found.keypoints).all()
    heat = peaks((0, 0), (11, 8))
    locref = torch.full((1, 4, 9, 12), torch.nan)
    assert np.isfinite(decoder()(heat, 4, locref)[0].keypoints).all()
    assert decoder()(heat[:0], 4) == []


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize("refined", [True, False])
def test_one_table_comes_to_the_host(refined: bool) -> None:
    """On fake CUDA tensors."""
    with FakeTensorMode():
        heat = torch.empty(2, 2, 8, 8, device="cuda")
        locref = torch.empty(2, 4, 8, 8, device="cuda") if refined else None
        table = decoder(subpixel="dark")._table(heat, 8, locref)
        assert table.device.type == "cuda" and table.shape == (2, 2, 3)


def test_shapes_are_checked_and_it_is_registered() -> None:
    assert DECODERS["single_person"].component is SinglePerson and SinglePerson.needs == ("heatmap",)
    with pytest.raises(ValueError, match=r"expected heatmap \(B, 2, h, w\)"):
        decoder()(torch.zeros(1, 3, 4, 4), 4)
    with pytest.raises(ValueError, match=r"expected locref \(B, 4, h, w\)"):
        decoder()(torch.zeros(1, 2, 4, 4), 4, torch.zeros(1, 2, 4, 4))


def test_no_images_have_no_people() -> None:
    for locref in (None, torch.zeros(0, 4, 9, 12)):
        assert decoder()(heatmap=torch.zeros(0, 2, 9, 12), locref=locref, stride=8) == []
