"""Test-time procedure of pose-ae-train, restated literally: image -> maps -> grouped people, loop by loop.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017),
as released in pose-ae-train.

Where the description leaves room:
- the picture is warped as uint8 and divided by 255 afterwards; mirrored means the warped square mirrored.
- a scale is skipped as a whole (its tags too) when the maximum of plain + unmirrored heatmaps, at its own
  size and before division, exceeds 10; the divisor stays 2 * number of scales.  "The first scale" is the
  first one kept, and its affine maps the result back.
- "within 0.5 of 1" is strict: with scales 2, 1, 0.5 only scale 1 gives tags, dimension 2.
- peaks of equal height: the one first in row-major order.  Candidates are compared in float64.
- assignment: rows are candidates, columns people.  With more candidates than people, columns of 1e10 are
  added until the matrix is square: every person then gets some candidate, and a candidate in an added column
  starts a new person.  (The description speaks of extra *rows*; with people as rows that is the same.)  With
  more people than candidates nothing is added; an assignment of a wide matrix leaves people over, who go
  without this keypoint.
- "munkres" is the solver of the package munkres from 1.0.11 to 1.1.4; other versions choose otherwise among
  equal costs.  There are many: the value of a candidate is the same for every person and distances are
  rounded, so that exchanging two candidates can cost nothing.  "munkres" and "scipy" may then give different,
  equally cheap people; compare such results by cost or AP.
- a keypoint kind is skipped *as a whole* once 30 people exist (>= 30, looked at before the kind is started):
  nobody new, nobody matched.  One kind may therefore still carry the number from 29 to 59.
- people are a list in the order of their creation.  (The original keeps a dictionary keyed by the first tag,
  where people who start with exactly equal tags overwrite each other.)
- neighbours outside the map count as the edge cell itself; equal neighbours move by -0.25.
- the person's mean tag in the refinement is that of the keypoints found by grouping; it does not follow the
  filled ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from tests.literal.reference import munkres_1_1
from tests.literal.reference.pose_ae_training import (
    COCO_FLIP_INDEX,
    get_transform,
    invert_transform,
    transform_points,
)

Forward = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
SCALES = {"single": (1.0,), "multi": (2.0, 1.0, 0.5)}
# nose, eyes, ears, shoulders, hips, elbows, wrists, knees, ankles
COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


@dataclass
class Person:
    """One person while grouping: per keypoint its cell (x, y) and heat, and the tags collected so far."""

    cells: np.ndarray  # (K, 2) int64
    values: np.ndarray  # (K,) float64; 0 where not found
    found: np.ndarray  # (K,) bool
    tags: list[np.ndarray] = field(default_factory=list)  # each (T,) float64

    @classmethod
    def empty(cls, num_keypoints: int) -> Person:
        cells = np.zeros((num_keypoints, 2), np.int64)
        return cls(cells, np.zeros(num_keypoints), np.zeros(num_keypoints, bool))

    def add(self, keypoint: int, candidate: Candidate) -> None:
        self.cells[keypoint] = (candidate.x, candidate.y)
        self.values[keypoint] = candidate.value
        self.found[keypoint] = True
        self.tags.append(candidate.tag)

    @property
    def mean_tag(self) -> np.ndarray:
        return np.mean(self.tags, axis=0)

    @property
    def score(self) -> float:
        """Mean over *all* keypoints of the heat, missing ones as 0; the refinement does not change it."""
        return float(self.values.mean())


@dataclass(frozen=True)
class Candidate:
    """A peak offered to the grouping."""

    x: int
    y: int
    value: float
    tag: np.ndarray  # (T,) float64


# ---- candidates ----


def suppress(det: np.ndarray) -> np.ndarray:
    """det (K, h, w) -> the same with every cell that is not the maximum of its 3x3 neighbourhood set to 0."""
    heat = torch.from_numpy(np.ascontiguousarray(det))
    highest = torch.nn.functional.max_pool2d(heat[None], 3, stride=1, padding=1)[0]
    return (heat * (highest == heat).to(heat.dtype)).numpy()


def find_candidates(
    det: np.ndarray, tag: np.ndarray, detection_threshold: float = 0.1, max_per_keypoint: int = 30
) -> list[list[Candidate]]:
    """det (K, h, w), tag (K, h, w, T) -> for each keypoint at most `max_per_keypoint` peaks above the
    threshold, highest first."""
    peaks = suppress(det)
    width = det.shape[2]
    candidates = []
    for k in range(det.shape[0]):
        best = np.argsort(-peaks[k].ravel(), kind="stable")[:max_per_keypoint]
        own = []
        for index in best:
            y, x = divmod(int(index), width)
            value = float(peaks[k, y, x])
            if value > detection_threshold:
                own.append(Candidate(x, y, value, tag[k, y, x].astype(np.float64)))
        candidates.append(own)
    return candidates


# ---- grouping ----


def tag_distance(tag: np.ndarray, other: np.ndarray) -> float:
    """Root of the mean over tag dimensions of the squared difference."""
    return float(np.sqrt(np.mean((tag - other) ** 2)))


def assign(cost: np.ndarray, matcher: str = "munkres") -> list[tuple[int, int]]:
    """Minimum-cost assignment of the rows of `cost` (M, N), N >= M or padded here -> (row, column), all
    rows."""
    rows, columns = cost.shape
    if rows > columns:
        cost = np.concatenate([cost, np.full((rows, rows - columns), 1e10)], axis=1)
    if matcher == "munkres":
        return munkres_1_1.compute(cost.tolist())
    if matcher == "scipy":
        from scipy.optimize import linear_sum_assignment

        return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(cost), strict=True)]
    raise ValueError(f"unknown matcher {matcher!r} (known: munkres, scipy)")


def parse(
    det: np.ndarray,
    tag: np.ndarray,
    order: Sequence[int] = COCO_ORDER,
    *,
    detection_threshold: float = 0.1,
    tag_threshold: float = 1.0,
    max_people: int = 30,
    max_per_keypoint: int = 30,
    matcher: str = "munkres",
) -> list[Person]:
    """Group by tag.  det (K, h, w), tag (K, h, w, T) -> people in the order in which they were started."""
    candidates = find_candidates(det, tag, detection_threshold, max_per_keypoint)
    people: list[Person] = []
    for keypoint in order:
        if len(people) >= max_people or not candidates[keypoint]:
            continue
        _match(people, keypoint, candidates[keypoint], len(candidates), tag_threshold, matcher)
    return people


def _match(
    people: list[Person],
    keypoint: int,
    candidates: list[Candidate],
    num_keypoints: int,
    tag_threshold: float,
    matcher: str,
) -> None:
    """Give each candidate to a person or start a new one (`people` grows in place)."""
    old = list(people)  # who exists before this kind of keypoint; those started by it cannot be matched by it
    distance = np.zeros((len(candidates), len(old)))
    cost = np.zeros_like(distance)
    for i, candidate in enumerate(candidates):
        for j, person in enumerate(old):
            distance[i, j] = tag_distance(candidate.tag, person.mean_tag)
            cost[i, j] = np.round(distance[i, j]) * 100 - candidate.value
    pairs = assign(cost, matcher) if old else [(i, 0) for i in range(len(candidates))]
    for i, j in pairs:
        if j < len(old) and distance[i, j] < tag_threshold:
            old[j].add(keypoint, candidates[i])
        else:
            newcomer = Person.empty(num_keypoints)
            newcomer.add(keypoint, candidates[i])
            people.append(newcomer)


# ---- sub-pixel position and missing keypoints ----


def adjust(heatmap: np.ndarray, x: int, y: int, rows: int | None = None) -> tuple[float, float]:
    """Cell (x, y) of heatmap (h, w) -> position in cells, a quarter towards the larger neighbour, plus a
    half.  The neighbour below lies in the last of `rows` rows at most (None: of the map)."""
    height, width = heatmap.shape
    right, left = heatmap[y, min(x + 1, width - 1)], heatmap[y, max(x - 1, 0)]
    last = (height if rows is None else min(rows, height)) - 1
    below, above = heatmap[min(y + 1, last), x], heatmap[max(y - 1, 0), x]
    return x + (0.25 if right > left else -0.25) + 0.5, y + (0.25 if below > above else -0.25) + 0.5


def refine(person: Person, det: np.ndarray, tag: np.ndarray, as_released: bool = False) -> np.ndarray:
    """det (K, h, w), tag (K, h, w, T) -> keypoints (K, 3): x, y in cells (sub-pixel) and heat.  Each
    keypoint that grouping missed is looked for where heat - round(Euclidean tag distance) is highest and
    taken if its heat is above 0; else its row stays 0.  As in the original, the search is made for every
    keypoint, and only what was missing is kept.

    `as_released`: the quarter step takes the first size of `det`, K, for the height of the map, as the
    released code does."""
    keypoints = found_keypoints(person, det)
    own_tags = []
    for k in np.flatnonzero(person.found).tolist():
        x, y = person.cells[k]
        own_tags.append(tag[k, y, x].astype(np.float64))
    mean_tag = np.mean(own_tags, axis=0)
    for k in range(det.shape[0]):
        distance = np.sqrt(((tag[k] - mean_tag) ** 2).sum(axis=2))
        merit = det[k] - np.round(distance)
        y, x = divmod(int(merit.argmax()), det.shape[2])
        if not person.found[k] and det[k, y, x] > 0:
            rows = det.shape[0] if as_released else None
            keypoints[k] = (*adjust(det[k], x, y, rows), det[k, y, x])
    return keypoints


def found_keypoints(person: Person, det: np.ndarray) -> np.ndarray:
    """keypoints (K, 3) of grouping alone: x, y in cells (sub-pixel) and heat, 0 where not found."""
    keypoints = np.zeros((len(person.found), 3))
    for k in np.flatnonzero(person.found).tolist():
        x, y = person.cells[k]
        keypoints[k] = (*adjust(det[k], int(x), int(y)), person.values[k])
    return keypoints


def group_and_refine(
    det: np.ndarray,
    tag: np.ndarray,
    order: Sequence[int] = COCO_ORDER,
    *,
    as_released: bool = False,
    **settings: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """`parse`, `adjust` and `refine` of one image: det (K, h, w), tag (K, h, w, T) -> keypoints (N, K, 3) in
    cells and scores (N,).  `as_released` goes to `refine`, `settings` go to `parse`."""
    people = parse(det, tag, order, **settings)
    keypoints = [refine(person, det, tag, as_released) for person in people]
    shape = (len(people), det.shape[0], 3)
    return np.array(keypoints).reshape(shape), np.array([person.score for person in people])


# ---- from image to people ----


def scale_side(scale: float) -> int:
    """Side in pixels of the network's square input at a scale."""
    return int((scale * 512 + 63) // 64 * 64)


def resize(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """maps (C, h, w) -> (C, *size), each channel by cv2's bilinear resize."""
    height, width = size
    return np.stack([cv2.resize(np.ascontiguousarray(m), (width, height)) for m in maps])


def fused_maps(
    image: np.ndarray,
    forward: Forward,
    scales: Sequence[float],
    flip_index: Sequence[int] = COCO_FLIP_INDEX,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """image (H, W, 3) uint8 RGB -> det (K, h, w) at most 1, tag (K, h, w, T), and the affine (2, 3) from
    image pixels to the input of the first kept scale; None if nothing was kept or no scale gave tags."""
    height, width = image.shape[:2]
    flip = list(flip_index)
    det_sum: np.ndarray | None = None
    tags: list[np.ndarray] = []
    first_affine = np.zeros((2, 3))
    for scale in scales:
        side = scale_side(scale)
        affine = get_transform((width / 2, height / 2), max(height, width) / 200, side)
        square = cv2.warpAffine(image, affine, (side, side)).astype(np.float32) / np.float32(255)
        det, tag = forward(square)
        mirrored_det, mirrored_tag = forward(np.ascontiguousarray(square[:, ::-1]))
        det = det + mirrored_det[flip][:, :, ::-1]
        unmirrored_tag = mirrored_tag[flip][:, :, ::-1]
        if det.max() > 10:
            continue
        if det_sum is None:
            det_sum, first_affine = det, affine
        else:
            det_sum = det_sum + resize(det, det_sum.shape[1:])
        if abs(scale - 1) < 0.5:
            tags += [resize(tag, det_sum.shape[1:]), resize(unmirrored_tag, det_sum.shape[1:])]
    if det_sum is None or not tags:
        return None
    return np.minimum(det_sum / (2 * len(scales)), 1), np.stack(tags, axis=3), first_affine


def multiperson(
    image: np.ndarray,
    forward: Forward,
    mode: str = "single",
    *,
    order: Sequence[int] = COCO_ORDER,
    flip_index: Sequence[int] = COCO_FLIP_INDEX,
    **settings: Any,
) -> list[dict[str, Any]]:
    """image (H, W, 3) uint8 RGB; forward: (r, r, 3) float32 in [0, 1] -> heatmaps, tags (K, r / 4, r / 4) of
    the last stack; mode "single" or "multi" -> a dict per person with `keypoints` (K, 3) x, y in image
    pixels and score (all 0 where missing) and `score`.  `settings` go to `group_and_refine`."""
    maps = fused_maps(image, forward, SCALES[mode], flip_index)
    if maps is None:
        return []
    det, tag, affine = maps
    to_image = invert_transform(affine)
    people = []
    for keypoints, score in zip(*group_and_refine(det, tag, order, **settings), strict=True):
        there = keypoints[:, 2] > 0
        keypoints[there, :2] = transform_points(keypoints[there, :2] * 4, to_image)
        people.append({"keypoints": keypoints, "score": float(score)})
    return people


def results(people: list[dict[str, Any]], image_id: int = 0) -> list[dict[str, Any]]:
    """People of one image -> entries of the COCO results JSON; a keypoint still missing is placed at the
    mean of the found ones, with score 0."""
    entries = []
    for person in people:
        keypoints = np.array(person["keypoints"], np.float64)
        found = keypoints[:, 2] > 0
        keypoints[~found, :2] = keypoints[found, :2].mean(axis=0)
        entries.append(
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": [float(v) for v in keypoints.ravel()],
                "score": float(person["score"]),
            }
        )
    return entries
