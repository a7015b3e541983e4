"""Time of COCO's keypoint AP on one core: pycocotools, called as COCO's demo calls it, against `evaluate`.

python -m benchmarks.coco_score [--smallest]

Ours checks the annotations and the results as well; a row shows that part alone.  The first call in
a process has a row of its own.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.timing import Row, Times, compare, print_rows, times_of
from pose.annotations import reader
from pose.metrics import coco_eval
from pose.metrics.coco_eval import COCO_SIGMAS

IMAGES = 5000
Records = list[dict[str, Any]]


def scene(images: int, *, seed: int = 0) -> tuple[dict[str, Any], Records]:
    """-> annotations, with crowds and people without labelled keypoints, and results: as many people in an
    image, found and made up, as in COCO's validation images and a bottom-up method's results."""
    rng = np.random.default_rng(seed)
    annotations: Records = []
    results: Records = []
    for image_id in range(images):
        for _ in range(int(rng.geometric(0.32)) - 1):
            size = rng.lognormal(0, 0.8, 2) * (85, 150)
            points = np.zeros((17, 3))
            points[:, 2] = rng.integers(0, 3, 17) * (rng.random() < 0.65)
            points[:, :2] = rng.integers(0, 400, 2) + (rng.random((17, 2)) * size).round()
            points[points[:, 2] == 0] = 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "keypoints": points.astype(int).ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "iscrowd": int(rng.random() < 0.02),
                    "bbox": [10.0, 10.0, *size.tolist()],
                    "area": float(size.prod() / 2),
                }  # fmt: skip
            )
            for _ in range(int(rng.integers(0, 3))):
                moved = points[:, :2] + rng.normal(0, rng.choice([1, 4, 40]), (17, 2))
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": 1,
                        "score": float(rng.random()),
                        "keypoints": np.column_stack([moved, np.ones(17)]).ravel().tolist(),
                    }  # fmt: skip
                )
    names = [f"k{i}" for i in range(17)]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }, results


def by_pycocotools(truth: COCO, results: Records) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):  # it writes into the results that it is given
        run = COCOeval(truth, truth.loadRes([dict(one) for one in results]), "keypoints")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


def row(images: int, literal_runs: int, runs: int) -> list[Row]:
    content, results = scene(images)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
    file = reader.parse(content, "annotations")
    sigmas = list(COCO_SIGMAS)
    ours = partial(coco_eval.evaluate, file, results, sigmas=sigmas)
    start = time.thread_time()
    scores = ours()
    first = 1000 * (time.thread_time() - start)
    expected = by_pycocotools(truth, results)
    assert np.allclose(list(scores.stats.values()), expected, rtol=0, atol=1e-9)
    task = coco_eval.prepare(file, results, sigmas=sigmas)
    what = f"COCO's AP, {images} images, {len(results)} found"
    theirs = partial(by_pycocotools, truth, results)
    both = compare(what, theirs, ours, literal_runs=literal_runs, runs=runs)
    parts: dict[str, Callable[[], object]] = {
        "  the checks alone": partial(coco_eval.prepare, file, results, sigmas=sigmas)
    }
    parts |= {f"  by {name}": partial(coco_eval.score_task, task, name) for name in coco_eval.installed()}
    return [
        both,
        Row("  the first time", both.literal, Times(first)),
        *(Row(name, both.literal, times_of(part, runs)) for name, part in parts.items()),
    ]


def rows(smallest: bool = False) -> list[Row]:
    """Medians on one thread."""
    return row(10, literal_runs=1, runs=1) if smallest else row(IMAGES, literal_runs=3, runs=9)


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.coco_score", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
