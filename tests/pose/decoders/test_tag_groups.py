"""The tag decoder against the literal restatement of pose-ae-train, and its own properties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pose.decoders import peaks
from pose.decoders.tag_groups import TagGroups, TagGroupsSettings
from pose.errors import UserError
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People
from tests.literal.reference import pose_ae_testing as literal

SKELETON = Skeleton(
    "seven",
    ("head", "left_hand", "right_hand", "hip", "left_foot", "right_foot", "tail"),
    grouping_order=("hip", "head", "tail", "left_hand", "right_hand", "left_foot", "right_foot"),
)
K = len(SKELETON)
Maps = tuple[np.ndarray, np.ndarray]  # heat (K, h, w), tag (K, h, w, D), float32


def decoder(**settings: object) -> TagGroups:
    return TagGroups(TagGroupsSettings(**settings), SKELETON, layout=0.0)  # type: ignore[arg-type]


def tensors(scenes: list[Maps]) -> tuple[torch.Tensor, torch.Tensor]:
    heat = torch.from_numpy(np.stack([h for h, _ in scenes]))
    return heat, torch.from_numpy(np.stack([t.transpose(0, 3, 1, 2) for _, t in scenes]))


def drawn(
    rng: np.random.Generator,
    people: int,
    size: tuple[int, int],
    dims: int,
    noise: float = 0.03,
    own: np.ndarray | None = None,
) -> Maps:
    """People of K keypoints, a fifth of them missing, on noise; the nearest person's tag in every cell (near
    `own` (people, dims))."""
    height, width = size
    x, y = rng.uniform(0, width, (K, people)), rng.uniform(0, height, (K, people))
    rows, columns = np.arange(height)[:, None], np.arange(width)
    squared = (rows - y[..., None, None]) ** 2 + (columns - x[..., None, None]) ** 2
    strength = rng.uniform(0.2, 1.3, (K, people)) * (rng.random((K, people)) > 0.2)
    heat = (np.exp(-squared / 4) * strength[..., None, None]).max(1, initial=0)
    heat += rng.normal(0, noise, (K, *size))
    tag = rng.normal(0, 0.2, (K, *size, dims))
    if people:
        own = rng.uniform(-0.8, 0.8, (people, dims)) * people if own is None else own
        tag += own[squared.argmin(1)]
    return heat.astype(np.float32), tag.astype(np.float32)


def scenes() -> Iterator[tuple[int, Maps]]:
    """500 scenes: 0 to 40 people, tag dimensions 1, 2 and 4, maps smaller than the number of peaks, equal
    heats and tags, empty maps."""
    for number in range(500):
        rng = np.random.default_rng([7, number])
        people = int(rng.choice([0, 1, 2, 4, 8])) if number % 10 else 40
        size = (int(rng.integers(3, 24)), int(rng.integers(3, 24)))
        heat, tag = drawn(rng, people, size, int(rng.choice([1, 2, 4])), float(rng.choice([0, 0.02, 0.1])))
        if number % 4 == 1:  # ties of heat and, exactly, of distance
            heat, tag = np.round(heat * 5) / 5, np.round(tag * 2) / 2
        if number % 25 == 2:
            heat[:] = 0
        yield number, (heat.astype(np.float32), tag.astype(np.float32))


def expected(maps: Maps, **settings: Any) -> People:
    heat, tag = np.minimum(maps[0], 1), maps[1]
    keypoints, scores = literal.group_and_refine(heat, tag, SKELETON.grouping_index, **settings)
    scores = scores.astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return People(keypoints[order].astype(np.float32), scores[order])


def assert_equal(ours: People, theirs: People) -> None:
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)


@pytest.mark.slow
def test_equals_the_literal_version_cell_by_cell() -> None:
    decode, people, most, different = decoder(matcher="munkres"), 0, 0, []
    for number, maps in scenes():
        found, truth = decode(*tensors([maps]), stride=1)[0], expected(maps)
        np.testing.assert_array_equal(found.scores, truth.scores)
        if not np.array_equal(found.keypoints, truth.keypoints):
            different.append(number)
        people, most = people + len(found), max(most, len(found))
    assert people > 2000 and most > 30  # one kind of keypoint may go beyond the limit of 30
    # NumPy 1 sums few numbers in another order than many: distances that are x.5 round either way
    tied = [number for number in different if number % 4 == 1]
    assert different == tied and len(tied) <= (5 if np.__version__.startswith("1.") else 0)


def test_scipy_finds_the_same_people_where_no_costs_are_equal() -> None:
    people = 0
    for seed in range(60):
        # tags far apart in a plane, as on a line sums of distances are often equal; no plateaus at 1
        heat, tag = drawn(np.random.default_rng(seed), 1 + seed % 12, (24, 24), 2)
        maps = (heat * 0.6).astype(np.float32), (tag * 100).round(-1) / 7 + heat[..., None] / 10
        found = decoder()(*tensors([maps]), stride=1)[0]
        assert_equal(found, expected(maps))
        people += len(found)
    assert people > 300


def test_limits_are_those_of_the_literal_version() -> None:
    for number in range(20):
        maps = drawn(np.random.default_rng(number), 8, (20, 20), 1)
        for settings in (
            {"max_people": 3},
            {"max_people": 9, "detection_threshold": 0.5},
            {"tag_threshold": 0.3},
        ):
            found = decoder(matcher="munkres", **settings)(*tensors([maps]), stride=1)[0]
            assert_equal(found, expected(maps, **settings))
        found = decoder(matcher="munkres", max_peaks=4)(*tensors([maps]), stride=1)[0]
        assert_equal(found, expected(maps, max_per_keypoint=4))


@pytest.mark.parametrize("subpixel", ["none", "quarter", "dark", "udp"])
def test_a_batch_is_its_images(subpixel: str) -> None:
    maps = [drawn(np.random.default_rng(i), i, (24, 31), 2) for i in range(8)]
    decode = decoder(subpixel=subpixel)
    together = decode(*tensors(maps), stride=4)
    assert len(together) == 8
    for found, own in zip(together, maps, strict=True):
        assert_equal(found, decode(*tensors([own]), stride=4)[0])


def test_without_refinement_only_grouped_keypoints_are_there() -> None:
    maps = drawn(np.random.default_rng(3), 5, (30, 30), 1)
    people = literal.parse(np.minimum(maps[0], 1), maps[1], SKELETON.grouping_index)
    found = decoder(matcher="munkres", refine=False)(*tensors([maps]), stride=1)[0]
    assert (found.keypoints[..., 2] > 0).sum() == sum(int(p.found.sum()) for p in people)
    refined = decoder(matcher="munkres")(*tensors([maps]), stride=1)[0]
    np.testing.assert_array_equal(refined.scores, found.scores)
    assert (refined.keypoints[..., 2] > 0).sum() > (found.keypoints[..., 2] > 0).sum()


def test_the_slip_of_the_released_code_moves_filled_keypoints_below_row_k() -> None:
    """The seven keypoints are taken for the height of the map."""
    moved, filled = 0, 0
    for number in range(30):
        maps = drawn(np.random.default_rng(number), 5, (30, 22), 1 + number % 2)
        plain = decoder(matcher="munkres")(*tensors([maps]), stride=1)[0]
        found = decoder(matcher="munkres", refine="as_released")(*tensors([maps]), stride=1)[0]
        assert_equal(found, expected(maps, as_released=True))
        grouped = decoder(matcher="munkres", refine=False)(*tensors([maps]), stride=1)[0]
        new = (grouped.keypoints[..., 2] == 0) & (found.keypoints[..., 2] > 0)
        differs = (found.keypoints != plain.keypoints).any(2)
        assert not (differs & ~new).any() and (plain.keypoints[differs][:, 1] > K - 1).all()
        np.testing.assert_array_equal(found.keypoints[..., [0, 2]], plain.keypoints[..., [0, 2]])
        moved, filled = moved + differs.sum(), filled + new.sum()
    assert filled > 300 and moved > filled / 5


def test_the_order_is_that_of_the_settings_or_of_the_skeleton() -> None:
    assert decoder().order == SKELETON.grouping_index
    heat, tag = np.zeros((K, 9, 9), np.float32), np.zeros((K, 9, 9, 1), np.float32)
    heat[0, 2, 2], heat[1, 6, 6], heat[1, 2, 2], heat[3, 2, 2] = 0.9, 0.8, 0.7, 0.6
    tag[1, 6, 6] = 9
    names = ("head", "tail", "hip", "left_hand", "right_hand", "left_foot", "right_foot")
    first = decoder(max_people=1, refine=False)(*tensors([(heat, tag)]), stride=1)[0]
    assert (first.keypoints[..., 2] > 0).sum() == 1 and first.keypoints[0, 3, 2] > 0  # hip, then none
    other = decoder(max_people=1, refine=False, order=names)(*tensors([(heat, tag)]), stride=1)[0]
    assert (other.keypoints[..., 2] > 0).sum() == 1 and other.keypoints[0, 0, 2] > 0
    with pytest.raises(UserError, match="every keypoint must be named once"):
        decoder(order=names[1:])


def test_presets_are_the_rules_of_published_systems() -> None:
    ours, higherhrnet, mmpose = (
        TagGroupsSettings(preset=preset)  # type: ignore[arg-type]
        for preset in ("default", "higherhrnet", "mmpose")
    )
    assert ours == TagGroupsSettings() and ours.distance == "rms" and ours.overflow == "skip"
    assert (higherhrnet.distance, higherhrnet.nms_size, higherhrnet.clip) == ("l2", 5, None)
    assert (higherhrnet.overflow, mmpose.overflow) == ("first", "all")
    assert mmpose == higherhrnet.model_copy(update={"preset": "mmpose", "overflow": "all"})
    assert TagGroupsSettings(preset="mmpose", subpixel="udp").subpixel == "udp"


def test_both_ways_to_find_peaks_agree_on_ties() -> None:
    for seed in range(30):
        heat = torch.randn(2, 3, 9, 14, generator=torch.Generator().manual_seed(seed)) * 0.3 + 0.1
        heat = (heat * 5).round() / 5 if seed % 2 else heat
        for limit, size in ((1, 3), (7, 3), (7, 5), (126, 3)):
            here = peaks._top_cells_cpu(heat, limit, 0.1, "square", size)
            there = peaks._top_cells(heat, limit, 0.1, "square", size)
            torch.testing.assert_close(here, there, rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_local_maximum_is_that_of_the_window(size: int) -> None:
    heat = torch.randn(2, 3, 11, 6, generator=torch.Generator().manual_seed(0))
    want = torch.nn.functional.max_pool2d(heat, size, 1, size // 2)
    torch.testing.assert_close(peaks.local_maximum(heat, size), want, rtol=0, atol=0)


def test_a_peak_as_high_as_the_threshold_is_judged_in_float64() -> None:
    heat = torch.zeros(1, 1, 3, 3)
    heat[0, 0, 1, 1] = 0.1
    assert float(heat[0, 0, 1, 1]) > 0.1  # the nearest float32 lies above
    assert peaks.find_peaks(heat, 5, threshold=0.1).heat[0, 0, 0] > 0
    heat[0, 0, 1, 1] = 0.25
    assert peaks.find_peaks(heat, 5, threshold=0.25).heat.sum() == 0


@pytest.mark.parametrize("sigma", [1.5, 2.0])
@pytest.mark.parametrize("blur", [0, 5])
def test_dark_recovers_the_centre_of_a_gaussian(sigma: float, blur: int) -> None:
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(10, 20, (20, 2)):
        grid = np.arange(32)
        heat = 0.9 * np.exp(-((grid[:, None] - y) ** 2 + (grid - x) ** 2) / (2 * sigma**2))
        maps = np.broadcast_to(heat, (K, 32, 32)).astype(np.float32), np.zeros((K, 32, 32, 1), np.float32)
        (person,) = decoder(subpixel="dark", dark_blur=blur)(*tensors([maps]), stride=1)
        np.testing.assert_allclose(person.keypoints[0, :, :2] - 0.5, [[x, y]] * K, atol=0.02)


def mirrored(maps: Maps) -> Maps:
    heat, tag = (m[list(SKELETON.flip_index), :, ::-1] for m in maps)
    return np.ascontiguousarray(heat), np.ascontiguousarray(tag)


@pytest.mark.parametrize("subpixel", ["quarter", "dark"])
def test_a_mirrored_picture_has_mirrored_people(subpixel: str) -> None:
    compared = 0
    for seed in range(20):
        # tags far apart, so that the order in which left and right are grouped does not matter
        own = np.array([[0, 0], [10, 3], [-5, 20]])
        heat, tag = drawn(np.random.default_rng(seed), 3, (40, 40), 2, noise=0.01, own=own)
        heat = heat * np.float32(0.7)  # without plateaus at 1, which have no mirrored quarter
        plain, other = decoder(subpixel=subpixel)(*tensors([(heat, tag), mirrored((heat, tag))]), stride=4)
        back = other.keypoints[:, list(SKELETON.flip_index)]
        back[..., 0] = np.where(back[..., 2] > 0, 160 - back[..., 0], 0)
        np.testing.assert_allclose(other.scores, plain.scores, atol=1e-6)
        np.testing.assert_allclose(back, plain.keypoints, atol=1e-3)
        compared += len(plain)
    assert compared > 40


def test_values_that_are_not_finite_never_come_out() -> None:
    rng = np.random.default_rng(0)
    for clip in (1.0, None):
        for seed in range(20):
            heat, tag = drawn(np.random.default_rng(seed), 4, (20, 20), 2)
            for value in (np.nan, np.inf, -np.inf):
                heat[rng.random(heat.shape) < 0.05] = value
                tag[rng.random(tag.shape) < 0.05] = value
            for subpixel in ("none", "quarter", "dark", "udp"):
                decode = decoder(clip=clip, subpixel=subpixel, dark_blur=3)
                found = decode(*tensors([(heat, tag)]), stride=4)[0]
                assert np.isfinite(found.keypoints).all() and np.isfinite(found.scores).all()
    nothing = np.full((K, 8, 8), np.nan, np.float32), np.zeros((K, 8, 8, 1), np.float32)
    assert len(decoder()(*tensors([nothing]), stride=4)[0]) == 0


def test_people_are_sorted_and_the_weak_are_dropped() -> None:
    maps = drawn(np.random.default_rng(1), 8, (40, 40), 1)
    everyone = decoder()(*tensors([maps]), stride=4)[0]
    assert (np.diff(everyone.scores) <= 0).all()
    limit = float(np.median(everyone.scores))
    some = decoder(min_score=limit)(*tensors([maps]), stride=4)[0]
    keep = everyone.scores >= limit
    assert 0 < keep.sum() < len(everyone)
    assert_equal(some, People(everyone.keypoints[keep], everyone.scores[keep]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same_people() -> None:
    heat, tag = tensors([drawn(np.random.default_rng(i), 2 * i, (40, 40), 2) for i in range(8)])
    for settings in ({"subpixel": "none"}, {}, {"refine": "as_released"}, {"preset": "higherhrnet"}):
        decode = decoder(**settings)
        for here, there in zip(decode(heat, tag, 4), decode(heat.cuda(), tag.cuda(), 4), strict=True):
            assert_equal(there, here)


def test_half_precision_and_strided_maps_are_taken() -> None:
    heat, tag = tensors([drawn(np.random.default_rng(2), 3, (20, 20), 2)])
    plain = decoder()(heat.half().float(), tag.half().float(), 4)[0]
    strided = tag.half().permute(0, 2, 1, 3, 4).contiguous().permute(0, 2, 1, 3, 4)
    assert_equal(decoder()(heat.half().to(memory_format=torch.channels_last), strided, 4)[0], plain)


def test_shapes_and_settings_are_checked() -> None:
    heat, tag = torch.zeros(1, K, 8, 8), torch.zeros(1, K, 1, 8, 8)
    assert decoder()(heat[:0], tag[:0], 4) == []
    for bad in (tag[:, :, 0], tag[..., :-1], tag[:, :-1], tag[:, :, :0]):
        with pytest.raises(ValueError, match="expected heatmap"):
            decoder()(heat, bad, 4)
    with pytest.raises(ValidationError, match="odd"):
        TagGroupsSettings(nms_size=4)
    assert DECODERS["tag_groups"].component is TagGroups
