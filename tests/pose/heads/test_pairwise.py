"""The pairwise head against a literal restatement, and the statistics that normalise it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose.decoders import pairwise_statistics
from pose.decoders.pairwise_statistics import PairModel, PairwiseStatistics
from pose.errors import UserError
from pose.heads.pairwise import PairwiseHead, PairwiseSettings, pair_id
from pose.skeleton import Skeleton
from tests.batches import batch_of
from tests.literal.reference import deepercut_targets as literal

FIVE = Skeleton("five", ("nose", "left_hand", "right_hand", "left_foot", "right_foot"))
K = len(FIVE)
SIZE = (64, 96)
GRID = (8, 12)


def people(seed: int, number: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xy = rng.uniform((0, 0), SIZE[::-1], (2, number, K, 2))
    xy[:, 1:2] = xy[:, :1] + rng.uniform(-10, 10, xy[:, 1:2].shape)  # discs that overlap
    v = rng.integers(0, 3, (2, number, K, 1))
    return np.concatenate([xy, v], -1).astype(np.float32)


def statistics(seed: int = 0, models: Any = None) -> PairwiseStatistics:
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(0, 20, (K, K, 2)), rng.uniform(5, 30, (K, K, 2))
    for k in range(K):
        mean[k, k], std[k, k] = 0, 1
    return PairwiseStatistics(FIVE.keypoints, mean.round(6), std.round(6), models or {})


def written(folder: Path, one: PairwiseStatistics) -> str:
    file = folder / "pairwise.json"
    file.write_text(json.dumps(pairwise_statistics.to_json(one)))
    return str(file)


def make(folder: Path, **more: Any) -> PairwiseHead:
    settings = PairwiseSettings(statistics=written(folder, statistics()), **more)
    return PairwiseHead(settings, FIVE, layout=0.0)


# ----------------------------------------------------------------------------------------------------- loss


def test_pairs_are_numbered_as_published() -> None:
    assert [pair_id(*pair, 17) for pair in [(0, 1), (1, 0), (16, 15)]] == [0, 16, 271]
    numbers = [pair_id(a, b, K) for a in range(K) for b in range(K) if a != b]
    assert numbers == list(range(K * (K - 1)))
    assert numbers == [literal.pair_number(a, b, K) for a in range(K) for b in range(K) if a != b]


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_the_literal_one(tmp_path: Path, seed: int) -> None:
    head, given = make(tmp_path), people(seed)
    generator = torch.Generator().manual_seed(seed)
    maps = {
        name: torch.randn(2, spec.channels, *GRID, dtype=torch.float64, generator=generator).float()
        for name, spec in head.fields.items()
    }
    early = {"heatmap": torch.randn(2, K, *GRID, generator=generator)}  # supervised beside the last stage
    targets = head.targets(batch_of(given, SIZE), stride=8)
    terms = head.loss([early, maps], [targets, targets])
    expected = {"heatmap": 0.0, "locref": 0.0, "pairwise": 0.0}
    for b in range(2):
        drawn = literal.draw(
            list(given[b].astype(np.float64)), *GRID, head.statistics.mean, head.statistics.std
        )
        np.testing.assert_array_equal(targets.heatmap[b].numpy(), drawn["score"])
        for one in (early, maps):
            expected["heatmap"] += literal.cross_entropy(one["heatmap"][b].numpy(), drawn["score"]) / 2
        for name in ("locref", "pairwise"):
            value = literal.huber(maps[name][b].numpy(), drawn[name], drawn[f"{name}_mask"])
            expected[name] += 0.05 * value / 2
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-5), name


def test_a_batch_has_the_gradient_of_its_images_one_by_one(tmp_path: Path) -> None:
    """What is learnt from a batch of one at some rate is learnt from a batch of any size at that rate."""
    head, given = make(tmp_path), people(5)
    maps = {name: torch.randn(2, spec.channels, *GRID) for name, spec in head.fields.items()}

    def gradients(which: slice) -> dict[str, torch.Tensor]:
        stage = {name: value[which].clone().requires_grad_() for name, value in maps.items()}
        sum(head.loss([stage], [head.targets(batch_of(given[which], SIZE), 8)]).values()).backward()  # type: ignore
        return {name: value.grad for name, value in stage.items() if value.grad is not None}

    both, first, second = (gradients(which) for which in (slice(None), slice(0, 1), slice(1, 2)))
    for name in head.fields:
        torch.testing.assert_close(2 * both[name], torch.cat([first[name], second[name]]))


def test_cells_near_a_keypoint_weigh_more(tmp_path: Path) -> None:
    given, gradients = batch_of(people(1), SIZE), []
    for weight in (0.0, 3.0):
        head = make(tmp_path, foreground_weight=weight)
        logits = torch.zeros(2, K, *GRID, requires_grad=True)
        rest = {name: torch.zeros(2, head.channels[name], *GRID) for name in ("locref", "pairwise")}
        targets = head.targets(given, 8)
        head.loss([{"heatmap": logits, **rest}], [targets])["heatmap"].backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[1], gradients[0] * (1 + 3 * targets.heatmap))


def test_masked_regions_do_not_count(tmp_path: Path) -> None:
    head, given = make(tmp_path), batch_of(people(1), SIZE)
    given.loss_mask[:, :, 48:] = False
    logits = torch.zeros(2, K, *GRID, requires_grad=True)
    rest = {name: torch.zeros(2, head.channels[name], *GRID) for name in ("locref", "pairwise")}
    head.loss([{"heatmap": logits, **rest}], [head.targets(given, 8)])["heatmap"].backward()
    assert logits.grad is not None and not logits.grad[..., 6:].any() and logits.grad[..., :6].all()


def test_readout_is_in_probabilities_and_pixels(tmp_path: Path) -> None:
    """The decoder reads positions: what the targets were made from comes back."""
    head, given = make(tmp_path), people(2, number=1)
    given[..., 2] = 2
    given[..., :2] = given[..., :2].clip(20, 44)  # all discs inside
    targets = head.targets(batch_of(given, SIZE), 8)
    drawn = [
        literal.draw(list(p.astype(np.float64)), *GRID, head.statistics.mean, head.statistics.std)
        for p in given
    ]
    maps = {name: torch.from_numpy(np.stack([d[name] for d in drawn])) for name in ("locref", "pairwise")}
    fields = head.readout([{"heatmap": torch.zeros(2, K, *GRID), **maps}])
    assert (fields["heatmap"] == 0.5).all()
    for b in range(2):
        for k in range(K):
            r = int(targets.discs.owned[b, 0, k].nonzero()[0])
            cell, center = targets.discs.cell[b, 0, k, r], targets.discs.center[b, 0, k, r]
            at = center + fields["locref"][b, 2 * k : 2 * k + 2].flatten(1)[:, cell]
            torch.testing.assert_close(at, targets.position[b, 0, k], atol=1e-4, rtol=0)
            for other in set(range(K)) - {k}:
                pair = 2 * pair_id(k, other, K)
                there = center + fields["pairwise"][b, pair : pair + 2].flatten(1)[:, cell]
                torch.testing.assert_close(there, targets.position[b, 0, other], atol=1e-3, rtol=0)


# ----------------------------------------------------------------------------------------------- statistics


def test_statistics_are_means_and_deviations_of_offsets() -> None:
    rng = np.random.default_rng(0)
    given = [rng.normal(0, 50, (n, K, 3)) for n in (3, 0, 5)]
    for one in given:
        one[..., 2] = rng.integers(0, 3, one.shape[:2])
    found = pairwise_statistics.gather(given, FIVE)
    everybody = np.concatenate(given)
    for a in range(K):
        for b in set(range(K)) - {a}:
            both = everybody[(everybody[:, a, 2] > 0) & (everybody[:, b, 2] > 0)]
            offset = both[:, b, :2] - both[:, a, :2]
            np.testing.assert_allclose(found.mean[a, b], offset.mean(0))
            np.testing.assert_allclose(found.std[a, b], offset.std(0))
    assert (found.std[np.eye(K, dtype=bool)] == 1).all() and not found.mean[np.eye(K, dtype=bool)].any()


def test_pairs_that_nobody_has_are_told(caplog: pytest.LogCaptureFixture) -> None:
    person = np.array([[1.0, 2, 2], [30, 2, 2], [10, 40, 1], [0, 0, 0], [0, 0, 0]])
    others = person[None] + np.array([[[3, 4, 0]], [[-2, 5, 0]]])
    found = pairwise_statistics.gather([person[None], others], FIVE)
    assert "fewer than two people have both ends of 7 pairs (nose-left_foot" in caplog.text
    assert np.isfinite(found.mean).all() and (found.std > 0).all()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert (pairwise_statistics.gather([], FIVE).std > 0).all()


def test_statistics_come_back_from_their_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    models = {(0, 2): PairModel(rng.random(8), rng.random(8) + 1, rng.normal(size=9))}
    one = statistics(models=models)
    again = pairwise_statistics.read(written(tmp_path, one), FIVE)
    np.testing.assert_array_equal(again.mean, one.mean)
    np.testing.assert_array_equal(again.std, one.std)
    assert again.models.keys() == models.keys()
    np.testing.assert_array_equal(again.models[0, 2].weights, models[0, 2].weights)


def test_statistics_go_by_name(tmp_path: Path) -> None:
    """To another order of the keypoints, and to some; a model turned round looks from the other end."""
    rng = np.random.default_rng(3)
    model = PairModel(rng.random(8), rng.random(8) + 1, rng.normal(size=9))
    one = statistics(models={(0, 2): model, (1, 3): model})
    other = Skeleton("some", ("right_hand", "left_hand", "nose"))
    found = pairwise_statistics.read(written(tmp_path, one), other)
    np.testing.assert_array_equal(found.mean[0, 2], one.mean[2, 0])
    np.testing.assert_array_equal(found.std[1, 2], one.std[1, 0])
    assert found.models.keys() == {(0, 2)}
    order = [2, 3, 0, 1, 6, 7, 4, 5]
    np.testing.assert_array_equal(found.models[0, 2].low, model.low[order])
    np.testing.assert_array_equal(found.models[0, 2].weights, model.weights[[*order, 8]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["pairs"].pop(3), r"lacks 1 pairs of the skeleton 'five' \(nose-right_foot\)"),
        (lambda data: data["pairs"][0].update(std=[0, 1]), "lacks 1 pairs"),
        (lambda data: data["pairs"][0].update(std=[float("inf"), 1]), "lacks 1 pairs"),
        (lambda data: data.update(keypoints=["a", "b"], pairs=[], models=[]), "is of other keypoints"),
        (lambda data: data.update(format=7), "holds no pairwise statistics"),
        (lambda data: data.pop("pairs"), "holds no pairwise statistics"),
        (lambda data: data["pairs"][0].update({"from": "tail"}), "holds no pairwise statistics"),
        (lambda data: data.update(models=[{**data["pairs"][0], "low": [1], "high": [2], "weights": [3]}]),
         "a model of nose-left_hand with arrays"),
        (lambda data: data.update(models=[{**data["pairs"][0], "low": [0] * 8, "high": [1] * 8,
                                           "weights": [float("nan")] * 9}]), "numbers that are not finite"),
    ],
)  # fmt: skip
def test_wrong_statistics_are_told(tmp_path: Path, change: Any, words: str) -> None:
    file = Path(written(tmp_path, statistics()))
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(UserError, match=words):
        PairwiseHead(PairwiseSettings(statistics=str(file)), FIVE)


def test_one_keypoint_has_no_pairs() -> None:
    with pytest.raises(UserError, match="'pairwise' needs two keypoints, and 'one' has 1"):
        PairwiseHead(PairwiseSettings(), Skeleton("one", ("nose",)))


def test_a_missing_or_cut_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the pairwise statistics .*pose.tools.pairwise_stats"):
        PairwiseHead(PairwiseSettings(statistics=str(tmp_path / "none.json")), FIVE)
    file = Path(written(tmp_path, statistics()))
    file.write_text(file.read_text()[:100])
    with pytest.raises(UserError, match="not JSON or were cut off"):
        PairwiseHead(PairwiseSettings(statistics=str(file)), FIVE)
    file.write_text("[1, 2]")
    with pytest.raises(UserError, match="holds no pairwise statistics"):
        PairwiseHead(PairwiseSettings(statistics=str(file)), FIVE)
