"""Time from maps to people on one core: the literal restatement of pose-ae-train against `TagGroups`.

python -m benchmarks.grouping
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pose.config import read_yaml
from pose.decoders.tag_groups import TagGroups, TagGroupsSettings
from pose.skeleton import from_dict
from tests.literal.reference.pose_ae_testing import group_and_refine

SKELETON = Path(__file__).parents[1] / "configs" / "_skeletons" / "coco17.yaml"


def scene(
    people: int, *, seed: int = 0, size: int = 128, dims: int = 2, noise: float = 0.03, missing: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """-> heat (17, size, size) and tags (17, size, size, dims), float32: Gaussians of sigma 2 on noise;
    around every person his tag (people are 2 apart on average), also where his keypoint is missing."""
    rng = np.random.default_rng([seed, people])
    centers = rng.uniform(0.1 * size, 0.9 * size, (people, 2))
    keypoints = (centers[:, None] + rng.normal(0, 0.08 * size, (people, 17, 2))).clip(2, size - 3).round()
    found = rng.random((people, 17)) > missing
    own_tags = rng.permuted(np.arange(people))[:, None] * 2.0 + rng.normal(0, 0.2, (people, dims))
    axis = np.arange(size)
    x, y = keypoints[..., None, None, 0], keypoints[..., None, None, 1]
    squared = (axis[:, None] - y) ** 2 + (axis - x) ** 2
    bumps = np.exp(-squared / 8) * (found * rng.uniform(0.3, 1, found.shape))[..., None, None]
    heat = bumps.max(axis=0) + rng.normal(0, noise, (17, size, size))
    tags = own_tags[squared.argmin(axis=0)] + rng.normal(0, 0.1, (17, size, size, dims))
    return np.minimum(heat, 1).astype(np.float32), tags.astype(np.float32)


def median_ms(call: Callable[[], object], runs: int) -> float:
    """Of the processor time of this thread, so that other work on the machine counts little."""
    call()
    times = []
    for _ in range(runs):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1000


def rows(literal_runs: int = 7, runs: int = 31) -> list[tuple[str, float, float]]:
    """(what, milliseconds of the literal version, of ours) per image, medians on one thread."""
    decoder = TagGroups(TagGroupsSettings(), from_dict(read_yaml(SKELETON)), pixel_center=0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = []
    for people, noise in ((10, 0.02), (10, 0.03), (10, 0.05), (30, 0.02), (30, 0.05)):
        heat, tags = scene(people, noise=noise)
        maps = torch.from_numpy(heat)[None], torch.from_numpy(tags.transpose(0, 3, 1, 2).copy())[None]
        slow = median_ms(partial(group_and_refine, heat, tags), literal_runs)
        fast = median_ms(partial(decoder, *maps, 4), runs)
        result.append((f"group + refine, {people} people, noise {noise}, 128 x 128", slow, fast))
    torch.set_num_threads(threads)
    return result


def main() -> None:
    for what, slow, fast in rows():
        print(f"{what}: literal {slow:.1f} ms, ours {fast:.2f} ms, {slow / fast:.0f} x")


if __name__ == "__main__":
    main()
