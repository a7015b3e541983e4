"""Time of AI Challenger's official score on one core: the literal loops of its script against `evaluate`.

python -m benchmarks.aic_score [--smallest]
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.timing import Row, compare, print_rows
from pose.annotations.aic import AicImage, to_official
from pose.metrics import aic_eval
from tests.literal.reference import aic_score as literal

IMAGES = 1000


def scene(people: int, predictions: int, *, images: int = IMAGES, seed: int = 0) -> list[list[AicImage]]:
    """-> annotations and predictions of as many images, with 0 to 2 times `people` and `predictions` each.
    Predictions are the people with an error of some pixels, further ones are anywhere."""
    rng = np.random.default_rng([seed, people, predictions])
    truth, found = [], []
    for i in range(images):
        count, more = (int(rng.integers(0, 2 * mean + 1)) for mean in (people, predictions))
        corners = rng.integers(0, 400, (count, 2))
        sizes = rng.integers(30, 400, (count, 2))
        points = (corners[:, None] + rng.random((count, 14, 2)) * sizes[:, None]).round()
        v = rng.choice([1, 2, 3], p=[0.62, 0.22, 0.16], size=(count, 14, 1))
        keypoints = np.where(v == 3, [0, 0, 3], np.concatenate([points, v], axis=2))
        boxes = np.concatenate([corners, corners + sizes], axis=1).astype(float)
        truth.append(AicImage(f"{i:040x}", _humans(count), keypoints.astype(float), boxes))
        error = rng.normal(0, rng.choice([1, 4, 16], (more, 1, 1)), (more, 14, 2))
        near = np.concatenate([points, rng.integers(0, 800, (more, 14, 2))])[:more] + error
        listed = np.concatenate([near.round(), np.ones((more, 14, 1))], axis=2)
        found.append(AicImage(f"{i:040x}", _humans(more), listed, np.zeros((more, 4))))
    return [truth, found]


def _humans(count: int) -> tuple[str, ...]:
    return tuple(f"human{i + 1}" for i in range(count))


def row(people: int, predictions: int, images: int, literal_runs: int, runs: int) -> Row:
    truth, found = scene(people, predictions, images=images)
    content = to_official(truth, boxes=True), to_official(found, boxes=False)
    expected, scores = literal.evaluate(*content), aic_eval.evaluate(truth, found)
    assert scores.score == expected[0] and list(scores.ap.values()) == expected[1]
    return compare(
        f"AI Challenger's score, {images} images, {people} people, {predictions} found",
        partial(literal.evaluate, *content),
        partial(aic_eval.evaluate, truth, found),
        literal_runs=literal_runs,
        runs=runs,
    )


def rows(smallest: bool = False) -> list[Row]:
    """Per data set, medians on one thread."""
    if smallest:
        return [row(3, 3, 5, literal_runs=1, runs=1)]
    return [row(*case, IMAGES, literal_runs=5, runs=31) for case in ((3, 3), (3, 20), (10, 10))]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.aic_score", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
