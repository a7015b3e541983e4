"""The decoder of part affinity fields against the literal restatements of rtpose and CMU's original, and its
own properties."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pose.config import read_yaml
from pose.decoders import limb_assembly, limb_scores, paf_groups
from pose.decoders.limb_scores import Grid
from pose.decoders.paf_groups import PafGroups, PafGroupsSettings
from pose.errors import UserError
from pose.registry import DECODERS
from pose.skeleton import Skeleton, from_dict
from pose.structures import People
from tests.literal.reference import cmu_matlab_decoding as matlab
from tests.literal.reference import rtpose_decoding as literal

SKELETONS = Path(__file__).parents[3] / "configs" / "_skeletons"
COCO18, AIC14 = (from_dict(read_yaml(SKELETONS / f"{name}.yaml")) for name in ("coco18", "aic14"))
K, L = len(COCO18), len(COCO18.limbs)
PRESETS = ("default", "s1", "s1_old", "cmu_demo", "cmu_matlab")
Maps = tuple[np.ndarray, np.ndarray]  # heat (h, w, K), paf (h, w, 2 L), float32


@pytest.fixture(autouse=True)
def plain_opencv() -> Iterator[None]:
    """Without Intel's library, which adds up in another order: a tie may then fall to another pixel."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


def decoder(skeleton: Skeleton = COCO18, **settings: Any) -> PafGroups:
    return PafGroups(PafGroupsSettings(**settings), skeleton)


def tensors(*scenes: Maps) -> tuple[torch.Tensor, torch.Tensor]:
    heat, paf = (
        torch.from_numpy(np.stack(maps).transpose(0, 3, 1, 2).copy()) for maps in zip(*scenes, strict=True)
    )
    return heat, paf


def on_device(one: PafGroups, heat: torch.Tensor, paf: torch.Tensor, stride: int) -> list[People]:
    """People found the accelerator's way, here on a CPU."""
    found = one.on_device(heat, paf, stride)
    return [one.people(joints, candidates, stride) for joints, candidates in found]


def assert_equal(ours: People, theirs: People) -> None:
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)


# ---- exactly the published people ----


def small_scenes(number: int, cells: tuple[int, int] = (30, 40), people: int = 8) -> Iterator[Maps]:
    """Alone and in crowds, with noise, false peaks and missing keypoints."""
    for i in range(number):
        yield literal.scene(
            1 + i % people,
            i,
            cells=cells,
            noise=(0.0, 0.01, 0.03, 0.04)[i % 4],
            false_peaks=(0, 3, 0, 1, 5)[i % 5],
            missing=(0.05, 0.15, 0.3)[i % 3],
            height=(60.0, 8.0 * cells[0]),
        )


def assert_published(found: People, expected: list[literal.Person], scores: list[float]) -> None:
    """Same people, in the order of `scores`; keypoints to the pixel."""
    wanted = np.array(scores, np.float32)
    order = np.argsort(-wanted, kind="stable")
    np.testing.assert_allclose(found.scores, wanted[order], rtol=1e-5)
    keypoints = np.array([expected[i].keypoints for i in order]).reshape(-1, K, 3)
    np.testing.assert_array_equal(found.keypoints[..., :2], keypoints[..., :2])
    np.testing.assert_allclose(found.keypoints[..., 2], keypoints[..., 2].clip(0, 1), rtol=1e-6)


@pytest.mark.slow
def test_s1_finds_exactly_the_people_of_rtpose() -> None:
    """Peaks, members, totals and numbers of parts."""
    ranks = {
        "constant": lambda person: 1.0,
        "total_times_parts": lambda person: person.total * person.parts,
        "mean": lambda person: person.total / person.parts,
    }
    people = 0
    for number, maps in enumerate(small_scenes(320, (24, 30), people=6)):
        expected = literal.decode_s1(*maps, peak_zero_bug=False)
        rank = list(ranks)[number % 3]
        found = decoder(preset="s1", person_score=rank)(*tensors(maps), stride=8)[0]
        assert_published(found, expected, [ranks[rank](person) for person in expected])
        people += len(expected)
    assert people > 500


@pytest.mark.parametrize("preset", ["s1_old", "cmu_demo"])
def test_s1_old_and_cmu_demo_find_exactly_their_people(preset: str) -> None:
    """On maps of the picture's size."""
    decode = {"s1_old": literal.decode_s1_old, "cmu_demo": literal.decode_cmu}[preset]
    people = 0
    for heat, paf in small_scenes(24, (16, 20), people=4):
        maps = literal.enlarge(heat), literal.enlarge(paf)
        expected = decode(*maps)
        found = decoder(preset=preset)(*tensors(maps), stride=1)[0]
        assert_published(found, expected, [person.score for person in expected])
        people += len(expected)
    assert people > 24


DIAGONALS = ((0.5, 0.5), (0.5, 0.25), (0.25, -0.5), (0.0, 1.0), (-1.0, 0.0), (0.0, 0.0))


def scenes_with_ties(number: int, side: int = 72) -> Iterator[Maps]:
    """Peaks of few heights on a coarse grid, most of them 6, 7 or 12 pixels apart, some kinds missing; fields
    of one direction everywhere, or nowhere.  Candidates of equal scores there are those of equal sides."""
    for i in range(number):
        rng = np.random.default_rng([7, i])
        heat, paf = np.zeros((side, side, K), np.float32), np.zeros((side, side, 2 * L), np.float32)
        for k in range(K):
            for _ in range(rng.integers(0 if rng.random() < 0.3 else 1, 5)):
                x, y = rng.choice([0, 6, 13, 25, 31, 38, 50, 62, side - 1], 2)
                heat[y, x, k] = rng.choice([0.1, 0.25, 0.5, 0.75])
        for limb in range(L):
            paf[..., 2 * limb : 2 * limb + 2] = DIAGONALS[rng.choice(6, p=(0.3, 0.2, 0.2, 0.1, 0.1, 0.1))]
        if not near_ties(heat, paf):
            yield heat, paf


def near_ties(heat: np.ndarray, paf: np.ndarray) -> bool:
    """Whether a limb has candidates whose scores are equal but for rounding, which float32 and float64 do
    differently."""
    for limb, (a, b) in enumerate(literal.CMU_LIMBS):
        seen: list[tuple[float, tuple[int, ...]]] = []
        fields = paf[..., 2 * limb], paf[..., 2 * limb + 1]
        for one in matlab.peaks_of(heat[..., a]):
            for two in matlab.peaks_of(heat[..., b]):
                sides = tuple(sorted((abs(one[0] - two[0]), abs(one[1] - two[1]))))
                seen.append((matlab.limb_score(*fields, one, two), sides))
        seen.sort()
        for (low, sides), (high, others) in zip(seen[:-1], seen[1:], strict=True):
            if low > 0 and high - low < 1e-6 and sides != others:
                return True
    return False


def assert_matlab(found: People, maps: Maps) -> list[matlab.Person]:
    """Same people; the coordinates that the evaluation writes are half a pixel larger."""
    people = matlab.decode_cmu_matlab(*maps)
    scores = np.array([person.score for person in people], np.float32)
    assert len(found) == len(people)
    # of equal scores any may come first
    ours = sorted(zip(found.scores.round(3).tolist(), found.keypoints.tolist(), strict=True))
    theirs = []
    for person in people:
        keypoints = person.keypoints.copy()
        keypoints[keypoints[:, 2] > 0, :2] -= 0.5
        theirs.append((round(float(np.float32(person.score)), 3), keypoints.tolist()))
    for (_, here), (_, there) in zip(ours, sorted(theirs), strict=True):
        np.testing.assert_array_equal(np.array(here)[:, :2], np.array(there)[:, :2])
        np.testing.assert_allclose(np.array(here)[:, 2], np.array(there)[:, 2].clip(0, 1), rtol=1e-6)
    np.testing.assert_allclose(np.sort(found.scores), np.sort(scores), rtol=1e-5)
    return people


@pytest.mark.slow
def test_cmu_matlab_finds_exactly_the_people_of_the_evaluation() -> None:
    """On maps of the picture's size, random and with equal maxima; by both ways of the decoder."""
    one, count, filled, ordered = decoder(preset="cmu_matlab"), 0, 0, 0
    join = decoder(preset="cmu_matlab", other_limbs="join")
    rows = decoder(preset="cmu_matlab", peak_order="rows")
    random = ((literal.enlarge(heat), literal.enlarge(paf)) for heat, paf in small_scenes(130, (11, 14), 5))
    for maps in itertools.chain(random, scenes_with_ties(340)):
        given = tensors(maps)
        found = one(*given, stride=1)[0]
        assert_equal(on_device(one, *given, stride=1)[0], found)
        count += len(assert_matlab(found, maps))
        filled += not same(found, join(*given, stride=1)[0])
        ordered += not same(found, rows(*given, stride=1)[0])
    assert count > 700 and filled > 100 and ordered > 25  # the rules make a difference


def same(one: People, other: People) -> bool:
    return one.keypoints.shape == other.keypoints.shape and np.array_equal(one.keypoints, other.keypoints)


def test_cmu_is_what_cmu_demo_was_called() -> None:
    assert PafGroupsSettings(preset="cmu") == PafGroupsSettings(preset="cmu_demo")  # type: ignore[arg-type]
    assert PafGroupsSettings.model_validate({"preset": "cmu"}).preset == "cmu_demo"
    known = PafGroupsSettings.model_json_schema()["properties"]["preset"]["enum"]
    assert known == list(PRESETS)
    with pytest.raises(ValidationError, match="cmu_matlab"):
        PafGroupsSettings.model_validate({"preset": "cmu_python"})


def test_the_presets_of_cmu_differ_in_what_is_dropped_and_in_the_ears() -> None:
    demo, evaluation = (PafGroupsSettings.preset_values(name) for name in ("cmu_demo", "cmu_matlab"))
    changed = {key: (demo.get(key), value) for key, value in evaluation.items() if demo.get(key) != value}
    assert changed == {
        "peak_order": (None, "columns"),
        "other_limbs": (None, "fill"),
        "min_keypoints": (4, 3),
        "min_score": (0.4, 0.2),
        "person_score": ("total_times_parts", "total_times_annotated"),
    }


@pytest.mark.slow
def test_the_accelerators_way_finds_the_same_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paf_groups, "SAMPLES_AT_ONCE", 1 << 22)  # several parts
    for preset in PRESETS:
        scenes = [*small_scenes(12)]
        maps, one = tensors(*scenes), decoder(preset=preset, max_peaks=30, min_distance=9.0)
        people = 0
        for here, there in zip(one(*maps, stride=8), on_device(one, *maps, stride=8), strict=True):
            assert_equal(there, here)
            people += len(here)
        assert people > 12


# ---- single rules ----


def ramp(width: int, height: int = 2) -> Grid:
    """A field whose x component is the number of the column."""
    field = torch.zeros(2, height, width)
    field[0] = torch.arange(float(width))
    return Grid(field.view(-1), height, width, stride=1)


def line(grid: Grid, start: float, end: float, settings: PafGroupsSettings) -> torch.Tensor:
    base, (a, b) = torch.zeros(1, dtype=torch.int32), (torch.tensor([[x], [0.0]]) for x in (start, end))
    steps = settings.samples - settings.include_end
    return limb_scores.read_along(grid, base, a, b, settings.samples, steps)[:, 0]


@pytest.mark.parametrize(
    ("preset", "places"),
    [
        ("s1", [10, 15, 20, 25, 30, 35, 39, 44, 49, 54]),
        ("s1_old", [10, 15, 21, 26, 32, 37, 43, 48, 54, 59]),
        ("cmu_matlab", [10, 15, 21, 26, 32, 37, 43, 48, 54, 59]),
    ],
)
def test_the_field_is_read_at_the_published_pixels(preset: Any, places: list[int]) -> None:
    settings = PafGroupsSettings(preset=preset)
    assert line(ramp(64), 10, 59, settings).tolist() == places
    assert (-line(ramp(64), 59, 10, settings)).tolist() == (
        [59 - (x - 10) for x in places] if preset != "s1" else [59, 54, 49, 44, 39, 35, 30, 25, 20, 15]
    )


def one_score(field: torch.Tensor, start: float, end: float, height: int = 100, **settings: Any) -> float:
    """Of a limb along the first row; field (w,) its x component."""
    values = torch.zeros(2, height, len(field))
    values[0, 0] = field
    grid = Grid(values.view(-1), height, len(field), stride=1)
    base, (a, b) = torch.zeros(1, dtype=torch.int32), (torch.tensor([[x], [0.0]]) for x in (start, end))
    return float(limb_scores.limb_scores(grid, base, a, b, PafGroupsSettings(**settings)))


@pytest.mark.parametrize(("preset", "end", "least"), [("s1", 10, 7), ("s1_old", 9, 9), ("cmu_matlab", 9, 9)])
def test_so_many_of_ten_points_must_pass(preset: str, end: int, least: int) -> None:
    for passing in range(11):
        field = torch.zeros(12)
        field[:passing] = 0.5
        score = one_score(field, 0, end, preset=preset)
        mean = 0.5 if preset == "cmu_matlab" else 0.05 * passing
        assert score == pytest.approx(mean if passing >= least else 0)


@pytest.mark.parametrize(("length", "prior"), [(184, 0), (300, -0.38667), (500, -0.632)])
def test_a_limb_longer_than_half_the_picture_loses_score(length: int, prior: float) -> None:
    for preset in PRESETS:
        score = one_score(torch.ones(512), 0, length, height=368, preset=preset)
        assert score == pytest.approx(1 + prior, abs=1e-5)
    assert one_score(torch.ones(512), 0, length, height=368, length_prior=False) == 1


@pytest.mark.parametrize(
    ("share", "samples", "needed"), [(0.6, 10, 7), (0.8, 10, 9), (0.7, 10, 8), (0, 4, 1)]
)
def test_more_than_the_share_must_pass_whatever_its_float(share: float, samples: int, needed: int) -> None:
    assert limb_scores.points_needed(PafGroupsSettings(min_pass=share, samples=samples)) == needed


def links(*ends: tuple[int, int, int, float]) -> dict[str, Any]:
    """Of a skeleton of nose, neck and hip, whose limbs are nose-neck, nose-hip, neck-hip: peaks 0 and 1 are
    noses, 2 is a neck, 3 a hip, 4 a nose, 5 a neck."""
    joined = ((0, 1), (0, 2), (1, 2))
    return {"links": list(ends), "heat": [0.5] * 6, "ends": joined, "starts": [True] * 3, "kinds": 3}


SHARED = ((0, 0, 2, 0.4), (1, 1, 3, 0.4), (2, 2, 3, 0.4))


def test_a_conflict_on_the_first_peak_is_seen() -> None:
    """Two people have a nose, one of them peak 0: they are not merged."""
    for many_start in (False, True):
        first, second = limb_assembly.join_as_published(**links(*SHARED), many_start=many_start)
        assert first.peaks == [0, 2, 3] and second.peaks == [1, -1, 3]  # the hip is shared
        assert (first.parts, second.parts) == (3, 2)
        assert first.total == pytest.approx(3 * 0.5 + 2 * 0.4)
    first, second = limb_assembly.join_consistently(**links(*SHARED), alone=[])
    assert first.peaks == [0, 2, -1] and second.peaks == [1, -1, 3]


def test_a_limb_that_fits_three_people_starts_another_in_s1_old_alone() -> None:
    given = links(*SHARED, (0, 4, 5, 0.4), (2, 5, 3, 0.4))
    assert len(limb_assembly.join_as_published(**given, many_start=False)) == 3
    *_, last = limb_assembly.join_as_published(**given, many_start=True)
    assert last.peaks == [-1, 5, 3]


def test_a_limb_that_only_fills_adds_neither_score_nor_parts_and_joins_nobody() -> None:
    given = links(*SHARED) | {"starts": [True, True, False]}
    first, second = limb_assembly.join_as_published(**given, many_start=True, others_fill=True)
    assert (first.peaks, second.peaks) == ([0, 2, 3], [1, 2, 3])  # each got what it lacked
    assert (first.parts, second.parts) == (2, 2) and (first.kinds, second.kinds) == (0b111, 0b111)
    assert first.total == second.total == pytest.approx(2 * 0.5 + 0.4)
    taken = given | {"links": [*SHARED, (2, 5, 3, 0.4)]}  # another neck to the same hip
    assert [
        row.peaks for row in limb_assembly.join_as_published(**taken, many_start=True, others_fill=True)
    ] == [
        [0, 2, 3],
        [1, 2, 3],
    ]
    assert (
        limb_assembly.join_as_published(**given | {"links": [SHARED[2]]}, many_start=True, others_fill=True)
        == []
    )


def test_a_score_by_what_annotations_have_does_not_count_the_neck() -> None:
    arm = {"left_shoulder": (4.0, 4.0), "left_elbow": (12.0, 5.0), "left_wrist": (18.0, 12.0)}
    for person, annotated in ((arm, 3), (arm | {"neck": (4.0, 12.0)}, 3)):
        maps = tensors(drawn(COCO18, [person], (20, 24)))
        total, times = (
            float(decoder(person_score=score)(*maps, stride=8)[0].scores[0])
            for score in ("total", "total_times_annotated")
        )
        assert times == pytest.approx(annotated * total)


def test_people_are_merged_by_a_limb_between_them() -> None:
    given: dict[str, Any] = {"ends": ((0, 1), (2, 3), (1, 2)), "starts": [True] * 3, "kinds": 4}
    given |= {"heat": [0.5] * 4, "links": [(0, 0, 1, 0.4), (1, 2, 3, 0.4), (2, 1, 2, 0.4)]}
    for people in (
        limb_assembly.join_as_published(**given, many_start=False),
        limb_assembly.join_consistently(**given, alone=[]),
    ):
        (person,) = people
        assert person.peaks == [0, 1, 2, 3] and person.parts == 4
        assert person.total == pytest.approx(4 * 0.5 + 3 * 0.4)


def drawn(skeleton: Skeleton, people: list[dict[str, tuple[float, float]]], size: tuple[int, int]) -> Maps:
    """Maps of stride 8 with peaks of heat 0.9 and unit vectors; a person is {keypoint: (x, y) in cells}."""
    heat = np.zeros((*size, len(skeleton)))
    paf = np.zeros((*size, 2 * len(skeleton.limbs)))
    y, x = np.mgrid[: size[0], : size[1]]
    for person in people:
        for name, (px, py) in person.items():
            k = skeleton.keypoints.index(name)
            heat[..., k] = np.maximum(heat[..., k], 0.9 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 1.53))
        for limb, (a, b) in enumerate(skeleton.limbs):
            if a in person and b in person:
                start, away = np.array(person[a]), np.subtract(person[b], person[a])
                unit = away / np.hypot(*away)
                beside = np.abs((x - start[0]) * unit[1] - (y - start[1]) * unit[0])
                paf[beside < 1, 2 * limb : 2 * limb + 2] = unit
    return heat.astype(np.float32), paf.astype(np.float32)


def test_only_some_limbs_start_a_person() -> None:
    """Nothing but ears and shoulders: the last limb of the order starts nobody in rtpose, the last two in
    CMU's original."""
    right = {"right_ear": (4.0, 4.0), "right_shoulder": (4.0, 12.0)}
    left = {"left_ear": (13.0, 4.0), "left_shoulder": (13.0, 12.0)}
    maps = tensors(drawn(COCO18, [right | left], (20, 20)))
    rules: dict[str, Any] = {"min_keypoints": 2, "min_score": 0.0}
    number = {preset: len(decoder(preset=preset, **rules)(*maps, stride=8)[0]) for preset in PRESETS}
    assert number == {"default": 1, "s1": 1, "s1_old": 2, "cmu_demo": 0, "cmu_matlab": 0}
    assert len(decoder(reach=0.5)(*maps, stride=8)[0]) == 2


def test_people_of_three_keypoints_stay_in_the_evaluations_and_go_in_s1_and_the_demo() -> None:
    arm = {"left_shoulder": (4.0, 4.0), "left_elbow": (12.0, 5.0), "left_wrist": (18.0, 12.0)}
    maps = tensors(drawn(COCO18, [arm], (20, 24)))
    number = {preset: len(decoder(preset=preset)(*maps, stride=8)[0]) for preset in PRESETS}
    assert number["s1_old"] == number["cmu_matlab"] == 1 and number["s1"] == number["cmu_demo"] == 0
    person = decoder(preset="s1_old")(*maps, stride=8)[0]
    assert (person.keypoints[0, :, 2] > 0).sum() == 3


def test_weak_people_go_by_the_mean_of_heat_and_limbs() -> None:
    maps = tensors(literal.scene(5, 1, noise=0.0))
    everyone = decoder(preset="s1", person_score="mean")(*maps, stride=8)[0]
    middle = float(np.median(everyone.scores)) + 1e-4
    some = decoder(preset="s1", person_score="mean", min_score=middle)(*maps, stride=8)[0]
    assert 0 < len(some) < len(everyone) and some.scores.min() >= middle


def test_near_peaks_go_in_the_order_of_the_rows() -> None:
    joints = paf_groups.Joints(
        np.array([0, 0, 0, 0, 1]),
        np.array([[0, 0], [5, 0], [7, 0], [14, 0], [0, 1]], np.float32),
        np.ones(5, np.float32),
    )
    # the second goes because of the first, so that it does not drive out the third
    assert paf_groups.apart(joints, 6.0).tolist() == [True, False, True, True, True]


# ---- our own way ----


def test_pieces_of_one_person_are_joined_and_two_people_are_not() -> None:
    """Legs and head, between which no limb is seen."""
    head = {"nose": (10.0, 6.0), "right_eye": (9.0, 5.0), "left_eye": (11.0, 5.0)}
    leg = {"left_hip": (12.0, 14.0), "left_knee": (12.0, 20.0), "left_ankle": (12.5, 26.0)}
    far = {name: (x + 25, y) for name, (x, y) in leg.items()}
    decode = decoder()
    both = decode(*tensors(drawn(COCO18, [head, leg], (32, 50))), stride=8)[0]
    assert len(both) == 1 and (both.keypoints[0, :, 2] > 0).sum() == 6
    both = decoder(reach=0.0)(*tensors(drawn(COCO18, [head, leg], (32, 50))), stride=8)[0]
    assert len(both) == 2
    both = decode(*tensors(drawn(COCO18, [head, far], (32, 50))), stride=8)[0]
    assert len(both) == 2
    both = decode(*tensors(drawn(COCO18, [leg, far], (32, 50))), stride=8)[0]
    assert len(both) == 2
    # the leg that is nearer to the head
    both = decode(*tensors(drawn(COCO18, [head, leg, far], (32, 50))), stride=8)[0]
    assert sorted((both.keypoints[..., 2] > 0).sum(1).tolist()) == [3, 6]


def test_equal_cells_are_one_peak() -> None:
    """A keypoint between two cells, or four."""
    for place in ((5.5, 6.0), (5.0, 6.5), (5.5, 6.5)):
        (people,) = decoder()(*tensors(drawn(COCO18, [{"nose": place}], (16, 16))), stride=8)
        assert len(people) == 1
        np.testing.assert_allclose(people.keypoints[0, 0, :2], np.array(place) * 8 + 3.5, atol=0.05)


def test_a_peak_alone_is_a_person_of_low_score() -> None:
    maps = tensors(drawn(COCO18, [{"nose": (5.0, 6.0)}], (16, 16)))
    (person,) = decoder()(*maps, stride=8)
    assert len(person) == 1 and person.keypoints[0, 0].tolist() == pytest.approx([43.5, 51.5, 0.9], abs=0.01)
    assert 0 < person.scores[0] < 0.05
    assert len(decoder(singles=False)(*maps, stride=8)[0]) == 0
    assert len(decoder(min_keypoints=2)(*maps, stride=8)[0]) == 0


def test_nobody_shares_a_peak_and_the_fuller_people_come_first() -> None:
    for maps in small_scenes(30):
        people = decoder()(*tensors(maps), stride=8)[0]
        assert (np.diff(people.scores) <= 0).all()
        for k in range(K):
            own = people.keypoints[people.keypoints[:, k, 2] > 0, k]
            assert len(np.unique(own, axis=0)) == len(own)
    heat, paf = tensors(literal.scene(3, 0, noise=0.0, missing=0.0))
    half = heat.clone()
    half[:, 8:14] = 0  # no legs
    assert decoder()(half, paf, stride=8)[0].scores[0] < decoder()(heat, paf, stride=8)[0].scores[0]


def test_positions_have_no_bias() -> None:
    """Of ideal Gaussians round labels in pixels; rtpose reads whole pixels, its evaluation too."""
    rng = np.random.default_rng(0)
    label = rng.uniform(60, 300, (40, K, 2))
    error: dict[str, list[np.ndarray]] = {"default": [], "s1": []}
    axis = (np.arange(46) + 0.5) * 8 - 0.5
    for one in label:
        away = (axis[:, None, None] - one[:, 1]) ** 2 + (axis[:, None] - one[:, 0]) ** 2
        heat = torch.from_numpy(np.exp(-away / 98)).float().permute(2, 0, 1)[None]
        for preset, found in error.items():
            people = decoder(preset=preset, assembly="consistent", min_keypoints=1, min_score=0.0, reach=1e9)
            found.append(people(heat, torch.zeros(1, 2 * L, 46, 46), stride=8)[0].keypoints[0, :, :2] - one)
    assert np.abs(np.mean(error["default"])) < 0.01 and np.abs(error["default"]).max() < 0.05
    assert np.abs(np.mean(error["s1"], axis=(0, 1))).max() < 0.15 and np.abs(error["s1"]).max() < 2


def mirrored(heat: torch.Tensor, paf: torch.Tensor, skeleton: Skeleton) -> tuple[torch.Tensor, torch.Tensor]:
    other = torch.empty_like(paf)
    for limb, (there, turned) in enumerate(skeleton.limb_flip):
        sign = torch.tensor([1.0, -1.0] if turned else [-1.0, 1.0]).view(2, 1, 1)
        other[:, 2 * limb : 2 * limb + 2] = paf[:, 2 * there : 2 * there + 2].flip(-1) * sign
    return heat[:, list(skeleton.flip_index)].flip(-1), other


def test_a_mirrored_picture_has_mirrored_people() -> None:
    compared = 0
    for seed in range(20):
        maps = tensors(literal.scene(2, seed, noise=0.005, missing=0.05))
        plain, turned = (decoder()(*one, stride=8)[0] for one in (maps, mirrored(*maps, COCO18)))
        back = turned.keypoints[:, list(COCO18.flip_index)]
        back[..., 0] = np.where(back[..., 2] > 0, maps[0].shape[3] * 8 - 1 - back[..., 0], 0)
        np.testing.assert_allclose(turned.scores, plain.scores, atol=1e-4)
        np.testing.assert_allclose(back, plain.keypoints, atol=1e-2)
        compared += len(plain)
    assert compared >= 40


# ---- any input ----


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_is_its_images(preset: str) -> None:
    scenes = [*small_scenes(9), (np.zeros((30, 40, K), np.float32), np.zeros((30, 40, 2 * L), np.float32))]
    one = decoder(preset=preset)
    for found, own in zip(one(*tensors(*scenes), stride=8), scenes, strict=True):
        assert_equal(found, one(*tensors(own), stride=8)[0])
    assert len(one(*tensors(scenes[-1]), stride=8)[0]) == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_values_that_are_not_finite_never_come_out(preset: str) -> None:
    rng = np.random.default_rng(0)
    one = decoder(preset=preset)
    for maps in small_scenes(8):
        heat, paf = (part.copy() for part in maps)
        for value in (np.nan, np.inf, -np.inf, 3e38):
            heat[rng.random(heat.shape) < 0.01] = value
            paf[rng.random(paf.shape) < 0.01] = value
        given = tensors((heat, paf))
        for found in (
            *one(*given, stride=8),
            *on_device(one, given[0].nan_to_num(0, 0, 0).clamp(-9, 9), given[1], 8),
        ):
            assert np.isfinite(found.keypoints).all() and np.isfinite(found.scores).all()
            assert ((found.keypoints[..., 2] >= 0) & (found.keypoints[..., 2] <= 1)).all()
    nothing = torch.full((1, K, 8, 8), np.nan), torch.full((1, 2 * L, 8, 8), np.nan)
    assert len(one(*nothing, stride=8)[0]) == 0


def test_a_field_that_is_not_finite_joins_nobody() -> None:
    arm = {"left_shoulder": (4.0, 4.0), "left_elbow": (12.0, 5.0), "left_wrist": (18.0, 12.0)}
    heat, paf = tensors(drawn(COCO18, [arm], (20, 24)))
    for value in (np.nan, np.inf, -np.inf):
        found = decoder(reach=0.0)(heat, torch.full_like(paf, value), stride=8)[0]
        assert (found.keypoints[..., 2] > 0).sum(1).tolist() == [1, 1, 1]


def test_half_precision_and_strided_maps_are_taken() -> None:
    heat, paf = (maps.half() for maps in tensors(literal.scene(4, 0)))
    plain = decoder()(heat.float(), paf.float(), stride=8)[0]
    last = torch.cat((heat, heat[:, :1]), 1)[:, :-1]  # as without the background
    assert_equal(decoder()(last, paf.to(memory_format=torch.channels_last), stride=8)[0], plain)
    assert len(plain) >= 4


def test_threads_do_not_disturb_each_other() -> None:
    one, scenes = decoder(preset="s1"), [tensors(maps) for maps in small_scenes(12)]
    alone = [one(*maps, stride=8)[0] for maps in scenes]
    with ThreadPoolExecutor(2) as pool:
        for found, want in zip(
            pool.map(lambda maps: one(maps[0], maps[1], stride=8)[0], scenes * 3), alone * 3, strict=True
        ):
            assert_equal(found, want)


def test_any_skeleton_will_do() -> None:
    person = {name: (10 + 8 * np.cos(i), 14 + 9 * np.sin(2.0 * i)) for i, name in enumerate(AIC14.keypoints)}
    maps = tensors(drawn(AIC14, [person], (28, 24)))
    for preset in PRESETS:
        found = decoder(AIC14, preset=preset)(*maps, stride=8)[0]
        assert len(found) == 1 and found.keypoints.shape[1:] == (14, 3)
        assert (found.keypoints[0, :, 2] > 0).sum() >= 12


def test_shapes_skeleton_and_settings_are_checked() -> None:
    heat, paf = torch.zeros(1, K, 8, 8), torch.zeros(1, 2 * L, 8, 8)
    assert decoder()(heat[:0], paf[:0], 8) == []
    for bad in ((heat, paf[:, 1:]), (heat[:, 1:], paf), (heat, paf[..., 1:]), (heat[0], paf[0])):
        with pytest.raises(ValueError, match=f"expected heatmap .B, {K}, h, w. and paf .B, {2 * L}, h, w."):
            decoder()(*bad, 8)
    with pytest.raises(UserError, match="needs limbs, and the skeleton 'dots' has none; list pairs"):
        decoder(Skeleton("dots", ("a", "b")))
    with pytest.raises(ValidationError):
        PafGroupsSettings(min_pass=1.0)
    assert PafGroupsSettings(preset="s1", min_keypoints=2).min_keypoints == 2  # a given key wins
    assert DECODERS["paf_groups"].component is PafGroups and PafGroups.needs == ("heatmap", "paf")


# ---- accelerators ----


class Waits(TorchDispatchMode):
    """Names of the operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        before, after = (
            {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}
            for values in ((args, kwargs), out)
        )
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "unique")
        if (before and after and before != after) or any(name in str(func) for name in waits):
            self.names.append(str(func))
        return out


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_nothing_waits_for_an_accelerator_before_the_one_copy(preset: str) -> None:
    with FakeTensorMode():
        heat = torch.empty(2, K, 46, 62, device="cuda")
        paf = torch.empty(2, 2 * L, 46, 62, device="cuda")
        with Waits() as waits:
            table = decoder(preset=preset).tables(heat, paf, 8)
        assert table.device.type == "cuda" and waits.names == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_gpu_finds_the_same_people(preset: str) -> None:
    heat, paf = tensors(*small_scenes(16))
    one = decoder(preset=preset)
    for here, there in zip(one(heat, paf, 8), one(heat.cuda(), paf.cuda(), 8), strict=True):
        np.testing.assert_allclose(there.keypoints, here.keypoints, atol=1e-3)
        np.testing.assert_allclose(there.scores, here.scores, rtol=1e-5)
