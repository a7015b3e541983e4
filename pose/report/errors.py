"""Errors by kind and what AP each kind costs, in the manner of Ronchi and Perona, "Benchmarking and Error
Diagnosis in Multi-Instance Pose Estimation", ICCV 2017 (https://arxiv.org/abs/1707.05388).

Everybody found is taken for a person annotated at a low OKS; then each keypoint that is labelled there is
judged by its similarity exp(-d^2 / (2 s^2 k^2)) to places in the annotations (s^2 the area of the person to
whom the place belongs, k = 2 sigma).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from pose.metrics.matching import (
    CHUNK,
    Found,
    Pairing,
    View,
    assign,
    keypoint_similarity,
    pair,
    rank,
)

SAME_PERSON = 0.1  # OKS from which somebody found is taken for somebody annotated
NEAR = 0.5  # similarity from which a keypoint lies at a place
GOOD = 0.85  # from which nobody could place it better

# of a keypoint, the first that holds: good, jitter: at its own place; inversion: at its mirror image's of the
# same person; swap: at its own or its mirror image's of another person; miss: none of these
KINDS = ("good", "jitter", "inversion", "swap", "miss")
# in the order in which they are put right; "good": what keeps good keypoints from their exact places
FIXES = ("miss", "swap", "inversion", "jitter", "background", "missed", "score", "good")


@dataclass(frozen=True)
class Errors:
    """Of N people found and G annotated."""

    person: np.ndarray  # (N,) the person annotated for whom each one is taken, or -1
    oks: np.ndarray  # (N,) with that person; 0 without
    kind: np.ndarray  # (N, K) index into KINDS; -1 where nothing is labelled or nobody is matched
    background: np.ndarray  # (N,) bool: false positives like nobody annotated
    double: np.ndarray  # (N,) bool: false positives like somebody whom a better score has taken
    missed: np.ndarray  # (G,) bool: annotated, not found

    def counts(self) -> np.ndarray:
        """(K, 5) keypoints by kind."""
        return np.stack([(self.kind == i).sum(axis=0) for i in range(len(KINDS))], axis=1)


def find_errors(pairing: Pairing, flip: np.ndarray) -> Errors:
    """flip (K,): the mirror image of each keypoint; one that is its own cannot be inverted, for it
    is tried at its own place first."""
    truth, found = pairing.truth, pairing.found
    person = assign(pairing, truth.ignored[None], np.array([SAME_PERSON]))[0, 0]
    taken_aside = person >= 0
    if len(truth.cell):
        taken_aside &= truth.ignored[person]
    person = np.where(taken_aside, -1, person)
    matched = np.flatnonzero(person >= 0)
    oks = np.zeros(len(found))
    oks[matched] = pairing.oks[pairing.start[matched] + person[matched] - pairing.first[matched]]
    alone = pairing.best()[0] < SAME_PERSON
    free = (person < 0) & ~taken_aside
    missed = ~truth.ignored
    missed[person[matched]] = False
    kind = np.full(found.keypoints.shape[:2], -1, np.int8)
    kind[matched] = _kinds(pairing, flip, person)[matched]
    return Errors(person, oks, kind, free & alone, free & ~alone, missed)


def _kinds(pairing: Pairing, flip: np.ndarray, person: np.ndarray) -> np.ndarray:
    """(N, K); only for people found with a person annotated."""
    truth = pairing.truth
    own, mirrored, others = (np.zeros((len(person), len(flip))) for _ in range(3))
    involved = np.flatnonzero(person[pairing.of_found] >= 0) if len(person) else np.zeros(0, np.int64)
    for i in range(0, len(involved), CHUNK):
        part = involved[i : i + CHUNK]
        of_found, of_truth = pairing.of_found[part], pairing.of_truth[part]
        here, there = _at_places(pairing, flip, of_found, of_truth)
        same = person[of_found] == of_truth
        own[of_found[same]] = here[same]
        mirrored[of_found[same]] = there[same]
        others_place = ~same & ~truth.crowd[of_truth]
        np.maximum.at(others, of_found[others_place], np.maximum(here, there)[others_place])
    labelled = truth.keypoints[person, :, 2] > 0 if len(truth.cell) else np.zeros(own.shape, bool)
    reached = [own >= GOOD, own >= NEAR, mirrored >= NEAR, others >= NEAR]
    return np.where(labelled, np.select(reached, range(4), default=4), -1)


def _at_places(
    pairing: Pairing, flip: np.ndarray, of_found: np.ndarray, of_truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P, K) similarity of pairs' keypoints to the same keypoint and to its mirror image; 0 where there is
    none."""
    spots = pairing.found.keypoints[of_found, :, :2]
    areas = pairing.truth.areas[of_truth]
    places = pairing.truth.keypoints[of_truth]

    def similarity(keypoints: np.ndarray) -> np.ndarray:
        close = keypoint_similarity(spots - keypoints[..., :2], areas, pairing.sigmas)
        return np.where(keypoints[..., 2] > 0, close, 0)

    return similarity(places), similarity(places[:, flip])


# ---- what they cost


@dataclass(frozen=True)
class Cost:
    """AP without one kind of error, and without it and all kinds before it."""

    fix: str  # of FIXES
    alone: float
    together: float


def find_costs(pairing: Pairing, errors: Errors) -> list[Cost]:
    """In the order of FIXES; together they end at an AP of 1 (-1 where nothing is to be scored)."""
    return [
        Cost(fix, corrected_ap(pairing, errors, [fix]), corrected_ap(pairing, errors, FIXES[: i + 1]))
        for i, fix in enumerate(FIXES)
    ]


def corrected_ap(pairing: Pairing, errors: Errors, fixes: Collection[str]) -> float:
    """COCO's AP if there were no errors of the kinds `fixes`.

    Keypoints of a kind are put exactly where they are annotated ("good" ones too, which are not errors, but
    not exact); "background": those people are not found; "missed": those people need not be found (an AP of 1
    where that leaves nobody to find); "score": people are ranked by their OKS, those who match nobody last.
    The paper's own analysis puts a jittering keypoint where its similarity is 0.85, a missed one at 0.5, and
    leaves an inverted or swapped one the similarity that it had in the wrong place, so that its costs are
    lower."""
    found, truth = put_right(pairing, errors, fixes), pairing.truth
    if "background" in fixes:
        found = found.take(~errors.background)
    if "missed" in fixes:
        if errors.missed.any() and (truth.ignored | errors.missed).all():
            return 1.0
        truth = replace(truth, ignored=truth.ignored | errors.missed)
    changed = pair(truth, found, pairing.sigmas)
    if "score" in fixes:
        changed = ranked_by_oks(changed)
    everywhere = View(truth.ignored, np.zeros(len(changed.found), bool))
    return float(rank(changed, [everywhere]).average_precision()[0])


def put_right(pairing: Pairing, errors: Errors, kinds: Collection[str]) -> Found:
    """The people found with all keypoints of these KINDS in their places."""
    wrong = np.isin(errors.kind, [i for i, kind in enumerate(KINDS) if kind in kinds])
    keypoints = pairing.found.keypoints.copy()
    who, which = np.nonzero(wrong)
    keypoints[who, which, :2] = pairing.truth.keypoints[errors.person[who], which, :2]
    return replace(pairing.found, keypoints=keypoints)


def ranked_by_oks(pairing: Pairing) -> Pairing:
    """With the scores that would have been right: the OKS with the person annotated whom each one found
    matches, where the most similar choose first; 0 for the rest."""
    truth, sigmas = pairing.truth, pairing.sigmas
    first = pair(truth, replace(pairing.found, scores=pairing.best()[0]).sorted(), sigmas)
    person = assign(first, truth.ignored[None], np.array([SAME_PERSON]))[0, 0]
    matched = np.flatnonzero(person >= 0)
    oks = np.zeros(len(first.found))
    oks[matched] = first.oks[first.start[matched] + person[matched] - first.first[matched]]
    return pair(truth, replace(first.found, scores=oks).sorted(), sigmas)
