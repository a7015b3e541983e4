"""Batches of whole pictures: like shapes together, each batch on a canvas of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from pose.data.augment import AugmentSettings
from pose.geometry import round_up

WINDOW = 32  # batches whose pictures are sorted by shape
SHAPE_TAG = 3  # keeps the generator of batches' order apart from those of samples and passes

Key = tuple[int, int, tuple[int, int]]


class Shaped(Protocol):
    """A data set that knows how large its pictures become."""

    augment: AugmentSettings

    def drawn_size(self, index: int, position: int) -> tuple[float, float]: ...


class Stream(Protocol):
    def __getitem__(self, position: int) -> int: ...


class ShapedBatchSampler(Sampler[list[Key]]):
    """One process's batches of (index, position, canvas), without end.

    `WINDOW` global batches take the positions that as many batches of a plain sampler would, sorted by the
    pictures' aspect, and come in random order.  A batch's canvas is the smallest of multiples of
    `whole_multiple` that holds its pictures.  All of it depends on positions only: neither the number of
    processes nor an interruption changes a batch."""

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        dataset: Shaped,
    ) -> None:
        self.dataset = dataset
        self.stream = stream
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start_step = start_step
        self._window = lru_cache(maxsize=2)(self._batches)

    def __iter__(self) -> Iterator[list[Key]]:
        step = self.start_step
        while True:
            number, place = divmod(step, WINDOW)
            batch = self._window(number)[place]
            yield batch[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            step += 1

    def _batches(self, number: int) -> list[list[Key]]:
        """The global batches of a window."""
        size = self.batch_size * self.world_size
        positions = range(number * WINDOW * size, (number + 1) * WINDOW * size)
        drawn = [(self.stream[p], p) for p in positions]
        sizes = np.array([self.dataset.drawn_size(*one) for one in drawn])
        by_aspect = np.argsort(sizes[:, 0] / sizes[:, 1], kind="stable").reshape(WINDOW, size)
        order = np.random.default_rng([number, SHAPE_TAG]).permutation(WINDOW)
        batches = []
        for places in by_aspect[order]:
            multiple = self.dataset.augment.whole_multiple
            height, width = (
                round_up(max(1, math.ceil(side - 1e-6)), multiple) for side in sizes[places].max(0)
            )
            batches.append([(*drawn[i], (height, width)) for i in places.tolist()])
        return batches
