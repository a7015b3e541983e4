"""Everything that a report says, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pose.annotations.skeletons import own_skeleton
from pose.metrics.ground_truth import Annotated, read_truth
from pose.metrics.matching import Matches, match
from pose.metrics.results import file_order
from pose.report.errors import KINDS, Cost, Errors, find_costs, find_errors
from pose.report.groups import Group, find_groups
from pose.skeleton import Skeleton


@dataclass(frozen=True)
class Worst:
    """A picture on which much went wrong."""

    image_id: int
    loss: float  # see `find_worst`
    people: np.ndarray  # indices of the people annotated in it
    found: np.ndarray  # and of those found who are worth showing
    sentence: str


@dataclass(frozen=True)
class Analysis:
    """Of one results file."""

    skeleton: Skeleton  # its keypoints in the order of the annotation file
    matches: Matches
    stats: dict[str, float]
    errors: Errors
    costs: list[Cost]
    groups: dict[str, list[Group]]
    worst: list[Worst]

    @property
    def num_people(self) -> int:
        """Annotated, and not ignored."""
        return int((~self.matches.pairing.truth.ignored).sum())


def analyse(
    annotations: Annotated,
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    *,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    num_worst: int = 12,
) -> Analysis:
    """skeleton: see `file_skeleton`; the other arguments and errors are those of `coco_eval.evaluate`."""
    matches = match(annotations, results, sigmas=sigmas, image_ids=image_ids)
    return analyse_matches(matches, skeleton, num_worst)


def analyse_matches(matches: Matches, skeleton: Skeleton, num_worst: int = 12) -> Analysis:
    pairing = matches.pairing
    if len(skeleton) != len(pairing.sigmas):
        skeleton = numbered_skeleton(len(pairing.sigmas))
    errors = find_errors(pairing, np.array(skeleton.flip_index))
    return Analysis(
        skeleton=skeleton,
        matches=matches,
        stats=matches.stats(),
        errors=errors,
        costs=find_costs(pairing, errors),
        groups=find_groups(pairing, errors),
        worst=find_worst(matches, errors, skeleton, num_worst),
    )


# ---- keypoints by name


def file_skeleton(annotations: Annotated, skeleton: Skeleton | None = None) -> Skeleton:
    """The keypoints of an annotation file in their order there: those of `skeleton`, or the names that the
    file itself lists."""
    file = read_truth(annotations)
    if skeleton is not None:
        return part_of(skeleton, file_order(skeleton, file))
    return own_skeleton(file) if file.chosen else numbered_skeleton(0)


def part_of(skeleton: Skeleton, order: Sequence[int]) -> Skeleton:
    """The keypoints `order` (indices) of a skeleton and the limbs between them."""
    names = [skeleton.keypoints[k] for k in order]
    mirrored = {skeleton.keypoints[k]: skeleton.keypoints[skeleton.flip_index[k]] for k in order}
    mirror = {name: other if other in names else name for name, other in mirrored.items()}
    inside = [limb for limb in skeleton.limbs if set(limb) <= set(names)]
    known = {frozenset(limb) for limb in inside}
    limbs = tuple((a, b) for a, b in inside if frozenset((mirror[a], mirror[b])) in known)
    return Skeleton(skeleton.name, tuple(names), limbs, mirror=mirror)


def numbered_skeleton(num_keypoints: int) -> Skeleton:
    """For a file that does not name its keypoints."""
    return without_sides([f"keypoint {k + 1}" for k in range(max(1, num_keypoints))])


def without_sides(names: Sequence[str]) -> Skeleton:
    """Keypoints of which none is the mirror image of another."""
    unique = [name if names.index(name) == i else f"{name} {i + 1}" for i, name in enumerate(names)]
    return Skeleton("custom", tuple(unique), mirror={name: name for name in unique})


# ---- the worst pictures


def find_worst(matches: Matches, errors: Errors, skeleton: Skeleton, count: int) -> list[Worst]:
    """The pictures with the greatest loss: the sum of 1 - OKS over the people annotated (1 for one who was
    missed), and for each false positive the share of the people rightly found whom it outranks."""
    truth, found = matches.pairing.truth, matches.pairing.found
    images = len(matches.image_ids)
    matched = np.flatnonzero(errors.person >= 0)
    harm = outranked(found.scores, found.scores[matched]) * (errors.background | errors.double)
    losses = (
        (truth.cell, errors.missed),
        (found.cell, harm),
        (found.cell[matched], 1 - errors.oks[matched]),
    )
    loss = np.zeros(images)
    for cell, weights in losses:
        loss += np.bincount(cell % images, weights=weights, minlength=images).astype(np.float64)
    worst = []
    for place in np.argsort(-loss, kind="stable")[:count].tolist():
        if loss[place] > 1e-9:  # rounding
            people = np.flatnonzero(truth.cell % images == place)
            here = np.flatnonzero(found.cell % images == place)
            here = here[(errors.person[here] >= 0) | (harm[here] >= 0.05)]
            sentence = describe(errors, people[~truth.ignored[people]], here, skeleton)
            worst.append(Worst(matches.image_ids[place], float(loss[place]), people, here, sentence))
    return worst


def outranked(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each score, the share of the others that are lower (1 where there are none)."""
    if not len(others):
        return np.ones(len(scores))
    return np.searchsorted(np.sort(others), scores) / len(others)


def describe(errors: Errors, people: np.ndarray, found: np.ndarray, skeleton: Skeleton) -> str:
    """What is wrong on a picture, in a sentence; people: who had to be found, found: who is shown."""
    matched = found[errors.person[found] >= 0]
    parts = [f"{len(matched)} of {len(people)} found"]
    if len(matched):
        parts[0] += f" with a mean OKS of {errors.oks[matched].mean():.2f}"
    for mask, what in ((errors.double, "found twice"), (errors.background, "in the background")):
        if mask[found].any():
            parts.append(f"{mask[found].sum()} {what}")
    wrong_ones = []
    for i, kind in reversed(list(enumerate(KINDS))):
        wrong = (errors.kind[matched] == i).sum(axis=0)
        if kind != "good" and wrong.any():
            often = np.argsort(-wrong, kind="stable")[: min(3, np.count_nonzero(wrong))]
            names = ", ".join(skeleton.keypoints[k].replace("_", " ") for k in often)
            more = ", ..." if np.count_nonzero(wrong) > 3 else ""
            wrong_ones.append(f"{wrong.sum()} {kind} ({names}{more})")
    if wrong_ones:
        parts.append(f"keypoints: {', '.join(wrong_ones)}")
    return "; ".join(parts)
