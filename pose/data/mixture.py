"""What is trained on: one set, or several as one, and the order of their samples."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from pose.data.dataset import Item, Key, KeypointDataset, load_training_set
from pose.data.loader import TrainStream
from pose.data.selection import training_indices, warn_of_sides
from pose.data.settings import DataSettings, training_files
from pose.errors import UserError
from pose.skeleton import Skeleton
from pose.structures import InputSettings

MIX_TAG = 2  # keeps the generators of mixed passes apart from those of the sets' own

logger = logging.getLogger("pose")


class MixedDataset(Dataset[Item]):
    """Several sets one behind the other; an index counts through all of them."""

    def __init__(self, parts: Sequence[KeypointDataset]) -> None:
        self.parts = list(parts)
        self.strict = any(part.strict for part in parts)
        self.augment = parts[0].augment
        self.starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, key: Key) -> Item:
        part, index = self.within(key[0])
        return part[index, key[1]] if len(key) == 2 else part[index, key[1], key[2]]

    def within(self, index: int) -> tuple[KeypointDataset, int]:
        """The set of an index, and the index there."""
        part = bisect_right(self.starts, index) - 1
        return self.parts[part], index - self.starts[part]

    @property
    def whole(self) -> bool:
        return self.parts[0].whole

    def drawn_size(self, index: int, position: int) -> tuple[float, float]:
        part, own = self.within(index)
        return part.drawn_size(own, position)

    def picture(self, index: int) -> tuple[Path, np.ndarray]:
        part, own = self.within(index)
        return part.picture(own)

    def read(self, index: int) -> np.ndarray:
        part, own = self.within(index)
        return part.read(own)

    def people(self, index: int, position: int) -> np.ndarray:
        part, own = self.within(index)
        return part.people(own, position)


class MixedStream:
    """position -> index into a `MixedDataset`.

    A pass has as many samples as the passes of all sets together.  Set s gets a share of them by its weight
    (none: by its own length); its own stream goes on from pass to pass, so that every picture of a set comes
    as often as any other of it.  The order within pass e is a shuffle by `seed` and e."""

    def __init__(
        self,
        streams: Sequence[TrainStream],
        starts: Sequence[int],
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        lengths = [len(stream) for stream in streams]
        self.streams = list(streams)
        self.starts = list(starts)
        self.counts = lengths if weights is None else portions(sum(lengths), weights)
        self.seed = seed
        self._pass = lru_cache(maxsize=2)(self._shuffled)
        empty = [i for i, count in enumerate(self.counts) if not count]
        if empty:
            raise UserError(
                f"data.sets.{empty[0]}: its weight gives it none of a pass's {sum(lengths)} samples; raise it"
            )

    def __len__(self) -> int:
        """Samples in one pass."""
        return sum(self.counts)

    def __getitem__(self, position: int) -> int:
        number, place = divmod(position, len(self))
        return int(self._pass(number)[place])

    def _shuffled(self, number: int) -> np.ndarray:
        indices = [
            start + stream[i]
            for stream, start, count in zip(self.streams, self.starts, self.counts, strict=True)
            for i in range(number * count, (number + 1) * count)
        ]
        return np.random.default_rng([self.seed, number, MIX_TAG]).permutation(np.array(indices, np.int64))


def portions(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the weights that sum to `total`: largest remainders first."""
    shares = np.array(weights, np.float64) / max(weights)  # whose sum is finite
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(int)
    for i in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[i] += 1
    return counts.tolist()


class Training(NamedTuple):
    """What samples there are, and in which order they come."""

    dataset: KeypointDataset | MixedDataset
    stream: TrainStream | MixedStream


def training_data(
    settings: DataSettings, input: InputSettings, skeleton: Skeleton, *, seed: int = 0
) -> Training:
    """The training set or sets and their stream, from the settings."""
    if settings.augment.flip > 0:
        warn_of_sides(skeleton)
    parts, streams = [], []
    for files in training_files(settings):
        part = load_training_set(settings, files, input, skeleton, seed=seed)
        positive, negative = training_indices(settings, part.annotations)
        parts.append(part)
        streams.append(TrainStream(positive, negative, share=settings.negatives, seed=seed))
    if not settings.sets:
        return Training(parts[0], streams[0])
    tell_unlabelled(parts, skeleton)
    mixed = MixedDataset(parts)
    weights = [one.weight for one in settings.sets if one.weight is not None] or None
    return Training(mixed, MixedStream(streams, mixed.starts[:-1], weights, seed))


def tell_unlabelled(parts: Sequence[KeypointDataset], skeleton: Skeleton) -> None:
    """What each set lacks, and a warning of what all of them lack."""
    for part in parts:
        lacks = [name for name, has in zip(skeleton.keypoints, part.labelled, strict=True) if not has]
        if lacks:
            logger.info("%s never labels %s: not trained there", part.annotations.source, ", ".join(lacks))
    labelled = np.any([part.labelled for part in parts], axis=0)
    nowhere = [name for name, has in zip(skeleton.keypoints, labelled, strict=True) if not has]
    if nowhere:
        logger.warning("no set of data.sets labels %s: never trained", ", ".join(nowhere))
    both = np.array([part.labelled for part in parts])
    limbs = [
        f"{skeleton.keypoints[a]}-{skeleton.keypoints[b]}"
        for a, b in skeleton.limb_index
        if not (both[:, a] & both[:, b]).any()
    ]
    if limbs:
        logger.warning("no set of data.sets labels both ends of the limbs %s", ", ".join(limbs))
