"""Every head reads back what it draws, mirrors with the picture and survives pictures without people.

A new head is tested without anybody writing a test, where its targets carry its fields by name; `field_of`
knows the fields that have another form as targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose import geometry
from pose.annotations.training import load_annotations
from pose.config import read_yaml
from pose.decoders.single_person import SinglePersonSettings
from pose.decoders.tag_groups import TagGroupsSettings
from pose.errors import UserError
from pose.heads.base import Head
from pose.heads.paf import PafHead, PafSettings
from pose.heads.pairwise import PairwiseHead, PairwiseSettings
from pose.heads.tags import TagsSettings
from pose.metrics.results import score
from pose.pairwise_statistics import gather
from pose.predict.canvas import lay_out, map_back
from pose.predict.fuse import unflip
from pose.predict.settings import TestSettings
from pose.registry import DECODERS, HEADS
from pose.skeleton import Skeleton, from_dict
from pose.structures import Batch, Fields, InputSettings, People

SKELETONS = Path(__file__).parents[2] / "configs" / "_skeletons"
SKELETON, COCO18, AIC14 = (
    from_dict(read_yaml(SKELETONS / f"{name}.yaml")) for name in ("coco17", "coco18", "aic14")
)
K = len(SKELETON)
STRIDE, HEIGHT, WIDTH = 4, 128, 192
TAG_STEP = 5.0  # between people


def head(name: str) -> Head:
    built: Head = HEADS.build(HEADS[name].config(), SKELETON)
    return built


def precise_tags(**more: Any) -> Head:
    settings = TagsSettings(center="subpixel", decoder=TagGroupsSettings(subpixel="dark"), **more)
    built: Head = HEADS.build(settings, SKELETON)
    return built


def paf_head(skeleton: Skeleton = SKELETON, **more: Any) -> PafHead:
    built: PafHead = HEADS.build(PafSettings(**more), skeleton)
    return built


def batch_of(keypoints: Tensor, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Batch:
    number = len(keypoints)
    return Batch(
        image=torch.zeros(number, 3, *size, dtype=torch.uint8),
        loss_mask=torch.ones(number, *size, dtype=torch.bool),
        keypoints=keypoints,
        areas=torch.ones(keypoints.shape[:2]),
        color=torch.tensor([[0.0, 1.0, 0.0, 1.0]] * number),
        image_id=torch.arange(number),
        labelled=torch.ones(number, keypoints.shape[2], dtype=torch.bool),
    )


def drawn_people(seed: int = 0, batch: int = 2) -> Tensor:
    """(B, 3, K, 3): people side by side, the same keypoint of two people well apart; some not labelled, but
    the others joined by limbs."""
    rng = np.random.default_rng(seed)
    middle = np.stack([np.array([36, 96, 156]), np.full(3, 64)], -1)
    xy = middle[:, None] + rng.uniform((-18, -54), (18, 54), (batch, 3, K, 2))
    v = np.full((batch, 3, K, 1), 2)
    for labelled in v.reshape(-1, K):
        for k in rng.permutation(K)[:5]:
            labelled[k] = 0
            labelled[k] = 0 if joined(labelled) else 2
    return torch.from_numpy(np.concatenate([xy, v], -1).astype(np.float32))


def joined(labelled: np.ndarray) -> bool:
    """Whether limbs join all labelled keypoints."""
    group = np.where(labelled > 0, np.arange(K), -1)
    for _ in range(K):
        for a, b in SKELETON.limb_index:
            if group[a] >= 0 and group[b] >= 0:
                group[[a, b]] = max(group[a], group[b])
    return len({number for number in group if number >= 0}) == 1


def field_of(head: Head, name: str, targets: Any) -> Tensor:
    """What a perfect network would answer."""
    if isinstance(head, PairwiseHead):
        return perfect_offsets(head, name, targets)
    if hasattr(targets, name):
        maps: Tensor = getattr(targets, name)
        return maps
    if name == "tag":
        return person_tags(targets, head.channels["tag"] // K)
    pytest.skip(f"no perfect answer is known for the field {name!r}")


def perfect_offsets(head: PairwiseHead, name: str, targets: Any) -> Tensor:
    """The network's maps: logits, and normalised offsets at the cells that belong to a keypoint."""
    if name == "heatmap":
        return 20 * targets.heatmap - 10
    found, maps = targets.discs, torch.zeros(*targets.heatmap.shape[:2], 1, *targets.heatmap.shape[-2:])
    b, p, k, r = found.owned.nonzero(as_tuple=True)
    cell, center = found.cell[b, p, k, r], found.center[b, p, k, r]
    if name == "locref":
        values = (targets.position[b, p, k] - center) / head.cfg.locref_std
    else:
        others = head.others[k]  # (n, K - 1)
        offset = targets.position[b[:, None], p[:, None], others] - center[:, None]
        seen = targets.visible[b[:, None], p[:, None], others][..., None]
        values = ((offset - head.mean[k]) / head.std[k] * seen).flatten(1)
    flat = maps.expand(-1, -1, values.shape[1], -1, -1).flatten(3).clone()
    flat[b, k, :, cell] = values
    return flat.flatten(1, 2).unflatten(2, targets.heatmap.shape[-2:])


def person_tags(targets: Any, dim: int) -> Tensor:
    """(B, K * D, h, w): every cell carries the number of the person whose keypoint is nearest."""
    height, width = targets.heatmap.shape[-2:]
    index, visible = targets.cell_index.transpose(1, 2), targets.visible.transpose(1, 2)  # (B, K, P)
    y, x = torch.arange(height)[:, None, None], torch.arange(width)[:, None]
    away = (index.div(width, rounding_mode="floor")[:, :, None, None] - y) ** 2
    away = away + (index.remainder(width)[:, :, None, None] - x) ** 2  # (B, K, h, w, P)
    if not index.shape[2]:
        return torch.zeros(len(index), K * dim, height, width)
    away = away.masked_fill(~visible[:, :, None, None], 1 << 40)
    return (TAG_STEP * away.argmin(-1).float()).repeat_interleave(dim, 1)


def perfect(head: Head, batch: Batch) -> Fields:
    targets = head.targets(batch, STRIDE)
    return {name: field_of(head, name, targets) for name in head.fields}


def decoded(head: Head, fields: Fields, stride: int = STRIDE) -> list[People]:
    read = head.readout([fields])
    for name, spec in head.fields.items():
        if spec.fuse == "stack":
            read[name] = read[name][:, None]
    return head.decode(read, stride)


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
    for people, expected in zip(decoded(one, perfect(one, batch_of(truth))), truth.numpy(), strict=True):
        assert len(people) == 3
        labelled = expected[..., 2] > 0
        found = by_place(people)
        away = np.abs(found[..., :2] - expected[..., :2])[labelled]
        assert away.max() <= tolerance
        assert (found[..., 2][labelled] > 0.5).all() and (people.scores > 0.5).all()


@pytest.mark.parametrize(("make", "tolerance"), HEAD_CASES)
def test_a_mirrored_picture_has_mirrored_people(make: Any, tolerance: float) -> None:
    one, truth = make(), drawn_people(7)
    fields = perfect(one, batch_of(truth))
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
    plain, turned = perfect(one, batch_of(truth)), perfect(one, batch_of(mirrored))
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


def answers(one: Head, batch: int = 2) -> Fields:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(batch, channels, HEIGHT // 4, WIDTH // 4, generator=generator).requires_grad_()
        for name, channels in one.channels.items()
    }


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
    given, stage = batch_of(truth), answers(one)
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
    given = batch_of(drawn_people())
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
    one, given = make(), batch_of(drawn_people())
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


# ----------------------------------------------------------------------------------------------------- tags


def collapse(tags: Tensor, push: str) -> float:
    one = precise_tags(push=push)
    given = batch_of(drawn_people())
    fields = {**perfect(one, given), "tag": tags}
    return one.loss([fields], [one.targets(given, STRIDE)])["stat/collapse"].item()


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_collapsed_tags_are_noticed(push: str) -> None:
    one, given = precise_tags(push=push), batch_of(drawn_people())
    apart = perfect(one, given)["tag"]
    collapsed = collapse(torch.full_like(apart, 3.0), push)
    assert collapsed == pytest.approx(1, abs=1e-3)
    assert collapse(apart, push) == pytest.approx(0, abs=1e-3)
    (sentence,) = one.warnings({"stat/collapse": collapsed})
    assert "same tag" in sentence and "head.push" in sentence
    assert one.warnings({"stat/collapse": 0.3}) == [] == one.warnings({})


def test_pictures_with_one_person_do_not_count_as_collapsed() -> None:
    one, truth = precise_tags(), drawn_people()
    given = batch_of(truth[:, :1])
    terms = one.loss([answers(one)], [one.targets(given, STRIDE)])
    assert terms["stat/collapse"] == 0 and terms["push"] == 0
    mixed = truth.clone()
    mixed[0, 1:, :, 2] = 0
    targets = one.targets(batch_of(mixed), STRIDE)
    flat = {**answers(one), "tag": torch.zeros(2, K, HEIGHT // 4, WIDTH // 4)}
    assert one.loss([flat], [targets])["stat/collapse"] == pytest.approx(1, abs=1e-5)


def test_stages_may_lack_tags_and_the_last_one_is_read() -> None:
    one, given = precise_tags(), batch_of(drawn_people())
    targets, fields = one.targets(given, STRIDE), answers(one)
    first = {"heatmap": answers(one)["heatmap"] + 1}
    terms, last = one.loss([first, fields], [targets, targets]), one.loss([fields], [targets])
    torch.testing.assert_close(terms["pull"], last["pull"])
    torch.testing.assert_close(
        2 * terms["heatmap"],
        last["heatmap"] + one.loss([{**first, "tag": fields["tag"]}], [targets])["heatmap"],
    )
    assert torch.equal(one.readout([first, fields])["heatmap"], fields["heatmap"])


# ------------------------------------------------------------------------------------- part affinity fields


def test_left_and_right_limbs_change_places_and_x_changes_sign() -> None:
    """The channels of OpenPose's order: shoulder 2 with 5; neck to right shoulder 12, 13 with 20, 21."""
    spec = paf_head(COCO18).fields
    generator = torch.Generator().manual_seed(0)
    heat, paf = (torch.randn(1, channels, 3, 4, generator=generator) for channels in (19, 38))
    turned = unflip(heat, spec["heatmap"])
    assert torch.equal(turned[:, 2], heat[:, 5].flip(-1)) and torch.equal(turned[:, 18], heat[:, 18].flip(-1))
    turned = unflip(paf, spec["paf"])
    mirrored = paf.flip(-1)
    assert torch.equal(turned[:, 12], -mirrored[:, 20]) and torch.equal(turned[:, 13], mirrored[:, 21])
    assert torch.equal(turned[:, 28], -mirrored[:, 28])  # neck to nose is its own mirror image
    arms_and_legs = [*range(6, 12), *range(6), *range(20, 28), *range(12, 20)]
    assert list(spec["paf"].flip_perm) == [*arms_and_legs, 28, 29, 32, 33, 30, 31, 36, 37, 34, 35]


def test_a_limb_from_side_to_side_keeps_x_and_negates_y() -> None:
    spec, hips = paf_head().fields["paf"], SKELETON.limbs.index(("left_hip", "right_hip"))
    assert spec.flip_perm[2 * hips : 2 * hips + 2] == (2 * hips, 2 * hips + 1)
    assert spec.flip_sign[2 * hips : 2 * hips + 2] == (1.0, -1.0)


@pytest.mark.parametrize(("skeleton", "preset"), [(COCO18, "s1"), (COCO18, "cmu"), (AIC14, "default")])
def test_averaging_with_the_mirrored_pass_of_an_equivariant_network_changes_nothing(
    skeleton: Skeleton, preset: Any
) -> None:
    one = paf_head(skeleton, preset=preset)
    generator = torch.Generator().manual_seed(0)
    for spec in one.fields.values():
        maps = torch.randn(1, spec.channels, 5, 6, generator=generator)
        mirrored = unflip(maps, spec)  # what such a network answers to the mirrored picture
        torch.testing.assert_close((maps + unflip(mirrored, spec)) / 2, maps)


@pytest.mark.parametrize("field", ["paf", "heatmap"])
def test_the_sum_of_caffe_is_the_mean_with_another_learning_rate(field: str) -> None:
    """A step of 1 on the mean of C x 46 x 46 values is one of 2 / (C 46 46) on their sum over 2 N: 2.49e-5
    for 38 channels, 4.97e-5 for 19."""
    steps = []
    for reduction, rate in (("mean", 1.0), ("sum_over_2n", {"paf": 2.4872e-5, "heatmap": 4.9744e-5}[field])):
        one = paf_head(COCO18, reduction=reduction)
        truth = torch.rand(2, 3, 18, 3, generator=torch.Generator().manual_seed(1)) * 368
        given = batch_of(truth, (368, 368))
        stage = {name: torch.zeros(2, count, 46, 46).requires_grad_() for name, count in one.channels.items()}
        one.loss([stage], [one.targets(given, 8)])[field].backward()
        gradient = stage[field].grad
        assert gradient is not None
        steps.append(rate * gradient)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-4, atol=0)


def test_the_background_is_trained_and_masked_like_the_others() -> None:
    one, given = paf_head(), batch_of(drawn_people())
    assert one.channels == {"paf": 2 * len(SKELETON.limbs), "heatmap": K + 1}
    mask = given.loss_mask.clone()
    mask[:, :, :96] = False
    targets = one.targets(given._replace(loss_mask=mask), STRIDE)
    maps = torch.zeros_like(targets.heatmap).requires_grad_()
    one.loss([{"paf": targets.paf, "heatmap": maps}], [targets])["heatmap"].backward()
    assert maps.grad is not None
    assert maps.grad[:, K, :, 24:].abs().sum() > 0 and not maps.grad[:, :, :, :24].any()


def test_every_stage_counts_in_full() -> None:
    one, given = paf_head(), batch_of(drawn_people())
    targets, fields = one.targets(given, STRIDE), answers(one)
    once, twice = one.loss([fields], [targets]), one.loss([fields, fields], [targets, targets])
    for name in once:
        torch.testing.assert_close(twice[name], 2 * once[name])


def test_foreground_weight_counts_keypoints_and_limbs_more() -> None:
    plain, heavy = paf_head(), paf_head(foreground_weight=9.0)
    given = batch_of(drawn_people())
    targets, fields = plain.targets(given, STRIDE), answers(plain)
    on_limb = (targets.on_limb > 0).repeat_interleave(2, 1)
    error = (fields["paf"] - targets.paf) ** 2
    torch.testing.assert_close(heavy.loss([fields], [targets])["paf"], (error * (1 + 9 * on_limb)).mean())
    foreground = torch.cat((targets.heatmap[:, :K], 1 - targets.heatmap[:, K:]), 1)
    error = (fields["heatmap"] - targets.heatmap) ** 2
    torch.testing.assert_close(
        heavy.loss([fields], [targets])["heatmap"], (error * (1 + 9 * foreground)).mean()
    )


def test_a_skeleton_without_limbs_and_a_decoder_of_another_head_are_told() -> None:
    with pytest.raises(UserError, match="needs limbs, and the skeleton 'dots' has none"):
        paf_head(Skeleton("dots", ("a", "b")))
    with pytest.raises(UserError, match=r"head.decoder: 'tag_groups' groups by tag, but the head 'paf' has"):
        paf_head(decoder=TagGroupsSettings())


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
        given = batch_of(torch.from_numpy(keypoints)[None], laid_out.sizes[0])
        targets = one.targets(given, stride)
        fields = {name: field_of(one, name, targets) for name in one.fields}
        people = decoded(one, fields, stride)[0]
        found[int(annotations.image_ids[i])] = map_back(people, laid_out.matrices[0])
    return score(found, file, skeleton, [*found]).stats["AP"]


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
    (people,) = decoded(one, perfect(one, batch_of(truth)))
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
    everything = batch_of(truth)
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
