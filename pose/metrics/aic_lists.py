"""From the people of a test to what AI Challenger takes: its list, its score of exactly that list, and the
threshold on people's own scores that suits the score best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose.annotations.aic import KEYPOINTS, AicImage
from pose.annotations.categories import plain_name
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.skeletons import listed_sigmas
from pose.errors import UserError
from pose.metrics import aic_eval
from pose.skeleton import Skeleton
from pose.structures import People

ROWS = 16  # thresholds spread evenly over the people, and as many over the range of their scores


@dataclass(frozen=True)
class AicTest:
    """A test on AI Challenger's terms; without `truth` there is a list to write, but nothing to score."""

    truth: list[AicImage] | None  # annotations of the tested images
    names: dict[int, str]  # image id -> AI Challenger's, of every tested image
    order: list[int]  # where the run's skeleton has each of the 14 keypoints
    threshold: float  # test.person_threshold

    def found(self, people: Mapping[int, People]) -> Found:
        return as_found(people, self.names, self.order)

    def scores(self, people: Mapping[int, People]) -> aic_eval.AicScores:
        """Scores of exactly the list that would be handed in."""
        assert self.truth is not None
        return aic_eval.evaluate(self.truth, self.found(people).above(self.threshold))

    def tune(self, people: Mapping[int, People]) -> list[aic_eval.Choice]:
        """The score over `thresholds`, from low to high."""
        assert self.truth is not None
        found = self.found(people)
        return aic_eval.sweep(self.truth, found.images, found.scores, thresholds(found, self.threshold))


@dataclass(frozen=True)
class Found:
    """People as a list holds them: whole pixels, v = 1 for what was found and 0 0 0 for the rest; nobody
    without any of the 14 keypoints."""

    images: list[AicImage]  # every image, in the order of the names
    scores: dict[str, np.ndarray]  # image id -> (P,) float64: the people's own

    def above(self, threshold: float) -> list[AicImage]:
        """The list of the people with `threshold` or more; every image stays."""
        return [
            _entry(one.image_id, one.keypoints[self.scores[one.image_id] >= threshold]) for one in self.images
        ]


def as_found(people: Mapping[int, People], names: Mapping[int, str], order: Sequence[int]) -> Found:
    """names: image id -> AI Challenger's, of every image; order: the people's keypoint that is each of the
    14.  An image without an entry in `people` (it could not be read) is one without people."""
    images, scores = [], {}
    for image_id, name in names.items():
        own = people.get(image_id, People.none(max(order) + 1))
        keypoints = own.keypoints[:, list(order)].astype(np.float64)
        seen = keypoints[..., 2:] > 0
        listed = np.where(seen, np.concatenate([np.rint(keypoints[..., :2]), seen], axis=2), 0)
        some = seen.any(axis=(1, 2))
        images.append(_entry(name, listed[some]))
        scores[name] = own.scores[some].astype(np.float64)
    return Found(images, scores)


def _entry(name: str, keypoints: np.ndarray) -> AicImage:
    humans = tuple(f"human{i + 1}" for i in range(len(keypoints)))
    return AicImage(name, humans, keypoints, np.zeros((len(keypoints), 4)))


# keypoints by name


def file_has_keypoints(file: KeypointFile) -> bool:
    """Whether the category of a COCO file lists AI Challenger's 14 keypoints, perhaps among others, in
    whatever order and spelling (capitals, blanks, hyphens)."""
    return {plain_name(name) for name in file.names} >= set(KEYPOINTS)


def keypoint_order(skeleton: Skeleton) -> list[int]:
    """Where the skeleton has each of the 14 keypoints; it may have more."""
    names = [plain_name(name) for name in skeleton.keypoints]
    missing = [name for name in KEYPOINTS if name not in names]
    if missing:
        raise UserError(
            f"AI Challenger's list needs {len(KEYPOINTS)} keypoints, and the skeleton {skeleton.name!r} of "
            f"this run has no {', '.join(missing)}; train with data.skeleton=aic14, or one with these too"
        )
    return [names.index(name) for name in KEYPOINTS]


def aic_sigmas(file: KeypointFile, skeleton: Skeleton | None) -> list[float]:
    """The fall-offs for the keypoints of a file with the 14: AI Challenger's; for others the skeleton's, or
    without one the file's own."""
    listed = listed_sigmas(file)
    names = [plain_name(name) for name in file.names]
    if skeleton is not None:
        own = zip(map(plain_name, skeleton.keypoints), skeleton.sigmas, strict=True)
    else:
        own = zip(names, listed or [], strict=bool(listed))
    sigma = dict(own) | dict(zip(KEYPOINTS, aic_eval.SIGMAS, strict=True))
    missing = [name for name in names if name not in sigma]
    if missing:
        raise UserError(f"{file.source} has no sigma for {', '.join(missing)}; give one per keypoint")
    return [sigma[name] for name in names]


# names of images


def picture_names(images: Sequence[tuple[int, Path]]) -> dict[int, str]:
    """image id -> file name without extension, which is AI Challenger's id."""
    names = {image_id: path.stem for image_id, path in images}
    first: dict[str, Path] = {}
    for _, path in images:
        other = first.setdefault(path.stem, path)
        if other is not path:
            raise UserError(
                f"{other} and {path} would be one picture in AI Challenger's list, which names them by their "
                "file names without extension; rename one"
            )
    return names


# the threshold


def thresholds(found: Found, current: float) -> list[float]:
    """Thresholds worth trying, from low to high, with 0 and the current one."""
    scores = np.concatenate([np.zeros(0), *found.scores.values()])
    tried = {0.0, float(current)}
    if len(scores):
        by_people = np.quantile(scores, np.linspace(0, 1, ROWS))
        by_score = np.linspace(scores.min(), scores.max(), ROWS)
        tried |= {float(f"{value:.4g}") for value in (*by_people.tolist(), *by_score.tolist())}
    return sorted(tried)


def best_choice(choices: Sequence[aic_eval.Choice]) -> aic_eval.Choice:
    """The one with the highest score; of equal ones the lowest threshold."""
    return max(choices, key=lambda one: (one.score, -one.threshold))


def curve_table(choices: Sequence[aic_eval.Choice], current: float) -> str:
    """Lines for a terminal: the whole curve, and what to set."""
    best = best_choice(choices)
    shown = [
        one for i, one in enumerate(choices)
        if not i or one.people != choices[i - 1].people or one is best or one.threshold == current
    ]  # fmt: skip
    lines = [f"{'test.person_threshold':>21} {'people':>9}   {aic_eval.NAME}"]
    for one in shown:
        marks = ["best"] * (one == best) + ["now"] * (one.threshold == current)
        mark = f"  <- {', '.join(marks)}" if marks else ""
        lines.append(f"{one.threshold:>21.6g} {one.people:>9}   {one.score:.6f}{mark}")
    lines += [
        f"best: test.person_threshold={best.threshold} ({aic_eval.NAME} {best.score:.6f},",
        "      which flatters a little: these are the pictures that the threshold was chosen on)",
    ]
    return "\n".join(lines)


def draw_curve(choices: Sequence[aic_eval.Choice], current: float, output: Path) -> None:
    """Score and number of people over the threshold, as a PNG."""
    from matplotlib.figure import Figure  # not pyplot, which would choose a backend for the whole process

    best = best_choice(choices)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    x = [one.threshold for one in choices]
    axis.plot(
        x, [one.score for one in choices], drawstyle="steps-pre", marker="o", markersize=3, label="score"
    )
    axis.axvline(best.threshold, color="C2", label=f"best: {best.score:.4f} at {best.threshold:g}")
    axis.axvline(current, color="grey", linestyle="--", label=f"now: {current:g}")
    axis.set(xlabel="test.person_threshold", ylabel=aic_eval.NAME)
    axis.grid(alpha=0.3)
    other = axis.twinx()
    other.plot(x, [one.people for one in choices], drawstyle="steps-pre", color="C1", label="people")
    other.set(ylabel="people in the list", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=4)
    try:
        figure.savefig(output, dpi=110)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
