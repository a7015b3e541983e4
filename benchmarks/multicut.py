"""Time from maps to people on one core: the literal restatement of DeeperCut against `Multicut` and
`GreedyPairs`.

python -m benchmarks.multicut
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.grouping import median_ms
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


def rows(runs: int = 9) -> list[tuple[str, float, float]]:
    """(what, milliseconds of the literal version, of ours) per image, medians on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    skeleton = from_dict(read_yaml(SKELETON))
    settings = MulticutSettings()
    decoders: dict[str, Callable[..., object]] = {
        "multicut": Multicut(settings, skeleton, 0.0),
        "greedy_pairs": GreedyPairs(GreedyPairsSettings(), skeleton, 0.0),
    }
    result = []
    for about, (people, false) in SCENES.items():
        heat, locref, pairwise = literal.scene(people, 0, false=false)
        maps = (tensor(heat), tensor(locref), tensor(pairwise))
        (found,) = find_detections(maps[0], maps[1], maps[2], STRIDE, settings, 0.0)
        whole = partial(literal.decode, heat, locref, pairwise, {}, settings.default_length)
        slow = median_ms(whole, 3 if about < 300 else 1)
        for name, decoder in decoders.items():
            fast = median_ms(partial(decoder, *maps, STRIDE), runs)
            result.append((f"{len(found.kind)} detections of {people} people, 60 x 80, {name}", slow, fast))
    torch.set_num_threads(threads)
    return result


def main() -> None:
    for what, slow, fast in rows():
        print(f"{what}: literal {slow:.1f} ms, ours {fast:.2f} ms, {slow / fast:.0f} x")


if __name__ == "__main__":
    main()
