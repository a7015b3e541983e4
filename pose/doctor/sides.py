"""Left and right, looked at by statistics: no picture is needed.

`side_signs` gives each pair of a person (both shoulders, both hips, ...) one number: how far the left one
lies to the right of the right one, seen along the body's own axis from the hips (or shoulders) up, in lengths
of the trunk.  It is above 0 for a person seen from the front and below 0 for one seen from behind, however
the person is turned in the picture.  The trunk's pairs hardly ever contradict each other: in COCO and AI
Challenger the shoulders and hips of one person agree in 99.3 % and more where both are wider than 0.15
trunks, shoulders with elbows in 98.8 %; wrists, knees and ankles cross too often to accuse anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose.annotations.names import plain_name
from pose.skeleton import Skeleton

ACCUSED = ("shoulder", "hip", "ear", "eye")  # parts that may be found exchanged in one person
VOTERS = (*ACCUSED, "elbow")  # parts that tell which way a person faces
HEAD = ("nose", "eye", "ear", "head", "neck")
CLEAR = 0.15  # trunks: pairs that are nearer together tell nothing
ACCUSED_CLEAR = 0.2  # and so much is needed to be accused
EYES_CLEAR = 0.05  # eyes are never far apart
EYES_ACCUSED = 0.1
FEWEST_FACES = 20  # people with two visible eyes, by whom a whole file is judged
FEWEST_TRUNKS = 100  # people with a trunk, where a file has no eyes


@dataclass(frozen=True)
class Sides:
    """What left and right look like in a file."""

    people: np.ndarray  # rows of people in whom a pair is exchanged
    parts: list[str]  # which, of each of them
    faces: np.ndarray  # rows of people who show both eyes, the left one on the wrong side
    exchanged: str  # why the whole file seems exchanged; else ""
    pairs: list[str]  # pairs that contradict the trunk in most people


def pair_index(skeleton: Skeleton) -> dict[str, tuple[int, int]]:
    """Part -> (left, right) indices: {"shoulder": (5, 6), ...}; a part is the name without its side."""
    found = {}
    for k, (side, other) in enumerate(zip(skeleton.sides, skeleton.flip_index, strict=True)):
        if side == "left":
            left, right = plain_name(skeleton.keypoints[k]), plain_name(skeleton.keypoints[other])
            found[_part(left, right)] = (k, other)
    return found


def _part(left: str, right: str) -> str:
    """What two names share: left_shoulder, right_shoulder -> shoulder."""
    for word in (*VOTERS, "wrist", "knee", "ankle"):
        if word in left and word in right:
            return word
    return left.replace("left", "").strip("_") or left


def side_signs(keypoints: np.ndarray, skeleton: Skeleton) -> tuple[list[str], np.ndarray]:
    """keypoints (N, K, 3) -> names of the parts, and (N, parts): NaN where it cannot be told."""
    pairs = pair_index(skeleton)
    signs = np.full((len(keypoints), len(pairs)), np.nan)
    if "shoulder" not in pairs:
        return list(pairs), signs
    xy, seen = keypoints[..., :2].astype(np.float64), keypoints[..., 2] > 0
    up, trunk = _axis(xy, seen, pairs, skeleton)
    for j, (left, right) in enumerate(pairs.values()):
        across = xy[:, left] - xy[:, right]
        turned = up[:, 0] * across[:, 1] - up[:, 1] * across[:, 0]
        usable = seen[:, left] & seen[:, right] & (trunk >= 1)
        signs[usable, j] = (turned[usable] / trunk[usable]).clip(-3, 3)
    return list(pairs), signs


def _axis(
    xy: np.ndarray, seen: np.ndarray, pairs: dict[str, tuple[int, int]], skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """The unit vector (N, 2) up each person's trunk and the trunk's length (N,), 0 where neither is known:
    from the hips' middle to the shoulders', else from there to the head, which is half a trunk away."""
    shoulders = xy[:, list(pairs["shoulder"])].mean(1)
    known = np.all(seen[:, list(pairs["shoulder"])], axis=1)
    head = [k for k, name in enumerate(skeleton.keypoints) if any(word in plain_name(name) for word in HEAD)]
    weight = seen[:, head][..., None].astype(np.float64)
    above = (xy[:, head] * weight).sum(1) / np.maximum(weight.sum(1), 1) - shoulders
    up = np.where((known & (weight[..., 0].sum(1) > 0))[:, None], 2 * above, 0)
    if "hip" in pairs:
        both = known & np.all(seen[:, list(pairs["hip"])], axis=1)
        up = np.where(both[:, None], shoulders - xy[:, list(pairs["hip"])].mean(1), up)
    trunk = np.linalg.norm(up, axis=1)
    return up / np.maximum(trunk, 1e-9)[:, None], trunk


def find_exchanged(keypoints: np.ndarray, skeleton: Skeleton) -> Sides:
    """Who has left and right exchanged, by these rules.

    One pair of a person: shoulders, hips, ears or eyes at least ACCUSED_CLEAR apart, against whom every clear
    voter stands, at least two of them (or, between shoulders and hips alone, the other one at 0.25).
    One person: both eyes are visible (v = 2), so the face is seen, but the left one lies on the wrong side.
    The file: so do most faces; where there are no eyes, most people are seen from behind, which no collection
    of photos shows.  A pair of the file: it contradicts shoulders and hips in most people."""
    parts, signs = side_signs(keypoints, skeleton)
    people, accused = _contradicted(parts, signs)
    judged, faces = _faces(keypoints, skeleton, parts, signs)
    exchanged = ""
    if len(judged) >= FEWEST_FACES:
        if 2 * len(faces) > len(judged):
            exchanged = f"{len(faces)} of {len(judged)} faces have their left eye on the right"
    elif "shoulder" in parts:
        trunk = signs[:, parts.index("shoulder")]
        clear = np.abs(trunk) > CLEAR
        front, count = int((trunk[clear] > 0).sum()), int(clear.sum())
        if count >= FEWEST_TRUNKS and front < 0.4 * count:
            exchanged = f"only {front} of {count} people face the camera"
    return Sides(people, accused, faces, exchanged, _contradicting_pairs(parts, signs))


def _contradicted(parts: Sequence[str], signs: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Rows of people with an exchanged pair, and which."""
    voters = [j for j, part in enumerate(parts) if part in VOTERS]
    votes = np.where(np.abs(signs[:, voters]) > CLEAR, np.sign(signs[:, voters]), 0)
    accused: dict[int, list[str]] = {}
    for part in ACCUSED:
        if part not in parts:
            continue
        own = signs[:, parts.index(part)]
        others = np.delete(votes, voters.index(parts.index(part)), axis=1) * np.sign(own)[:, None]
        against, fellows = (others < 0).sum(1), (others > 0).sum(1)
        clear = np.abs(own) > (ACCUSED_CLEAR if part not in ("eye", "ear") else EYES_ACCUSED)
        for row in np.flatnonzero(clear & (against >= 2) & (fellows == 0)).tolist():
            accused.setdefault(row, []).append(part)
    if "shoulder" in parts and "hip" in parts:
        shoulder, hip = signs[:, parts.index("shoulder")], signs[:, parts.index("hip")]
        alone = (np.abs(votes).sum(1) == 2) & (np.minimum(np.abs(shoulder), np.abs(hip)) > 0.25)
        for row in np.flatnonzero(alone & (shoulder * hip < 0)).tolist():
            accused.setdefault(row, []).append("shoulder or hip")
    rows = sorted(accused)
    return np.array(rows, np.int64), [", ".join(accused[row]) for row in rows]


def _faces(
    keypoints: np.ndarray, skeleton: Skeleton, parts: Sequence[str], signs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of people with two visible eyes, and of those whose left eye is on the wrong side."""
    if "eye" not in parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    left, right = pair_index(skeleton)["eye"]
    visible = (keypoints[:, left, 2] == 2) & (keypoints[:, right, 2] == 2)
    eyes = signs[:, parts.index("eye")]
    clear = visible & (np.abs(eyes) > EYES_CLEAR)
    return np.flatnonzero(clear), np.flatnonzero(clear & (eyes < 0))


def _contradicting_pairs(parts: Sequence[str], signs: np.ndarray) -> list[str]:
    trunk = [parts.index(part) for part in ("shoulder", "hip") if part in parts]
    if not trunk:
        return []
    found = []
    for j, part in enumerate(parts):
        others = [i for i in trunk if i != j]
        votes = np.where(np.abs(signs[:, others]) > CLEAR, np.sign(signs[:, others]), 0).sum(1)
        clear = (np.abs(signs[:, j]) > CLEAR) & (votes != 0)
        against = (np.sign(signs[:, j]) * votes < 0)[clear]
        if len(against) >= FEWEST_FACES and against.mean() > 0.5:
            found.append(part)
    return found
