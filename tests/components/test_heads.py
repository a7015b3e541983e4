"""Every head reads back what it draws, mirrors with the picture and survives pictures without people.

A new head is tested without anybody writing a test, where its targets carry its fields by name; `field_of`
knows the fields that have another form as targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose import geometry
from pose.annotations.annotations import load_annotations
from pose.annotations.reader import read
from pose.decoders.pairwise_statistics import gather
from pose.decoders.single_person import SinglePersonSettings
from pose.heads.base import Head
from pose.heads.pairwise import PairwiseSettings
from pose.metrics.coco import Coco, CocoSettings
from pose.predict.canvas import lay_out, map_back
from pose.predict.fuse import unflip
from pose.predict.settings import TestSettings
from pose.registry import DECODERS, HEADS
from pose.skeleton import Skeleton
from pose.structures import InputSettings, People
from tests.drawn_heads import (
    COCO18,
    HEIGHT,
    SKELETON,
    STRIDE,
    WIDTH,
    K,
    answers,
    decoded,
    drawn_people,
    field_of,
    head,
    on_canvas,
    paf_head,
    perfect,
    precise_tags,
)


def by_place(people: People) -> np.ndarray:
    """Keypoints of the people from left to right."""
    found = people.keypoints[..., 2:] > 0
    center = (people.keypoints[..., :2] * found).sum(1) / found.sum(1)
    return people.keypoints[np.argsort(center[:, 0])]


# half a cell from rounding; a quarter more where a symmetric peak's quarter step goes the wrong way
HEAD_CASES = [
    pytest.param(lambda name=name: head(name), 0.75 * STRIDE + 0.01, id=name) for name in HEADS.names()
]
HEAD_CASES += [
    pytest.param(precise_tags, 0.5, id="tags, dark"),
    pytest.param(lambda: precise_tags(tag_dim=3, sigma=1.5), 0.5, id="tags, dark, 3 numbers"),
    pytest.param(lambda: paf_head(sigma=1.75, limb_width=2.0), 0.5, id="paf, wide"),
    pytest.param(lambda: paf_head(background=False, overlap="overwrite"), 1.0, id="paf, no background"),
]


@pytest.mark.parametrize(("make", "tolerance"), HEAD_CASES)
@pytest.mark.parametrize("seed", range(3))
def test_drawn_people_are_found_again(make: Any, tolerance: float, seed: int) -> None:
    one, truth = make(), drawn_people(seed)
    for people, expected in zip(decoded(one, perfect(one, on_canvas(truth))), truth.numpy(), strict=True):
        assert len(people) == 3
        labelled = expected[..., 2] > 0
        found = by_place(people)
        away = np.abs(found[..., :2] - expected[..., :2])[labelled]
        assert away.max() <= tolerance
        assert (found[..., 2][labelled] > 0.5).all() and (people.scores > 0.5).all()


@pytest.mark.parametrize(("make", "tolerance"), HEAD_CASES)
def test_a_mirrored_picture_has_mirrored_people(make: Any, tolerance: float) -> None:
    one, truth = make(), drawn_people(7)
    fields = perfect(one, on_canvas(truth))
    mirrored = {name: unflip(maps, one.fields[name]) for name, maps in fields.items()}
    labelled = truth.numpy()[..., 2] > 0
    for plain, turned, there in zip(decoded(one, fields), decoded(one, mirrored), labelled, strict=True):
        back = by_place(turned)[::-1][:, list(SKELETON.flip_index)]
        back[..., 0] = geometry.mirror_x(back[..., 0], WIDTH)
        away = np.abs(back - by_place(plain))[there]
        assert away.max() <= (
            0.02 if tolerance < 1 else tolerance
        )  # ties of a symmetric peak fall to one side
        np.testing.assert_allclose(np.sort(turned.scores), np.sort(plain.scores), atol=1e-3)


@pytest.mark.parametrize(("make", "tolerance"), HEAD_CASES)
def test_targets_mirror_as_the_fields_say(make: Any, tolerance: float) -> None:
    one, truth = make(), drawn_people(8)
    mirrored = truth[:, :, list(SKELETON.flip_index)].clone()
    mirrored[..., 0] = geometry.mirror_x(mirrored[..., 0], WIDTH)
    plain, turned = perfect(one, on_canvas(truth)), perfect(one, on_canvas(mirrored))
    for name, spec in one.fields.items():
        same = torch.isclose(unflip(plain[name], spec), turned[name], atol=1e-3)
        # where two people are equally near, the tag of a cell is a draw
        assert same.all() if name != "tag" else same.float().mean() > 0.98


@pytest.mark.parametrize("name", HEADS.names())
def test_mirroring_twice_changes_nothing(name: str) -> None:
    for spec in head(name).fields.values():
        assert len(spec.flip_perm) == len(spec.flip_sign) == spec.channels
        maps = torch.randn(2, spec.channels, 3, 4)
        assert torch.equal(unflip(unflip(maps, spec), spec), maps)
        assert spec.fuse in ("mean", "stack")


@pytest.mark.parametrize(("make", "tolerance"), HEAD_CASES)
@pytest.mark.parametrize("people", ["none", "padding", "one of two pictures"])
def test_pictures_without_people(make: Any, tolerance: float, people: str) -> None:
    one = make()
    truth = {
        "none": drawn_people()[:, :0],
        "padding": drawn_people() * 0,
        "one of two pictures": drawn_people(),
    }[people]
    if people == "one of two pictures":
        truth[0, ..., 2] = 0
    given, stage = on_canvas(truth), answers(one)
    terms = one.loss([stage], [one.targets(given, STRIDE)])
    assert all(value.isfinite() and value.ndim == 0 for value in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    for maps in stage.values():
        assert maps.grad is None or maps.grad.isfinite().all()
    if people != "one of two pictures":
        assert [len(found) for found in decoded(one, perfect(one, given))] == [0, 0]


@pytest.mark.parametrize(("make", "tolerance"), HEAD_CASES)
def test_what_is_masked_everywhere_teaches_no_heatmap(make: Any, tolerance: float) -> None:
    one = make()
    given = on_canvas(drawn_people())
    given = given._replace(loss_mask=torch.zeros_like(given.loss_mask))
    stage = answers(one)
    terms = one.loss([stage], [one.targets(given, STRIDE)])
    dense = [name for name in ("heatmap", "paf") if name in terms]
    for name in dense:
        assert terms[name] == 0
        terms[name].backward(retain_graph=True)
        gradient = stage[name].grad
        assert gradient is not None and not gradient.any()


@pytest.mark.parametrize(("make", "tolerance"), HEAD_CASES)
def test_a_perfect_answer_costs_little_and_a_worse_one_more(make: Any, tolerance: float) -> None:
    one, given = make(), on_canvas(drawn_people())
    fields, targets = perfect(one, given), one.targets(given, STRIDE)
    terms = one.loss([fields], [targets])
    assert terms["heatmap"] < 1e-4  # 0, but for logits
    noisy = {name: maps + 0.3 * torch.randn_like(maps) for name, maps in fields.items()}
    worse = one.loss([noisy], [targets])
    total, more = (
        sum(v for name, v in one.items() if not name.startswith("stat/")) for one in (terms, worse)
    )
    assert more > total
    assert worse["heatmap"] > 0


# ------------------------------------------------------------------------------------------------ real data


def oracle_ap(
    file: Path,
    one: Head,
    skeleton: Skeleton,
    *,
    settings: TestSettings,
    size: tuple[int, int],
    stride: int,
    limit: int | None = None,
) -> float:
    """AP of people read back from their own targets."""
    shape = InputSettings(size=size)
    annotations = load_annotations(file, skeleton, cache=False)
    found = {}
    for i in range(len(annotations))[:limit]:
        laid_out = lay_out(annotations.size(i), [1.0], settings, shape, 64 if stride == 4 else 8)
        keypoints = annotations.keypoints(i).copy()
        keypoints[..., :2] = geometry.apply(laid_out.matrices[0], keypoints[..., :2])
        given = on_canvas(torch.from_numpy(keypoints)[None], laid_out.sizes[0])
        targets = one.targets(given, stride)
        fields = {name: field_of(one, name, targets) for name in one.fields}
        people = decoded(one, fields, stride)[0]
        found[int(annotations.image_ids[i])] = map_back(people, laid_out.matrices[0])
    return Coco(CocoSettings(), read(file), skeleton).evaluate(found, [*found]).value


def test_the_best_that_tags_can_do_on_real_people(real_data: Path) -> None:
    """What drawing, peaks, grouping and mapping back lose together."""
    file = real_data / "coco_eval" / "person_keypoints_val250.json"
    ap = oracle_ap(
        file, precise_tags(), SKELETON, settings=TestSettings(), size=(512, 512), stride=4, limit=80
    )
    assert ap >= 0.93


@pytest.mark.parametrize("skeleton", [SKELETON, COCO18], ids=lambda one: one.name)
def test_the_best_that_fields_can_do_on_real_people(real_data: Path, skeleton: Skeleton) -> None:
    file = real_data / "coco_eval" / "person_keypoints_val250.json"
    settings = TestSettings(resize="short_side")
    ap = oracle_ap(file, paf_head(skeleton), skeleton, settings=settings, size=(368, 368), stride=8, limit=80)
    assert ap >= 0.88


@pytest.mark.parametrize("decoder", ["multicut", "greedy_pairs"])
def test_the_best_that_pairs_can_do_on_real_people(real_data: Path, decoder: str) -> None:
    file = real_data / "coco_eval" / "person_keypoints_val250.json"
    one = HEADS.build(PairwiseSettings(decoder=DECODERS[decoder].config()), SKELETON)
    annotations = load_annotations(file, SKELETON, cache=False)
    one.use_statistics(gather([annotations.keypoints(i) for i in range(len(annotations))], SKELETON))
    settings = TestSettings(resize="original")
    ap = oracle_ap(file, one, SKELETON, settings=settings, size=(850, 850), stride=8, limit=80)
    assert ap >= 0.88


@pytest.mark.parametrize("name", HEADS.names())
def test_one_person_may_be_read_out_of_any_head(name: str) -> None:
    one = HEADS.build(HEADS[name].config(decoder=SinglePersonSettings()), SKELETON)
    truth = drawn_people(3, batch=1)[:, :1]
    truth[..., 2] = 2
    (people,) = decoded(one, perfect(one, on_canvas(truth)))
    assert len(people) == 1
    away = np.abs(people.keypoints[0, :, :2] - truth[0, 0, :, :2].numpy())
    assert away.max() <= 0.75 * STRIDE + 0.01


# ------------------------------------------------------------------------------ what a data set never labels


def keypoints_of_channels(one: Head, name: str) -> list[set[int]]:
    """Which keypoints each channel of a field is about."""
    if name == "paf":
        return [{a, b} for a, b in SKELETON.limb_index for _ in "xy"]
    if name == "locref":
        return [{k} for k in range(K) for _ in "xy"]
    if name == "pairwise":
        return [{a, b} for a in range(K) for b in range(K) if a != b for _ in "xy"]
    if name == "tag":
        dim = one.channels["tag"] // K
        return [{k} for k in range(K) for _ in range(dim)]
    background = [set(range(K))] if one.channels["heatmap"] > K else []
    return [{k} for k in range(K)] + background


@pytest.mark.parametrize("make", [case.values[0] for case in HEAD_CASES])
@pytest.mark.parametrize("seed", range(2))
def test_what_a_set_never_labels_has_no_gradient(make: Any, seed: int) -> None:
    """And everything else has exactly the gradient that it has where all is labelled."""
    one, generator = make(), torch.Generator().manual_seed(seed)
    truth = drawn_people(seed)
    absent = torch.tensor([2, 5, 11])
    truth[0, :, absent] = 0  # as the data set ships it
    everything = on_canvas(truth)
    labelled = everything.labelled.clone()
    labelled[0, absent] = False
    gradients: dict[str, Any] = {}
    for which, batch in (("all", everything), ("some", everything._replace(labelled=labelled))):
        maps = {
            name: torch.randn(2, spec.channels, HEIGHT // STRIDE, WIDTH // STRIDE, generator=generator)
            for name, spec in one.fields.items()
        }
        maps = gradients.setdefault("maps", maps)  # the same in both rounds
        stage = {name: value.clone().requires_grad_() for name, value in maps.items()}
        terms = one.loss([stage], [one.targets(batch, STRIDE)])
        torch.stack([term for name, term in terms.items() if not name.startswith("stat/")]).sum().backward()
        gradients[which] = {name: value.grad for name, value in stage.items()}
    for name in one.fields:
        some, full = gradients["some"][name], gradients["all"][name]
        for channel, keypoints in enumerate(keypoints_of_channels(one, name)):
            if keypoints & set(absent.tolist()):
                assert not some[0, channel].any()
            else:
                assert torch.equal(some[0, channel], full[0, channel])
        assert torch.equal(some[1], full[1]) and some[1].flatten(1).any(1).sum() > len(some[1]) // 2
    heat = gradients["all"]["heatmap"]
    assert (
        heat[0, absent].flatten(1).any(1).all()
    )  # labelled nowhere in the picture, it would be trained away
