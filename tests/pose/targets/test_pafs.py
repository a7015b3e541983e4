"""pose.targets against the literal targets of rtpose and CMU, and what naive versions get wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.geometry import mirror_x, to_grid
from pose.targets.heatmaps import cells, draw_heatmaps
from pose.targets.pafs import draw_pafs, draw_pafs_on_device
from tests.literal.reference import rtpose_targets as literal

STRIDE, SIDE = 8, 46
S1: dict[str, Any] = {"extent": "box"}
CMU: dict[str, Any] = {"extent": "box", "edge": "closed", "rounding": "half_up", "overlap": "overwrite"}
HEAT: dict[str, Any] = {"cutoff": 4.6052, "combine": "sum_clip"}


def heat(*points: tuple[float, float], **more: Any) -> Tensor:
    """The map (46, 46) of one kind of keypoint of several people, in pixels."""
    keypoints = torch.tensor([[[(*point, 2.0)] for point in points]])
    return draw_heatmaps(
        *cells(keypoints, STRIDE, (SIDE, SIDE)), (SIDE, SIDE), 7 / STRIDE, True, **{**HEAT, **more}
    )[0, 0]


def paf(*limbs: tuple[tuple[float, float], tuple[float, float]], **more: Any) -> tuple[Tensor, Tensor]:
    """The field (2, 46, 46) of one limb of several people, ends in pixels, cell i at pixel 8 i; and where."""
    ends = torch.tensor(limbs).view(1, -1, 1, 2, 2) / STRIDE
    valid = torch.ones(ends.shape[:3], dtype=torch.bool)
    field, there = draw_pafs(ends[..., 0, :], ends[..., 1, :], valid, (SIDE, SIDE), **more)
    return field[0], there[0, 0] > 0


# ----------------------------------------------------------------------------------------------- heatmaps


def test_a_gaussian_of_7_pixels_about_the_centre_of_a_cell() -> None:
    expected = torch.tensor([1, 0.52045, 0.07337, 0])
    torch.testing.assert_close(heat((3.5, 3.5))[0, :4], expected, atol=1e-5, rtol=0)


def test_people_are_summed_and_cut_at_1_or_combined_by_maximum() -> None:
    two = ((11.5, 3.5), (27.5, 3.5))
    summed = torch.tensor([0.52045, 1, 1, 1, 0.52045])
    largest = torch.tensor([0.52045, 1, 0.52045, 1, 0.52045])
    torch.testing.assert_close(heat(*two)[0, :5], summed, atol=1e-5, rtol=0)
    torch.testing.assert_close(heat(*two, combine="max")[0, :5], largest, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("away", "value"), [(21.24, 0.01), (21.3, 0.0)])
def test_the_gaussian_is_cut_off_at_a_radius(away: float, value: float) -> None:
    # a keypoint so far to the right of the centre of cell (20, 20)
    assert heat((163.5 + away, 163.5))[20, 20].item() == pytest.approx(value, abs=1e-4)
    # and along the diagonal: a radius, not a square
    step = away / 2**0.5
    assert heat((163.5 + step, 163.5 - step))[20, 20].item() == pytest.approx(value, abs=1e-4)


def test_the_background_is_what_no_keypoint_is() -> None:
    keypoints = torch.tensor([[[[11.5, 3.5, 2.0], [20.0, 30.0, 1.0]], [[27.5, 3.5, 2.0], [9.0, 9.0, 0.0]]]])
    where = cells(keypoints, STRIDE, (SIDE, SIDE))
    plain = draw_heatmaps(*where, (SIDE, SIDE), 7 / STRIDE, True, **HEAT)
    maps = draw_heatmaps(*where, (SIDE, SIDE), 7 / STRIDE, True, **HEAT, background=True)
    assert torch.equal(maps[:, :2], plain)
    torch.testing.assert_close(maps[:, 2], 1 - plain.amax(1))
    assert maps[0, 2, 0, 1] == 0 and maps[0, 2, 40, 40] == 1


# ------------------------------------------------------------------------------------------------- fields


def rows_and_columns(on_limb: Tensor) -> tuple[list[int], list[int]]:
    where = on_limb.nonzero()
    return sorted({int(y) for y in where[:, 0]}), sorted({int(x) for x in where[:, 1]})


def test_a_limb_is_one_row_wide_where_the_edge_is_open_and_lopsided_where_it_is_closed() -> None:
    field, on_limb = paf(((40, 40), (80, 40)), **S1)
    assert rows_and_columns(on_limb) == ([5], list(range(4, 11))) and on_limb.sum() == 7
    assert (field[0][on_limb] == 1).all() and (field[1][on_limb] == 0).all() and not field[:, ~on_limb].any()
    _, on_limb = paf(((40, 40), (80, 40)), **CMU)
    assert rows_and_columns(on_limb) == ([4, 5], list(range(4, 11))) and on_limb.sum() == 14


@pytest.mark.parametrize(("rounding", "first"), [("half_even", 4), ("half_up", 5)])
def test_halves_are_rounded_as_in_python_or_as_in_c(rounding: str, first: int) -> None:
    _, on_limb = paf(((44, 40), (84, 40)), extent="box", rounding=rounding)
    assert rows_and_columns(on_limb)[1] == list(range(first, 12))


def test_crossing_limbs_are_averaged_or_the_last_person_counts() -> None:
    across, down = ((40.0, 80.0), (120.0, 80.0)), ((80.0, 40.0), (80.0, 120.0))
    assert paf(across, down, **S1)[0][:, 10, 10].tolist() == [0.5, 0.5]
    assert paf(down, across, **S1)[0][:, 10, 10].tolist() == [0.5, 0.5]
    assert paf(across, down, **CMU)[0][:, 10, 10].tolist() == [0, 1]
    assert paf(down, across, **CMU)[0][:, 10, 10].tolist() == [1, 0]


def test_the_box_ends_a_cell_before_the_first_keypoint_and_short_of_a_cell_after_the_last() -> None:
    _, columns = rows_and_columns(paf(((40, 40), (80, 40)), **S1)[1])
    assert (columns[0], columns[-1]) == (4, 10)  # the keypoints are in cells 5 and 10
    _, columns = rows_and_columns(paf(((40, 40), (80, 40)))[1])
    assert (columns[0], columns[-1]) == (4, 11)  # our own extent is the same at both ends


def test_a_limb_without_length_and_one_that_is_not_labelled_draw_nothing() -> None:
    assert not paf(((40, 40), (40, 40)))[1].any()
    ends = torch.tensor([[float("nan")] * 2, [1e30, -1e30]]).view(1, 1, 1, 2, 2)
    field, on_limb = draw_pafs(
        ends[..., 0, :], ends[..., 1, :], torch.zeros(1, 1, 1, dtype=torch.bool), (SIDE, SIDE)
    )
    assert not field.any() and not on_limb.any()


@pytest.mark.parametrize("settings", [{}, CMU])
@pytest.mark.parametrize("number", [255, 256, 300])
def test_any_number_of_people_may_share_a_cell(number: int, settings: dict[str, Any]) -> None:
    field, there = paf(*[((40, 80), (120, 80))] * number, **settings)
    assert there[10, 10] and there[10, 15]
    torch.testing.assert_close(field[:, 10, 10], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("limb_width", [50.0, 1e30])
def test_a_limb_may_be_as_wide_as_the_grid(limb_width: float) -> None:
    _, there = paf(((40, 300), (300, 60)), limb_width=limb_width)
    assert there.all()


def test_ends_may_be_slices_of_anything() -> None:
    ends = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0)) * SIDE
    start, end = (ends.permute(1, 0, 3, 2)[..., i : i + 2] for i in (0, 2))
    valid = torch.ones(5, 3, 2, dtype=torch.bool).permute(2, 1, 0)
    copies = draw_pafs(start.contiguous(), end.contiguous(), valid.contiguous(), (SIDE, SIDE))
    for one, other in zip(draw_pafs(start, end, valid, (SIDE, SIDE)), copies, strict=True):
        assert torch.equal(one, other)


# ---------------------------------------------------------------------------------------- whole pictures


def people(seed: int, number: int, kinds: int, size: tuple[int, int]) -> Tensor:
    """(P, K, 3): some whole coordinates, some outside, a fifth not labelled."""
    rng = np.random.default_rng([seed, number])
    xy = rng.uniform((-15, -15), (size[1] + 15, size[0] + 15), (number, kinds, 2))
    near = rng.normal(xy[:, :1], 40, xy.shape)
    xy = np.where(rng.random((number, kinds, 1)) < 0.7, near, xy)
    xy = np.where(rng.random((number, kinds, 1)) < 0.4, (xy / 4).round() * 4, xy)
    # where only one of the pixel index 0 .. side - 1 and the pixel's area counts as inside, ours is the area
    edge = ((xy > -1) & (xy < 0.01)) | ((xy > np.array(size[::-1]) - 1) & (xy < np.array(size[::-1]) + 0.01))
    v = np.where(edge.any(2), 0, rng.integers(0, 5, (number, kinds)).clip(0, 2))
    return torch.from_numpy(np.concatenate([xy, v[..., None]], -1)).double()


LIMBS = [(0, 1), (1, 2), (2, 3), (3, 0), (1, 4), (4, 5)]


@pytest.mark.parametrize("number", [0, 1, 4, 20])
@pytest.mark.parametrize("system", ["s1", "cmu"])
@pytest.mark.parametrize("size", [(368, 368), (160, 240)])
def test_the_literal_targets(size: tuple[int, int], system: str, number: int) -> None:
    batch = torch.stack([people(seed, number, 6, size) for seed in range(3)])
    grid = (size[0] // STRIDE, size[1] // STRIDE)
    position, cell, valid = cells(batch, STRIDE, grid)
    drawn = draw_heatmaps(position, cell, valid, grid, 7 / STRIDE, True, **HEAT, background=True)
    a, b = ([limb[i] for limb in LIMBS] for i in (0, 1))
    ends = batch[..., :2] / STRIDE
    field, _ = draw_pafs(
        ends[:, :, a], ends[:, :, b], valid[:, :, a] & valid[:, :, b], grid, **(S1 if system == "s1" else CMU)
    )
    wanted: dict[str, Any] = (
        {"overlap": "average", "edge": "open", "rounding": "half_even"}
        if system == "s1"
        else {"overlap": "overwrite", "edge": "closed", "rounding": "half_up"}
    )
    for i, keypoints in enumerate(batch.numpy()):
        expected = literal.heatmaps(keypoints, size, STRIDE, sigma_px=7.0, combine="sum_clip")
        np.testing.assert_allclose(drawn[i].permute(1, 2, 0), expected, atol=1e-9)
        expected = literal.pafs(keypoints, LIMBS, size, STRIDE, **wanted)
        np.testing.assert_allclose(field[i].permute(1, 2, 0), expected, atol=1e-9)


@pytest.mark.parametrize("limb_width", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("edge", ["open", "closed"])
def test_our_extent_is_its_formula_on_the_whole_grid(edge: Any, limb_width: float) -> None:
    batch = torch.stack([people(seed, 5, 6, (200, 320)) for seed in range(4)])
    grid = (200 // STRIDE, 320 // STRIDE)
    ends = to_grid(batch[..., :2], STRIDE)
    a, b = ([limb[i] for limb in LIMBS] for i in (0, 1))
    valid = (batch[:, :, a, 2] > 0) & (batch[:, :, b, 2] > 0)
    start, end = ends[:, :, a], ends[:, :, b]
    field, there = draw_pafs(start, end, valid, grid, limb_width=limb_width, edge=edge)
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    here = torch.stack((x, y), -1).double()
    total, count = torch.zeros(4, 6, *grid, 2).double(), torch.zeros(4, 6, *grid)
    for i, p, limb in np.ndindex(4, 5, 6):
        if valid[i, p, limb]:
            line = end[i, p, limb] - start[i, p, limb]
            unit = line / line.norm()
            along = (here - start[i, p, limb]) @ unit
            away = (here - start[i, p, limb] - along[..., None] * unit).norm(dim=-1)
            inside = (along >= -limb_width) & (along <= line.norm() + limb_width)
            inside &= away < limb_width if edge == "open" else away <= limb_width
            total[i, limb] += inside[..., None] * unit
            count[i, limb] += inside
    expected = (total / count.clamp(min=1)[..., None]).permute(0, 1, 4, 2, 3).flatten(1, 2)
    torch.testing.assert_close(field, expected, atol=1e-9, rtol=0)
    assert torch.equal(there > 0, count > 0)


@pytest.mark.parametrize("more", [{}, {"overlap": "overwrite"}, {"limb_width": 2.0, "edge": "closed"}])
def test_our_fields_mirror_with_the_picture(more: dict[str, Any]) -> None:
    size = (200, 320)
    grid = (size[0] // STRIDE, size[1] // STRIDE)
    batch = torch.stack([people(seed, 5, 6, size) for seed in range(4)])
    mirrored = batch.clone()
    mirrored[..., 0] = mirror_x(mirrored[..., 0], size[1])
    fields = []
    for keypoints in (batch, mirrored):
        ends = to_grid(keypoints[..., :2], STRIDE)
        a, b = ([limb[i] for limb in LIMBS] for i in (0, 1))
        valid = (keypoints[:, :, a, 2] > 0) & (keypoints[:, :, b, 2] > 0)
        fields.append(draw_pafs(ends[:, :, a], ends[:, :, b], valid, grid, **more)[0])
    turned = fields[1].flip(-1) * torch.tensor([-1.0, 1.0] * len(LIMBS)).view(-1, 1, 1)
    torch.testing.assert_close(fields[0], turned, atol=1e-9, rtol=0)


@pytest.mark.parametrize("more", [{}, {"limb_width": 2.3}])
@pytest.mark.parametrize("settings", [{}, S1, CMU])
def test_the_fixed_shapes_of_an_accelerator_give_the_same(
    settings: dict[str, Any], more: dict[str, Any]
) -> None:
    batch = torch.stack([people(seed, 5, 6, (368, 368)) for seed in range(3)])
    batch[0, :3, :, :2] = 60 + batch[0, :3, :, :2] / 8  # limbs of three on one cell: the order of sums counts
    valid = (batch[:, :, :5, 2] > 0) & (batch[:, :, 1:, 2] > 0)
    batch[..., :2][batch[..., 2] == 0] = torch.nan
    ends = batch[..., :2] / STRIDE
    whole: dict[str, Any] = {
        "limb_width": 1.0, "edge": "open", "extent": "segment", "rounding": "half_even",
        "overlap": "average", **settings, **more,
    }  # fmt: skip
    few = draw_pafs(ends[:, :, :5], ends[:, :, 1:], valid, (SIDE, SIDE), **whole)
    every = draw_pafs_on_device(ends[:, :, :5], ends[:, :, 1:], valid, (SIDE, SIDE), **whole)
    assert few[0].any()
    for one, other in zip(few, every, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
