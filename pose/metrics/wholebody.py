"""COCO-WholeBody's metric (Jin et al.: Whole-Body Human Pose Estimation in the Wild, ECCV 2020): COCO's AP
and AR of body, feet, face, hands, and of all 133 keypoints together.

Each part is an evaluation of its own.  The area in OKS is the whole person's; a person without labelled
keypoints of a part is ignored in it; somebody found without any keypoint of the part counts as not found in
it; people are ranked by `PART_score` where results have it, else by `score`.  The hands' number is the mean
of left and right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import numpy as np

from pose.annotations.categories import plain_name
from pose.annotations.keypoint_file import Category, KeypointFile
from pose.errors import UserError
from pose.metrics import coco_eval
from pose.metrics.base import Sampled, Scores
from pose.metrics.coco import Coco, OksSettings, Results
from pose.metrics.ground_truth import Record, place_of
from pose.metrics.matching import match
from pose.metrics.result_files import floats, load_content
from pose.metrics.results import file_order, keypoint_category, place_missing, results_json
from pose.registry import METRICS
from pose.skeleton import Skeleton
from pose.structures import People

LISTS = {"body": "keypoints", "foot": "foot_kpts", "face": "face_kpts", "lefthand": "lefthand_kpts",
         "righthand": "righthand_kpts"}  # fmt: skip
HAND = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021,
    0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip
SIGMAS = {
    "body": coco_eval.COCO_SIGMAS,
    "foot": (0.068, 0.066, 0.066, 0.092, 0.094, 0.094),
    "face": (
        0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038,
        0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009,
        0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007,
        0.013, 0.008, 0.011, 0.012, 0.010, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008,
        0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008,
    ),
    "lefthand": HAND,
    "righthand": HAND,
}  # fmt: skip
WHOLE = "wholebody"
COUNT = sum(map(len, SIGMAS.values()))  # 133


class WholeBodySettings(OksSettings):
    name: Literal["wholebody"] = "wholebody"


@METRICS.register("wholebody", WholeBodySettings)
class WholeBody(Coco):
    """COCO-WholeBody's AP and AR of body, feet, face, hands and all of it."""

    name = "wholebody"
    columns = ("AP", "AP_body", "AP_foot", "AP_face", "AP_hand", "AR")
    order = 0
    instead_of: ClassVar[tuple[str, ...]] = ("coco",)

    @classmethod
    def misfit(cls, file: KeypointFile, skeleton: Skeleton | None) -> str:
        if len(file.names) != COUNT or file.num_body == COUNT:
            return "does not have COCO-WholeBody's 133 keypoints"
        known = {plain_name(name) for name in (skeleton.keypoints if skeleton else file.names)}
        if not {plain_name(name) for name in file.names} <= known:
            assert skeleton is not None
            return f"has more keypoints than the skeleton {skeleton.name!r}"
        return ""

    def own_sigmas(self) -> list[float]:
        return [sigma for part in SIGMAS.values() for sigma in part]

    @property
    def num_keypoints(self) -> int:
        return COUNT

    def sigma_label(self) -> str:
        return "COCO-WholeBody's"

    def found(self, people: Mapping[int, People]) -> list[dict[str, Any]]:
        assert self.skeleton is not None
        order, category = file_order(self.skeleton, self.file), keypoint_category(self.file)
        found = []
        for image_id, own in people.items():
            keypoints = own.keypoints[:, order].astype(np.float64)
            for person, score in zip(keypoints, own.scores, strict=True):
                for record in results_json({image_id: (person[None], score[None])}, category):
                    found.append({**record, **lists_of(person)})
        return found

    def score(self, found: Results, image_ids: Sequence[int] | None = None) -> Scores:
        records, where = load_content(found, "results"), place_of(found, "results")
        runs = {}
        for part in (WHOLE, *LISTS):
            runs[part] = coco_eval.evaluate(
                of_part(self.file, part),
                part_results(records, part, where),
                sigmas=self.sigmas_of(part),
                image_ids=image_ids,
                backend=self.settings.backend,
                where=where,
            )
        whole = replace(runs[WHOLE], repaired={**runs[WHOLE].repaired, "num_keypoints": 0})  # it is the rule
        numbers = dict(whole.stats)
        for key in ("AP", "AR"):
            numbers |= {f"{key}_{part}": runs[part].stats[key] for part in LISTS}
            hands = [numbers[f"{key}_{part}"] for part in ("lefthand", "righthand")]
            numbers[f"{key}_hand"] = float(np.mean(hands)) if min(hands) >= 0 else max(hands)
        details = asdict(whole) | {"stats": numbers, "parts": {part: runs[part].stats for part in LISTS}}
        lines = (*coco_eval.number_rows(whole.stats), *_rows(numbers), *coco_eval.count_rows(whole))
        return Scores(self.name, numbers, self.best, self.shown, lines, details)

    def sigmas_of(self, part: str) -> list[float]:
        assert self.sigmas is not None
        return [self.sigmas[k] for k in columns_of(part)]

    def matches(self, found: Results, image_ids: Sequence[int] | None = None) -> Any:
        """The matches over all 133 keypoints."""
        records, where = load_content(found, "results"), place_of(found, "results")
        results = part_results(records, WHOLE, where)
        return match(of_part(self.file, WHOLE), results, sigmas=self.sigmas, image_ids=image_ids)

    def sampled(self, found: Results, image_ids: Sequence[int] | None = None) -> Sampled:
        return self.matches(found, image_ids)


# ------------------------------------------------------------------------------------------------ the parts


def columns_of(part: str) -> list[int]:
    """Of the 133 keypoints, those of a part."""
    if part == WHOLE:
        return list(range(COUNT))
    start = 0
    for name, sigmas in SIGMAS.items():
        if name == part:
            return list(range(start, start + len(sigmas)))
        start += len(sigmas)
    raise ValueError(part)


def of_part(file: KeypointFile, part: str) -> KeypointFile:
    """The file as if it had the keypoints of the part only, of whom nobody counted how many are labelled."""
    columns = columns_of(part)
    names = tuple(file.names[k] for k in columns)
    return replace(
        file,
        names=names,
        chosen=tuple(Category(one.id, one.name, names, {}) for one in file.chosen),
        keypoints=file.keypoints[:, columns],
        num_keypoints=np.full(len(file.ids), np.nan),
    )


def lists_of(person: np.ndarray) -> dict[str, list[float]]:
    """person (133, 3), of whom some keypoint is found -> the five lists of COCO-WholeBody.  What is not found
    lies at the mean of what is found of the part, or else of the person, with score 0."""
    lists = {}
    everything = place_missing(person)
    for part, key in LISTS.items():
        columns = columns_of(part)
        own = person[columns]
        placed = place_missing(own) if (own[:, 2] > 0).any() else everything[columns]
        lists[key] = placed.round(3).ravel().tolist()
    return lists


def part_results(records: Any, part: str, where: str) -> list[Record]:
    """COCO results of those found with a keypoint of the part.  All have the box of the whole record, or that
    of its body, from which COCOeval takes whether somebody is medium or large."""
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        raise UserError(f"{where}: results must be a list of records, got {type(records).__name__}")
    boxed = bool(records) and isinstance(records[0], Mapping) and bool(records[0].get("bbox"))
    found = []
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping):
            raise UserError(f"{where}: result {number} is not an object: {record!r:.80}")
        label = f"{where}: result {number}:"
        lists = {name: _numbers(record, name, label) for name in (LISTS if part == WHOLE else (part,))}
        values = [value for one in lists.values() for value in one]
        if not any(values[2::3]):
            continue
        box = record.get("bbox") if boxed else _extent(_numbers(record, "body", label))
        score = record.get(f"{part}_score", record.get("score"))
        found.append({**record, "keypoints": values, "bbox": box, "score": score})
    return found


def _numbers(record: Mapping[str, Any], part: str, label: str) -> list[float]:
    """The keypoints of a part; zeros where the record has none."""
    count = 3 * len(SIGMAS[part])
    values = record.get(LISTS[part])
    return [0.0] * count if values is None else floats(values, f"{label} {LISTS[part]}", count)


def _extent(keypoints: Sequence[float]) -> list[float]:
    x, y = keypoints[0::3], keypoints[1::3]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def _rows(numbers: Mapping[str, float]) -> list[str]:
    rows = []
    for part in ("body", "foot", "face", "hand", "lefthand", "righthand"):
        ap, ar = numbers[f"AP_{part}"], numbers[f"AR_{part}"]
        rows.append(f" Average Precision and Recall @[ IoU=0.50:0.95 | {part:>9} ] = {ap:0.3f}  {ar:0.3f}")
    return rows
