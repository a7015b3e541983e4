"""Grouping of HigherHRNet and of MMPose 0.x and 1.x, restated literally: heatmaps and tags -> people on the
map.

Cheng et al., "HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation", CVPR
2020, as released, and as MMPose 0.x has it; both come from pose-ae-train (Newell et al., NIPS 2017).

Where a description leaves room:
- candidates are compared in float64, and of equal peaks the one first in row-major order comes first;
- assignments are those of munkres 1.1.4 (see `munkres_1_1`);
- `limit` is what happens once `max_people` exist: "first": match the first of them only (HigherHRNet),
  "skip": no more kinds of keypoints (HigherHRNet with IGNORE_TOO_MUCH), "all": match everybody (MMPose),
  "cut": match the first and keep the first in the end (MMPose with ignore_too_much), "late_cut": match
  everybody and keep the first in the end (MMPose 1.x);
- UDP's step is taken on a copy of the maps, as on a GPU: on a CPU MMPose overwrites them, and then fills in
  nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from tests.literal.reference import munkres_1_1

# nose, eyes, ears, shoulders, hips, elbows, wrists, knees, ankles
COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


class Candidate(NamedTuple):
    x: int
    y: int
    value: float
    tag: np.ndarray  # (D,) float64


# ---- candidates ----


def find_candidates(
    heat: np.ndarray, tags: np.ndarray, threshold: float, most: int, window: int = 5
) -> list[list[Candidate]]:
    """heat (K, h, w), tags (K, h, w, D) -> for each kind at most `most` peaks above the threshold, highest
    first."""
    maps = torch.from_numpy(np.ascontiguousarray(heat))
    highest = torch.nn.functional.max_pool2d(maps[None], window, stride=1, padding=window // 2)[0]
    peaks = (maps * (maps == highest).float()).numpy()
    candidates = []
    for k in range(len(heat)):
        own = []
        for index in np.argsort(-peaks[k].ravel(), kind="stable")[:most]:
            y, x = divmod(int(index), heat.shape[2])
            value = float(peaks[k, y, x])
            if value > threshold:
                own.append(Candidate(x, y, value, tags[k, y, x].astype(np.float64)))
        candidates.append(own)
    return candidates


# ---- grouping ----


class Groups:
    """People by the first component of the first tag of each, in the order of their start."""

    def __init__(self, kinds: int) -> None:
        self.kinds = kinds
        self.joints: dict[float, list[Candidate | None]] = {}
        self.tags: dict[float, list[np.ndarray]] = {}

    def start(self, kind: int, candidate: Candidate) -> None:
        key = float(candidate.tag[0])
        self.joints.setdefault(key, [None] * self.kinds)[kind] = candidate
        self.tags[key] = [candidate.tag]

    def add(self, key: float, kind: int, candidate: Candidate) -> None:
        self.joints[key][kind] = candidate
        self.tags[key].append(candidate.tag)

    def mean_tag(self, key: float) -> np.ndarray:
        total = np.zeros_like(self.tags[key][0])
        for tag in self.tags[key]:
            total = total + tag
        return total / len(self.tags[key])


def match(
    groups: Groups, keys: Sequence[float], kind: int, candidates: list[Candidate], tag_threshold: float
) -> None:
    """Gives each candidate to the group of one of `keys`, or starts a group."""
    distance = np.zeros((len(candidates), len(keys)))
    for j, key in enumerate(keys):
        mean = groups.mean_tag(key)
        for i, candidate in enumerate(candidates):
            distance[i, j] = np.sqrt(((candidate.tag - mean) ** 2).sum())
    cost = np.round(distance) * 100 - np.array([[candidate.value] for candidate in candidates])
    if len(candidates) > len(keys):
        cost = np.concatenate([cost, np.full((len(candidates), len(candidates) - len(keys)), 1e10)], axis=1)
    for i, j in munkres_1_1.compute(cost.tolist()):
        if j < len(keys) and distance[i, j] < tag_threshold:
            groups.add(keys[j], kind, candidates[i])
        else:
            groups.start(kind, candidates[i])


def parse(
    heat: np.ndarray,
    tags: np.ndarray,
    order: Sequence[int] = COCO_ORDER,
    *,
    limit: str = "first",
    max_people: int = 30,
    max_peaks: int = 30,
    threshold: float = 0.1,
    tag_threshold: float = 1.0,
) -> np.ndarray:
    """heat (K, h, w), tags (K, h, w, D) -> (N, K, 3 + D): x, y, value, tags; all 0 where missing."""
    candidates = find_candidates(heat, tags, threshold, max_peaks)
    groups = Groups(len(heat))
    for kind in order:
        if not candidates[kind]:
            continue
        if not groups.joints:
            for candidate in candidates[kind]:
                groups.start(kind, candidate)
            continue
        keys = list(groups.joints)
        if limit == "skip" and len(keys) >= max_people:
            continue
        if limit not in ("all", "late_cut"):
            keys = keys[:max_people]
        match(groups, keys, kind, candidates[kind], tag_threshold)
    keys = list(groups.joints)[: max_people if limit in ("cut", "late_cut") else None]
    people = np.zeros((len(keys), len(heat), 3 + tags.shape[3]))
    for person, key in zip(people, keys, strict=True):
        for kind, joint in enumerate(groups.joints[key]):
            if joint is not None:
                person[kind] = (joint.x, joint.y, joint.value, *joint.tag)
    return people


# ---- sub-pixel position and missing keypoints ----


def quarter(heat: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """heat (h, w) -> a quarter of a cell per axis, towards the larger neighbour."""
    height, width = heat.shape
    right, left = heat[y, min(x + 1, width - 1)], heat[y, max(x - 1, 0)]
    below, above = heat[min(y + 1, height - 1), x], heat[max(y - 1, 0), x]
    return 0.25 if right > left else -0.25, 0.25 if below > above else -0.25


def inner_quarter(heat: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """heat (h, w) -> the step of MMPose 1.x, with its odd conditions for cells near the border."""
    height, width = heat.shape
    dx = dy = 0.0
    if 1 < x < width - 1 and 0 < y < height:
        dx = float(np.sign(heat[y, x + 1] - heat[y, x - 1]))
    if 1 < y < height - 1 and 0 < x < width:
        dy = float(np.sign(heat[y + 1, x] - heat[y - 1, x]))
    return 0.25 * dx, 0.25 * dy


def adjust_inner(people: np.ndarray, heat: np.ndarray) -> None:
    """Moves the keypoints that were found, in place; missing ones lie in the corner, where no step is."""
    for person in people:
        for kind, joint in enumerate(person):
            dx, dy = inner_quarter(heat[kind], int(joint[0]), int(joint[1]))
            joint[0] += dx + 0.5 * (joint[2] > 0)
            joint[1] += dy + 0.5 * (joint[2] > 0)


def refine_mmpose1(person: np.ndarray, heat: np.ndarray, tags: np.ndarray) -> None:
    """person (K, 3 + D): missing keypoints are put into the cell of the lowest 100 * round(distance of the
    tag) - heat, in place, whatever the heat there."""
    width = heat.shape[2]
    found = [
        tags[kind, int(joint[1]), int(joint[0])].astype(np.float64)
        for kind, joint in enumerate(person)
        if joint[2] > 0
    ]
    mean = np.mean(found, axis=0)
    for kind, joint in enumerate(person):
        if joint[2] > 0:
            continue
        distance = np.sqrt(((tags[kind] - mean) ** 2).sum(axis=2))
        y, x = divmod(int((np.round(distance) * 100 - heat[kind]).argmin()), width)
        joint[:3] = x, y, heat[kind, y, x]


def adjust(people: np.ndarray, heat: np.ndarray) -> None:
    """Moves the keypoints that were found, in place."""
    for person in people:
        for kind, joint in enumerate(person):
            if joint[2] > 0:
                dx, dy = quarter(heat[kind], int(joint[0]), int(joint[1]))
                joint[0] += dx + 0.5
                joint[1] += dy + 0.5


def udp_step(heat: np.ndarray, x: int, y: int) -> np.ndarray:
    """heat (h, w) -> how far UDP's Newton step moves a keypoint, x and y."""
    smooth = cv2.GaussianBlur(heat, (3, 3), 0)
    f = np.pad(np.log(np.clip(smooth, 0.001, 50)), 1, mode="edge")
    x, y = x + 1, y + 1
    middle, left, right, above, below = f[y, x], f[y, x - 1], f[y, x + 1], f[y - 1, x], f[y + 1, x]
    first = np.array([(right - left) / 2, (below - above) / 2], np.float64)
    mixed = (f[y + 1, x + 1] - right - below + middle + middle - left - above + f[y - 1, x - 1]) / 2
    second = np.array(
        [[right - 2 * middle + left, mixed], [mixed, below - 2 * middle + above]], np.float64
    ) + float(np.finfo(np.float32).eps) * np.eye(2)
    step: np.ndarray = -np.linalg.inv(second) @ first
    return step


def adjust_udp(people: np.ndarray, heat: np.ndarray) -> None:
    """Moves all keypoints in place, also those that are missing, from (0, 0)."""
    for person in people:
        for kind, joint in enumerate(person):
            joint[:2] += udp_step(heat[kind], int(joint[0]), int(joint[1]))


def refine(person: np.ndarray, heat: np.ndarray, tags: np.ndarray, half: float) -> None:
    """person (K, 3 + D): the missing keypoints are filled in, in place, where heat - round(distance of the
    tag) is highest; `half` is added to the cell."""
    kinds, height, width = heat.shape
    found = []
    for kind in range(kinds):
        if person[kind, 2] > 0:
            x = min(max(int(person[kind, 0]), 0), width - 1)
            y = min(max(int(person[kind, 1]), 0), height - 1)
            found.append(tags[kind, y, x].astype(np.float64))
    mean = np.mean(found, axis=0)
    for kind in range(kinds):
        distance = np.sqrt(((tags[kind] - mean) ** 2).sum(axis=2))
        y, x = divmod(int((heat[kind] - np.round(distance)).argmax()), width)
        value = heat[kind, y, x]
        dx, dy = quarter(heat[kind], x, y)
        if person[kind, 2] == 0 and value > 0:
            person[kind, :3] = (x + dx + half, y + dy + half, value)


def group(
    heat: np.ndarray,
    tags: np.ndarray,
    order: Sequence[int] = COCO_ORDER,
    *,
    limit: str = "first",
    move: str = "quarter",
    fill: bool = True,
    max_people: int = 30,
    max_peaks: int = 30,
) -> tuple[np.ndarray, np.ndarray]:
    """heat (K, h, w), tags (K, h, w, D) -> people (N, K, 3 + D), x and y with 0 in the middle of the first
    cell for `move` "none" and "udp" and at its corner for "quarter" and "inner", in the order of their start,
    and scores (N,)."""
    people = parse(heat, tags, order, limit=limit, max_people=max_people, max_peaks=max_peaks)
    if move == "quarter":
        adjust(people, heat)
    if move == "inner":
        adjust_inner(people, heat)
    if move == "udp":
        adjust_udp(people, heat)
    scores = people[:, :, 2].copy().mean(axis=1)
    if fill:
        for person in people:
            if move == "inner":
                refine_mmpose1(person, heat, tags)
                continue
            refine(person, heat, tags, half=0.5 if move == "quarter" else 0.0)
    return people, scores
