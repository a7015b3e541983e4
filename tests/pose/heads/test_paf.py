"""Limbs change places under mirroring, and what the loss of part affinity fields counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pose.decoders.tag_groups import TagGroupsSettings
from pose.errors import UserError
from pose.predict.fuse import unflip
from pose.skeleton import Skeleton
from tests.drawn_heads import (
    AIC14,
    COCO18,
    SKELETON,
    STRIDE,
    K,
    answers,
    drawn_people,
    on_canvas,
    paf_head,
)


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
        given = on_canvas(truth, (368, 368))
        stage = {name: torch.zeros(2, count, 46, 46).requires_grad_() for name, count in one.channels.items()}
        one.loss([stage], [one.targets(given, 8)])[field].backward()
        gradient = stage[field].grad
        assert gradient is not None
        steps.append(rate * gradient)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-4, atol=0)


def test_the_background_is_trained_and_masked_like_the_others() -> None:
    one, given = paf_head(), on_canvas(drawn_people())
    assert one.channels == {"paf": 2 * len(SKELETON.limbs), "heatmap": K + 1}
    mask = given.loss_mask.clone()
    mask[:, :, :96] = False
    targets = one.targets(given._replace(loss_mask=mask), STRIDE)
    maps = torch.zeros_like(targets.heatmap).requires_grad_()
    one.loss([{"paf": targets.paf, "heatmap": maps}], [targets])["heatmap"].backward()
    assert maps.grad is not None
    assert maps.grad[:, K, :, 24:].abs().sum() > 0 and not maps.grad[:, :, :, :24].any()


def test_every_stage_counts_in_full() -> None:
    one, given = paf_head(), on_canvas(drawn_people())
    targets, fields = one.targets(given, STRIDE), answers(one)
    once, twice = one.loss([fields], [targets]), one.loss([fields, fields], [targets, targets])
    for name in once:
        torch.testing.assert_close(twice[name], 2 * once[name])


def test_foreground_weight_counts_keypoints_and_limbs_more() -> None:
    plain, heavy = paf_head(), paf_head(foreground_weight=9.0)
    given = on_canvas(drawn_people())
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
