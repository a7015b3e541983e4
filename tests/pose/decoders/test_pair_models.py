"""Logistic models of pairs of detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import expit

from pose.decoders import pair_models
from pose.decoders.detections import Detections
from pose.decoders.pair_models import Examples, examples, fit, fit_one, owners, told
from pose.skeleton import Skeleton

THREE = Skeleton(
    "three", ("head", "left_hand", "right_hand"), pairs=(("head", "left_hand"), ("head", "right_hand"))
)


def detections(kind: list[int], position: Sequence[Sequence[float]]) -> Detections:
    """Each predicts the others exactly where they are from it in a person whose hands are 10 px beside."""
    ideal = np.array([[0, 0], [-10, 20], [10, 20]], float)
    at = np.array(position, float)
    offset = ideal[None] - ideal[np.array(kind)][:, None]
    return Detections(np.array(kind), np.ones(len(kind)), at, at, offset)


def two_people() -> tuple[Detections, np.ndarray]:
    people = np.array(
        [[[50, 50, 2], [40, 70, 2], [60, 70, 1]], [[120, 50, 2], [110, 70, 2], [0, 0, 0]]], float
    )
    kind = [0, 0, 1, 1, 2, 2]
    at = [[50, 50], [121, 51], [40, 70], [110, 69], [60, 70], [300, 10]]
    return detections(kind, at), people


def test_detections_belong_to_the_nearest_labelled_keypoint() -> None:
    found, people = two_people()
    assert owners(found, people, near=8.0).tolist() == [0, 1, 0, 1, 0, -1]
    assert owners(found, people, near=1.0).tolist() == [0, -1, 0, -1, 0, -1]
    assert owners(found, people[:0], near=8.0).tolist() == [-1] * 6


def test_examples_are_pairs_of_known_people() -> None:
    found, people = two_people()
    one = examples(found, people, THREE, near=8.0)
    assert sorted(zip(one.which.tolist(), one.together.tolist())) == [
        (0, False), (0, False), (0, True), (0, True), (1, False), (1, True),
    ]  # fmt: skip
    right = one.features[one.together]
    assert right[:, [0, 2]].max() < 2.3 and one.features[~one.together][:, [0, 2]].min() > 50
    np.testing.assert_allclose(one.features[:, 4:], np.exp(-one.features[:, :4]))


def test_the_fit_is_where_the_gradient_vanishes() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 8))
    true = rng.normal(size=8) * 2
    together = rng.random(400) < expit(features @ true - 0.3)
    model = fit_one(features, together)
    x = np.column_stack(((features - model.low) / (model.high - model.low), np.ones(400)))
    assert x[:, :8].min() == 0 and x[:, :8].max() == 1
    gradient = x.T @ (expit(x @ model.weights) - together)
    gradient[:8] += pair_models.RIDGE * model.weights[:8]
    assert np.abs(gradient).max() < 1e-2
    agree = ((x @ model.weights > 0) == together).mean()
    assert agree > 0.85


def test_a_feature_that_never_changes_does_no_harm() -> None:
    features = np.column_stack([np.linspace(0, 1, 40), *[np.ones(40)] * 7])
    model = fit_one(features, np.arange(40) < 20)
    assert np.isfinite(model.weights).all() and model.weights[0] < 0


@pytest.mark.parametrize("few", ["together", "apart"])
def test_pairs_with_few_examples_have_no_model(few: str) -> None:
    rng = np.random.default_rng(1)
    which = np.repeat([0, 1], 60)
    together = np.arange(120) % 2 == 0
    together[60:] = few == "apart"
    together[60:65] = few != "apart"
    models, without = fit([Examples(which, rng.normal(size=(120, 8)), together)], THREE)
    assert models.keys() == {(0, 1)} and len(without) == 1 and without[0].startswith("head-right_hand: ")
    assert "1 of 2 pairs have no model" in told(without, 2)
    assert fit([], THREE)[0] == {} and told([], 2) == "all 2 pairs have a model"
