"""pose.targets.heatmaps against a literal pose-ae-train and against dense formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pose.geometry import PIXEL_CENTER, mirror_x, to_grid, to_pixels
from pose.targets.heatmaps import (
    Combine,
    cells,
    cells_on_device,
    draw_heatmaps,
    draw_heatmaps_on_device,
    flat_index,
    grid_mask,
    grid_mask_on_device,
)
from tests.literal.reference import pose_ae_training as literal

SIZE = (24, 40)


def people(seed: int, batch: int, number: int, size: tuple[float, float], keypoints: int = 5) -> torch.Tensor:
    """(B, P, K, 3), some outside, some on the border, some on corners of cells, a third not labelled."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform((-20, -20), (size[1] + 20, size[0] + 20), (batch, number, keypoints, 2))
    whole = rng.random(xy.shape[:-1]) < 0.3
    xy[whole] = (xy[whole] / 4).round() * 4
    border = rng.random(xy.shape) < 0.1
    xy = np.where(border, np.where(rng.random(xy.shape) < 0.5, 0, size[::-1]), xy)
    v = rng.integers(0, 3, (*xy.shape[:-1], 1))
    return torch.from_numpy(np.concatenate([xy, v], -1).astype(np.float32))


def heatmaps(keypoints: torch.Tensor, sigma: float, subpixel: bool, stride: int = 4) -> torch.Tensor:
    return draw_heatmaps(*cells(keypoints, stride, SIZE), SIZE, sigma, subpixel)


@pytest.mark.parametrize("number", [0, 1, 3, 30])
def test_pose_ae_train(number: int) -> None:
    keypoints = people(number, 2, number, (512, 512), 17)
    # a point less than a cell beyond the left or upper border is drawn in cell 0 there, and left out here
    near = ((keypoints[..., :2] < 0) & (keypoints[..., :2] > -4)).any(-1)
    keypoints[..., 2] *= ~near
    position, cell, visible = cells(keypoints, 4, (128, 128), layout=0.0)
    drawn = draw_heatmaps(position, cell, visible, (128, 128), 2.0, subpixel=False)
    index = flat_index(cell, 128)
    for b in range(2):
        quarter = keypoints[b].double().numpy() / (4, 4, 1)
        np.testing.assert_allclose(drawn[b].numpy(), literal.draw_heatmaps(quarter), atol=1e-6)
        references = literal.keypoint_references(quarter, 128)[:number]
        np.testing.assert_array_equal(visible[b].numpy(), references[..., 1] > 0)
        within = index[b] + torch.arange(17) * 128 * 128
        np.testing.assert_array_equal(within[visible[b]].numpy(), references[..., 0][visible[b].numpy()])
    assert number < 3 or (visible.any() and not visible.all())


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 3.3])
@pytest.mark.parametrize("subpixel", [True, False])
@pytest.mark.parametrize("stride", [2, 4])
def test_the_dense_formula(sigma: float, subpixel: bool, stride: int) -> None:
    keypoints = people(1, 2, 6, (SIZE[0] * stride, SIZE[1] * stride))
    drawn = heatmaps(keypoints, sigma, subpixel, stride)
    expected = torch.zeros(2, 5, *SIZE)
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    reach = int(3 * sigma + 1)
    for b, p, k in np.ndindex(2, 6, 5):
        px, py = to_grid(keypoints[b, p, k, :2], stride).tolist()
        cx, cy = np.floor(px + 0.5), np.floor(py + 0.5)
        if keypoints[b, p, k, 2] == 0 or not (0 <= cx < SIZE[1] and 0 <= cy < SIZE[0]):
            continue
        center = (px, py) if subpixel else (cx, cy)
        bell = torch.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma**2))
        bell[((x - cx).abs() > reach) | ((y - cy).abs() > reach)] = 0
        expected[b, k] = torch.maximum(expected[b, k], bell)
    torch.testing.assert_close(drawn, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("subpixel", [True, False])
def test_properties_of_a_map(subpixel: bool) -> None:
    keypoints = people(2, 3, 8, (96, 160))
    drawn = heatmaps(keypoints, 2.0, subpixel)
    assert drawn.min() >= 0 and drawn.max() <= 1
    torch.testing.assert_close(drawn, heatmaps(keypoints.flip(1), 2.0, subpixel))  # order of people
    one_by_one = torch.stack([heatmaps(keypoints[:, p : p + 1], 2.0, subpixel) for p in range(8)]).amax(0)
    torch.testing.assert_close(drawn, one_by_one)
    padded = torch.cat([keypoints, torch.zeros(3, 4, 5, 3)], 1)
    torch.testing.assert_close(drawn, heatmaps(padded, 2.0, subpixel))
    if not subpixel:
        _, cell, visible = cells(keypoints, 4, SIZE)
        at = drawn.flatten(2).gather(2, flat_index(cell, SIZE[1]).transpose(1, 2)).transpose(1, 2)
        assert (at[visible] == 1).all()


def test_mirrored_people_give_mirrored_maps() -> None:
    keypoints = people(3, 2, 5, (96, 160))
    keypoints[..., 0] += 0.37  # off the border between two cells, which goes to the right one either way
    mirrored = keypoints.clone()
    mirrored[..., 0] = mirror_x(keypoints[..., 0], 160)
    for subpixel in (True, False):
        torch.testing.assert_close(
            heatmaps(mirrored, 2.0, subpixel),
            heatmaps(keypoints, 2.0, subpixel).flip(-1),
            atol=1e-4,
            rtol=1e-4,
        )


def test_what_is_not_labelled_may_hold_anything() -> None:
    keypoints = people(4, 1, 3, (96, 160))
    for junk in (float("nan"), float("inf"), -1e30):
        spoilt = keypoints.clone()
        spoilt[..., :2][keypoints[..., 2] == 0] = junk
        for subpixel in (True, False):
            torch.testing.assert_close(heatmaps(spoilt, 2.0, subpixel), heatmaps(keypoints, 2.0, subpixel))


@pytest.mark.parametrize("cutoff", [1e6, 1e300])
def test_a_cutoff_that_cuts_nothing_costs_no_more_than_the_grid(cutoff: float) -> None:
    keypoints = people(6, 1, 1, (96, 160))
    position, cell, valid = cells(keypoints, 4, SIZE)
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    away = (x - position[0, 0, :, 0, None, None]) ** 2 + (y - position[0, 0, :, 1, None, None]) ** 2
    expected = torch.exp(-away / (2 * 9.0**2)).where(valid[0, 0, :, None, None], 0)
    drawn = draw_heatmaps(position, cell, valid, SIZE, 9.0, True, cutoff=cutoff)
    torch.testing.assert_close(drawn[0], expected, atol=1e-6, rtol=0)


def test_a_batch_of_nothing() -> None:
    assert draw_heatmaps(*cells(people(7, 0, 2, (96, 160)), 4, SIZE), SIZE, 2.0, True).shape == (0, 5, *SIZE)


def test_the_cell_is_the_nearest_and_the_index_finds_it() -> None:
    keypoints = people(5, 2, 9, (96, 160))
    position, cell, visible = cells(keypoints, 4, SIZE)
    assert ((position - cell)[visible].abs() <= 0.5 + 1e-5).all()
    np.testing.assert_allclose(to_pixels(position, 4), keypoints[..., :2], atol=1e-3)
    grid = torch.arange(SIZE[0] * SIZE[1]).view(SIZE)
    assert torch.equal(grid[cell[..., 1], cell[..., 0]][visible], flat_index(cell, SIZE[1])[visible])
    assert (
        cell.dtype == torch.int64
        and (cell >= 0).all()
        and (cell[..., 0] < 40).all()
        and (cell[..., 1] < 24).all()
    )
    inside = (keypoints[..., :2] >= -0.5).all(-1) & (keypoints[..., :2] < torch.tensor([159.5, 95.5])).all(-1)
    assert torch.equal(visible, inside & (keypoints[..., 2] > 0))


def test_a_cell_counts_where_more_than_half_of_its_pixels_do() -> None:
    mask = torch.ones(1, 8, 12, dtype=torch.bool)
    mask[0, :4, :2] = False  # half of cell (0, 0)
    mask[0, 4:, 4:5] = False  # a quarter of cell (1, 1)
    mask[0, 4:8, 8:12] = False
    mask[0, 0, 4:7], mask[0, 1:3, 4:7] = False, False  # 9 of 16
    expected = torch.tensor([[0.0, 0, 1], [1, 1, 0]])
    assert torch.equal(grid_mask(mask, 4), expected[None, None])
    assert torch.equal(grid_mask(mask, 1)[:, 0], mask.float())


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8, 16])
def test_the_mask_of_an_accelerator_is_the_same(stride: int) -> None:
    mask = torch.rand(5, 48, 99, generator=torch.Generator().manual_seed(stride)) > 0.5
    mask[1], mask[2] = True, False
    mask[3, :, 96:] = False  # beyond the last whole cell
    expected = grid_mask_on_device(mask, stride)
    assert expected[0].any() and not expected[0].all()
    assert torch.equal(grid_mask(mask, stride), expected)


@pytest.mark.parametrize("number", [0, 1, 12])
@pytest.mark.parametrize("cutoff", [None, 4.6052])
@pytest.mark.parametrize("combine", ["max", "sum_clip"])
@pytest.mark.parametrize("subpixel", [True, False])
def test_the_fixed_shapes_of_an_accelerator_give_the_same(
    number: int, cutoff: float | None, combine: Combine, subpixel: bool
) -> None:
    keypoints = people(8, 3, number, (96, 160))
    keypoints[1, :, :, :2] = 60 + keypoints[1, :, :, :2] / 16  # many on one cell: the order of sums counts
    keypoints[..., :2][keypoints[..., 2] == 0] = torch.nan
    position, cell, valid = cells(keypoints, 4, SIZE)
    for one, other in zip((cell, valid), cells_on_device(keypoints, 4, SIZE, PIXEL_CENTER)[1:], strict=True):
        assert torch.equal(one, other)
    for background in (False, True):
        few, every = (
            draw(
                position, cell, valid, SIZE, 2.0, subpixel,
                combine=combine, cutoff=cutoff, background=background,
            )
            for draw in (draw_heatmaps, draw_heatmaps_on_device)
        )  # fmt: skip
        assert torch.equal(few, every)
