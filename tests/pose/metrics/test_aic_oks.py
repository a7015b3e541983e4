"""COCO's AP with AI Challenger's sigmas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.annotations.aic import KEYPOINTS
from pose.annotations.reader import parse
from pose.metrics import coco_eval
from pose.metrics.aic_eval import SIGMAS
from pose.metrics.aic_oks import AicOks, AicOksSettings
from pose.metrics.base import bind, fitting
from pose.skeleton import Skeleton
from tests.published_scores import published, same


def content(*names: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    people = [
        {"id": i + 1, "image_id": 1 + i % 2, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 200, 200],
         "keypoints": np.c_[rng.uniform(0, 200, (len(names), 2)), np.full(len(names), 2)].ravel().tolist()}
        for i in range(4)
    ]  # fmt: skip
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
    category = {"id": 1, "name": "person", "keypoints": list(names)}
    return {"images": images, "annotations": people, "categories": [category]}


@pytest.mark.parametrize("case", ["aic_0.5", "aic_1.5", "mhp_0.5", "mhp_1.5", "coco"])
def test_other_sets_by_their_sigmas_are_those_of_published_evaluators(real_data: Path, case: str) -> None:
    """Without areas, 0.53 of the box is taken; AI Challenger's 14, MHP's 16 and COCO's 17 keypoints."""
    known = published(real_data)
    files = known.cases[case]
    kind = case.partition("_")[0]
    own = known.metric("coco", files["gt"], sigmas=known.sigmas[kind])
    expected = files.get("xtcocotools keypoints use_area=False") or files["pycocotools"]
    assert same(own.score(known.folder / files["dt"]).numbers, expected)


def test_it_comes_first_and_the_official_score_is_told_besides() -> None:
    file = parse(content(*KEYPOINTS), "x.json")
    assert [one.name for one in fitting(file)] == ["aic_oks", "aic"]
    first, second = bind(file, Skeleton("fourteen", KEYPOINTS))
    assert first.header()["sigmas"] == "AI Challenger's" and second.best == "score"
    assert [one.name for one in fitting(parse(content(*KEYPOINTS[1:]), "x.json"))] == ["coco"]


def test_the_sigmas_go_by_name() -> None:
    names = ("chin", *reversed(KEYPOINTS))
    data = content(*names)
    skeleton = Skeleton("more", (*KEYPOINTS, "chin"), sigmas=(0.5,) * 14 + (0.03,))
    own = AicOks(AicOksSettings(), parse(data, "x.json"), skeleton)
    assert own.sigmas == [0.03, *reversed(SIGMAS)]
    results = [
        {"image_id": one["image_id"], "category_id": 1, "score": 1 - i / 9,
         "keypoints": (np.reshape(one["keypoints"], (-1, 3)) + [2.0, 0, 0]).ravel().tolist()}
        for i, one in enumerate(data["annotations"])
    ]  # fmt: skip
    expected = coco_eval.evaluate(data, results, sigmas=own.sigmas).stats
    assert own.score(results).numbers == expected and 0 < expected["AP"] < 1
