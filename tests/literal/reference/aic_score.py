"""AI Challenger's official keypoint score as its script computes it: loops over images and people.

https://github.com/AIChallenger/AI_Challenger_2017, Evaluation/keypoint_eval; restated here, not copied.
Works on the content of the two JSON files.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SIGMAS = [
    0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642,
    0.03686941, 0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173,
]  # fmt: skip
DELTA = 2 * np.array(SIGMAS)


def oks_table(annotation: dict[str, Any], predictions: dict[str, list[float]]) -> np.ndarray:
    """(people, predictions) of one image."""
    people = list(annotation["keypoint_annotations"])
    names = list(predictions)
    table = np.zeros((len(people), len(names)))
    for i, human in enumerate(people):
        points = np.reshape(annotation["keypoint_annotations"][human], (14, 3)).astype(float)
        visible = points[:, 2] == 1
        if not visible.any():
            continue  # nothing to be right about: 0 against everybody
        x1, y1, x2, y2 = annotation["human_annotations"][human]
        area = (x2 - x1) * (y2 - y1)
        for j, name in enumerate(names):
            found = np.reshape(predictions[name], (14, 3)).astype(float)
            squared = np.sum((points[visible, :2] - found[visible, :2]) ** 2, axis=1)
            table[i, j] = np.mean(np.exp(-squared / 2 / DELTA[visible] ** 2 / (area + 1)))
    return table


def evaluate(
    annotations: list[dict[str, Any]], predictions: list[dict[str, Any]]
) -> tuple[float, list[float]]:
    """The score, and AP at each of the ten thresholds."""
    found = {entry["image_id"]: entry["keypoint_annotations"] for entry in predictions}
    best: list[float] = []
    count = 0
    for annotation in annotations:
        people = len(annotation["human_annotations"])
        if annotation["image_id"] not in found:
            best += [0.0] * people
            count += people
            continue
        table = oks_table(annotation, found[annotation["image_id"]])
        if table.shape[1]:
            best += table.max(axis=1).tolist()  # a prediction may be the best of several people
        count += max(table.shape)
    per_threshold = [float(np.sum(np.array(best) > t) / count) for t in np.linspace(0.5, 0.95, 10)]
    return float(np.mean(per_threshold)), per_threshold
