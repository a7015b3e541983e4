"""PCK, the percentage of correct keypoints, for images of one person each and for any skeleton.

A keypoint is correct if it lies no further from its label than `threshold` times the longer side of the
rectangle round the person's labelled keypoints (pose-tensorflow; after Yang and Ramanan, "Articulated Human
Detection with Flexible Mixtures of Parts", 2013).  All positions of a result count, also those of keypoints
that were not found; scores only choose among results.

An image's result with the highest score is compared with its person.  Where an image has several people, as
many results choose in the order of their scores: each takes the person left with the most keypoints that are
correct for it, of equal ones the one that is nearest on average.  Further results cost nothing; the keypoints
of people without a result are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.config import Settings
from pose.errors import UserError
from pose.metrics.base import Metric, Scores
from pose.metrics.coco import Results
from pose.metrics.coco_eval import choose_images
from pose.metrics.ground_truth import Annotated, clean_ground_truth, place_of, read_truth
from pose.metrics.result_files import clean_results, load_content
from pose.metrics.results import file_order
from pose.registry import METRICS
from pose.skeleton import Skeleton


class PckSettings(Settings):
    name: Literal["pck"] = "pck"
    threshold: float = 0.2
    """Times the longer side of a person's keypoints."""


@METRICS.register("pck", PckSettings)
class Pck(Metric):
    """The share of correct keypoints, for images of one person each."""

    name = "pck"
    best = "PCK"
    columns = ("PCK", "mean")
    score_options = ("threshold",)

    settings: PckSettings

    def __init__(self, settings: PckSettings, file: KeypointFile, skeleton: Skeleton | None = None) -> None:
        super().__init__(settings, file, skeleton)
        if skeleton is not None:
            file_order(skeleton, file)  # refuses other keypoints

    @classmethod
    def misfit(cls, file: KeypointFile, skeleton: Skeleton | None) -> str:
        """`open` takes images of several people too."""
        counts = np.bincount(file.image[file.people & (file.image >= 0)])
        return "" if len(counts) and counts.max() == 1 else "has not one person in each image"

    @classmethod
    def open(cls, settings: PckSettings, path: Path, category: str | None = None) -> Metric:
        return cls(settings, read(path, category))

    def read(self, path: Path) -> Results:
        return path  # it is read and checked where it is scored, so that messages name it

    def score(self, found: Results, image_ids: Sequence[int] | None = None) -> Scores:
        scores = evaluate(self.file, found, threshold=self.settings.threshold, image_ids=image_ids)
        numbers = {"PCK": scores.pck, "mean": scores.mean}
        lines = tuple(table(scores).splitlines())
        return Scores(self.name, numbers, self.best, ("PCK",), lines, asdict(scores))


@dataclass(frozen=True)
class PckScores:
    """What is correct, and of what.  Shares are -1 where there is nothing to score."""

    threshold: float
    pck: float  # the share of all labelled keypoints
    mean: float  # of `by_keypoint`, over those that are labelled at all
    by_keypoint: dict[str, float]
    labelled: dict[str, int]  # keypoints that count
    num_images: int
    num_people: int  # who count
    num_compared: int  # of them, with a result
    num_results: int
    ignored: dict[str, int]  # people who do not count: "crowd", "no_extent"


def evaluate(
    annotations: Annotated,
    results: Path | str | Sequence[Mapping[str, Any]],
    *,
    threshold: float = 0.2,
    image_ids: Sequence[int] | None = None,
) -> PckScores:
    """PCK of COCO keypoint results against COCO annotations: files, or their content (never changed).
    image_ids: the images to score; None scores every image of the annotations.

    People whose labelled keypoints are fewer than two, or all at one place, have no extent and do not count,
    nor do crowds.  Raises UserError for a file, record or number that cannot be scored."""
    if not 0 < threshold < np.inf:
        raise UserError(f"the threshold of PCK must be above 0, got {threshold}")
    truth = clean_ground_truth(read_truth(annotations))
    found = clean_results(load_content(results, "results"), truth, place_of(results, "results"))
    chosen = set(choose_images(image_ids, truth.image_ids))
    found = [one for one in found if one["image_id"] in chosen]
    people, ignored = _people([one for one in truth.people if one["image_id"] in chosen], truth.num_keypoints)
    taken = _results(found, truth.num_keypoints)
    names = _names(truth.file)
    count, correct, compared = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64), 0
    for image_id, own in people.items():
        count += (own[..., 2] > 0).sum(0)
        right, number = _compare(own, taken.get(image_id, []), threshold)
        correct, compared = correct + right, compared + number
    share = {name: float(c / n) if n else -1.0 for name, c, n in zip(names, correct, count, strict=True)}
    known = [value for value in share.values() if value >= 0]
    return PckScores(
        threshold=threshold,
        pck=float(correct.sum() / count.sum()) if known else -1.0,
        mean=float(np.mean(known)) if known else -1.0,
        by_keypoint=share,
        labelled={name: int(n) for name, n in zip(names, count, strict=True)},
        num_images=len(chosen),
        num_people=sum(map(len, people.values())),
        num_compared=compared,
        num_results=len(found),
        ignored=ignored,
    )


def correct_keypoints(person: np.ndarray, found: np.ndarray, threshold: float) -> np.ndarray:
    """person (K, 3) with an extent, found (..., K, 2) -> (..., K) bool; False where nothing is labelled."""
    labelled = person[:, 2] > 0
    distance = np.linalg.norm(found - person[:, :2], axis=-1)
    return (distance <= threshold * _extent(person)) & labelled


def table(scores: PckScores) -> str:
    """Lines for a terminal."""
    lines = [
        f" PCK@{scores.threshold:g} {name:<24} = {value:6.3f}  ({scores.labelled[name]} labelled)"
        for name, value in scores.by_keypoint.items()
    ]
    lines.append(f" PCK@{scores.threshold:g} {'mean over the kinds above':<24} = {scores.mean:6.3f}")
    lines.append(f" PCK@{scores.threshold:g} {'all labelled keypoints':<24} = {scores.pck:6.3f}")
    lines.append(
        f"scored: {scores.num_results} results, of which {scores.num_compared} are compared with "
        f"{scores.num_people} people in {scores.num_images} images"
    )
    reasons = {"crowd": "crowd", "no_extent": "without two labelled keypoints at different places"}
    parts = [f"{count} {reasons[key]}" for key, count in scores.ignored.items() if count]
    return "\n".join(lines + ([f"ignored ground truth: {'; '.join(parts)}"] if parts else []))


def _extent(person: np.ndarray) -> float:
    """The longer side of the rectangle round the labelled keypoints; 0 without any."""
    labelled = person[person[:, 2] > 0, :2]
    return float(np.ptp(labelled, axis=0).max()) if len(labelled) else 0.0


def _people(
    annotated: Sequence[Mapping[str, Any]], kinds: int
) -> tuple[dict[int, np.ndarray], dict[str, int]]:
    """By image, the people (N, K, 3) who count; and how many do not."""
    people: dict[int, list[np.ndarray]] = {}
    ignored = {"crowd": 0, "no_extent": 0}
    for entry in annotated:
        person = np.array(entry["keypoints"], np.float64).reshape(kinds, 3)
        if entry["iscrowd"]:
            ignored["crowd"] += 1
        elif not _extent(person):
            ignored["no_extent"] += 1
        else:
            people.setdefault(entry["image_id"], []).append(person)
    return {image_id: np.stack(own) for image_id, own in people.items()}, ignored


def _results(found: Sequence[Mapping[str, Any]], kinds: int) -> dict[int, list[np.ndarray]]:
    """By image, the results (K, 2), highest score first and of equal ones the first in the file."""
    taken: dict[int, list[np.ndarray]] = {}
    for entry in sorted(found, key=lambda one: -one["score"]):
        position = np.array(entry["keypoints"], np.float64).reshape(kinds, 3)[:, :2]
        taken.setdefault(entry["image_id"], []).append(position)
    return taken


def _compare(people: np.ndarray, found: Sequence[np.ndarray], threshold: float) -> tuple[np.ndarray, int]:
    """people (N, K, 3) of an image -> how many of each kind of keypoint are correct (K,), and how many people
    have a result."""
    left = list(people)
    right = np.zeros(people.shape[1], np.int64)
    for one in found[: len(people)]:
        hits = [correct_keypoints(person, one, threshold) for person in left]
        ranks = [(-int(h.sum()), _mean_distance(p, one)) for h, p in zip(hits, left, strict=True)]
        best = ranks.index(min(ranks))
        right += hits[best]
        del left[best]
    return right, len(people) - len(left)


def _mean_distance(person: np.ndarray, found: np.ndarray) -> float:
    """Of the labelled keypoints, as a share of the person's extent."""
    labelled = person[:, 2] > 0
    distance = np.linalg.norm(found[labelled] - person[labelled, :2], axis=1)
    return float(distance.mean()) / _extent(person)


def _names(file: KeypointFile) -> list[str]:
    """Names of the keypoints, where the file's category has different ones."""
    names = file.names[: file.num_body]
    if names and len(set(names)) == len(names):
        return list(names)
    return [f"keypoint {k}" for k in range(file.num_body)]
