"""How far numbers of a test would vary with other pictures: the bootstrap over images (Efron: Bootstrap
methods, Annals of Statistics 1979), with the same draws for all runs so that their differences count too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pose.metrics.base import Sampled

ROUNDS = 1000
LEVEL = 0.95


class Interval(NamedTuple):
    """A number with the interval in which 95 % of the draws lie; NaN where there is nothing to score."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def draws(num_images: int, rounds: int = ROUNDS, seed: int = 0) -> Iterator[np.ndarray]:
    """Positions of images, (num_images,) each time, drawn with replacement; the same for one seed."""
    generator = np.random.default_rng(seed)
    for _ in range(rounds):
        yield generator.integers(0, num_images, num_images)


def values(run: Sampled, names: Sequence[str], picked: np.ndarray | None = None) -> np.ndarray:
    """(S,) the numbers of these names; NaN where there is nothing to score."""
    stats = run.stats(picked)
    row = np.array([stats[name] for name in names])
    return np.where(row < 0, np.nan, row)


def interval(value: float, samples: np.ndarray) -> Interval:
    """samples (R,), NaN for draws without anything to score."""
    known = samples[~np.isnan(samples)]
    if np.isnan(value) or not len(known):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


class Bootstrap(NamedTuple):
    """Of several runs on the same images."""

    names: tuple[str, ...]  # S
    whole: np.ndarray  # (runs, S) over all images
    samples: np.ndarray  # (rounds, runs, S)

    def of(self, run: int, name: str) -> Interval:
        s = self.names.index(name)
        return interval(self.whole[run, s], self.samples[:, run, s])

    def difference(self, run: int, name: str, to: int = 0) -> Interval:
        """Of a run to another one, in the same draws."""
        s = self.names.index(name)
        apart = self.samples[:, run, s] - self.samples[:, to, s]
        return interval(self.whole[run, s] - self.whole[to, s], apart)


def bootstrap(runs: Sequence[Sampled], rounds: int = ROUNDS, seed: int = 0) -> Bootstrap:
    """runs: of the same images in the same order (`ValueError` where they are not)."""
    names = tuple(runs[0].stats())
    images = runs[0].image_ids
    if any(one.image_ids != images for one in runs):
        raise ValueError("the runs were not matched on the same images")
    whole = np.stack([values(one, names) for one in runs])
    samples = [
        np.stack([values(one, names, picked) for one in runs]) for picked in draws(len(images), rounds, seed)
    ]
    return Bootstrap(names, whole, np.stack(samples) if samples else np.zeros((0, *whole.shape)))
