"""Maps -> detections of keypoints, and the pairs of detections that one person may have.

Insafutdinov, Pishchulin, Andres, Andriluka and Schiele, "DeeperCut", ECCV 2016, as released in
pose-tensorflow.  The maps stay on their device: the cells with enough probability come to the host, where
detections are chosen, and what the other maps say at these is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pose import geometry
from pose.config import Settings
from pose.decoders.paf_groups import all_pairs
from pose.decoders.pairwise_statistics import PairwiseStatistics
from pose.errors import UserError
from pose.skeleton import Skeleton
from pose.structures import People

LARGEST = 1e5  # longer offsets are cut, in pixels: nothing overflows


class DetectionSettings(Settings):
    """How detections are found."""

    detection_threshold: float = Field(0.2, gt=0)
    """A cell may be a detection if its probability is this or higher."""
    nms_radius: float = Field(5.0, ge=0, le=512)
    """A detection excludes cells of its kind whose centres are not further away than so many cells."""
    max_peaks: int = Field(60, gt=0)
    """Detections per kind of keypoint and image, the most probable ones."""
    max_detections: int = Field(500, gt=0)
    """Detections of all kinds per image, the most probable ones."""


class PairSettings(DetectionSettings):
    """And in which unit an offset is wrong."""

    default_length: float = Field(60.0, gt=0)
    """The standard deviation of an offset in pixels, where there are no statistics."""
    least_length: float = Field(16.0, gt=0)
    """A standard deviation counts at least so many pixels: a data set in which people stand alike has small
    ones, but no network predicts that exactly."""


class Detections(NamedTuple):
    """Those of one image on the host, by kind and then the most probable first; lengths in input pixels."""

    kind: np.ndarray  # (M,) int64
    probability: np.ndarray  # (M,) float64, at most 1
    center: np.ndarray  # (M, 2) float64, of the cell
    position: np.ndarray  # (M, 2) float64, refined
    offset: np.ndarray  # (M, K, 2) float64, from the centre to each keypoint of the same person


class Pairs(NamedTuple):
    """Pairs of detections of one image."""

    which: np.ndarray  # (E,) int64 index into the skeleton's pairs; beyond them, of two of a kind
    a: np.ndarray  # (E,) int64 numbers of the detections
    b: np.ndarray


def check_shapes(heatmap: Tensor, locref: Tensor, pairwise: Tensor, kinds: int) -> None:
    """Raises ValueError unless heatmap is (B, K, h, w), locref (B, 2 K, h, w), pairwise (B, 2 K (K - 1), h,
    w)."""
    channels = (kinds, 2 * kinds, 2 * kinds * (kinds - 1))
    expected = [(heatmap.shape[0], channel, *heatmap.shape[2:]) for channel in channels]
    given = [tuple(field.shape) for field in (heatmap, locref, pairwise)]
    if heatmap.ndim != 4 or given != expected:
        raise ValueError(
            "expected heatmap, locref and pairwise with {} x {} x {} channels, got {}, {} and {}".format(
                *channels, *given
            )
        )


# ---- choosing them ----


def find_detections(
    heatmap: Tensor,
    locref: Tensor,
    pairwise: Tensor,
    stride: int,
    settings: DetectionSettings,
    layout: geometry.LayoutLike = geometry.PIXEL_CENTER,
) -> list[Detections]:
    """heatmap (B, K, h, w) probabilities; locref (B, 2 K, h, w), from the centre of a cell to the keypoint;
    pairwise (B, 2 K (K - 1), h, w), for every keypoint from there to each other one, in order; both x first
    and in input pixels -> the detections of every image.

    Cells that are no number are no detections; offsets that are none are 0."""
    images, kinds, _, width = heatmap.shape
    if not images:
        return []
    maps, cells, probability = chosen_cells(heatmap, settings)
    values = _offsets(locref, pairwise, maps, cells, kinds)
    y, x = np.divmod(cells, width)
    place, size = np.stack((x, y), 1).astype(np.float64), (heatmap.shape[2], width)
    center = geometry.to_pixels(place, stride, layout, size)
    kind = maps % kinds
    offset = np.zeros((len(maps), kinds, 2))
    offset[np.arange(kinds) != kind[:, None]] = values[:, 2:].reshape(-1, 2)
    ends = maps.searchsorted(np.arange(1, images) * kinds)
    arrays = (kind, probability.clip(max=1), center, center + values[:, :2], offset)
    return [
        _most_probable(Detections(*parts), settings.max_detections)
        for parts in zip(*(np.split(array, ends) for array in arrays), strict=True)
    ]


def chosen_cells(heatmap: Tensor, settings: DetectionSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """heatmap (B, K, h, w) -> maps b * K + k, cells y * w + x, (M,) int64 each, and their probability (M,)
    float64: map by map, and the most probable first.

    A cell counts unless it lies within the radius of one that counts and is more probable; of equal ones the
    first in row-major order goes before."""
    height, width = heatmap.shape[2:]
    flat = heatmap.reshape(-1)
    index = (flat >= settings.detection_threshold).nonzero()[:, 0]
    table = torch.stack((index.double(), flat[index].double())).cpu().numpy()  # exact below 2^53
    maps, cells = np.divmod(table[0].astype(np.int64), max(height * width, 1))
    order = np.lexsort((cells, -table[1], maps))
    maps, cells, probability = maps[order], cells[order], table[1][order]
    begins = np.flatnonzero(np.diff(maps, prepend=-1))
    kept = [
        begin + place
        for begin, own in zip(begins.tolist(), np.split(cells, begins[1:]), strict=False)
        for place in _apart(own, (height, width), settings.nms_radius, settings.max_peaks)
    ]
    return maps[kept], cells[kept], probability[kept]


def _apart(cells: np.ndarray, size: tuple[int, int], radius: float, limit: int) -> Iterator[int]:
    """Cells of one map, the best first -> the places of those that no better one excludes, at most
    `limit`."""
    reach = int(radius)
    steps = np.arange(-reach, reach + 1)
    outside = steps[:, None] ** 2 + steps**2 > radius * radius
    free = np.ones((size[0] + 2 * reach, size[1] + 2 * reach), bool)
    found = 0
    for place, (y, x) in enumerate(zip(*(part.tolist() for part in np.divmod(cells, size[1])), strict=True)):
        if free[y + reach, x + reach]:
            free[y : y + 2 * reach + 1, x : x + 2 * reach + 1] &= outside
            yield place
            found += 1
            if found == limit:
                return


def _offsets(locref: Tensor, pairwise: Tensor, maps: np.ndarray, cells: np.ndarray, kinds: int) -> np.ndarray:
    """What the fields say at the cells (M,): (M, 2 + 2 (K - 1)) float64, the refinement and the offsets to
    the other keypoints."""
    images, area = len(locref), locref.shape[2] * locref.shape[3]
    image, kind = np.divmod(maps, kinds)
    at = torch.from_numpy(np.stack((image, kind, cells))).to(locref.device)
    b, k, cell = at.unbind(0)
    # indexed in place: at detections only, and nothing as large as the maps is made
    own = locref.reshape(images, kinds, 2, area)[b, k, :, cell]
    others = pairwise.reshape(images, kinds, 2 * (kinds - 1), area)[b, k, :, cell]
    values = torch.cat((own.float(), others.float()), 1).double().cpu().numpy()
    return np.nan_to_num(values, nan=0.0, posinf=LARGEST, neginf=-LARGEST).clip(-LARGEST, LARGEST)


def _most_probable(detections: Detections, limit: int) -> Detections:
    if len(detections.kind) <= limit:
        return detections
    kept = np.sort(np.argsort(-detections.probability, kind="stable")[:limit])
    return Detections(*(array[kept] for array in detections))


# ---- pairs of them ----


def list_pairs(kind: np.ndarray, skeleton: Skeleton) -> Pairs:
    """Kinds of detections (M,), ascending -> the pairs of detections that the skeleton's pairs of keypoints
    make, and those of two of a kind; a < b."""
    kinds = len(skeleton)
    between = [*skeleton.pair_index, *((k, k) for k in range(kinds))]
    which, a, b = all_pairs(kind, kinds, np.array(between).T)
    kept = a < b
    return Pairs(which[kept], a[kept], b[kept])


def pair_errors(detections: Detections, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How wrong a pair's predictions of each other are: (E, 4), for the one at b predicted at a the length of
    the difference in pixels and the angle between prediction and reality in radians, then for the one at a
    predicted at b."""
    columns = []
    for one, other in ((a, b), (b, a)):
        real = detections.position[other] - detections.center[one]
        predicted = detections.offset[one, detections.kind[other]]
        turn = np.abs(np.arctan2(real[:, 1], real[:, 0]) - np.arctan2(predicted[:, 1], predicted[:, 0]))
        columns += [np.hypot(*(real - predicted).T), np.minimum(turn, 2 * np.pi - turn)]
    return np.stack(columns, 1)


def pair_features(errors: np.ndarray) -> np.ndarray:
    """(E, 4) of `pair_errors` -> what the logistic models of pairs take, (E, 8)."""
    return np.concatenate((errors, np.exp(-errors)), 1)


def ranked(keypoints: np.ndarray, min_keypoints: int) -> People:
    """keypoints (N, K, 3) of people -> those with enough of them, scored by the mean over all K and the
    highest first."""
    keypoints = keypoints[(keypoints[..., 2] > 0).sum(1) >= min_keypoints]
    scores = keypoints[..., 2].mean(1, dtype=np.float64).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return People(keypoints[order], scores[order])


def pair_lengths(
    skeleton: Skeleton, statistics: PairwiseStatistics | None, settings: PairSettings
) -> np.ndarray:
    """(P,) the standard deviation of the offset of every pair of the skeleton in pixels, root mean square of
    both axes, within the settings' limits.  Raises UserError where they are of another skeleton."""
    pairs: Sequence[tuple[int, int]] = skeleton.pair_index
    if statistics is None:
        return np.full(len(pairs), settings.default_length)
    if tuple(statistics.keypoints) != skeleton.keypoints:
        raise UserError(
            f"the pairwise statistics are of the keypoints {', '.join(statistics.keypoints)}, but the "
            f"skeleton {skeleton.name!r} has {', '.join(skeleton.keypoints)}; make them with pairwise_stats"
        )
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    lengths = np.sqrt((statistics.std[a, b] ** 2).mean(1))
    if not np.isfinite(lengths).all():
        one = int(np.flatnonzero(~np.isfinite(lengths))[0])
        names = " and ".join(skeleton.keypoints[k] for k in pairs[one])
        raise UserError(f"the pairwise statistics have no standard deviation for {names}")
    return lengths.clip(settings.least_length)
