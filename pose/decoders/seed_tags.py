"""Peaks -> people around seeds, by their tags: the decoder of JakeRenn's associative-embedding entry to AI
Challenger 2017 (Pytorch-Multi-Person-Pose-Estimation).

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017),
whose grouping this simplifies: a person is what lies near the tag of his first keypoint.  Suppression of
neighbours and grouping both depend on the order in which they go through the map, as in the original.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pose import geometry
from pose.config import Settings
from pose.decoders.keypoint_order import order_index
from pose.decoders.peaks import clean
from pose.geometry import PIXEL_CENTER, LayoutLike
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People

NEVER = np.iinfo(np.int64).max


class SeedTagsSettings(Settings):
    """The defaults are the published ones, but for `order`."""

    name: Literal["seed_tags"] = "seed_tags"
    detection_threshold: float = Field(0.3, ge=0)
    """A peak counts if its heat is above this."""
    nms_size: int = Field(5, ge=1)
    """A window of so many cells squared goes over the map in row-major order and leaves only its highest
    cell, so that what it removed no longer suppresses others."""
    tag_threshold: float = Field(0.5, gt=0)
    """A peak may join a person if its tag is nearer than this to that of the person's first keypoint (root
    mean square over the tag's dimensions)."""
    min_taken: int = Field(3, ge=0)
    """A person needs so many peaks beside the first; those that a higher one of their kind replaced count."""
    max_peaks: int = Field(300, ge=1)
    """Peaks per kind of keypoint and image, the highest ones; without effect on maps that mean something."""
    order: tuple[str, ...] = ()
    """Names of all keypoints in the order in which people are started; empty = the skeleton's
    grouping_order."""


@DECODERS.register("seed_tags", SeedTagsSettings)
class SeedTags:
    """Decodes a batch.  Cells with NaN heat are no peaks; peaks whose tag is not finite are left out."""

    needs = ("heatmap", "tag")

    def __init__(
        self, settings: SeedTagsSettings, skeleton: Skeleton, layout: LayoutLike = PIXEL_CENTER
    ) -> None:
        self.settings = settings
        self.layout = layout
        self.order = order_index(settings.order, skeleton)

    @torch.no_grad()
    def __call__(self, heatmap: Tensor, tag: Tensor, stride: int) -> list[People]:
        """heatmap (B, K, h, w); tag (B, K, D, h, w), D = tag dimension x passes; stride in input pixels per
        cell -> the people of every image, highest score (mean heat over all keypoints, missing ones as 0)
        first, keypoints at the centres of their cells, in input pixels."""
        kinds = len(self.order)
        wanted = (*heatmap.shape[:2], tag.shape[2] if tag.ndim == 5 else "D", *heatmap.shape[2:])
        if heatmap.ndim != 4 or heatmap.shape[1] != kinds or tuple(tag.shape) != wanted or not tag.shape[2]:
            raise ValueError(
                f"expected heatmap (B, {kinds}, h, w) and tag (B, {kinds}, D, h, w), "
                f"got {tuple(heatmap.shape)} and {tuple(tag.shape)}"
            )
        shape = (heatmap.shape[2], heatmap.shape[3])
        maps, cell, heat, tags = self._hot_cells(clean(heatmap), tag)
        ends = np.searchsorted(maps, np.arange(len(heatmap) + 1) * kinds)
        people = []
        for i, part in enumerate(map(slice, ends[:-1], ends[1:])):
            y, x = np.divmod(cell[part], max(shape[1], 1))
            people.append(self._people(maps[part] - i * kinds, y, x, heat[part], tags[part], shape, stride))
        return people

    def _hot_cells(self, heat: Tensor, tag: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The cells above the threshold, map by map and in row-major order, in one table for the host: maps
        b * K + k and cells (n,) int64, heat (n,) float32, tags (n, D) float64."""
        images, kinds, dims = tag.shape[:3]
        cells = heat[0, 0].numel() if images else 0
        index = (heat.flatten() > self.settings.detection_threshold).nonzero()[:, 0]
        maps, cell = index.div(max(cells, 1), rounding_mode="floor"), index % max(cells, 1)
        at = (maps * dims * cells + cell)[:, None] + torch.arange(dims, device=heat.device) * cells
        columns = [index[:, None], heat.flatten()[index][:, None], tag.flatten()[at]]
        # the one copy to the host; float64 holds the index exactly
        table = torch.cat([column.double() for column in columns], 1).cpu().numpy()
        places = np.divmod(table[:, 0].astype(np.int64), max(cells, 1))
        return *places, table[:, 1].astype(np.float32), table[:, 2:]

    def _people(
        self,
        kind: np.ndarray,
        y: np.ndarray,
        x: np.ndarray,
        heat: np.ndarray,
        tags: np.ndarray,
        shape: tuple[int, int],
        stride: int,
    ) -> People:
        """The hot cells of one image, (n,) each, kind by kind and in row-major order."""
        peaks = suppress(kind, y, x, heat, shape, self.settings.nms_size) & np.isfinite(tags).all(1)
        index = _highest(kind, heat, np.flatnonzero(peaks), self.settings.max_peaks)
        chosen = group_by_seed(kind[index], heat[index], tags[index], self.order, self.settings)
        found, place = chosen >= 0, index[chosen[chosen >= 0]]
        own = np.zeros(chosen.shape)
        own[found] = heat[place]
        scores = own.mean(axis=1).astype(np.float32)
        keypoints = np.zeros((*chosen.shape, 3), np.float32)
        cells = np.stack([x[place], y[place]], 1)
        keypoints[found, :2] = geometry.to_pixels(cells, stride, self.layout, shape)
        keypoints[..., 2] = own.clip(0, 1)
        best_first = np.argsort(-scores, kind="stable")
        return People(keypoints[best_first], scores[best_first])


def _highest(kind: np.ndarray, heat: np.ndarray, index: np.ndarray, limit: int) -> np.ndarray:
    """Of the peaks `index` the `limit` highest of every kind, in the same order."""
    if len(index) <= limit:
        return index
    best_first = index[np.lexsort((-heat[index], kind[index]))]
    kinds = kind[best_first]
    return np.sort(best_first[np.arange(len(kinds)) - np.searchsorted(kinds, kinds) < limit])


# ---- suppression ----


def suppress(
    maps: np.ndarray, y: np.ndarray, x: np.ndarray, heat: np.ndarray, shape: tuple[int, int], size: int
) -> np.ndarray:
    """Which cells are left when a window of `size` x `size` cells has gone over every map in row-major order
    and has each time removed all but its highest cells (of equal ones all).

    maps, y, x (n,) and heat (n,) of the cells above a threshold of 0 or more, map by map and in row-major
    order; shape (h, w).  A removed cell is as good as 0, so that other cells play no part.

    Two cells meet for the first time in one certain window: then the lower one goes, if the higher one is
    still there.  When a cell goes thus follows from when the higher ones around it go, and is worked out for
    all cells at once, again and again until nothing changes.
    """
    winner, loser, time = meetings(maps, y, x, heat, shape, size)
    order = np.argsort(loser, kind="stable")
    winner, loser, time = winner[order], loser[order], time[order]
    starts = np.flatnonzero(np.diff(loser, prepend=-1))
    gone = np.full(len(heat), NEVER)  # the window in which a cell goes
    while len(starts):
        # a winner that goes in this very window is still its maximum, or lower than it: the loser goes anyway
        times = np.minimum.reduceat(np.where(gone[winner] >= time, time, NEVER), starts)
        if (times == gone[loser[starts]]).all():
            break
        gone[loser[starts]] = times
    return gone == NEVER


def meetings(
    maps: np.ndarray, y: np.ndarray, x: np.ndarray, heat: np.ndarray, shape: tuple[int, int], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of different heats that some window holds: the higher cell, the lower one, and the number of
    the first such window in row-major order of its upper left cell.  Arguments as those of `suppress`."""
    height, width = shape
    near = size - 1
    if not len(heat) or height < size or width < size:
        return (np.zeros(0, np.int64),) * 3
    # a table of the cells, with a border wide enough that no neighbour lies in another row or map
    across, down = width + near, height + near
    place = (maps * down + y) * across + x
    table = np.full((int(maps[-1]) + 1) * down * across, -1)
    table[place] = np.arange(len(heat))
    right, below = np.arange(1, size), np.arange(1, size)[:, None] * across + np.arange(-near, size)
    # those after it in row-major order
    other = table[place[:, None] + np.concatenate([right, below.ravel()])]
    one, column = (other >= 0).nonzero()
    other = other[one, column]
    differ = heat[one] != heat[other]
    one, other = one[differ], other[differ]
    higher = heat[one] > heat[other]
    top = (y[other] - near).clip(0)  # the other one is below, or beside
    left = (np.maximum(x[one], x[other]) - near).clip(0)
    return np.where(higher, one, other), np.where(higher, other, one), top * width + left


# ---- grouping ----


def group_by_seed(
    kind: np.ndarray, heat: np.ndarray, tags: np.ndarray, order: tuple[int, ...], settings: SeedTagsSettings
) -> np.ndarray:
    """Peaks (n,) of one image, tags (n, D) -> people (N, K): the peak of each keypoint, -1 where there is
    none.

    The first unused peak starts a person.  Of every kind after its own, the unused peaks that fit are gone
    through in order, each higher than those before is taken, and only the last one is the person's: the
    others are used up, and counted, too."""
    turn = np.argsort(order)[kind]
    by_turn = np.argsort(turn, kind="stable")
    turn, tags = turn[by_turn], tags[by_turn]
    # compares peaks of one kind by their heat; every peak of a later kind is above all before it
    level = turn * (len(kind) + 1) + np.unique(heat[by_turn], return_inverse=True)[1]
    limit = settings.tag_threshold * np.sqrt(tags.shape[1])
    last_of_kind = np.searchsorted(turn, turn, side="right")
    used = np.zeros(len(kind), bool)
    people = []
    for seed in range(len(kind)):
        if used[seed]:
            continue
        after = last_of_kind[seed]
        distance = np.sqrt(((tags[after:] - tags[seed]) ** 2).sum(1))
        fits = after + np.flatnonzero((distance < limit) & ~used[after:])
        highest = np.maximum.accumulate(level[fits])
        taken = fits[np.diff(highest, prepend=-1) > 0]
        used[taken] = True
        if len(taken) < settings.min_taken:
            continue
        person = np.full(len(order), -1)
        for peak in (seed, *taken):  # of one kind the last one stays
            person[kind[by_turn[peak]]] = by_turn[peak]
        people.append(person)
    return np.array(people, np.int64).reshape(-1, len(order))
