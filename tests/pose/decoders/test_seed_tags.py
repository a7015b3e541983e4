"""Grouping around seeds: against the literal restatement of the AI Challenger entry, and its own
properties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pose.decoders.seed_tags import SeedTags, SeedTagsSettings, suppress
from pose.errors import UserError
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People
from tests.literal.reference import ae_aic_group as literal

SKELETON = Skeleton(
    "five",
    ("head", "left_hand", "right_hand", "left_foot", "right_foot"),
    grouping_order=("head", "left_foot", "right_foot", "left_hand", "right_hand"),
)
K = len(SKELETON)
STRIDE = 8
Maps = tuple[np.ndarray, np.ndarray]  # heat (K, h, w), tag (K, h, w, D), float32


def decoder(pixel_center: float = 0.0, **settings: Any) -> SeedTags:
    return SeedTags(SeedTagsSettings(**settings), SKELETON, pixel_center)


def decode(*scenes: Maps, **settings: Any) -> list[People]:
    heat = torch.from_numpy(np.stack([h for h, _ in scenes]))
    tag = torch.from_numpy(np.stack([t.transpose(0, 3, 1, 2) for _, t in scenes]).copy())
    return decoder(**settings)(heat, tag, STRIDE)


# ---- suppression ----


def survivors(heat: np.ndarray, size: int = 5, threshold: float = 0.3) -> set[tuple[int, ...]]:
    """heat (K, h, w) -> (k, y, x) of the cells that are left."""
    k, y, x = (heat > np.float32(threshold)).nonzero()
    left = suppress(k, y, x, heat[k, y, x], (heat.shape[1], heat.shape[2]), size)
    return {*zip(k[left].tolist(), y[left].tolist(), x[left].tolist())}


def literal_survivors(heat: np.ndarray, size: int = 5, threshold: float = 0.3) -> set[tuple[int, ...]]:
    return {tuple(map(int, at)) for at in np.argwhere(literal.nms(heat, size) > np.float32(threshold))}


def test_what_is_left_depends_on_the_order_of_the_windows():
    """0.6 falls to 0.7 before it meets 0.5; the other way round it removes 0.5's mirror image first."""
    row = np.zeros((1, 5, 9), np.float32)
    row[0, 0, [0, 4, 8]] = 0.7, 0.6, 0.5
    for find in (survivors, literal_survivors):
        assert {x for _, _, x in find(row)} == {0, 8}
        assert {x for _, _, x in find(row[:, :, ::-1])} == {8}


def maps(number: int) -> np.ndarray:
    """(3, h, w) float32: noise in every cell; heat of few values, so that many are equal; blobs; plateaus; a
    slope, where every cell falls to the next; negative and NaN-free."""
    rng = np.random.default_rng([3, number])
    h, w = rng.integers(1, 22, 2)
    noise = rng.random((3, h, w))
    kind = number % 6
    if kind == 1:
        noise = (noise * rng.integers(2, 9)).round() / 6
    if kind == 2:
        y, x = np.ogrid[:h, :w]
        noise *= 0.05
        for _ in range(6):
            at = rng.uniform(0, (h, w))
            bump = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / rng.uniform(1, 8))
            noise[rng.integers(3)] += rng.uniform(0.3, 1.2) * bump
    if kind == 3:
        noise = np.where(noise > 0.5, 0.5, 0.4 * rng.integers(0, 2, noise.shape))
    if kind == 4:
        noise = 0.31 + np.arange(noise.size).reshape(noise.shape)[:: rng.choice([1, -1])] / noise.size
    if kind == 5:
        noise = noise * 1.5 - 0.7
    return noise.astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_suppression_equals_the_literal_windows(size: int) -> None:
    left = 0
    for number in range(120):
        heat = maps(number)
        expected = literal_survivors(heat, size)
        assert survivors(heat, size) == expected, number
        left += len(expected)
    assert left > 1000


def test_suppression_of_a_full_map_equals_the_literal_windows() -> None:
    heat = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32) * 0.69 + 0.31
    assert survivors(heat) == literal_survivors(heat)


def test_a_constant_map_stays_whole_and_a_map_without_windows_too() -> None:
    assert len(survivors(np.full((1, 8, 9), 0.5, np.float32))) == 72
    narrow = np.random.default_rng(0).random((1, 4, 30)).astype(np.float32)
    assert survivors(narrow) == {tuple(map(int, at)) for at in np.argwhere(narrow > np.float32(0.3))}


# ---- grouping ----


def scene(number: int) -> Maps:
    """0 to 12 people, their keypoints near each other, 1, 2 or 4 tags per cell; some with equal heats and
    tags, some full of noise."""
    rng = np.random.default_rng([9, number])
    people = int(rng.choice([0, 1, 2, 5, 12]))
    h, w = rng.integers(5, 30, 2)
    dims = int(rng.choice([1, 2, 4]))
    y, x = rng.uniform(0, h, (K, people)), rng.uniform(0, w, (K, people))
    squared = (np.arange(h)[:, None] - y[..., None, None]) ** 2 + (np.arange(w) - x[..., None, None]) ** 2
    strength = rng.uniform(0.3, 1.3, (K, people)) * (rng.random((K, people)) > 0.15)
    heat = (np.exp(-squared / 3) * strength[..., None, None]).max(1, initial=0)
    heat += rng.normal(0, rng.choice([0, 0.02, 0.2]), heat.shape)
    tag = rng.normal(0, rng.choice([0.05, 0.4]), (K, h, w, dims))
    if people:
        tag += (np.arange(people)[:, None] * rng.uniform(0.3, 2) + np.zeros(dims))[squared.argmin(1)]
    if number % 3 == 1:
        heat, tag = np.round(heat * 6) / 6, np.round(tag * 4) / 4
    return heat.astype(np.float32), tag.astype(np.float32)


def expected(maps: Maps, **settings: Any) -> People:
    """The literal people, highest mean heat first, at the centres of their cells."""
    found = literal.group(*maps, order=SKELETON.grouping_index, **settings)
    keypoints = np.zeros((len(found), K, 3))
    for person, cells in zip(keypoints, found, strict=True):
        for k, (x, y, heat) in cells.items():
            person[k] = ((x + 0.5) * STRIDE, (y + 0.5) * STRIDE, heat)
    scores = keypoints[..., 2].mean(1).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
    return People(keypoints[order].astype(np.float32), scores[order])


def assert_equal(ours: People, theirs: People) -> None:
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)


@pytest.mark.slow
def test_people_equal_the_literal_ones() -> None:
    people = 0
    for number in range(600):
        found = decode(scene(number), max_peaks=10_000)[0]
        assert_equal(found, expected(scene(number)))
        people += len(found)
    assert people > 1000


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"detection_threshold": 0.6}, {"threshold": 0.6}),
        ({"nms_size": 3}, {"size": 3}),
        ({"tag_threshold": 0.2}, {"tag_threshold": 0.2}),
        ({"min_taken": 0}, {"min_taken": 0}),
        ({"min_taken": 5}, {"min_taken": 5}),
    ],
)
def test_settings_mean_what_they_do_in_the_literal_version(
    ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    for number in range(30):
        assert_equal(decode(scene(number), **ours)[0], expected(scene(number), **theirs))


def spots(*peaks: tuple[int, int, int, float, float], size: int = 30) -> Maps:
    """(k, y, x, heat, tag) each."""
    heat, tag = np.zeros((K, size, size), np.float32), np.zeros((K, size, size, 1), np.float32)
    for k, y, x, value, own in peaks:
        heat[k, y, x], tag[k, y, x] = value, own
    return heat, tag


WHOLE = [(k, 5, 5, 0.5, 0.0) for k in range(K)]


def test_the_seed_is_the_first_peak_in_row_major_order_not_the_highest() -> None:
    """The second head is higher, but who comes first takes everything that fits."""
    person = decode(spots((0, 2, 20, 0.4, 0.0), (0, 20, 2, 0.9, 0.0), *WHOLE[1:]))[0]
    assert len(person) == 1 and person.keypoints[0, 0, :2].tolist() == [20.5 * STRIDE, 2.5 * STRIDE]


def test_peaks_that_a_higher_one_replaced_count_and_are_used_up() -> None:
    """Three hands of rising heat are three peaks taken, although a person has one; falling heat is one."""
    rising = spots((0, 5, 5, 0.5, 0.0), (1, 2, 9, 0.4, 0.0), (1, 9, 9, 0.5, 0.0), (1, 15, 9, 0.6, 0.0))
    found = decode(rising)[0]
    assert len(found) == 1 and found.keypoints[0, 1].tolist() == [76, 124, pytest.approx(0.6)]
    assert found.scores[0] == pytest.approx((0.5 + 0.6) / K)
    falling = spots((0, 5, 5, 0.5, 0.0), (1, 2, 9, 0.6, 0.0), (1, 9, 9, 0.5, 0.0), (1, 15, 9, 0.4, 0.0))
    assert len(decode(falling)[0]) == 0
    assert len(decode(falling, min_taken=1)[0]) == 1


def test_tags_are_compared_with_the_first_keypoints_only() -> None:
    chain = spots(*[(k, 5, 5, 0.5, 0.4 * i) for i, k in enumerate(SKELETON.grouping_index)])
    found = decode(chain, min_taken=1)[0]
    assert (found.keypoints[..., 2] > 0).sum(1).tolist() == [2, 2]  # 0 and 0.4, 0.8 and 1.2; 1.6 is alone


def test_a_distance_of_the_threshold_is_too_far() -> None:
    for dims in (1, 2, 4):
        heat, tag = spots(*WHOLE)
        tag = np.repeat(tag, dims, 3)
        tag[1:] = 0.5  # root mean square over any number of dimensions
        assert len(decode((heat, tag), min_taken=4)[0]) == 0
        tag[1:] = np.float32(0.4999)
        assert len(decode((heat, tag), min_taken=4)[0]) == 1


def test_the_order_is_that_of_the_settings_or_of_the_skeleton() -> None:
    """Whoever starts decides: two hands of different tags, a head between them."""
    heat, tag = spots((0, 5, 5, 0.5, 0.0), (1, 5, 5, 0.5, 0.4), (2, 5, 5, 0.5, -0.4))
    assert (decode((heat, tag), min_taken=1)[0].keypoints[..., 2] > 0).sum(1).tolist() == [3]
    order = ("left_hand", "head", "right_hand", "left_foot", "right_foot")
    people = decode((heat, tag), min_taken=1, order=order)[0]
    assert (people.keypoints[..., 2] > 0).tolist() == [[True, True, False, False, False]]
    with pytest.raises(UserError, match="order: no keypoint 'hed', did you mean 'head'"):
        decoder(order=("hed", *order[1:]))
    with pytest.raises(UserError, match="every keypoint must be named once"):
        decoder(order=order[1:])


@pytest.mark.parametrize("center", [0.0, 0.5])
def test_keypoints_lie_at_the_centres_of_their_cells(center: float) -> None:
    heat, tag = (torch.from_numpy(one) for one in spots(*WHOLE))
    people = decoder(center)(heat[None], tag[None].permute(0, 1, 4, 2, 3), 8)[0]
    assert (people.keypoints[0, :, :2] == 5.5 * 8 - center).all()


def test_scores_are_the_mean_heat_over_all_keypoints_highest_first() -> None:
    far = [(k, 20, 20, 0.9, 9.0) for k in range(K - 1)]
    people = decode(spots(*WHOLE, *far))[0]
    np.testing.assert_allclose(people.scores, [0.9 * (K - 1) / K, 0.5], rtol=1e-6)
    assert people.keypoints[0, K - 1].tolist() == [0, 0, 0]
    hot = decode(spots(*[(k, 5, 5, 2.0, 0.0) for k in range(K)]))[0]
    assert hot.scores[0] == 2 and (hot.keypoints[0, :, 2] == 1).all()


# ---- batches and odd maps ----


def test_a_batch_equals_its_images_alone() -> None:
    def same_size() -> Iterator[Maps]:
        for number in range(100):
            heat, tag = scene(number)
            if tag.shape[3] == 2:
                whole = np.zeros((K, 30, 30), np.float32), np.zeros((K, 30, 30, 2), np.float32)
                whole[0][:, : heat.shape[1], : heat.shape[2]] = heat
                whole[1][:, : heat.shape[1], : heat.shape[2]] = tag
                yield whole

    scenes = [*same_size()]
    together = decode(*scenes)
    assert sum(map(len, together)) > 20 and any(not len(people) for people in together)
    for maps_, people in zip(scenes, together, strict=True):
        assert_equal(people, decode(maps_)[0])


@pytest.mark.parametrize("shape", [(0, 8, 8), (2, 0, 8), (2, 8, 0), (2, 1, 1), (2, 64, 64)])
def test_maps_without_anybody(shape: tuple[int, int, int]) -> None:
    batch, *size = shape
    people = decoder()(torch.zeros(batch, K, *size), torch.zeros(batch, K, 2, *size), 8)
    assert len(people) == batch
    assert all(one.keypoints.shape == (0, K, 3) and len(one.scores) == 0 for one in people)


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_nobody() -> None:
    heat, tag = spots(*WHOLE, *[(k, 20, 20, 0.9, 9.0) for k in range(K)])
    heat[:, 10:15] = np.nan
    tag[0, 20, 20] = np.nan
    tag[1, 20, 20] = np.inf
    people = decode((heat, tag), min_taken=2)[0]
    assert (people.keypoints[..., 2] > 0).sum(1).tolist() == [3, 5]  # 0.9 * 3 / 5 and 0.5
    assert np.isfinite(people.keypoints).all() and np.isfinite(people.scores).all()
    assert len(decode((heat, tag), min_taken=0)[0]) == 2  # nor does it start a person
    assert len(decode((np.full_like(heat, np.nan), tag))[0]) == 0
    heat[:] = np.inf
    assert np.isfinite(decode((heat, tag))[0].keypoints).all()


def test_a_plateau_of_a_network_gone_wrong_is_decoded_in_time_and_memory() -> None:
    heat, tag = np.full((K, 64, 64), 0.9, np.float32), np.zeros((K, 64, 64, 1), np.float32)
    assert len(decode((heat, tag), max_peaks=20)[0]) == 20
    heat += np.random.default_rng(0).random(heat.shape).astype(np.float32)
    people = decode((heat, tag), max_peaks=1)[0]
    assert (people.scores == heat.max((1, 2)).mean(dtype=np.float64).astype(np.float32)).all()


def test_half_precision_and_strided_maps_are_taken() -> None:
    heat, tag = (
        torch.from_numpy(one)[None] for one in spots(*WHOLE, *[(k, 20, 20, 0.75, 9.0) for k in range(K)])
    )
    tag = tag.permute(0, 1, 4, 2, 3)
    plain = decoder()(heat, tag.contiguous(), STRIDE)[0]
    assert len(plain) == 2
    for half, strided in ((heat.half(), tag.half()), (heat.to(memory_format=torch.channels_last), tag)):
        assert_equal(decoder()(half, strided, STRIDE)[0], plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same_people() -> None:
    for number in range(20):
        heat, tag = scene(number)
        heatmap, tags = torch.from_numpy(heat)[None], torch.from_numpy(tag)[None].permute(0, 1, 4, 2, 3)
        on_cpu = decoder()(heatmap, tags, STRIDE)[0]
        assert_equal(decoder()(heatmap.cuda(), tags.cuda(), STRIDE)[0], on_cpu)


def test_maps_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"expected heatmap \(B, 5, h, w\)"):
        decoder()(torch.zeros(1, K, 8, 8), torch.zeros(1, K, 1, 8, 9), 8)
    with pytest.raises(ValueError, match=r"expected heatmap \(B, 5, h, w\)"):
        decoder()(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 1, 8, 8), 8)
    with pytest.raises(ValidationError):
        SeedTagsSettings(nms_size=0)


def test_it_is_registered_for_heads_with_tags() -> None:
    assert DECODERS["seed_tags"].component is SeedTags and SeedTags.needs == ("heatmap", "tag")
