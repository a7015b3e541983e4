"""Detections -> people by splitting the graph of all their pairs: the decoder of DeeperCut.

Insafutdinov, Pishchulin, Andres, Andriluka and Schiele, "DeeperCut", ECCV 2016, as released in
pose-tensorflow.  Every pair of detections of one kind, and every pair of two kinds that the skeleton lists
under `pairs`, has a probability of being of one person; every detection has one of being right.  Their
logarithmic odds are costs, and the cheapest split of the graph into people and nobody is looked for
(`graph_cut`).

The features of a pair of two kinds a < b, for which statistics may hold a logistic model: with the offset to
b predicted at the centre of a's cell and the one to where b is, the length of their difference in pixels and
the angle between them in radians; the same two for the offset to a predicted at b; and exp(-f) of these four.
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
    Pairs,
    PairSettings,
    check_shapes,
    find_detections,
    list_pairs,
    pair_errors,
    pair_features,
    pair_lengths,
    ranked,
)
from pose.decoders.graph_cut import make_graph, solve
from pose.decoders.pairwise_statistics import NUM_FEATURES, PairwiseStatistics
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People

SURE = float(np.log((1 - 1e-7) / 1e-7))  # the odds that no probability exceeds


class MulticutSettings(PairSettings):
    """How detections are found and split into people."""

    name: Literal["multicut"] = "multicut"
    same_slope: float = Field(0.2, gt=0)
    """Two detections of a kind, d pixels apart, are of one person with the probability
    1 / (1 + exp(same_slope * d - same_offset)).  For COCO's images at scale 1."""
    same_offset: float = 7.5
    """See same_slope."""
    default_slope: float = Field(7.5, gt=0)
    """Where the statistics have no model for a pair: two detections whose predictions of each other are wrong
    by e standard deviations of their offset, on average, are of one person with the probability
    1 / (1 + exp(default_slope * e - default_offset))."""
    default_offset: float = 6.0
    """See default_slope."""
    keypoint_score: Literal["max", "mean"] = "max"
    """Of the probabilities of a person's detections of one kind."""
    min_keypoints: int = Field(1, ge=1)
    """People with fewer keypoints are dropped."""


@DECODERS.register("multicut", MulticutSettings)
class Multicut:
    """Decodes a batch.  A person's keypoint is the mean of its detections, weighted by their probability; the
    score that ranks people is the sum of their keypoints' scores / all kinds of keypoints."""

    needs = ("heatmap", "locref", "pairwise")

    def __init__(
        self,
        settings: MulticutSettings,
        skeleton: Skeleton,
        layout: geometry.LayoutLike = geometry.PIXEL_CENTER,
        statistics: PairwiseStatistics | None = None,
    ) -> None:
        self.settings = settings
        self.skeleton = skeleton
        self.layout = layout
        self.lengths = pair_lengths(skeleton, statistics, settings)
        models = {} if statistics is None else statistics.models
        self.modelled = np.array([pair in models for pair in skeleton.pair_index], bool)
        self.low, self.high = np.zeros((2, len(skeleton.pair_index), NUM_FEATURES))
        self.weights = np.zeros((len(skeleton.pair_index), NUM_FEATURES + 1))
        for place in np.flatnonzero(self.modelled):
            model = models[skeleton.pair_index[place]]
            self.low[place], self.high[place], self.weights[place] = model.low, model.high, model.weights

    @torch.no_grad()
    def __call__(self, heatmap: Tensor, locref: Tensor, pairwise: Tensor, stride: int) -> list[People]:
        """heatmap (B, K, h, w) probabilities; locref (B, 2 K, h, w) and pairwise (B, 2 K (K - 1), h, w) in
        input pixels; stride in input pixels per cell -> the people of every image, highest score first,
        keypoints in input pixels."""
        check_shapes(heatmap, locref, pairwise, len(self.skeleton))
        found = find_detections(heatmap, locref, pairwise, stride, self.settings, self.layout)
        return [self.people(detections, self.cluster(detections)) for detections in found]

    def cluster(self, detections: Detections) -> np.ndarray:
        """The person of each detection (M,), counted from 0; -1 for those of nobody."""
        pairs = list_pairs(detections.kind, self.skeleton)
        join = self.join_costs(detections, pairs)
        keep = -log_odds(detections.probability)
        return solve(make_graph(keep, np.stack((pairs.a, pairs.b), 1), join))

    def join_costs(self, detections: Detections, pairs: Pairs) -> np.ndarray:
        """(E,) log((1 - p) / p) of the probability that a pair is of one person."""
        settings, kinds = self.settings, len(self.lengths)
        odds = np.empty(len(pairs.which))
        same = pairs.which >= kinds
        apart = detections.position[pairs.a[same]] - detections.position[pairs.b[same]]
        odds[same] = settings.same_offset - settings.same_slope * np.hypot(*apart.T)
        which, a, b = (array[~same] for array in pairs)
        errors = pair_errors(detections, a, b)
        relative = (errors[:, 0] + errors[:, 2]) / (2 * self.lengths[which])
        by_default = settings.default_offset - settings.default_slope * relative
        span = self.high - self.low
        scaled = (pair_features(errors) - self.low[which]) / np.where(span > 0, span, 1)[which]
        by_model = (scaled * self.weights[which, :-1]).sum(1) + self.weights[which, -1]
        odds[~same] = np.where(self.modelled[which], by_model, by_default)
        return -odds.clip(-SURE, SURE)

    def people(self, detections: Detections, person: np.ndarray) -> People:
        """person (M,) of each detection, -1 for nobody."""
        kinds = len(self.skeleton)
        kept = person >= 0
        number = int(person.max(initial=-1)) + 1
        at = (person[kept], detections.kind[kept])
        probability = detections.probability[kept]
        weight, best = np.zeros((number, kinds)), np.zeros((number, kinds))
        place, members = np.zeros((number, kinds, 2)), np.zeros((number, kinds))
        np.add.at(weight, at, probability)
        np.add.at(members, at, 1)
        np.maximum.at(best, at, probability)
        np.add.at(place, at, detections.position[kept] * probability[:, None])
        found = members > 0
        keypoints = np.zeros((number, kinds, 3), np.float32)
        keypoints[found, :2] = place[found] / weight[found][:, None]
        mean = self.settings.keypoint_score == "mean"
        keypoints[found, 2] = weight[found] / members[found] if mean else best[found]
        return ranked(keypoints, self.settings.min_keypoints)


def log_odds(probability: np.ndarray) -> np.ndarray:
    p = probability.clip(1e-7, 1 - 1e-7)
    return np.log(p / (1 - p))
