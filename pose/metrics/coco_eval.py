"""COCO's ten numbers (AP, AR) by OKS, for any skeleton.

The numbers come from `matching`, which works on whole arrays, or for comparison from pycocotools or one of
its fast twins, faster-coco-eval and hotcoco.  The libraries assume well-formed input: they drop ground truth
without a word, crash without a name, or return a wrong AP.  So `ground_truth` and `result_files` check and
copy the input first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from pose.annotations.numbers import rows_of
from pose.annotations.reader import RANGE
from pose.annotations.regions import BOX_TO_AREA
from pose.errors import UserError
from pose.metrics.ground_truth import Annotated, Record, Targets, clean_ground_truth, place_of, read_truth
from pose.metrics.result_files import Results, check_results, floats, integer, load_content

Backend = Literal["own", "fast", "pycocotools", "hotcoco"]

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
MAX_PEOPLE = 20  # per image, best scores first: COCO's maxDets for keypoints
# nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles: https://cocodataset.org/#keypoints-eval
COCO_SIGMAS = tuple(
    np.repeat([0.026, 0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089], [1] + [2] * 8).tolist()
)

IGNORED = {
    "crowd": "crowd",
    "no_keypoints": "without labelled keypoints",
    "num_keypoints_0": "with num_keypoints 0 although keypoints are labelled",
    "area_range": "with an area above COCO's range",
    "unlisted_image": "of images that the file does not list",
    "other_category": "of categories that are not scored",
}
DOUBTFUL = {
    "area_0": "with area 0, so that only an exact hit can match",
    "num_keypoints_without_labels": "with num_keypoints above 0 but none labelled, scored against the box",
}
REPAIRED = {
    "area": f"area missing or invalid, taken as {BOX_TO_AREA} of the box",
    "bbox": "bbox missing, taken from the labelled keypoints",
    "iscrowd": "iscrowd missing, taken as 0",
    "num_keypoints": "num_keypoints missing, counted",
    "keypoints": "keypoints missing, taken as not labelled",
    "id": "id missing, 0 or used twice, numbered anew",
}


@dataclass(frozen=True)
class CocoScores:
    """What COCOeval says, and about what.  Counts of ground truth are of the chosen images and categories."""

    stats: dict[str, float]  # keys STATS; -1 where there is nothing to score
    ignored: dict[str, int]  # keys IGNORED: people that COCOeval leaves out, found or not
    doubtful: dict[str, int]  # keys DOUBTFUL: people that COCOeval counts, but in a way nobody may have meant
    repaired: dict[str, int]  # keys REPAIRED: annotations completed in our copy
    num_images: int
    num_ground_truth: int
    num_used: int  # ground truth not ignored
    num_results: int
    backend: str


def evaluate(
    annotations: Annotated,
    results: Path | str | Sequence[Mapping[str, Any]],
    *,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    backend: Backend = "own",
    category_id: int | None = None,
    where: str | None = None,
) -> CocoScores:
    """COCO's keypoint AP and AR of `results` against `annotations`: files, or their content (never changed).

    sigmas: K fall-offs in the ground truth's keypoint order; None takes COCO's where K = 17.
    image_ids: the images to score; None scores every image of the ground truth.  An image without results
    counts as one where nobody was found.
    category_id: None scores every category that has keypoints, and averages; several that list the same
    keypoints count as one where the results do not tell them apart.
    backend: "own" is `pose.metrics.matching`, "pycocotools" the original, "fast" faster-coco-eval, "hotcoco"
    has to be installed; their numbers are equal.
    Results whose first record has a `bbox` take their area from it, others from the keypoints' extent, as in
    COCOeval; the area only decides which unmatched results count for medium and large.
    where: how messages name the results (None: by their file).
    Raises UserError for a file, record or number that cannot be scored.
    """
    if backend not in _BACKENDS:
        raise UserError(f"unknown backend {backend!r} (known: {', '.join(_BACKENDS)})")
    task = prepare(
        annotations, results, sigmas=sigmas, image_ids=image_ids, category_id=category_id, where=where
    )
    kinds = _kinds(task.truth)
    ignored = {key: kinds[key] for key in IGNORED if key in kinds}
    numbers = score_task(task, backend)
    return CocoScores(
        stats=dict(zip(STATS, map(float, numbers), strict=True)),
        ignored={**ignored, "unlisted_image": task.num_unlisted, "other_category": task.num_other},
        doubtful={key: kinds[key] for key in DOUBTFUL},
        repaired=task.repaired,
        num_images=len(task.image_ids),
        num_ground_truth=len(task.truth.ids) + task.num_unlisted + task.num_other,
        num_used=len(task.truth.ids) - sum(ignored.values()),
        num_results=len(task.people.ids),
        backend=backend,
    )


@dataclass(frozen=True)
class Task:
    """What is scored: checked copies, in which the image's id is 1 + its position in `image_ids`."""

    truth: Targets
    people: Results
    sigmas: np.ndarray  # (K,)
    image_ids: list[int]  # chosen ones, in order
    category_ids: list[int]
    num_unlisted: int
    num_other: int
    repaired: dict[str, int]  # keys REPAIRED

    @cached_property
    def targets(self) -> list[Record]:
        """The annotations as the libraries take them."""
        return self.truth.records()

    @cached_property
    def found(self) -> list[Record]:
        return self.people.records()

    @property
    def places(self) -> list[int]:
        """The images' ids here."""
        return list(range(1, len(self.image_ids) + 1))


def prepare(
    annotations: Annotated,
    results: Path | str | Sequence[Mapping[str, Any]],
    *,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    category_id: int | None = None,
    where: str | None = None,
) -> Task:
    """Reads, checks and copies what `evaluate` is to score, whose arguments these are."""
    truth = clean_ground_truth(read_truth(annotations), category_id)
    sigmas_array = _check_sigmas(sigmas, truth.num_keypoints)
    people = check_results(load_content(results, "results"), truth, where or place_of(results, "results"))
    images = choose_images(image_ids, truth.image_ids)
    # 1, 2, ... keeps the order, which settles ties, whatever integers a file uses as ids
    ids = np.array(images, np.int64)
    place, place_found = rows_of(ids, truth.targets.image_id), rows_of(ids, people.image_id)
    chosen = place >= 0
    used = place_found >= 0
    if category_id is not None:
        used &= people.category == category_id
    targets = replace(truth.targets, image_id=place + 1).take(chosen)
    found = replace(people, image_id=place_found + 1).take(used)
    categories = truth.category_ids
    if truth.alike and len(set(people.category.tolist())) <= 1:
        categories = categories[:1]
        targets = replace(targets, category=np.full_like(targets.category, categories[0]))
        found = replace(found, category=np.full_like(found.category, categories[0]))
    return Task(
        truth=targets,
        people=found,
        sigmas=sigmas_array,
        image_ids=images,
        category_ids=categories,
        num_unlisted=truth.num_unlisted,
        num_other=truth.num_other,
        repaired={key: int((truth.repaired[key] & chosen).sum()) for key in REPAIRED},
    )


def table(scores: CocoScores, header: Mapping[str, str]) -> str:
    """Lines for a terminal: what was evaluated, the ten numbers in COCO's wording, what was left out."""
    return "\n".join([*header_lines(header), *rows(scores)])


def header_lines(header: Mapping[str, str]) -> list[str]:
    return _wrapped([f"{key}: {value}" for key, value in header.items()], "   ")


def rows(scores: CocoScores) -> list[str]:
    """The lines below the header."""
    return [*number_rows(scores.stats), *count_rows(scores)]


def number_rows(stats: Mapping[str, float]) -> list[str]:
    """In COCO's wording; keys of STATS."""
    return [_row(name, value) for name, value in stats.items()]


def count_rows(scores: CocoScores) -> list[str]:
    """What was scored, and what was left out."""
    lines = [
        f"scored: {scores.num_results} results against {scores.num_used} people in {scores.num_images} images"
    ]
    for title, counts, reasons in (
        ("ignored ground truth", scores.ignored, IGNORED),
        ("doubtful ground truth", scores.doubtful, DOUBTFUL),
        ("repaired ground truth", scores.repaired, REPAIRED),
    ):
        parts = [f"{count} {reasons[key]}" for key, count in counts.items() if count]
        if parts:
            lines += _wrapped([f"{title}: {parts[0]}", *parts[1:]], "; ")
    return lines


def _row(name: str, value: float) -> str:
    title = "Average Precision  (AP)" if name.startswith("AP") else "Average Recall     (AR)"
    oks = {"50": "0.50", "75": "0.75"}.get(name[2:], "0.50:0.95")
    area = {"M": "medium", "L": "large"}.get(name[2:], "all")
    return f" {title} @[ IoU={oks:<9} | area={area:>6} | maxDets={MAX_PEOPLE:>3} ] = {value:0.3f}"


def _wrapped(parts: Sequence[str], separator: str, width: int = 110) -> list[str]:
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(separator) + len(part) <= width:
            lines[-1] += separator + part
        else:
            lines = [*lines[:-1], lines[-1] + separator.rstrip(), "  " + part] if lines else [part]
    return lines


def _kinds(people: Targets) -> dict[str, int]:
    """How many fall under each key of IGNORED (at most one, by COCOeval's rule) and of DOUBTFUL."""
    crowd, labelled = people.crowd, people.labelled
    empty = ~crowd & (people.num_keypoints == 0)
    huge = ~crowd & ~empty & (people.areas > RANGE)
    used = ~crowd & ~empty & ~huge
    kinds = {
        "crowd": crowd,
        "no_keypoints": empty & ~labelled,
        "num_keypoints_0": empty & labelled,
        "area_range": huge,
        "area_0": used & (people.areas == 0),
        "num_keypoints_without_labels": used & ~labelled,
    }
    return {key: int(rows.sum()) for key, rows in kinds.items()}


def _check_sigmas(sigmas: Sequence[float] | None, num_keypoints: int) -> np.ndarray:
    if sigmas is None:
        if num_keypoints != len(COCO_SIGMAS):
            raise UserError(
                f"the ground truth has {num_keypoints} keypoints per person, COCO's sigmas are for "
                f"{len(COCO_SIGMAS)}: give one sigma per keypoint (the skeleton's `sigmas`; --sigmas FILE)"
            )
        sigmas = COCO_SIGMAS
    if len(sigmas) != num_keypoints:
        raise UserError(f"{len(sigmas)} sigmas for a ground truth with {num_keypoints} keypoints per person")
    array = np.asarray(floats(list(sigmas), "sigmas", num_keypoints))
    if not (array > 0).all():
        raise UserError(f"sigmas must be positive, got {array.tolist()}")
    return array


def choose_images(image_ids: Sequence[int] | None, known: Sequence[int]) -> list[int]:
    if image_ids is None:
        return sorted(known)
    chosen = sorted({integer({"image id": value}, "image id", "images to score") for value in image_ids})
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise UserError(
            f"{len(unknown)} of the images to score are not in the ground truth (the first: {unknown[0]})"
        )
    if not chosen:
        raise UserError("the list of images to score is empty")
    return chosen


# who computes the numbers


def _score_here(task: Task) -> np.ndarray:
    from pose.metrics.matching import match_task  # it needs this module

    return np.array(list(match_task(task).stats().values()))


def _score_with_pycocotools(task: Task) -> np.ndarray:
    coco, cocoeval = _optional("pycocotools.coco", "pycocotools.cocoeval", package="pycocotools")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes and has no switch for that
        truth, people = (_filled(coco.COCO(), some, task) for some in (task.targets, task.found))
        run = cocoeval.COCOeval(truth, people, "keypoints")
        run.params.kpt_oks_sigmas, run.params.imgIds = task.sigmas, task.places
        run.params.catIds = task.category_ids
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats


def _score_fast(task: Task) -> np.ndarray:
    (core,) = _optional("faster_coco_eval.core", package="faster-coco-eval")
    truth, people = (
        _filled(core.COCO(print_function=_silent), some, task) for some in (task.targets, task.found)
    )
    run = core.COCOeval_faster(truth, people, "keypoints", print_function=_silent, kpt_oks_sigmas=task.sigmas)
    run.params.imgIds, run.params.catIds = task.places, task.category_ids
    run.run()
    return run.all_stats


def _score_hot(task: Task) -> np.ndarray:
    (hotcoco,) = _optional("hotcoco", package="hotcoco")
    truth, people = (hotcoco.COCO(_data_set(some, task)) for some in (task.targets, task.found))
    run = hotcoco.COCOeval(truth, people, "keypoints")
    params = run.params  # a copy
    params.kpt_oks_sigmas, params.imgIds = task.sigmas.tolist(), task.places
    params.catIds = task.category_ids
    run.params = params
    run.evaluate()
    run.accumulate()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other sigmas are not COCO's
        run.summarize()
    return np.array(run.stats)


_BACKENDS: dict[str, Callable[[Task], np.ndarray]] = {
    "own": _score_here,
    "fast": _score_fast,
    "pycocotools": _score_with_pycocotools,
    "hotcoco": _score_hot,
}


def score_task(task: Task, backend: str) -> np.ndarray:
    """The ten numbers, in the order of STATS."""
    return _BACKENDS[backend](task)


def installed() -> list[str]:
    """The backends that can be used here."""
    return [name for name in _BACKENDS if name not in PACKAGES or importlib.util.find_spec(PACKAGES[name])]


def _filled(coco: Any, entries: list[Record], task: Task) -> Any:
    # not `loadRes`: it fails on an empty list, which is a valid (if poor) result
    coco.dataset = _data_set(entries, task)
    coco.createIndex()
    return coco


def _data_set(entries: list[Record], task: Task) -> dict[str, Any]:
    return {
        "images": [{"id": image_id} for image_id in task.places],
        "categories": [{"id": category, "name": str(category)} for category in task.category_ids],
        "annotations": entries,
    }


def _silent(*_: object) -> None:
    """A print function that says nothing."""


PACKAGES = {"fast": "faster_coco_eval", "pycocotools": "pycocotools", "hotcoco": "hotcoco"}


def check_backend(backend: str) -> None:
    """Raises `UserError` for one that is not installed."""
    if backend in PACKAGES and importlib.util.find_spec(PACKAGES[backend]) is None:
        package = PACKAGES[backend].replace("_", "-")
        raise UserError(f"this backend needs {package}: pip install {package}")


def _optional(*modules: str, package: str) -> list[ModuleType]:
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise UserError(f"this backend needs {package}: pip install {package} ({error})") from error
