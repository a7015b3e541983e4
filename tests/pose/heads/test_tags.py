"""Collapsed tags are reported, and early stages may lack tags."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.drawn_heads import (
    HEIGHT,
    STRIDE,
    WIDTH,
    K,
    answers,
    drawn_people,
    on_canvas,
    perfect,
    precise_tags,
)


def collapse(tags: Tensor, push: str) -> float:
    one = precise_tags(push=push)
    given = on_canvas(drawn_people())
    fields = {**perfect(one, given), "tag": tags}
    return one.loss([fields], [one.targets(given, STRIDE)])["stat/collapse"].item()


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_collapsed_tags_are_noticed(push: str) -> None:
    one, given = precise_tags(push=push), on_canvas(drawn_people())
    apart = perfect(one, given)["tag"]
    collapsed = collapse(torch.full_like(apart, 3.0), push)
    assert collapsed == pytest.approx(1, abs=1e-3)
    assert collapse(apart, push) == pytest.approx(0, abs=1e-3)
    (sentence,) = one.warnings({"stat/collapse": collapsed})
    assert "same tag" in sentence and "head.push" in sentence
    assert one.warnings({"stat/collapse": 0.3}) == [] == one.warnings({})


def test_pictures_with_one_person_do_not_count_as_collapsed() -> None:
    one, truth = precise_tags(), drawn_people()
    given = on_canvas(truth[:, :1])
    terms = one.loss([answers(one)], [one.targets(given, STRIDE)])
    assert terms["stat/collapse"] == 0 and terms["push"] == 0
    mixed = truth.clone()
    mixed[0, 1:, :, 2] = 0
    targets = one.targets(on_canvas(mixed), STRIDE)
    flat = {**answers(one), "tag": torch.zeros(2, K, HEIGHT // 4, WIDTH // 4)}
    assert one.loss([flat], [targets])["stat/collapse"] == pytest.approx(1, abs=1e-5)


def test_stages_may_lack_tags_and_the_last_one_is_read() -> None:
    one, given = precise_tags(), on_canvas(drawn_people())
    targets, fields = one.targets(given, STRIDE), answers(one)
    first = {"heatmap": answers(one)["heatmap"] + 1}
    terms, last = one.loss([first, fields], [targets, targets]), one.loss([fields], [targets])
    torch.testing.assert_close(terms["pull"], last["pull"])
    torch.testing.assert_close(
        2 * terms["heatmap"],
        last["heatmap"] + one.loss([{**first, "tag": fields["tag"]}], [targets])["heatmap"],
    )
    assert torch.equal(one.readout([first, fields])["heatmap"], fields["heatmap"])
