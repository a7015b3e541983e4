"""Detections -> people without clustering: each person grows from one detection along the pairwise offsets.

The fast companion of `multicut`, on the same maps (Insafutdinov et al., "DeeperCut", ECCV 2016) and with the
same predictions: the kinds are taken in the skeleton's `grouping_order`, and the most probable free detection
of a kind begins a person.  Of all free detections of the kinds that the person lacks, the one joins next
that fits a member of it best, along the skeleton's `pairs`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pose import geometry
from pose.decoders.detections import (
    Detections,
    PairSettings,
    check_shapes,
    find_detections,
    list_pairs,
    pair_errors,
    pair_lengths,
    ranked,
)
from pose.decoders.pairwise_statistics import PairwiseStatistics
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People


class GreedyPairsSettings(PairSettings):
    """How detections are found and joined."""

    name: Literal["greedy_pairs"] = "greedy_pairs"
    reach: float = Field(0.75, gt=0)
    """A detection fits if its prediction of a person's member and the member's prediction of it are wrong by
    no more, on average, than so many standard deviations of their offset."""
    min_keypoints: int = Field(1, ge=1)
    """People with fewer keypoints are dropped."""


@DECODERS.register("greedy_pairs", GreedyPairsSettings)
class GreedyPairs:
    """Decodes a batch.  A person has at most one detection of a kind, whose probability is the keypoint's
    score; the score that ranks people is the sum of these / all kinds of keypoints."""

    needs = ("heatmap", "locref", "pairwise")

    def __init__(
        self,
        settings: GreedyPairsSettings,
        skeleton: Skeleton,
        layout: geometry.LayoutLike = geometry.PIXEL_CENTER,
        statistics: PairwiseStatistics | None = None,
    ) -> None:
        self.settings = settings
        self.skeleton = skeleton
        self.layout = layout
        self.lengths = pair_lengths(skeleton, statistics, settings)
        self.rank = np.argsort(skeleton.grouping_index)

    @torch.no_grad()
    def __call__(self, heatmap: Tensor, locref: Tensor, pairwise: Tensor, stride: int) -> list[People]:
        """The arguments of `Multicut`."""
        check_shapes(heatmap, locref, pairwise, len(self.skeleton))
        found = find_detections(heatmap, locref, pairwise, stride, self.settings, self.layout)
        return [self._people(detections) for detections in found]

    def _people(self, detections: Detections) -> People:
        kinds, misfit = len(self.skeleton), self._misfits(detections)
        free = np.ones(len(detections.kind), bool)
        rows = []
        for seed in np.lexsort((-detections.probability, self.rank[detections.kind])):
            if free[seed]:
                rows.append(self._grow(int(seed), misfit, detections.kind, free))
        keypoints = np.zeros((len(rows), kinds, 3), np.float32)
        for row, members in zip(keypoints, rows, strict=True):
            row[detections.kind[members], :2] = detections.position[members]
            row[detections.kind[members], 2] = detections.probability[members]
        return ranked(keypoints, self.settings.min_keypoints)

    def _misfits(self, detections: Detections) -> np.ndarray:
        """(M, M) how wrong two detections predict each other, in standard deviations; infinite where they
        do not or not well enough."""
        pairs = list_pairs(detections.kind, self.skeleton)
        which, a, b = (array[pairs.which < len(self.lengths)] for array in pairs)
        errors = pair_errors(detections, a, b)
        wrong = (errors[:, 0] + errors[:, 2]) / (2 * self.lengths[which])
        misfit = np.full((len(detections.kind),) * 2, np.inf)
        misfit[a, b] = misfit[b, a] = np.where(wrong <= self.settings.reach, wrong, np.inf)
        return misfit

    def _grow(self, seed: int, misfit: np.ndarray, kind: np.ndarray, free: np.ndarray) -> list[int]:
        """The person that begins with `seed`; its detections are no longer `free`."""
        members: list[int] = []
        least: np.ndarray = np.full(len(kind), np.inf)  # of every detection to the member that it fits best
        closed, best = ~free, seed
        while True:
            members.append(best)
            free[best] = False
            closed |= kind == kind[best]
            least = np.where(closed, np.inf, np.minimum(least, misfit[best]))
            best = int(least.argmin())
            if least[best] == np.inf:
                return members
