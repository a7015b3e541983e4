"""Time from maps to people on one core: the literal restatement of DeeperCut against `Multicut` and
`GreedyPairs`.

    python -m benchmarks.multicut [--smallest]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import Row, compare, one_thread, print_rows
from pose.config import read_yaml
from pose.decoders.detections import find_detections
from pose.decoders.greedy_pairs import GreedyPairs, GreedyPairsSettings
from pose.decoders.multicut import Multicut, MulticutSettings
from pose.skeleton import from_dict
from tests.literal.reference import deepercut_decode as literal

SKELETON = Path(__file__).parents[1] / "configs" / "_skeletons" / "coco17.yaml"
STRIDE = literal.STRIDE
SCENES = {20: (1, 4), 100: (6, 14), 300: (20, 50)}  # detections, about -> people, false detections


def tensor(drawn: np.ndarray) -> torch.Tensor:
    """A map of the literal version as ours takes it."""
    return torch.from_numpy(drawn.transpose(2, 0, 1).copy())[None]


def scene_rows(about: int, literal_runs: int, runs: int) -> list[Row]:
    """A row for each decoder."""
    skeleton = from_dict(read_yaml(SKELETON))
    settings = MulticutSettings()
    decoders: dict[str, Callable[..., object]] = {
        "multicut": Multicut(settings, skeleton, 0.0),
        "greedy_pairs": GreedyPairs(GreedyPairsSettings(), skeleton, 0.0),
    }
    people, false = SCENES[about]
    heat, locref, pairwise = literal.scene(people, 0, false=false)
    maps = (tensor(heat), tensor(locref), tensor(pairwise))
    (found,) = find_detections(maps[0], maps[1], maps[2], STRIDE, settings, 0.0)
    whole = partial(literal.decode, heat, locref, pairwise, {}, settings.default_length)
    what = f"{len(found.kind)} detections of {people} people, 60 x 80"
    return [
        compare(
            f"{what}, {name}",
            whole,
            partial(decoder, *maps, STRIDE),
            literal_runs=literal_runs,
            runs=runs,
        )
        for name, decoder in decoders.items()
    ]


def rows(smallest: bool = False) -> list[Row]:
    """Per image, medians on one thread."""
    with one_thread():
        if smallest:
            return scene_rows(20, literal_runs=1, runs=1)
        return [row for about in SCENES for row in scene_rows(about, 3 if about < 300 else 1, runs=9)]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.multicut", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
