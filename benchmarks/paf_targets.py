"""Time to draw heatmaps, part affinity fields and loss masks for a batch of 8 pictures with 5 people at 368 x
368, on one core: every keypoint and limb over the whole grid with NumPy, as rtpose does it, against
`PafHead.targets`; and the formulas cell by cell in plain Python.

    python -m benchmarks.paf_targets [--smallest]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.timing import Row, compare, first_row, one_thread, print_rows, times_of
from pose.config import read_yaml
from pose.heads.paf import PafHead, PafSettings, PafTargets
from pose.skeleton import from_dict
from pose.structures import Batch
from tests.batches import batch_of
from tests.literal.reference import rtpose_targets as literal

SKELETON = from_dict(read_yaml(Path(__file__).parents[1] / "configs" / "_skeletons" / "coco18.yaml"))
SIDE, STRIDE, PICTURES = 368, 8, 8


def people(pictures: int, number: int, seed: int = 0) -> np.ndarray:
    """(B, P, K, 3): upright people of 100 to 250 pixels somewhere in the picture, a fifth not labelled."""
    rng = np.random.default_rng(seed)
    kinds = len(SKELETON)
    height = rng.uniform(100, 250, (pictures, number, 1, 1))
    middle = rng.uniform(60, SIDE - 60, (pictures, number, 1, 2))
    body = rng.uniform((-0.25, -0.5), (0.25, 0.5), (kinds, 2))  # where each keypoint is, more or less
    xy = middle + height * (body + rng.normal(0, 0.05, (pictures, number, kinds, 2)))
    # rtpose counts [0, side) as inside, the project [-0.5, side - 0.5): nobody is labelled in between
    between = ((np.abs(xy + 0.25) < 0.3) | (np.abs(xy - SIDE + 0.25) < 0.3)).any(-1, keepdims=True)
    v = np.where((rng.random((pictures, number, kinds, 1)) < 0.8) & ~between, 2, 0)
    return np.concatenate([xy, v], -1)


def drawn(keypoints: np.ndarray) -> Batch:
    return batch_of(keypoints.astype(np.float32), (SIDE, SIDE))


@dataclass(frozen=True)
class Rules:
    """How a system draws a limb."""

    closed: bool  # cells at exactly the width belong to it
    overwrite: bool  # the last person counts, not the average
    halves_up: bool  # when the window is rounded


SYSTEMS = {"s1": Rules(False, False, False), "cmu": Rules(True, True, True)}


def by_full_grids(keypoints: np.ndarray, rules: Rules) -> list[np.ndarray]:
    """Per picture (h, w, K + 1 + 2 L), the way rtpose goes: a function call for every keypoint and for every
    limb, each of which makes the grid and goes over all of it."""
    cells = SIDE // STRIDE
    result = []
    for people in keypoints:
        heat = np.zeros((cells, cells, people.shape[1] + 1))
        paf = np.zeros((cells, cells, 2 * len(SKELETON.limbs)))
        for person in people:
            for k, point in enumerate(person):
                if usable(point):
                    heat[..., k] = with_keypoint(heat[..., k], point[:2])
        heat[..., -1] = np.maximum(1 - heat[..., :-1].max(2), 0)
        for limb, (a, b) in enumerate(SKELETON.limb_index):
            count = np.zeros((cells, cells))
            for person in people:
                if usable(person[a]) and usable(person[b]):
                    own = paf[..., 2 * limb : 2 * limb + 2]
                    paf[..., 2 * limb : 2 * limb + 2] = with_limb(own, count, person[a], person[b], rules)
        # the mask of the loss for every channel, as in rtpose's training of 2018
        mask = cv2.resize(np.full((SIDE, SIDE), 255, np.uint8), (cells, cells), interpolation=cv2.INTER_CUBIC)
        mask = (mask / 255)[..., None]
        np.repeat(mask, heat.shape[2], axis=2), np.repeat(mask, paf.shape[2], axis=2)
        result.append(np.concatenate((heat, paf), 2))
    return result


def cell_by_cell(keypoints: np.ndarray) -> None:
    for people in keypoints:
        literal.heatmaps(people, (SIDE, SIDE), STRIDE)
        literal.pafs(people, SKELETON.limb_index, (SIDE, SIDE), STRIDE)


def usable(point: np.ndarray) -> bool:
    return bool(point[2] > 0 and 0 <= point[0] < SIDE and 0 <= point[1] < SIDE)


def with_keypoint(heat: np.ndarray, point: np.ndarray) -> np.ndarray:
    columns, rows = np.meshgrid(np.arange(heat.shape[1]), np.arange(heat.shape[0]))
    x, y = columns * STRIDE + STRIDE / 2 - 0.5, rows * STRIDE + STRIDE / 2 - 0.5
    exponent = ((x - point[0]) ** 2 + (y - point[1]) ** 2) / 2 / 7.0**2
    return np.minimum(heat + np.exp(-exponent) * (exponent <= 4.6052), 1)


def with_limb(
    field: np.ndarray, count: np.ndarray, start: np.ndarray, end: np.ndarray, rules: Rules
) -> np.ndarray:
    """field (h, w, 2) with the limb from `start` to `end`; `count` (h, w) is brought up to date."""
    columns, rows = np.meshgrid(np.arange(field.shape[1]), np.arange(field.shape[0]))
    a, b = start[:2] / STRIDE, end[:2] / STRIDE
    length = np.linalg.norm(b - a)
    if length == 0:
        return field
    unit = (b - a) / length
    away = np.abs((columns - a[0]) * unit[1] - (rows - a[1]) * unit[0])
    here = away <= 1 if rules.closed else away < 1
    for axis, low, high in zip((columns, rows), np.minimum(a, b) - 1, np.maximum(a, b) + 1, strict=True):
        first, last = np.floor([low + 0.5, high + 0.5]) if rules.halves_up else np.round([low, high])
        here &= (axis >= first) & (axis < last)
    vector = here[..., None] * unit
    if rules.overwrite:
        return np.where(here[..., None], vector, field)
    total = field * count[..., None] + vector
    count[here] += 1
    return total / np.maximum(count, 1)[..., None]


def ours(preset: str, pictures: str, number: str) -> Callable[[], object]:
    """A call of the head's targets, not yet made."""
    head = PafHead(PafSettings(preset=preset), SKELETON)  # type: ignore[arg-type]
    return partial(head.targets, drawn(people(int(pictures), int(number))), STRIDE)


def theirs(preset: str, pictures: str, number: str) -> Callable[[], object]:
    keypoints = people(int(pictures), int(number)).astype(np.float32).astype(float)
    return partial(by_full_grids, keypoints, SYSTEMS[preset])


def check(targets: PafTargets, expected: list[np.ndarray]) -> None:
    ours = torch.cat((targets.heatmap, targets.paf), 1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, np.stack(expected), atol=1e-4)


def rows(smallest: bool = False) -> list[Row]:
    """Per batch, medians on one thread."""
    pictures, number = (1, 1) if smallest else (PICTURES, 5)
    literal_runs, runs = (1, 1) if smallest else (5, 51)
    keypoints = people(pictures, number).astype(np.float32).astype(float)
    # a large tensor that comes and goes, as in training: after it the C library keeps freed memory instead of
    # giving it back, which would cost both ways more than their arithmetic
    torch.zeros(30 * 2**18)
    batch = drawn(keypoints)
    result = []
    with one_thread():
        for preset, rules in SYSTEMS.items():
            head = PafHead(PafSettings(preset=preset), SKELETON)  # type: ignore[arg-type]
            check(head.targets(batch, STRIDE), by_full_grids(keypoints, rules))
            what = f"heat + PAF targets ({preset}), {pictures} pictures, {number} people, {SIDE}"
            literal, own = partial(by_full_grids, keypoints, rules), partial(head.targets, batch, STRIDE)
            both = compare(what, literal, own, literal_runs=literal_runs, runs=runs)
            result.append(both)
            if preset == "s1":
                slowest = times_of(partial(cell_by_cell, keypoints), 1)
                result.append(Row(f"the same ({preset}), literal cell by cell", slowest, both.ours))
                makers = ("benchmarks.paf_targets:theirs", "benchmarks.paf_targets:ours")
                arguments = (preset, pictures, number)
                result.append(first_row(*makers, arguments, arguments, smallest))
        head = PafHead(PafSettings(), SKELETON)
        literal, own = (
            partial(by_full_grids, keypoints, SYSTEMS["s1"]),
            partial(head.targets, batch, STRIDE),
        )
        what = "our own targets (default), literal as s1"
        result.append(compare(what, literal, own, literal_runs=literal_runs, runs=runs))
    return result


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.paf_targets", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
