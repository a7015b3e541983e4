"""AI Challenger's official keypoint score, with every habit of the official script (keypoint_eval.py of
https://github.com/AIChallenger/AI_Challenger_2017), for all pairs of people of all images at once.

It differs from COCO's AP in more than its fall-offs: only visible keypoints count (v = 1), the area is that
of the annotated box, a prediction may serve several people, nothing is ranked by confidence, and superfluous
predictions cost only where an image has more of them than people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pose.annotations.aic import KEYPOINTS, AicImage

SIGMAS = (
    0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642,
    0.03686941, 0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173,
)  # fmt: skip
THRESHOLDS = np.linspace(0.5, 0.95, 10)
NAME = "AI Challenger official score"
VISIBLE = 1
CHUNK = 1 << 14  # pairs worked on at once: their keypoints stay in the processor's cache


@dataclass(frozen=True)
class AicScores:
    """What the official script says, and about what."""

    score: float  # the mean of `ap`; -1 where there is nothing to score
    ap: dict[str, float]  # "0.50" ... "0.95": the share of `denominator` with OKS above it
    images: int  # of the annotations
    people: int  # annotated
    predictions: int  # people found on these images
    denominator: int  # over images, the larger number of people and predictions
    images_without_predictions: int  # not in the list, or there without people
    images_not_in_list: int
    ignored_predictions: int  # people of images that the annotations lack, or of an id that comes again


@dataclass(frozen=True)
class Choice:
    """One threshold on the people's own scores, and what it gives."""

    threshold: float
    people: int  # found people with this score or a higher one
    score: float


@dataclass(frozen=True)
class _Aligned:
    """The predictions beside the annotations, image by image."""

    truth: list[AicImage]
    found: list[AicImage | None]  # one per annotated image
    total: int  # people in the whole list

    @property
    def people(self) -> np.ndarray:
        """(I,) annotated people per image."""
        return np.array([len(image.keypoints) for image in self.truth], np.int64)

    @property
    def predictions(self) -> np.ndarray:
        """(I,) people found per image."""
        return np.array([0 if one is None else len(one.keypoints) for one in self.found], np.int64)


@dataclass(frozen=True)
class _Pairs:
    """Every annotated person with every prediction of its image, the person's predictions side by side."""

    person: np.ndarray  # (M,) index among all annotated people
    prediction: np.ndarray  # (M,) index among all predictions
    oks: np.ndarray  # (M,)


def evaluate(truth: Sequence[AicImage], found: Sequence[AicImage]) -> AicScores:
    """The official score of the people `found`; their v counts for nothing.

    An image that `found` lacks counts as one where nobody was found, images that `truth` lacks are left out
    and counted, and of several entries for one image the last counts."""
    aligned = _align(truth, found)
    people, predictions = aligned.people, aligned.predictions
    pairs = _pairs(aligned)
    denominator = int(np.maximum(people, predictions).sum())
    ap = _shares(_best(pairs, int(people.sum())), denominator)
    return AicScores(
        score=float(np.mean(ap)),
        ap={f"{t:.2f}": float(share) for t, share in zip(THRESHOLDS, ap, strict=True)},
        images=len(people),
        people=int(people.sum()),
        predictions=int(predictions.sum()),
        denominator=denominator,
        images_without_predictions=int((predictions == 0).sum()),
        images_not_in_list=sum(one is None for one in aligned.found),
        ignored_predictions=aligned.total - int(predictions.sum()),
    )


def sweep(
    truth: Sequence[AicImage],
    found: Sequence[AicImage],
    scores: Mapping[str, np.ndarray],
    thresholds: Sequence[float],
) -> list[Choice]:
    """The official score of the people whose own score reaches a threshold, for each of `thresholds`.

    scores: image id -> (P,) of the people in `found`.  Each pair is compared once: from high to low, a
    threshold adds the pairs of the people that it lets in to the best so far."""
    aligned = _align(truth, found)
    people, predictions = aligned.people, aligned.predictions
    pairs = _pairs(aligned)
    each = [scores[one.image_id] for one in aligned.found if one is not None]
    own = np.concatenate([np.zeros(0), *each]).astype(np.float64)
    image = np.repeat(np.arange(len(people)), predictions)
    order = np.argsort(-own[pairs.prediction], kind="stable")
    sorted_scores = own[pairs.prediction][order]
    best = np.zeros(int(people.sum()))
    done, choices = 0, []
    for threshold in sorted(set(thresholds), reverse=True):
        end = int(np.searchsorted(-sorted_scores, -threshold, side="right"))
        added = order[done:end]
        np.maximum.at(best, pairs.person[added], pairs.oks[added])
        done = end
        kept = np.bincount(image[own >= threshold], minlength=len(people))
        denominator = int(np.maximum(people, kept).sum())
        choices.append(Choice(threshold, int(kept.sum()), float(np.mean(_shares(best, denominator)))))
    return choices[::-1]


def table(scores: AicScores) -> str:
    """Lines for a terminal, under names that are not COCO's."""
    lines = [f"{NAME} (mean of the ten below) = {scores.score:.6f}"]
    lines += [f" {NAME} @[ OKS > {t} ] = {value:.6f}" for t, value in scores.ap.items()]
    lines.append(
        f"scored: {scores.predictions} people found against {scores.people} people in {scores.images} "
        f"images, divided by {scores.denominator}"
    )
    if scores.images_without_predictions:
        lines.append(
            f"images without predictions: {scores.images_without_predictions} "
            f"({scores.images_not_in_list} of them not in the list)"
        )
    if scores.ignored_predictions:
        lines.append(
            f"ignored: {scores.ignored_predictions} predicted people of images that the annotations lack, or "
            "that are listed again"
        )
    return "\n".join(lines)


def _align(truth: Sequence[AicImage], found: Sequence[AicImage]) -> _Aligned:
    annotated = {image.image_id: image for image in truth}
    listed = {image.image_id: image for image in found}
    total = sum(len(image.keypoints) for image in found)
    return _Aligned(list(annotated.values()), [listed.get(image_id) for image_id in annotated], total)


def _joined(arrays: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """All arrays (P, *shape) one after the other, also where there are none."""
    return np.concatenate([np.zeros((0, *shape)), *arrays])


def _pairs(aligned: _Aligned) -> _Pairs:
    people, predictions = aligned.people, aligned.predictions
    joints = _joined([image.keypoints for image in aligned.truth], (len(KEYPOINTS), 3))
    boxes = _joined([image.boxes for image in aligned.truth], (4,))
    points = _joined([i.keypoints for i in aligned.found if i is not None], (len(KEYPOINTS), 3))[..., :2]
    partners = np.repeat(predictions, people)  # (G,) predictions beside each person
    person = np.repeat(np.arange(len(joints)), partners)
    begins = np.repeat(np.cumsum(predictions) - predictions, people)  # (G,) the image's first prediction
    within = np.arange(len(person)) - np.repeat(np.cumsum(partners) - partners, partners)
    prediction = np.repeat(begins, partners) + within

    visible = joints[..., 2] == VISIBLE
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    counted = np.maximum(visible.sum(axis=1), 1)  # nobody can be right about a person without visible ones: 0
    falloff = 2 * (2 * np.array(SIGMAS)) ** 2 * (area[:, None] + 1)
    oks = np.zeros(len(person))
    for start in range(0, len(person), CHUNK):
        own, other = person[start : start + CHUNK], prediction[start : start + CHUNK]
        squared = (joints[own, :, 0] - points[other, :, 0]) ** 2
        squared += (joints[own, :, 1] - points[other, :, 1]) ** 2
        near = np.where(visible[own], np.exp(-squared / falloff[own]), 0)
        oks[start : start + CHUNK] = near.sum(axis=1) / counted[own]
    return _Pairs(person, prediction, oks)


def _best(pairs: _Pairs, people: int) -> np.ndarray:
    """(G,) of every person its largest OKS; 0 beside no prediction."""
    best = np.zeros(people)
    if len(pairs.person):
        starts = np.flatnonzero(np.diff(pairs.person, prepend=-1))
        best[pairs.person[starts]] = np.maximum.reduceat(pairs.oks, starts)
    return best


def _shares(best: np.ndarray, denominator: int) -> np.ndarray:
    """(10,) AP of each threshold; equal to it is not above it."""
    hits = (best[:, None] > THRESHOLDS).sum(axis=0)
    return hits / denominator if denominator else np.full(len(THRESHOLDS), -1.0)
