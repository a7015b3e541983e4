"""Time to draw heatmaps and part affinity fields for a batch of 8 pictures with 5 people at 368 x 368, on one
core: every keypoint and limb over the whole grid, as rtpose does it, against `PafHead.targets`.

    python -m benchmarks.paf_targets
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.grouping import median_ms
from pose.config import read_yaml
from pose.heads.paf import PafHead, PafSettings, PafTargets
from pose.skeleton import from_dict
from pose.structures import Batch

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


def batch_of(keypoints: np.ndarray) -> Batch:
    number = len(keypoints)
    return Batch(
        image=torch.zeros(number, 3, SIDE, SIDE, dtype=torch.uint8),
        loss_mask=torch.ones(number, SIDE, SIDE, dtype=torch.bool),
        keypoints=torch.from_numpy(keypoints.astype(np.float32)),
        areas=torch.ones(keypoints.shape[:2]),
        color=torch.zeros(number, 4),
        image_id=torch.arange(number),
    )


def by_full_grids(keypoints: np.ndarray, closed: bool, overwrite: bool, halves_up: bool) -> list[np.ndarray]:
    """Per picture (h, w, K + 1 + 2 L): every keypoint and every limb over the whole grid, one after the
    other."""
    cells = SIDE // STRIDE
    y, x = np.mgrid[:cells, :cells].astype(float)
    return [
        np.concatenate((heat_of(one, x, y), paf_of(one, x, y, closed, overwrite, halves_up)), 2)
        for one in keypoints
    ]


def heat_of(people: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    maps = np.zeros((*x.shape, people.shape[1] + 1))
    for person in people:
        for k, (px, py, v) in enumerate(person):
            if v > 0 and 0 <= px < SIDE and 0 <= py < SIDE:
                exponent = ((x * STRIDE + 3.5 - px) ** 2 + (y * STRIDE + 3.5 - py) ** 2) / 2 / 7.0**2
                maps[..., k] = np.minimum(maps[..., k] + np.exp(-exponent) * (exponent <= 4.6052), 1)
    maps[..., -1] = np.maximum(1 - maps[..., :-1].max(2), 0)
    return maps


def paf_of(
    people: np.ndarray, x: np.ndarray, y: np.ndarray, closed: bool, overwrite: bool, halves_up: bool
) -> np.ndarray:
    maps = np.zeros((*x.shape, 2 * len(SKELETON.limbs)))
    rounded = (lambda value: np.floor(value + 0.5)) if halves_up else np.round
    for limb, (a, b) in enumerate(SKELETON.limb_index):
        count = np.zeros(x.shape)
        for person in people:
            (ax, ay, av), (bx, by, bv) = person[a] / (STRIDE, STRIDE, 1), person[b] / (STRIDE, STRIDE, 1)
            length = np.hypot(bx - ax, by - ay)
            on_picture = all(0 <= c < SIDE / STRIDE for c in (ax, ay, bx, by))
            if not (av > 0 and bv > 0 and length > 0 and on_picture):
                continue
            unit = np.array([bx - ax, by - ay]) / length
            away = np.abs((x - ax) * unit[1] - (y - ay) * unit[0])
            here = away <= 1 if closed else away < 1
            for axis, low, high in ((x, min(ax, bx), max(ax, bx)), (y, min(ay, by), max(ay, by))):
                here &= (axis >= rounded(low - 1)) & (axis < rounded(high + 1))
            vector = here[..., None] * unit
            own = maps[..., 2 * limb : 2 * limb + 2]
            old = np.where(here, 0, 1) if overwrite else count
            total = np.where(here[..., None], own * old[..., None] + vector, own)
            count += here
            divisor = 1 if overwrite else np.where(here, count, 1)[..., None]
            maps[..., 2 * limb : 2 * limb + 2] = total / divisor
    return maps


def check(targets: PafTargets, expected: list[np.ndarray]) -> None:
    ours = torch.cat((targets.heatmap, targets.paf), 1).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, np.stack(expected), atol=1e-4)


def rows(literal_runs: int = 5, runs: int = 51) -> list[tuple[str, float, float]]:
    """(what, milliseconds of the literal version, of ours) per batch, medians on one thread."""
    keypoints = people(PICTURES, 5).astype(np.float32).astype(float)
    batch = batch_of(keypoints)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = []
    for preset, closed_overwrite_up in (("s1", (False, False, False)), ("cmu", (True, True, True))):
        head = PafHead(PafSettings(preset=preset), SKELETON)
        check(head.targets(batch, STRIDE), by_full_grids(keypoints, *closed_overwrite_up))
        slow = median_ms(partial(by_full_grids, keypoints, *closed_overwrite_up), literal_runs)
        fast = median_ms(partial(head.targets, batch, STRIDE), runs)
        result.append((f"heat + PAF targets ({preset}), 8 pictures, 5 people, 368", slow, fast))
    torch.set_num_threads(threads)
    return result


def main() -> None:
    for what, slow, fast in rows():
        print(f"{what}: literal {slow:.1f} ms, ours {fast:.2f} ms, {slow / fast:.0f} x")


if __name__ == "__main__":
    main()
