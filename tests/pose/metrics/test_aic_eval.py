"""AI Challenger's official score: what is counted, and its curve over thresholds on people's own scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pose.annotations.aic import AicImage
from pose.metrics import aic_eval

BOX = (0.0, 0.0, 100.0, 200.0)


def image(image_id: str, people: int, *, seed: int = 0, error: float = 0.0, v: int = 1) -> AicImage:
    """People that depend on id and seed, each keypoint moved by some `error` pixels."""
    rng = np.random.default_rng([seed, *image_id.encode()])
    keypoints = np.full((people, 14, 3), float(v))
    keypoints[..., :2] = rng.integers(0, 200, (people, 14, 2)) + error
    humans = tuple(f"human{i + 1}" for i in range(people))
    return AicImage(image_id, humans, keypoints, np.tile(BOX, (people, 1)))


def random_test(seed: int) -> tuple[list[AicImage], list[AicImage], dict[str, np.ndarray]]:
    """Annotations; predictions, good and bad ones, some of an unknown image and one image missing; scores."""
    rng = np.random.default_rng(seed)
    truth = [image(f"{i}", int(rng.integers(0, 4))) for i in range(30)]
    found, scores = [], {}
    for i, one in enumerate(truth):
        keypoints = one.keypoints + rng.normal(0, 4, one.keypoints.shape)
        wrong = image(f"{i}", int(rng.integers(0, 4)), seed=1).keypoints
        keypoints = np.concatenate([keypoints, keypoints[:1], wrong])
        found.append(AicImage(f"{i}", ("",) * len(keypoints), keypoints, np.zeros((len(keypoints), 4))))
        scores[f"{i}"] = rng.integers(0, 12, len(keypoints)) / 12  # many equal ones
    del found[3]
    found.append(image("unknown", 2))
    scores["unknown"] = np.ones(2)
    return truth, found, scores


def test_counts() -> None:
    truth = [image("a", 2), image("b", 3), image("c", 0), image("d", 1)]
    found = [image("unknown", 4), image("c", 1), image("a", 1), image("b", 0)]
    scores = aic_eval.evaluate(truth, found)
    assert (scores.images, scores.people, scores.predictions) == (4, 6, 2)
    assert scores.denominator == 2 + 3 + 1 + 1
    assert (scores.images_without_predictions, scores.images_not_in_list) == (2, 1)
    assert scores.ignored_predictions == 4
    text = aic_eval.table(scores)
    assert "AI Challenger official score" in text and "2 people found against 6 people in 4 images" in text
    assert "ignored: 4" in text and "images without predictions: 2 (1 of them" in text


def test_of_several_entries_for_an_image_the_last_counts() -> None:
    truth = [image("a", 1)]
    good, bad = image("a", 1), image("a", 1, error=500)
    assert aic_eval.evaluate(truth, [bad, good]).score == pytest.approx(1)
    assert aic_eval.evaluate(truth, [good, bad]).score == 0
    assert aic_eval.evaluate(truth, [good, bad]).ignored_predictions == 1


@pytest.mark.parametrize("v", [0, 1, 2, 3, 7])
def test_v_of_predictions_counts_for_nothing(v: int) -> None:
    assert aic_eval.evaluate([image("a", 2)], [image("a", 2, v=v)]).score == pytest.approx(1)


def test_predictions_too_many_cost_only_beyond_the_people() -> None:
    truth = [image("a", 3)]
    keypoints = truth[0].keypoints
    one_bad = np.concatenate([keypoints, keypoints[:1] + 500])
    for listed, expected in ((keypoints, 1.0), (one_bad, 0.75), (one_bad[[0, 1, 3]], 2 / 3)):
        found = AicImage("a", ("",) * len(listed), listed, np.zeros((len(listed), 4)))
        assert aic_eval.evaluate(truth, [found]).score == pytest.approx(expected)


def test_without_anybody_there_is_nothing_to_score() -> None:
    assert aic_eval.evaluate([image("a", 0)], []).score == -1
    assert aic_eval.evaluate([], []).score == -1
    assert aic_eval.evaluate([image("a", 0)], [image("a", 2)]).score == 0
    assert [one.score for one in aic_eval.sweep([image("a", 0)], [], {}, [0, 0.5])] == [-1, -1]


def test_a_large_set_is_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found, _ = random_test(0)
    whole = aic_eval.evaluate(truth, found)
    monkeypatch.setattr(aic_eval, "CHUNK", 7)
    assert aic_eval.evaluate(truth, found) == whole


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_the_score_of_what_each_threshold_leaves(seed: int) -> None:
    truth, found, scores = random_test(seed)
    tried = [0.0, 0.25, 3 / 12, 0.3, 0.5, 11 / 12, 1.0, 2.0, -1.0]
    choices = aic_eval.sweep(truth, found, scores, tried)
    assert [one.threshold for one in choices] == sorted(set(tried))
    for one in choices:
        kept = [replace(f, keypoints=f.keypoints[scores[f.image_id] >= one.threshold]) for f in found]
        expected = aic_eval.evaluate(truth, kept)
        assert (one.score, one.people) == (expected.score, expected.predictions)
