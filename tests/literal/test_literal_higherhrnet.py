"""The presets of the tag decoder against the literal restatement of HigherHRNet's and MMPose's grouping, and
against recorded people of the published systems where they are at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pose.decoders.tag_groups import Groups, TagGroups, TagGroupsSettings
from pose.skeleton import Skeleton
from tests.literal.reference import higherhrnet_group as literal

Scene = dict[str, Any]

# What the kinds of recorded people are, as settings here and in the literal version.
KINDS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "raw": (
        {"preset": "mmpose", "subpixel": "none", "refine": False},
        {"limit": "all", "move": "none", "fill": False},
    ),
    "adjust": ({"preset": "mmpose", "refine": False}, {"limit": "all", "fill": False}),
    "full": ({"preset": "mmpose"}, {"limit": "all"}),
    "limited": ({"preset": "mmpose", "overflow": "cut"}, {"limit": "cut"}),
    "udp": ({"preset": "mmpose", "subpixel": "udp"}, {"limit": "all", "move": "udp"}),
    "original": ({"preset": "higherhrnet"}, {"limit": "first"}),
    "original_limited": ({"preset": "higherhrnet", "overflow": "skip"}, {"limit": "skip"}),
    "mmpose1": ({"preset": "mmpose1"}, {"limit": "late_cut", "move": "inner"}),
}  # fmt: skip
RECORDED = [kind for kind in KINDS if kind != "mmpose1"]


def scene(
    seed: int,
    joints: int,
    height: int,
    width: int,
    people: int,
    dims: int,
    shared_tags: bool = False,
    gap: float = 3.0,
    noise: float = 0.01,
    present: float = 0.8,
    scatter: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """heat (K, h, w) and tags (K or 1, h, w, D), float32: the maps of the recorded people, drawn in the same
    order, so that the numbers are the same."""
    rng = np.random.default_rng(seed)
    planes = 1 if shared_tags else joints
    heat: np.ndarray = np.zeros((joints, height, width))
    tags = 0.3 * rng.standard_normal((planes, height, width, dims))
    rows, columns = np.arange(height)[:, None], np.arange(width)
    taken: list[list[tuple[float, float]]] = [[] for _ in range(planes)]
    for person in range(people):
        if scatter:
            own = rng.uniform(-scatter, scatter, dims)
        else:
            own = gap * (person + 1) + 0.2 * rng.standard_normal(dims)
        center_x, center_y = rng.uniform(0, width), rng.uniform(0, height)
        size = rng.uniform(6, height / 2)
        for joint in range(joints):
            seen = rng.random() < present
            x = center_x + 0.5 * size * rng.standard_normal()
            y = center_y + 0.5 * size * rng.standard_normal()
            top = rng.uniform(0.25, 1.0)
            tag = own + 0.1 * rng.standard_normal(dims)
            plane = 0 if shared_tags else joint
            near = any(max(abs(x - u), abs(y - v)) < 7 for u, v in taken[plane])
            if near or not (seen and 0 <= x < width and 0 <= y < height):
                continue
            taken[plane].append((x, y))
            blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
            heat[joint] = np.maximum(heat[joint], top * blob)
            tags[plane, max(0, int(y) - 3) : int(y) + 4, max(0, int(x) - 3) : int(x) + 4] = tag
    heat = heat + noise * rng.standard_normal(heat.shape)
    return (np.round(heat * 2**20) / 2**20).astype(np.float32), (np.round(tags * 2**16) / 2**16).astype(
        np.float32
    )


def grouping_order(kind: str, kinds: int) -> tuple[int, ...]:
    """MMPose takes other keypoints than COCO's 17 in their own order, HigherHRNet by the first of COCO's."""
    if kinds == 17 or kind.startswith("original"):
        return literal.COCO_ORDER[:kinds]
    return tuple(range(kinds))


def decode(maps: tuple[np.ndarray, np.ndarray], kind: str, **settings: Any) -> Groups:
    heat, tags = maps
    names = tuple(f"joint_{i}" for i in range(len(heat)))
    order = tuple(names[i] for i in grouping_order(kind, len(heat)))
    decoder = TagGroups(
        TagGroupsSettings(**KINDS[kind][0], **settings, order=order), Skeleton("drawn", names)
    )
    tags = np.broadcast_to(tags, (len(heat), *tags.shape[1:])).transpose(0, 3, 1, 2)
    (groups,) = decoder.groups(torch.from_numpy(heat)[None], torch.from_numpy(tags.copy())[None])
    return groups


def rows_of(groups: Groups, kind: str) -> np.ndarray:
    """(N, K, 3): x, y and value as the published systems give them, with half a cell added by the quarter
    step."""
    half = 0.0 if kind in ("raw", "udp") else 0.5
    cells = groups.cells + half * (groups.heat[..., None] > 0)
    return np.concatenate((cells, groups.heat[..., None]), 2)


# ---- the literal version ----


def small_scenes(number: int) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray], int]]:
    """Up to 20 people of 5 or 17 joints on small maps, dimensions 1 and 2, one map of tags for all joints,
    tags near to each other, on a line and all over the plane, equal heats and distances, and noise above the
    threshold; and a limit of people that some scenes exceed."""
    for i in range(number):
        rng = np.random.default_rng([11, i])
        people = int(rng.choice([0, 1, 2, 4, 8, 20]))
        size = {"height": int(rng.integers(12, 36)), "width": int(rng.integers(12, 36))}
        heat, tags = scene(
            int(rng.integers(1 << 30)), 17 if i % 2 else 5, **size, people=people, dims=1 + i % 3 % 2,
            shared_tags=i % 7 == 0, gap=float(rng.choice([0.3, 1.0, 3.0])),
            scatter=100.0 if i % 5 == 0 else 0.0, noise=float(rng.choice([0.0, 0.01, 0.08])),
        )  # fmt: skip
        if i % 4 == 1:
            heat, tags = np.round(heat * 10) / 10, np.round(tags * 2) / 2
        yield i, (heat.astype(np.float32), tags.astype(np.float32)), 30 if i % 3 else 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_literal_version(kind: str) -> None:
    people, beyond, merged = 0, 0, 0
    for _, maps, most in small_scenes(210):
        heat, tags = maps
        every_tag = np.broadcast_to(tags, (len(heat), *tags.shape[1:]))
        order = grouping_order(kind, len(heat))
        theirs, scores = literal.group(heat, every_tag, order, max_people=most, **KINDS[kind][1])
        if kind == "mmpose1":  # fills in also where there is no heat; here these stay missing
            theirs[theirs[..., 2] <= 0] = 0
        ours = decode(maps, kind, max_people=most)
        best_first = np.argsort(-scores.astype(np.float32), kind="stable")
        np.testing.assert_array_equal(ours.scores, scores.astype(np.float32)[best_first])
        np.testing.assert_allclose(rows_of(ours, kind), theirs[best_first, :, :3], rtol=1e-5, atol=1e-5)
        people, beyond = people + len(scores), beyond + (len(scores) > most)
        merged += len(decode(maps, kind, max_people=most, merge_equal_starts=False).scores) != len(scores)
    assert people > 1000 and merged  # scenes in which a start was that of another person
    assert (beyond > 20) == (kind not in ("limited", "mmpose1"))


# ---- recorded people ----


SIZES = [(64, 64), (96, 128), (128, 96), (128, 128), (80, 112)]
PEOPLE = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30]


def recorded_scenes() -> dict[str, Scene]:
    found: dict[str, Scene] = {}

    def add(letter: str, first_seed: int, size_offset: int | None = None, **lists: Any) -> None:
        for i in range(len(lists["people"])):
            own = {key: value[i] if isinstance(value, list) else value for key, value in lists.items()}
            if size_offset is not None:
                own["height"], own["width"] = SIZES[(i + size_offset) % 5]
            found[f"{letter}{i:02d}"] = {"seed": first_seed + i, "joints": 17, **own}

    side = {"height": 96, "width": 96}
    add("a", 1000, 0, people=PEOPLE * 2, dims=1)
    add("b", 2000, 2, people=PEOPLE, dims=2)
    add("c", 3000, height=128, width=128, people=[33, 36, 40, 45], dims=[1, 2, 1, 2])
    add("d", 4000, **side, people=[2, 5, 9], dims=[1, 2, 1], shared_tags=True)
    add("e", 5000, height=96, width=128, people=[3, 6, 12], dims=1, joints=14)
    add("f", 6000, **side, people=[4, 8, 12, 20], dims=1, gap=0.3)
    add("u", 8000, 1, people=[4, 6, 8, 9, 10, 12, 14, 18, 22, 28], dims=2, scatter=100.0)
    found["g00"] = {"seed": 7000, "joints": 17, "height": 64, "width": 64, "people": 0, "dims": 1}
    found["g01"] = {**found["g00"], "seed": 7001, "people": 1, "dims": 2, "present": 0.1}
    found["g02"] = {**found["g00"], "seed": 7002, "height": 96, "people": 6, "noise": 0.06}
    return found


@pytest.fixture(scope="module")
def recorded(real_data: Path) -> Path:
    folder = real_data / "golden" / "decoder"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).astype("<f4").tobytes()).hexdigest()


def assert_same_people(
    ours: np.ndarray, scores: np.ndarray, theirs: np.ndarray, their_scores: np.ndarray
) -> None:
    """In any order; people with equal keypoints are told apart by their score."""
    apart = np.abs(ours[:, None] - theirs).clip(max=5).sum((2, 3)) + np.abs(scores[:, None] - their_scores)
    here, there = linear_sum_assignment(apart)
    np.testing.assert_allclose(scores[here], their_scores[there], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours[here, :, 2] > 0, theirs[there, :, 2] > 0)
    np.testing.assert_allclose(ours[here], theirs[there], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_finds_the_recorded_people_exactly(recorded: Path) -> None:
    """Also where assignments are equally cheap and the published solver's choice decides."""
    told = json.loads((recorded / "scenes.json").read_text(encoding="utf-8"))["scenes"]
    people = np.load(recorded / "people.npz")
    scenes = recorded_scenes()
    assert sorted(scenes) == sorted(told) and len(scenes) == 63
    total = 0
    for name, arguments in scenes.items():
        maps = scene(**arguments)
        assert (sha256(maps[0]), sha256(maps[1])) == (told[name]["heat_sha256"], told[name]["tags_sha256"])
        for kind in RECORDED:
            theirs, scores = people[f"{name}_{kind}_people"], people[f"{name}_{kind}_scores"]
            ours = decode(maps, kind)
            assert len(ours.scores) == len(scores) == told[name]["people"][kind], (name, kind)
            theirs = theirs.reshape(len(scores), arguments["joints"], 3 + arguments["dims"])
            assert_same_people(rows_of(ours, kind), ours.scores, theirs[..., :3], scores)
            total += len(scores)
    assert total == 5864


@pytest.mark.slow
def test_the_literal_version_finds_the_recorded_people(recorded: Path) -> None:
    people = np.load(recorded / "people.npz")
    for name, arguments in recorded_scenes().items():
        if name not in ("a07", "b08", "c01", "c02", "d02", "e02", "f03", "g02"):
            continue
        heat, tags = scene(**arguments)
        tags = np.broadcast_to(tags, (len(heat), *tags.shape[1:]))
        for kind in ("limited", "udp", "original", "original_limited"):
            ours, scores = literal.group(heat, tags, grouping_order(kind, len(heat)), **KINDS[kind][1])
            theirs = people[f"{name}_{kind}_people"]
            assert len(ours) == len(theirs), (name, kind)
            assert_same_people(ours[..., :3], scores, theirs[..., :3], people[f"{name}_{kind}_scores"])


# ---- single rules ----


def dots(
    *peaks: tuple[int, int, int, float, float], joints: int = 2, size: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Maps with peaks: joint, x, y, value, tag."""
    heat, tags = np.zeros((joints, size, size), np.float32), np.zeros((joints, size, size, 1), np.float32)
    for joint, x, y, value, tag in peaks:
        heat[joint, y, x], tags[joint, y - 1 : y + 2, x - 1 : x + 2] = value, tag
    return heat, tags


def test_the_distance_is_that_of_the_sum_over_dimensions() -> None:
    heat, tags = dots((0, 5, 5, 0.9, 0.0), (1, 5, 5, 0.9, 0.8))
    tags = np.concatenate((tags, tags), 3)  # 0.8 by the mean, 1.13 by the sum
    assert len(decode((heat, tags), "raw").scores) == 2
    assert len(decode((heat, tags), "raw", distance="rms").scores) == 1


def test_an_equal_start_is_the_same_person_and_starts_his_tag_anew() -> None:
    """Beyond the limit nobody matches, and the second joint's peak of a person there starts him again."""
    maps = dots((0, 5, 5, 0.9, 0.0), (0, 15, 5, 0.8, 10.0), (1, 15, 15, 0.7, 10.0))
    for kind in ("original", "limited"):
        found = decode(maps, kind, refine=False, max_people=1)
        assert len(found.scores) == (1 if kind == "limited" else 2)
    found = decode(maps, "original", refine=False, max_people=1)
    assert sorted((found.heat > 0).sum(1)) == [1, 2]
    apart = decode(maps, "original", refine=False, max_people=1, merge_equal_starts=False)
    assert sorted((apart.heat > 0).sum(1)) == [1, 1, 1]
    same = dots((0, 5, 5, 0.9, 2.0), (0, 15, 5, 0.8, 2.0))  # the lower one takes the place
    found = decode(same, "full", refine=False)
    np.testing.assert_allclose(found.heat, [[0.8, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("overflow", "people"), [("skip", 3), ("first", 5), ("all", 4), ("cut", 2), ("late_cut", 2)]
)
def test_what_happens_beyond_the_limit(overflow: str, people: int) -> None:
    """Three people of the first joint, two at most: of the second joint one peak is near the third person's
    tag and one near nobody's."""
    first = ((0, 5, 5, 0.9, 0.0), (0, 15, 5, 0.8, 10.0), (0, 25, 5, 0.7, 20.0))
    maps = dots(*first, (1, 5, 15, 0.9, 20.5), (1, 15, 15, 0.8, 40.0))
    found = decode(maps, "raw", overflow=overflow, max_people=2)
    assert len(found.scores) == people


def test_without_finite_maps_nothing_else_comes_out() -> None:
    rng = np.random.default_rng(0)
    heat, tags = scene(5, 5, 60, 60, 12, 2)
    for value in (np.nan, np.inf, -np.inf):
        heat[rng.random(heat.shape) < 0.005] = value
        tags[rng.random(tags.shape) < 0.05] = value
    for kind in KINDS:
        found = decode((heat, tags), kind)
        assert len(found.scores) and np.isfinite(found.cells).all() and np.isfinite(found.mean_tags).all()
