"""Logistic models of "these two detections belong to one person", fitted on what a trained network says of
annotated images (Insafutdinov et al.: DeeperCut, ECCV 2016, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from pose.decoders.detections import Detections, list_pairs, pair_errors, pair_features
from pose.decoders.pairwise_statistics import PairModel
from pose.skeleton import Skeleton

LEAST = 10  # pairs of one person, and as many of two: with fewer there is no model
RIDGE = 1.0  # on the sum of squared weights, against a sum over pairs; the constant is free


class Examples(NamedTuple):
    """Pairs of detections of known people."""

    which: np.ndarray  # (E,) index into the skeleton's pairs
    features: np.ndarray  # (E, 8)
    together: np.ndarray  # (E,) bool, of one person


def examples(found: Detections, keypoints: np.ndarray, skeleton: Skeleton, near: float) -> Examples:
    """The pairs of two kinds of one image whose detections are both somebody's; keypoints (P, K, 3) in the
    detections' pixels."""
    person = owners(found, keypoints, near)
    pairs = list_pairs(found.kind, skeleton)
    known = (pairs.which < len(skeleton.pair_index)) & (person[pairs.a] >= 0) & (person[pairs.b] >= 0)
    which, a, b = (array[known] for array in pairs)
    return Examples(which, pair_features(pair_errors(found, a, b)), person[a] == person[b])


def owners(found: Detections, keypoints: np.ndarray, near: float) -> np.ndarray:
    """(M,) the person with the nearest labelled keypoint of a detection's kind, -1 where none is nearer than
    `near` pixels."""
    if not len(keypoints):
        return np.full(len(found.kind), -1)
    there = keypoints[:, found.kind]  # (P, M, 3)
    away = np.hypot(*np.moveaxis(there[..., :2] - found.position, -1, 0))
    away = np.where(there[..., 2] > 0, away, np.inf)
    return np.where(away.min(0) < near, away.argmin(0), -1)


def fit(parts: Iterable[Examples], skeleton: Skeleton) -> tuple[dict[tuple[int, int], PairModel], list[str]]:
    """The models of the pairs that have enough examples, and a sentence about each of the others."""
    listed = list(parts)
    empty = Examples(np.zeros(0, np.int64), np.zeros((0, 8)), np.zeros(0, bool))
    which, features, together = (np.concatenate(columns) for columns in zip(empty, *listed, strict=True))
    models: dict[tuple[int, int], PairModel] = {}
    without: list[str] = []
    for i, (a, b) in enumerate(skeleton.pair_index):
        own = which == i
        same, other = int((own & together).sum()), int((own & ~together).sum())
        if min(same, other) < LEAST:
            names = f"{skeleton.keypoints[a]}-{skeleton.keypoints[b]}"
            without.append(
                f"{names}: {same} pairs of one person and {other} of two, {LEAST} of each are needed"
            )
            continue
        models[a, b] = fit_one(features[own], together[own])
    return models, without


def fit_one(features: np.ndarray, together: np.ndarray) -> PairModel:
    """features (E, 8), together (E,) bool -> the weights of the largest likelihood, less RIDGE / 2 times
    their squares."""
    from scipy.optimize import minimize  # slow to import
    from scipy.special import expit

    low, high = features.min(0), features.max(0)
    x = np.column_stack((scaled(features, low, high), np.ones(len(features))))
    y = together.astype(np.float64)

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ weights
        ridge = np.append(RIDGE * weights[:-1], 0)
        loss = np.logaddexp(0, odds).sum() - odds @ y + 0.5 * ridge @ weights
        return float(loss), x.T @ (expit(odds) - y) + ridge

    result = minimize(cost, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return PairModel(low, high, result.x)


def scaled(features: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """To [0, 1] between the smallest and the largest that were fitted on."""
    return (features - low) / np.where(high > low, high - low, 1)


def told(without: Sequence[str], total: int) -> str:
    """A sentence about the pairs without a model."""
    if not without:
        return f"all {total} pairs have a model"
    more = f"; and {len(without) - 3} more" if len(without) > 3 else ""
    return (
        f"{len(without)} of {total} pairs have no model and keep the decoder's default "
        f"({'; '.join(without[:3])}{more})"
    )
