"""Time from maps to people on one core: the literal restatements of pose-ae-train and of HigherHRNet against
`TagGroups`.

python -m benchmarks.grouping [--smallest]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import Row, compare, first_row, one_thread, print_rows
from pose.config import read_yaml
from pose.decoders.tag_groups import TagGroups, TagGroupsSettings
from pose.skeleton import from_dict
from tests.literal.reference import higherhrnet_group
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


def ours(people: str, noise: str) -> Callable[[], object]:
    """A call of the decoder, not yet made."""
    decoder = TagGroups(TagGroupsSettings(), from_dict(read_yaml(SKELETON)), layout=0.0)
    return partial(decoder, *batch(*scene(int(people), noise=float(noise))), 4)


def theirs(people: str, noise: str, matcher: str = "munkres") -> Callable[[], object]:
    """A call of the literal restatement; matcher "scipy": with a compiled solver, as the package munkres has
    one in newer versions."""
    return partial(group_and_refine, *scene(int(people), noise=float(noise)), matcher=matcher)


def row(people: int, noise: float, literal_runs: int, runs: int, matcher: str = "munkres") -> Row:
    compiled = ", compiled solver" if matcher == "scipy" else ""
    return compare(
        f"group + refine, {people} people, noise {noise}, 128 x 128{compiled}",
        theirs(str(people), str(noise), matcher),
        ours(str(people), str(noise)),
        literal_runs=literal_runs,
        runs=runs,
    )


def compiled_rows(people: int, noise: float, smallest: bool = False) -> list[Row]:
    """Against the literal way with a compiled solver."""
    literal_runs, runs = (1, 1) if smallest else (7, 31)
    makers = ("benchmarks.grouping:theirs", "benchmarks.grouping:ours")
    first = first_row(*makers, (people, noise, "scipy"), (people, noise), smallest)
    return [row(people, noise, literal_runs, runs, "scipy"), first]


def untrained_row(literal_runs: int, runs: int) -> Row:
    """Maps of a network that is not trained yet: noise above the threshold everywhere, all tags alike."""
    rng = np.random.default_rng(0)
    heat = rng.normal(0.05, 0.05, (17, 128, 128)).astype(np.float32)
    tags = rng.normal(0, 0.01, (17, 128, 128, 2)).astype(np.float32)
    decoder = TagGroups(TagGroupsSettings(), from_dict(read_yaml(SKELETON)), layout=0.0)
    return compare(
        "group + refine, noise with equal tags, 128 x 128, compiled solver",
        partial(group_and_refine, heat, tags, matcher="scipy"),
        partial(decoder, *batch(heat, tags), 4),
        literal_runs=literal_runs,
        runs=runs,
    )


def higherhrnet_row(people: int, size: int, literal_runs: int, runs: int) -> Row:
    """HigherHRNet's rules, with its solver, so that both find the same people."""
    settings = TagGroupsSettings(preset="higherhrnet")
    decoder = TagGroups(settings, from_dict(read_yaml(SKELETON)), layout=0.0)
    heat, tags = scene(people, size=size, noise=0.02)
    return compare(
        f"HigherHRNet's grouping, {people} people, {size} x {size}",
        partial(higherhrnet_group.group, heat, tags),
        partial(decoder, *batch(heat, tags), 2),
        literal_runs=literal_runs,
        runs=runs,
    )


def batch(heat: np.ndarray, tags: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The maps of one picture as the decoder takes them."""
    return torch.from_numpy(heat)[None], torch.from_numpy(tags.transpose(0, 3, 1, 2).copy())[None]


def rows(smallest: bool = False) -> list[Row]:
    """Per image, medians on one thread."""
    with one_thread():
        if smallest:
            few = [row(2, 0.02, literal_runs=1, runs=1), higherhrnet_row(2, 64, literal_runs=1, runs=1)]
            return [*few, *compiled_rows(2, 0.02, smallest=True), untrained_row(literal_runs=1, runs=1)]
        cases = ((10, 0.02), (10, 0.03), (10, 0.05), (30, 0.02), (30, 0.05))
        published = ((10, 128), (30, 128), (10, 256), (30, 256))
        return [
            *(row(*case, literal_runs=7, runs=31) for case in cases),
            *compiled_rows(10, 0.02),
            *compiled_rows(30, 0.02),
            untrained_row(literal_runs=5, runs=31),
            *(higherhrnet_row(*case, literal_runs=5, runs=31) for case in published),
        ]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.grouping", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
