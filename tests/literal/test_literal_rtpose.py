"""The literal restatement of rtpose: its own sanity, by properties and by hand-computed numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.literal.reference import rtpose_decoding as decoding
from tests.literal.reference import rtpose_network as network
from tests.literal.reference import rtpose_targets as targets

SQUARE = (368, 368)
CMU: dict[str, Any] = {"overlap": "overwrite", "edge": "closed", "rounding": "half_up"}
FLIP = list(decoding.FLIP_INDEX)
PAF_FLIP = list(decoding.PAF_FLIP_INDEX)


def one_person(*points: tuple[float, float], v: int = 2) -> np.ndarray:
    return np.array([[(x, y, v) for x, y in points]], np.float64)


def limb_cells(people: np.ndarray, **rule: Any) -> list[tuple[int, int]]:
    """(row, column) of the cells on which the only limb, from keypoint 0 to 1, is drawn."""
    field = targets.pafs(people, [(0, 1)], SQUARE, **rule)
    return [(int(j), int(i)) for j, i in zip(*np.nonzero(field.any(axis=2)), strict=True)]


# ---- heatmaps ----


def test_cell_centres_are_half_a_stride_in() -> None:
    heat = targets.heatmaps(one_person((3.5, 3.5)), SQUARE)
    np.testing.assert_allclose(heat[0, :4, 0], [1, 0.52045, 0.07337, 0], atol=1e-5)
    np.testing.assert_array_equal(heat[:, :, 0], heat[:, :, 0].T)


def test_people_are_summed_and_clipped_or_their_maximum_is_taken() -> None:
    people = np.concatenate([one_person((11.5, 3.5)), one_person((27.5, 3.5))])
    summed = targets.heatmaps(people, SQUARE)[0, :5, 0]
    np.testing.assert_allclose(summed, [0.52045, 1, 1, 1, 0.52045], atol=1e-5)
    highest = targets.heatmaps(people, SQUARE, combine="max")[0, :5, 0]
    np.testing.assert_allclose(highest, [0.52045, 1, 0.52045, 1, 0.52045], atol=1e-5)
    with pytest.raises(ValueError, match="sum_clip"):
        targets.heatmaps(people, SQUARE, combine="mean")


def test_a_gaussian_ends_at_three_sigma() -> None:
    for distance, value in ((21.3, 0.0), (21.24, np.exp(-(21.24**2) / 98))):
        heat = targets.heatmaps(one_person((3.5 + distance, 3.5)), SQUARE)
        assert heat[0, 0, 0] == pytest.approx(value, abs=1e-12)
    assert np.exp(-(21.3**2) / 98) > 0.0097  # what a Gaussian without end would give


def test_background_is_what_the_highest_keypoint_leaves() -> None:
    heat = targets.heatmaps(one_person((100, 90), (110, 90)), SQUARE)
    assert heat.shape == (46, 46, 3)
    np.testing.assert_allclose(heat[:, :, 2], 1 - heat[:, :, :2].max(axis=2))
    nobody = targets.heatmaps(np.zeros((0, 18, 3)), SQUARE)
    assert (nobody[:, :, :18] == 0).all() and (nobody[:, :, 18] == 1).all()


def test_maps_have_background_and_two_channels_per_limb() -> None:
    people = decoding.scene_keypoints(1, 0)
    assert targets.heatmaps(people, (368, 496)).shape == (46, 62, 19)
    assert targets.pafs(people, decoding.CMU_LIMBS, (368, 496)).shape == (46, 62, 38)


def test_only_labelled_keypoints_inside_are_drawn() -> None:
    for x, y, v, drawn in ((9, 9, 1, True), (9, 9, 0, False), (-0.1, 9, 2, False), (368, 9, 2, False)):
        people = np.array([[(x, y, v), (60, 60, 2)]], np.float64)
        assert bool(targets.heatmaps(people, SQUARE)[:, :, 0].any()) == drawn
        assert bool(targets.pafs(people, [(0, 1)], SQUARE).any()) == drawn


# ---- fields ----


def test_a_limb_at_exactly_one_cell_belongs_to_it_for_cmu_only() -> None:
    limb = one_person((40, 40), (80, 40))
    assert limb_cells(limb) == [(5, i) for i in range(4, 11)]
    # both neighbours are one cell away; the window's end leaves one of them out
    assert limb_cells(limb, **CMU) == [(j, i) for j in (4, 5) for i in range(4, 11)]
    field = targets.pafs(limb, [(0, 1)], SQUARE)
    np.testing.assert_array_equal(field[5, 4:11], np.tile([1.0, 0.0], (7, 1)))


def test_a_limb_reaches_one_cell_beyond_its_start_but_not_its_end() -> None:
    columns = [i for _, i in limb_cells(one_person((40, 40), (80, 40)))]  # from cell 5 to cell 10
    assert (min(columns), max(columns)) == (4, 10)
    assert limb_cells(one_person((80, 40), (40, 40))) == limb_cells(one_person((40, 40), (80, 40)))


def test_halves_round_to_even_or_up() -> None:
    limb = one_person((44, 40), (84, 40))  # from 5.5 to 10.5 cells
    even = [i for _, i in limb_cells(limb, rounding="half_even")]
    up = [i for _, i in limb_cells(limb, rounding="half_up")]
    assert (min(even), max(even)) == (4, 11) and (min(up), max(up)) == (5, 11)


def test_overlapping_limbs_are_averaged_or_overwritten() -> None:
    right, down = one_person((40, 80), (120, 80)), one_person((80, 40), (80, 120))
    both, reverse = np.concatenate([right, down]), np.concatenate([down, right])
    limb = [(0, 1)]
    np.testing.assert_allclose(targets.pafs(both, limb, SQUARE)[10, 10], [0.5, 0.5])
    np.testing.assert_allclose(targets.pafs(both, limb, SQUARE), targets.pafs(reverse, limb, SQUARE))
    np.testing.assert_array_equal(targets.pafs(both, limb, SQUARE, **CMU)[10, 10], [0, 1])
    np.testing.assert_array_equal(targets.pafs(reverse, limb, SQUARE, **CMU)[10, 10], [1, 0])


def test_a_limb_without_length_is_skipped() -> None:
    point, limb = one_person((80, 80), (80, 80)), one_person((40, 80), (120, 80))
    assert limb_cells(point) == []
    both = np.concatenate([limb, point, limb])
    np.testing.assert_allclose(targets.pafs(both, [(0, 1)], SQUARE), targets.pafs(limb, [(0, 1)], SQUARE))


@pytest.mark.parametrize("rule", [{}, CMU])
def test_vectors_are_of_unit_length_along_the_limb(rule: dict[str, Any]) -> None:
    field = targets.pafs(one_person((50, 70), (200, 111)), [(0, 1), (1, 0)], SQUARE, **rule)
    drawn = field[:, :, :2].any(axis=2)
    direction = np.array([150, 41]) / np.hypot(150, 41)
    np.testing.assert_allclose(field[drawn][:, :2], np.tile(direction, (int(drawn.sum()), 1)))
    np.testing.assert_allclose(field[:, :, 2:], -field[:, :, :2], atol=1e-15)


# ---- the neck ----


def test_the_neck_is_rounded_to_even_halves() -> None:
    assert targets.neck((101, 50, 2), (104, 51, 2)) == (102, 50, 2)
    assert targets.neck((101, 50, 2), (104, 51, 2), "cmu")[:2] == (102.5, 50.5)


@pytest.mark.parametrize(
    ("left", "right", "s1", "cmu", "s1_old"),
    [(2, 2, 2, 2, 2), (1, 1, 1, 1, 1), (1, 2, 2, 1, 2), (2, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 0, 0, 0)],
)
def test_the_necks_visibility(left: int, right: int, s1: int, cmu: int, s1_old: int) -> None:
    for rule, expected in (("s1", s1), ("cmu", cmu), ("s1_old", s1_old)):
        assert targets.neck((0, 0, left), (9, 9, right), rule)[2] == expected
        assert targets.neck((0, 0, right), (9, 9, left), rule)[2] == expected


def test_the_orders_of_keypoints_are_inverse() -> None:
    coco = np.random.default_rng(0).uniform(0, 300, (17, 3))
    coco[:, 2] = 2
    people = targets.with_neck(coco)
    np.testing.assert_array_equal(people[list(targets.TO_COCO)], coco)
    assert people[1, :2] == pytest.approx((coco[5, :2] + coco[6, :2]) / 2, abs=0.5)


# ---- mirrored pictures ----


def test_mirroring_tables_agree_with_the_limbs() -> None:
    limbs = list(decoding.CMU_LIMBS)
    assert [FLIP[k] for k in FLIP] == list(range(18))
    assert [PAF_FLIP[c] for c in PAF_FLIP] == list(range(38))
    for limb, (a, b) in enumerate(limbs):
        partner = limbs.index((FLIP[a], FLIP[b]))  # no limb is turned round by mirroring
        assert PAF_FLIP[2 * limb : 2 * limb + 2] == [2 * partner, 2 * partner + 1]


def mirrored_heat(heat: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(heat[:, ::-1, FLIP])


def mirrored_paf(paf: np.ndarray) -> np.ndarray:
    mirrored = paf[:, ::-1, PAF_FLIP].copy()
    mirrored[:, :, 0::2] *= -1
    return mirrored


def test_mirrored_people_have_mirrored_heatmaps() -> None:
    people = decoding.scene_keypoints(2, 3, missing=0)
    mirrored = people[:, FLIP].copy()
    mirrored[..., 0] = np.where(mirrored[..., 2] > 0, 495 - mirrored[..., 0], 0)
    heat, expected = targets.heatmaps(mirrored, (368, 496)), targets.heatmaps(people, (368, 496))
    np.testing.assert_allclose(heat[:, :, :18], mirrored_heat(expected[:, :, :18]), atol=1e-12)
    np.testing.assert_allclose(heat[:, :, 18], expected[:, ::-1, 18], atol=1e-12)


@pytest.mark.parametrize("rule", [{}, CMU])
def test_mirrored_people_have_mirrored_fields_inside_the_windows(rule: dict[str, Any]) -> None:
    """A field is mirrored about the centre of *its* grid (pixel 0 in cell 0), and its windows are lopsided:
    what is drawn both times agrees; the rest is no more than one column at either end of a limb."""
    people = decoding.scene_keypoints(1, 1, missing=0)
    mirrored = people[:, FLIP].copy()
    mirrored[..., 0] = np.where(mirrored[..., 2] > 0, 61 * 8 - mirrored[..., 0], 0)
    assert (people[..., 0] <= 61 * 8).all() and (people[..., 2] > 0).any()
    field = targets.pafs(mirrored, decoding.CMU_LIMBS, (368, 496), **rule)
    expected = mirrored_paf(targets.pafs(people, decoding.CMU_LIMBS, (368, 496), **rule))
    for limb in range(19):
        one, other = field[:, :, 2 * limb : 2 * limb + 2], expected[:, :, 2 * limb : 2 * limb + 2]
        drawn, wanted = one.any(axis=2), other.any(axis=2)
        np.testing.assert_allclose(one[drawn & wanted], other[drawn & wanted], atol=1e-12)
        odd_columns = np.flatnonzero((drawn ^ wanted).any(axis=0))
        columns = np.flatnonzero((drawn | wanted).any(axis=0))
        if len(columns):
            assert set(odd_columns) <= {columns[0], columns[-1]}


def test_mirrored_maps_give_the_mirrored_people() -> None:
    heat, paf = (decoding.enlarge(m) for m in decoding.scene(3, 5, noise=0.0))
    for decode in (decoding.decode_s1_old, decoding.decode_cmu):
        plain = decode(heat, paf)
        mirrored = decode(mirrored_heat(heat), mirrored_paf(paf))
        assert len(plain) == len(mirrored) > 0
        for person in plain:
            twin = min(mirrored, key=lambda other: abs(other.total - person.total))
            found = person.peaks >= 0
            np.testing.assert_array_equal((twin.peaks >= 0)[FLIP], found)
            turned = twin.keypoints[FLIP]
            np.testing.assert_array_equal(495 - turned[found, 0], person.keypoints[found, 0])
            np.testing.assert_array_equal(turned[found, 1], person.keypoints[found, 1])


# ---- losses ----


def test_losses_differ_by_the_size_of_the_maps() -> None:
    """A learning rate of 1 on the mean equals 2 / (channels * cells) on the sum over 2 N."""
    rng = np.random.default_rng(0)
    for channels, rate in ((38, 2.49e-5), (19, 4.97e-5)):
        prediction, target = rng.normal(size=(2, 3, channels, 46, 46))
        weight = (rng.random((3, 1, 46, 46)) > 0.3).astype(np.float64)
        _, of_mean = targets.loss_mean(prediction, target, weight)
        _, of_sum = targets.loss_sum_over_2n(prediction, target, weight)
        np.testing.assert_allclose(of_mean, of_sum * 2 / (channels * 46 * 46))
        assert 2 / (channels * 46 * 46) == pytest.approx(rate, rel=2e-3)


def test_gradients_are_those_of_the_losses() -> None:
    rng = np.random.default_rng(1)
    prediction, target = rng.normal(size=(2, 2, 3, 4, 5))
    weight = rng.random((2, 1, 4, 5))
    leaf = torch.from_numpy(prediction).requires_grad_()
    goal, mask = torch.from_numpy(target) * torch.from_numpy(weight), torch.from_numpy(weight)
    for literal, of_torch in (
        (targets.loss_mean, nn.functional.mse_loss(leaf * mask, goal)),
        (targets.loss_sum_over_2n, ((leaf * mask - goal) ** 2).sum() / 4),
    ):
        value, gradient = literal(prediction, target, weight)
        assert value == pytest.approx(of_torch.item())
        assert_close(torch.from_numpy(gradient), torch.autograd.grad(of_torch, leaf)[0])


def test_what_the_mask_hides_has_no_gradient_and_still_counts_as_cells() -> None:
    prediction, target = np.ones((1, 2, 2, 2)), np.zeros((1, 2, 2, 2))
    weight = np.array([[[[1.0, 0.0], [0.0, 0.0]]]])
    value, gradient = targets.loss_mean(prediction, target, weight)
    assert value == 0.25 and (gradient[:, :, weight[0, 0] == 0] == 0).all()


# ---- peaks ----


def test_a_symmetric_peak_lies_on_one_of_its_two_middle_pixels() -> None:
    heat = targets.heatmaps(one_person((83.5, 83.5)), SQUARE)[:, :, :1]  # the centre of cell 10
    [[peak]] = decoding.s1_peaks(heat)
    assert peak.x in (83, 84) and peak.y in (83, 84)
    assert 83 <= peak.x + 0.5 <= 84.5


def test_a_peak_at_the_edge_has_a_smaller_patch() -> None:
    heat = targets.heatmaps(one_person((3.5, 83.5), (364.5, 3.5)), SQUARE)[:, :, :2]
    [[left], [corner]] = decoding.s1_peaks(heat)
    # three cells wide, the cubic resize repeats the edge: the highest pixel is up to half a cell off
    assert 0 <= left.x <= 4 and left.y in (83, 84)
    assert 363 <= corner.x <= 367 and 0 <= corner.y <= 4


def test_refined_peaks_are_whole_pixels() -> None:
    heat, _ = decoding.scene(5, 0, false_peaks=3)
    for x, y in decoding.maxima(heat[:, :, 0]):
        refined_x, refined_y, _ = decoding.refine(heat[:, :, 0], x, y, 8)
        assert refined_x == int(refined_x) >= 0 and refined_y == int(refined_y) >= 0


def test_refinement_may_leave_the_cell_and_two_peaks_may_meet() -> None:
    heat = np.zeros((9, 9, 1), np.float32)
    heat[4, 4], heat[4, 6] = 0.4, 0.9  # two cells apart: both are maxima, each in the other's patch
    [peaks] = decoding.s1_peaks(heat)
    assert len(peaks) == 2 and abs(peaks[0].x - peaks[1].x) < 8
    [old] = decoding.s1_old_peaks(heat)
    assert [(p.x, p.y) for p in old] == [(6, 4), (6, 4)]
    [cmu] = decoding.cmu_peaks(heat)
    assert [(p.x, p.y) for p in cmu] == [(4, 4)]  # the later one is too near, though higher


def test_plateaus_are_peaks_unless_neighbours_must_be_lower() -> None:
    heat = np.zeros((9, 9, 1), np.float32)
    heat[4, 4:6] = 0.5
    heat[0, 0] = 0.3
    heat[8, 8] = 0.1  # not above the threshold
    assert len(decoding.s1_peaks(heat)[0]) == len(decoding.s1_old_peaks(heat)[0]) == 3
    assert [(p.x, p.y) for p in decoding.cmu_peaks(heat)[0]] == [(0, 0)]


def test_peaks_are_numbered_by_kind_and_row() -> None:
    heat = np.zeros((20, 20, 2), np.float32)
    for k, y, x in ((1, 2, 9), (0, 9, 1), (0, 2, 15), (0, 2, 3)):
        heat[y, x, k] = 0.5
    for peaks in (decoding.s1_peaks(heat, 1), decoding.s1_old_peaks(heat), decoding.cmu_peaks(heat)):
        places = [(p.id, p.kind, p.x, p.y) for own in peaks for p in own]
        assert places == [(0, 0, 3, 2), (1, 0, 15, 2), (2, 0, 1, 9), (3, 1, 9, 2)]


def test_cmu_removes_peaks_within_six_pixels_of_a_kept_one() -> None:
    heat = np.zeros((9, 40, 1), np.float32)
    heat[4, [2, 8, 14, 21]] = 0.5
    assert [p.x for p in decoding.cmu_peaks(heat)[0]] == [2, 14, 21]  # 8 goes, so 14 stays


@pytest.mark.parametrize("decoder", ["s1", "s1_old", "cmu"])
def test_output_is_half_a_pixel_too_far_on_ideal_maps(decoder: str) -> None:
    """The published outputs add a half to peaks that have no bias on targets drawn around the labels: the
    error is + .5 pixel per axis for all three (refined peaks are whole pixels, so nothing is truncated)."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(12):
        people = np.full((1, 18, 3), 2.0)
        people[0, :, :2] = rng.uniform(30, 130, (18, 2))
        heat = targets.heatmaps(people, (160, 160))[:, :, :18]
        if decoder == "s1":
            peaks = decoding.s1_peaks(heat)
        else:
            find = decoding.s1_old_peaks if decoder == "s1_old" else decoding.cmu_peaks
            peaks = find(decoding.enlarge(heat))
        for k, [peak] in enumerate(peaks):
            errors.append((peak.x + 0.5 - people[0, k, 0], peak.y + 0.5 - people[0, k, 1]))
    np.testing.assert_allclose(np.mean(errors, axis=0), 0.5, atol=0.1)
    assert np.abs(np.array(errors) - 0.5).max() < 1.1


# ---- joining two peaks ----


def test_ten_samples_without_or_with_the_end_point() -> None:
    assert decoding.s1_sample_positions(10, 59).tolist() == [10, 15, 20, 25, 30, 35, 39, 44, 49, 54]
    assert decoding.linspace_sample_positions(10, 59).tolist() == [10, 15, 21, 26, 32, 37, 43, 48, 54, 59]
    assert (
        decoding.s1_sample_positions(59, 10)[0] == 59
        and decoding.s1_sample_positions(5, 5).tolist() == [5] * 10
    )


def test_long_limbs_lose() -> None:
    values = [decoding.length_prior(368, length) for length in (100, 184, 300, 500)]
    np.testing.assert_allclose(values, [0, 0, -0.38667, -0.632], atol=1e-5)


def field_with(samples: int, positions: np.ndarray, value: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A field to the right at the first `samples` of the places, (128, 128) each."""
    paf_x = np.zeros((128, 128), np.float32)
    paf_x[20, positions[:samples]] = value
    return paf_x, np.zeros_like(paf_x)


def test_how_many_samples_must_pass() -> None:
    a, b = decoding.Peak(0, 0, 10, 20, 1.0), decoding.Peak(1, 1, 59, 20, 1.0)
    inner, ends = decoding.s1_sample_positions(10, 59), decoding.linspace_sample_positions(10, 59)
    assert decoding.s1_limb_score(*field_with(6, inner), a, b) is None
    assert decoding.s1_limb_score(*field_with(7, inner), a, b) == pytest.approx(0.7)
    assert decoding.s1_old_limb_score(*field_with(8, ends), a, b, 128) is None
    assert decoding.s1_old_limb_score(*field_with(9, ends), a, b, 128) == pytest.approx(0.9)
    assert decoding.cmu_limb_score(*field_with(8, ends), a, b, 128) is None
    assert decoding.cmu_limb_score(*field_with(9, ends), a, b, 128) == pytest.approx(
        1.0
    )  # of those that pass


def scores(a: decoding.Peak, b: decoding.Peak, value: float) -> list[Any]:
    """The three limb scores on a field of `value` at all samples."""
    inner = field_with(10, decoding.s1_sample_positions(a.x, b.x), value)
    ends = field_with(10, decoding.linspace_sample_positions(a.x, b.x), value)
    return [
        decoding.s1_limb_score(*inner, a, b),
        decoding.s1_old_limb_score(*ends, a, b, 128),
        decoding.cmu_limb_score(*ends, a, b, 128),
    ]


def test_samples_pass_above_the_threshold() -> None:
    a, b = decoding.Peak(0, 0, 10, 20, 1.0), decoding.Peak(1, 1, 59, 20, 1.0)
    assert scores(a, b, 0.0499) == [None] * 3
    assert scores(a, b, 0.0501) == pytest.approx([0.0501] * 3, abs=1e-6)


def test_a_limb_must_score_above_zero() -> None:
    a, b = decoding.Peak(0, 0, 10, 20, 1.0), decoding.Peak(1, 1, 110, 20, 1.0)
    prior = 0.5 * 128 / 100 - 1  # -.36
    assert scores(a, b, 0.35) == [None] * 3
    assert scores(a, b, 0.37) == pytest.approx([0.37 + prior] * 3, abs=1e-6)


def test_a_limb_against_the_field_or_without_length_does_not_fit() -> None:
    a, b = decoding.Peak(0, 0, 10, 20, 1.0), decoding.Peak(1, 1, 59, 20, 1.0)
    assert scores(b, a, 1.0) == [None] * 3
    assert scores(a, a, 1.0) == [None] * 3


def test_the_best_connection_first_and_each_peak_once() -> None:
    link = decoding.Connection
    pairs = [link(0, 5, 0.5), link(0, 6, 0.9), link(1, 6, 0.8), link(1, 5, 0.5), link(2, 5, 0.5)]
    chosen = decoding.choose_connections(pairs)
    assert [(c.a, c.b) for c in chosen] == [(0, 6), (1, 5)]  # of equal scores the earlier


# ---- people ----

TRIANGLE = ((0, 1), (0, 2), (1, 2))


def rows_of(counts: list[int], connections: list[list[tuple[int, int]]], **rule: Any) -> list[decoding.Row]:
    """Rows assembled of `counts` peaks per kind (scores 1) and per limb of TRIANGLE pairs (scores .5)."""
    peaks = decoding.number_peaks([[(0, 0, 1.0)] * count for count in counts])
    links = [[decoding.Connection(a, b, 0.5) for a, b in own] for own in connections]
    return decoding.assemble(peaks, links, TRIANGLE, (0, 1, 2), **{"starting_limbs": 3, **rule})


def test_a_conflict_on_peak_zero_is_not_seen_by_rtpose() -> None:
    # noses 0, 1; kind 1: 2; kind 2: 3.  0-2 and 1-3 are people, 2-3 would join them although both have a nose
    joined = rows_of([2, 1, 1], [[(0, 2)], [(1, 3)], [(2, 3)]], peak_zero_bug=True)
    assert [row.peaks for row in joined] == [[2, 2, 3]]  # 0 + 1 + 1: a peak of another kind
    assert joined[0].parts == 4 and joined[0].total == 2.5 + 2.5 + 0.5
    seen = rows_of([2, 1, 1], [[(0, 2)], [(1, 3)], [(2, 3)]])
    assert [row.peaks for row in seen] == [[0, 2, 3], [1, -1, 3]]  # one peak may be held twice
    assert [row.parts for row in seen] == [3, 2] and [row.total for row in seen] == [4.0, 2.5]


def test_a_conflict_on_another_peak_is_always_seen() -> None:
    for bug in (True, False):
        rows = rows_of([3, 1, 1], [[(1, 3)], [(2, 4)], [(3, 4)]], peak_zero_bug=bug)
        assert [row.peaks for row in rows] == [[1, 3, 4], [2, -1, 4]]


def test_the_conflict_on_peak_zero_in_maps() -> None:
    people = np.zeros((3, 3, 3))
    people[0, :2] = [(40, 20, 2), (40, 60, 2)]  # first nose and kind 1
    people[1, [0, 2]] = [(120, 28, 2), (120, 60, 2)]  # second nose and kind 2
    people[2, 1:] = [(40, 60, 2), (120, 60, 2)]  # the limb between them
    heat = targets.heatmaps(people, (160, 160), combine="max")[:, :, :3]
    paf = targets.pafs(people, TRIANGLE, (160, 160))
    settings: dict[str, Any] = {"limbs": TRIANGLE, "order": (0, 1, 2), "starting_limbs": 3}
    [person] = decoding.decode_s1(heat, paf, peak_zero_bug=True, **settings)
    assert person.peaks.tolist() == [2, 2, 3] and person.parts == 4 and person.score == 1
    np.testing.assert_array_equal(person.keypoints[0], person.keypoints[1])
    assert decoding.decode_s1(heat, paf, peak_zero_bug=False, **settings) == []


def test_which_limbs_start_people() -> None:
    """With nothing but limbs from shoulder to ear: rtpose starts a person with the first of them, its
    evaluation of 2017-18 with both, CMU with none."""
    peaks = decoding.number_peaks([[(0, 0, 1.0)] if k in (2, 5, 16, 17) else [] for k in range(18)])
    connections: list[list[decoding.Connection]] = [[] for _ in range(19)]
    connections[9] = [decoding.Connection(0, 2, 0.5)]
    connections[13] = [decoding.Connection(1, 3, 0.5)]
    limbs, order = decoding.CMU_LIMBS, decoding.DECODE_ORDER
    for starting, count in ((17, 0), (18, 1), (19, 2)):
        rows = decoding.assemble(peaks, connections, limbs, order, starting)
        assert len(rows) == count
        assert all(row.parts == 2 and row.total == 2.5 for row in rows)


def test_the_order_of_assembly() -> None:
    pairs = [decoding.CMU_LIMBS[limb] for limb in decoding.DECODE_ORDER]
    assert pairs[:3] == [(1, 2), (1, 5), (2, 3)] and pairs[-2:] == [(2, 16), (5, 17)]
    assert sorted(decoding.DECODE_ORDER) == list(range(19))
    reached = {1}
    for a, b in pairs[:17]:  # a tree that grows from the neck
        assert a in reached and b not in reached
        reached.add(b)
    assert len(reached) == 18


def test_a_limb_that_fits_three_people_is_ignored_or_starts_another() -> None:
    limbs, order = ((0, 1), (0, 2), (1, 2), (0, 3), (3, 2)), (0, 1, 2, 3, 4)
    peaks = decoding.number_peaks([[(0, 0, 1.0)] * n for n in (3, 1, 1, 1)])  # 0 1 2 | 3 | 4 | 5
    # 0-3 and 1-4 are people; 3-4 makes both hold 4; 2-5 is a third one; 5-4 then fits all three
    pairs = ((0, 3), (1, 4), (3, 4), (2, 5), (5, 4))
    connections = [[decoding.Connection(a, b, 0.5)] for a, b in pairs]
    three = [[0, 3, 4, -1], [1, -1, 4, -1], [2, -1, -1, 5]]
    ignored = decoding.assemble(peaks, connections, limbs, order, 5)
    assert [row.peaks for row in ignored] == three
    started = decoding.assemble(peaks, connections, limbs, order, 5, many_start=True)
    assert [row.peaks for row in started] == [*three, [-1, -1, 4, 5]]


def test_the_rules_of_the_three_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    rules: list[tuple[Any, ...]] = []
    assemble = decoding.assemble

    def spy(
        peaks: Any, links: Any, limbs: Any, order: Any, starting: int, **rule: bool
    ) -> list[decoding.Row]:
        rules.append((starting, rule.get("peak_zero_bug", False), rule.get("many_start", False)))
        return assemble(peaks, links, limbs, order, starting, **rule)

    monkeypatch.setattr(decoding, "assemble", spy)
    heat, paf = np.zeros((6, 7, 18), np.float32), np.zeros((6, 7, 38), np.float32)
    for function in (decoding.decode_s1, decoding.decode_s1_old, decoding.decode_cmu):
        function(heat, paf)
    assert rules == [(18, True, False), (19, False, True), (17, False, False)]


def test_too_few_parts_or_too_low_a_mean_are_dropped() -> None:
    people = np.zeros((1, 4, 3))
    people[0, :3] = [(40, 40, 2), (40, 80, 2), (40, 120, 2)]
    settings: dict[str, Any] = {"limbs": ((0, 1), (1, 2), (2, 3)), "order": (0, 1, 2), "starting_limbs": 3}

    def count(height: float) -> list[int]:
        heat = targets.heatmaps(people, (176, 176))[:, :, :4] * height
        paf = targets.pafs(people, settings["limbs"], (176, 176)) * height
        large = decoding.enlarge(heat), decoding.enlarge(paf)
        return [
            len(decoding.decode_s1(heat, paf, **settings)),
            len(decoding.decode_s1_old(*large, **settings)),
            len(decoding.decode_cmu(*large, **settings)),
        ]

    assert count(1.0) == [0, 1, 0]  # three parts
    people[0, 3] = (40, 160, 2)
    assert count(1.0) == [1, 1, 1]
    # the mean is 1.75 times the height (four peaks, three limbs by four parts), about 1.45 on enlarged maps,
    # where half of a field one cell wide is lost
    assert count(0.3) == [1, 1, 1]
    assert count(0.25) == [1, 1, 0]
    assert count(0.2) == [1, 1, 0]
    assert count(0.15) == [0, 1, 0]
    assert count(0.11) == [0, 0, 0]


def test_the_mean_counts_parts_as_they_were_added() -> None:
    peaks = decoding.number_peaks([[(3, 4, 1.0)], [(5, 6, 1.0)]])
    rows = [decoding.Row([0, 1], 2.0, 5), decoding.Row([0, -1], 2.0, 4)]
    [person] = decoding.finish(rows, peaks, 4, 0.45, lambda total, parts: total * parts)
    assert person.parts == 4 and person.score == 8.0
    np.testing.assert_array_equal(person.keypoints, [(3, 4, 1), (0, 0, 0)])


# ---- whole pictures ----


@pytest.mark.parametrize("decoder", ["s1", "s1_old", "cmu"])
def test_drawn_people_are_recovered(decoder: str) -> None:
    found, drawn = 0, 0
    for seed in range(3):
        truth = decoding.scene_keypoints(3, seed, missing=0.0, height=(150, 300))
        heat, paf = decoding.scene(3, seed, missing=0.0, height=(150, 300), noise=0.01)
        assert (
            heat.shape == (46, 62, 18) and paf.shape == (46, 62, 38) and heat.dtype == paf.dtype == np.float32
        )
        people = decode(decoder, heat, paf)
        for person in truth:
            there = person[:, 2] > 0
            drawn += int(there.sum())
            found += max(int(close(p, person).sum()) for p in people)
    assert found > 0.85 * drawn


def decode(decoder: str, heat: np.ndarray, paf: np.ndarray) -> list[decoding.Person]:
    if decoder == "s1":
        return decoding.decode_s1(heat, paf)
    function = decoding.decode_s1_old if decoder == "s1_old" else decoding.decode_cmu
    return function(decoding.enlarge(heat), decoding.enlarge(paf))


def close(person: decoding.Person, truth: np.ndarray) -> np.ndarray:
    near = np.hypot(*(person.keypoints[:, :2] - truth[:, :2]).T) < 5
    return near & (person.peaks >= 0) & (truth[:, 2] > 0)


@pytest.mark.parametrize("decoder", ["s1", "s1_old", "cmu"])
def test_people_hold_peaks_of_their_own_kind(decoder: str) -> None:
    heat, paf = decoding.scene(8, 2, noise=0.03, false_peaks=2)
    people = decode(decoder, heat, paf)
    assert people
    for person in people:
        assert person.peaks.shape == (18,) and person.keypoints.shape == (18, 3)
        held = person.peaks[person.peaks >= 0]
        assert (np.diff(held) > 0).all()  # numbers grow with the kind
        np.testing.assert_array_equal(person.keypoints[:, 2] > 0, person.peaks >= 0)
        assert person.parts >= len(held) > 0
        expected = 1.0 if decoder == "s1" else person.total * person.parts
        assert person.score == pytest.approx(expected)


@pytest.mark.parametrize("decoder", ["s1", "s1_old", "cmu"])
def test_empty_maps_have_nobody(decoder: str) -> None:
    assert decode(decoder, np.zeros((6, 7, 18), np.float32), np.zeros((6, 7, 38), np.float32)) == []


def test_scenes_repeat_themselves_and_differ_by_seed() -> None:
    for one, other in zip(decoding.scene(4, 7), decoding.scene(4, 7), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(decoding.scene(4, 7)[0], decoding.scene(4, 8)[0])
    assert (decoding.scene(0, 0, noise=0.0)[0] == 0).all()


# ---- network ----


def test_published_settings_have_the_published_size() -> None:
    with torch.device("meta"):
        net = network.RTPose()
        (paf, heat), saved = net(torch.empty(2, 3, 368, 368))
    assert sum(p.numel() for p in net.parameters()) == network.PARAMETERS == 52_311_446
    assert sum(p.numel() for p in net.model0.parameters()) == 7_340_480
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 92 and len(net.state_dict()) == 184
    assert paf.shape == (2, 38, 46, 46) and heat.shape == (2, 19, 46, 46)
    assert [m.shape[1] for m in saved] == [38, 19] * 6


def test_key_names_and_their_order_are_those_of_the_files() -> None:
    with torch.device("meta"):
        keys = list(network.RTPose().state_dict())
    layers = list(dict.fromkeys(key.rsplit(".", 1)[0] for key in keys))
    blocks = list(dict.fromkeys(layer.split(".")[0] for layer in layers))
    assert blocks == ["model0", *(f"model{s}_{b}" for b in (1, 2) for s in range(1, 7))]
    assert [int(layer.split(".")[1]) for layer in layers if layer.startswith("model0")] == list(
        network.TRUNK_LAYERS
    )
    assert [layer for layer in layers if layer.startswith("model1_2")] == [
        f"model1_2.{i}" for i in (0, 2, 4, 6, 8)
    ]
    assert [layer for layer in layers if layer.startswith("model6_1")] == [
        f"model6_1.{i}" for i in range(0, 13, 2)
    ]
    with torch.device("meta"):
        without_background = network.RTPose(heat_channels=18).state_dict()
    assert without_background["model6_2.12.weight"].shape[0] == 18  # does not fit the files
    assert without_background["model2_1.0.weight"].shape[1] == 184


def small_net() -> network.RTPose:
    torch.manual_seed(0)
    return network.RTPose(paf_channels=4, heat_channels=3, stages=2)


def test_later_stages_see_fields_heat_and_features_in_this_order() -> None:
    net = small_net()
    seen: dict[str, torch.Tensor] = {}
    for name in ("model2_1", "model2_2"):
        net.get_submodule(name).register_forward_pre_hook(
            lambda m, args, name=name: seen.update({name: args[0]})
        )
    image = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        last, saved = net(image)
        expected = torch.cat([saved[0], saved[1], net.model0(image)], dim=1)
    assert torch.equal(seen["model2_1"], expected) and torch.equal(seen["model2_2"], expected)
    assert last[0] is saved[2] and last[1] is saved[3]
    assert (net.model0(image) >= 0).all()  # the trunk ends in a ReLU
    assert (saved[0] < 0).any()  # the branches do not


def test_weights_start_narrow_and_biases_at_zero() -> None:
    net = small_net()
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        elif parameter.numel() > 10_000:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_four_shapes_of_published_files_hold_the_same_weights() -> None:
    net = small_net()
    bare = network.published_checkpoint(net, "bare")
    values = list(bare.values())
    module = network.published_checkpoint(net, "module")
    lightning = network.published_checkpoint(net, "lightning")
    caffe = network.published_checkpoint(net, "caffe")
    assert list(bare)[0] == "model0.0.weight" and list(module)[0] == "module.model0.0.weight"
    assert "state_dict" in lightning and list(lightning["state_dict"])[0] == "model.model0.0.weight"
    assert list(caffe)[0] == "conv1_1.weight"
    for state in (module, lightning["state_dict"], caffe):
        assert len(state) == len(bare)
        assert all(torch.equal(one, other) for one, other in zip(values, state.values(), strict=True))
    with pytest.raises(ValueError, match="bare, module"):
        network.published_checkpoint(net, "onnx")


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("model0.0", "conv1_1"),
        ("model0.16", "conv3_4"),
        ("model0.21", "conv4_2"),
        ("model0.25", "conv4_4_CPM"),
        ("model1_1.0", "conv5_1_CPM_L1"),
        ("model1_2.8", "conv5_5_CPM_L2"),
        ("model2_1.0", "Mconv1_stage2_L1"),
        ("model6_2.12", "Mconv7_stage6_L2"),
    ],
)
def test_caffe_names(layer: str, name: str) -> None:
    assert network.caffe_name(layer) == name
