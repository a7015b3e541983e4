"""Targets and losses of DeeperCut as pose-tensorflow draws them, restated literally: one picture, one
keypoint and one cell at a time.

Insafutdinov, Pishchulin, Andres, Andriluka, Schiele: DeeperCut, ECCV 2016.  Cell (i, j) of column i and row j
stands at the pixel (8 i + 4, 8 j + 4).
"""

from __future__ import annotations

import math

import numpy as np

STRIDE = 8
HALF = STRIDE / 2
RADIUS = 17.0
LOCREF_STD = 7.2801


def pair_number(a: int, b: int, kinds: int) -> int:
    """Of the ordered pair a -> b."""
    return (kinds - 1) * a + b - (1 if a < b else 0)


def draw(
    people: list[np.ndarray],
    height: int,
    width: int,
    mean: np.ndarray,
    std: np.ndarray,
    radius: float = RADIUS,
) -> dict[str, np.ndarray]:
    """people: (K, 3) x, y, v each; mean, std (K, K, 2) -> score map (K, h, w), locref and its mask (2 K, h,
    w), pairwise and its mask (2 K (K - 1), h, w)."""
    kinds = len(mean)
    score = np.zeros((kinds, height, width))
    nearest = np.full((kinds, height, width), np.inf)
    locref = np.zeros((2 * kinds, height, width))
    locref_mask = np.zeros_like(locref)
    pairwise = np.zeros((2 * kinds * (kinds - 1), height, width))
    pairwise_mask = np.zeros_like(pairwise)
    for person in people:
        for k in range(kinds):
            if person[k, 2] <= 0:
                continue
            for j in range(height):
                for i in range(width):
                    dx = person[k, 0] - (STRIDE * i + HALF)
                    dy = person[k, 1] - (STRIDE * j + HALF)
                    distance = math.sqrt(dx * dx + dy * dy)
                    if distance > radius:
                        continue
                    score[k, j, i] = 1
                    if distance >= nearest[k, j, i]:
                        continue
                    nearest[k, j, i] = distance
                    locref[2 * k : 2 * k + 2, j, i] = dx / LOCREF_STD, dy / LOCREF_STD
                    locref_mask[2 * k : 2 * k + 2, j, i] = 1
                    for b in range(kinds):
                        if b == k:
                            continue
                        at = 2 * pair_number(k, b, kinds)
                        # of another person before, who may have had this keypoint
                        pairwise[at : at + 2, j, i] = 0
                        pairwise_mask[at : at + 2, j, i] = 0
                        if person[b, 2] <= 0:
                            continue
                        for axis, cell in ((0, STRIDE * i + HALF), (1, STRIDE * j + HALF)):
                            offset = person[b, axis] - cell
                            pairwise[at + axis, j, i] = (offset - mean[k, b, axis]) / std[k, b, axis]
                            pairwise_mask[at + axis, j, i] = 1
    return {
        "score": score, "locref": locref, "locref_mask": locref_mask,
        "pairwise": pairwise, "pairwise_mask": pairwise_mask,
    }  # fmt: skip


def cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """Of the sigmoid, mean over all elements."""
    total = 0.0
    for x, t in zip(logits.ravel().tolist(), target.ravel().tolist()):
        total += max(x, 0) - x * t + math.log1p(math.exp(-abs(x)))
    return total / logits.size


def huber(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    """Mean over the elements where the mask is 1; 0 where there is none."""
    total, count = 0.0, 0
    for p, t, m in zip(prediction.ravel().tolist(), target.ravel().tolist(), mask.ravel().tolist()):
        if m:
            d = abs(p - t)
            total += 0.5 * d * d if d < 1 else d - 0.5
            count += 1
    return total / count if count else 0.0
