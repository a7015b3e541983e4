"""What the pairwise terms of DeeperCut know beforehand of a data set: where keypoints lie from each other,
and how well an offset must fit to speak for one person (Insafutdinov et al.: DeeperCut, ECCV 2016)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import UserError
from pose.files import check_ends
from pose.skeleton import Skeleton

logger = logging.getLogger("pose")

NUM_FEATURES = 8  # of a pair of detections: see `pose.decoders.multicut`
FORMAT = 1
LEAST_STD = 1.0  # pixels: even where people all stand alike, offsets start at the cells around a keypoint


@dataclass(frozen=True, eq=False)
class PairModel:
    """A logistic model of "these two detections belong to one person", for a pair a < b of keypoints."""

    low: np.ndarray  # (8,) the features' minimum: they are scaled to [0, 1] by it and the maximum
    high: np.ndarray  # (8,)
    weights: np.ndarray  # (9,) of the scaled features and of the constant 1


@dataclass(frozen=True, eq=False)
class PairwiseStatistics:
    """For each ordered pair (a, b) of keypoints, the offset from a to b; pixels of the network's input."""

    keypoints: tuple[str, ...]
    mean: np.ndarray  # (K, K, 2) float64: position of b minus position of a; 0 on the diagonal
    std: np.ndarray  # (K, K, 2) float64, 1 on the diagonal
    models: Mapping[tuple[int, int], PairModel] = field(default_factory=dict)  # none: decoders have a default

    @staticmethod
    def neutral(skeleton: Skeleton) -> PairwiseStatistics:
        """Mean 0 and deviation 1: of nothing."""
        shape = (len(skeleton), len(skeleton), 2)
        return PairwiseStatistics(skeleton.keypoints, np.zeros(shape), np.ones(shape))

    def in_order(self, skeleton: Skeleton, source: Path | str) -> PairwiseStatistics:
        """The same in the order of the skeleton's keypoints.  Raises `UserError` where it is of others."""
        absent = [name for name in skeleton.keypoints if name not in self.keypoints]
        if absent:
            raise UserError(
                f"{source} is of other keypoints than the skeleton {skeleton.name!r}: it has nothing on "
                f"{', '.join(absent[:4])}{', ...' if absent[4:] else ''}; {advice(source)}"
            )
        order = [self.keypoints.index(name) for name in skeleton.keypoints]
        place = {k: i for i, k in enumerate(order)}
        models = {
            (place[a], place[b]): model
            for (a, b), model in self.models.items()
            if a in place and b in place and place[a] < place[b]
        }
        lost = [pair for pair in self.models if {*pair} <= {*place} and place[pair[0]] > place[pair[1]]]
        if lost:  # a model looks from a to b first; turned round, its features would change places
            models |= {(place[b], place[a]): _turned(self.models[a, b]) for a, b in lost}
        square = np.ix_(order, order)
        return PairwiseStatistics(skeleton.keypoints, self.mean[square], self.std[square], models)


def _turned(model: PairModel) -> PairModel:
    """For (b, a) what it is for (a, b): the two features forward and the two backward change places."""
    order = [2, 3, 0, 1, 6, 7, 4, 5]
    return PairModel(model.low[order], model.high[order], model.weights[[*order, 8]])


def gather(keypoints: Sequence[np.ndarray], skeleton: Skeleton) -> PairwiseStatistics:
    """Mean and population deviation of the offsets between labelled keypoints of one person.

    keypoints: (P, K, 3) arrays in pixels.  Pairs that fewer than two people have get mean 0 and the mean
    deviation of the others; those of `skeleton.pairs` are named in a warning."""
    people = np.concatenate([np.zeros((0, len(skeleton), 3)), *keypoints]).astype(np.float64)
    seen = people[..., 2] > 0  # (P, K)
    xy = np.where(seen[..., None], people[..., :2], 0)
    number = seen.T.astype(np.float64) @ seen.astype(np.float64)  # (K, K) people with both
    mean, std = np.zeros((2, *number.shape, 2))
    for a in range(len(skeleton)):  # (P, K, 2) at a time
        both = (seen & seen[:, a : a + 1])[..., None]
        count = np.maximum(number[a], 1)[:, None]
        offset = xy - xy[:, a : a + 1]
        mean[a] = np.where(both, offset, 0).sum(0) / count
        std[a] = np.sqrt((np.where(both, offset - mean[a], 0) ** 2).sum(0) / count)
    self_pairs = np.eye(len(skeleton), dtype=bool)
    known = (number >= 2) & ~self_pairs
    typical = std[known].mean() if known.any() else LEAST_STD
    std[~known], mean[~known] = typical, 0
    std = np.maximum(std, LEAST_STD)
    std[self_pairs] = 1
    few = [
        f"{skeleton.keypoints[a]}-{skeleton.keypoints[b]}" for a, b in skeleton.pair_index if not known[a, b]
    ]
    if few:
        logger.warning(
            "pairwise statistics: fewer than two people have both ends of %d pairs (%s%s), which are taken "
            "to lie as far apart as others do", len(few), ", ".join(few[:4]), ", ..." if few[4:] else "",
        )  # fmt: skip
    return PairwiseStatistics(skeleton.keypoints, mean, std)


# ------------------------------------------------------------------------------------------------ JSON


def to_json(statistics: PairwiseStatistics) -> dict[str, Any]:
    """Every digit, so that a continued run computes what it would have without the stop."""
    names = statistics.keypoints
    pairs = [
        {
            "from": names[a],
            "to": names[b],
            "mean": statistics.mean[a, b].tolist(),
            "std": statistics.std[a, b].tolist(),
        }
        for a in range(len(names))
        for b in range(len(names))
        if a != b
    ]
    models = [
        {"from": names[a], "to": names[b], **{k: np.asarray(v).tolist() for k, v in vars(model).items()}}
        for (a, b), model in sorted(statistics.models.items())
    ]
    return {"format": FORMAT, "keypoints": list(names), "pairs": pairs, "models": models}


def read(path: Path | str, skeleton: Skeleton) -> PairwiseStatistics:
    """The statistics of a file, in the order of the skeleton.  Raises `UserError`."""
    try:
        check_ends(path)
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read the pairwise statistics {path}: {error.strerror or error}; {advice(path)}"
        ) from None
    return parse(content, skeleton, path)


def parse(content: bytes | str, skeleton: Skeleton, path: Path | str) -> PairwiseStatistics:
    """The statistics in JSON text that was found at `path`, in the order of the skeleton.  Raises
    `UserError`."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"the pairwise statistics {path} are not JSON or were cut off ({error}); {advice(path)}"
        ) from None
    try:
        found = _from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} holds no pairwise statistics ({what}); {advice(path)}") from None
    missing = [
        f"{a}-{b}"
        for a in skeleton.keypoints
        for b in skeleton.keypoints
        if a != b and {a, b} <= set(found.keypoints) and not _has(found, a, b)
    ]
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} pairs of the skeleton {skeleton.name!r} ({', '.join(missing[:4])}"
            f"{', ...' if missing[4:] else ''}); {advice(path)}"
        )
    return found.in_order(skeleton, path)


def advice(path: Path | str) -> str:
    return (
        f"make it with python -m pose.tools.pairwise_stats --config CONFIG -o {path} (CONFIG: of a run, its "
        "config.yaml)"
    )


def _has(statistics: PairwiseStatistics, a: str, b: str) -> bool:
    place = statistics.keypoints.index(a), statistics.keypoints.index(b)
    mean, std = statistics.mean[place], statistics.std[place]
    return bool(np.isfinite([mean, std]).all() and (std > 0).all())


def _from_json(data: Any) -> PairwiseStatistics:
    """NaN for pairs that it lacks."""
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']!r}")
    names = tuple(data["keypoints"])
    place = {name: k for k, name in enumerate(names)}
    mean, std = np.full((2, len(names), len(names), 2), np.nan)
    for pair in data["pairs"]:
        at = place[pair["from"]], place[pair["to"]]
        mean[at], std[at] = pair["mean"], pair["std"]
    for k in range(len(names)):
        mean[k, k], std[k, k] = 0, 1
    models = {}
    for one in data.get("models", []):
        arrays = {key: np.array(one[key], np.float64) for key in ("low", "high", "weights")}
        sizes = [arrays[key].shape for key in ("low", "high", "weights")]
        if sizes != [(NUM_FEATURES,), (NUM_FEATURES,), (NUM_FEATURES + 1,)]:
            raise ValueError(f"a model of {one['from']}-{one['to']} with arrays of {sizes}")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError(f"a model of {one['from']}-{one['to']} with numbers that are not finite")
        models[place[one["from"]], place[one["to"]]] = PairModel(**arrays)
    return PairwiseStatistics(names, mean, std, models)
