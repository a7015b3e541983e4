"""Bootstrap intervals: paired draws, the same each time, and of the size that theory says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.metrics.matching import Matches, match
from pose.report.bootstrap import Interval, bootstrap, draws, interval
from tests.dot_people import SKELETON, write_set


def results_of(content: Any, wrong: set[int]) -> list[dict[str, Any]]:
    """Everybody found exactly, but nobody on the `wrong` images (by id)."""
    return [
        {
            "image_id": a["image_id"],
            "category_id": 1,
            "keypoints": a["keypoints"],
            "score": 1 - a["id"] / 1000,
        }
        for a in content["annotations"]
        if a["image_id"] not in wrong
    ]


def match_all(content: Any, results: Any, image_ids: list[int] | None = None) -> Matches:
    return match(content, results, sigmas=SKELETON.sigmas, image_ids=image_ids)


@pytest.fixture
def content(tmp_path: Path) -> Any:
    write_set(tmp_path, [(64, 80)] * 40)
    return json.loads((tmp_path / "dots.json").read_text())


def test_intervals_of_recall_are_those_of_a_share(content: Any) -> None:
    ids = [image["id"] for image in content["images"]]
    people = np.array([sum(a["image_id"] == i for a in content["annotations"]) for i in ids])
    found = np.array([n % 4 != 0 for n in range(len(ids))])
    matches = match_all(content, results_of(content, {i for i, f in zip(ids, found, strict=True) if not f}))
    one = bootstrap([matches]).of(0, "AR")
    share = (people * found).sum() / people.sum()
    error = np.sqrt((people**2 * (found - share) ** 2).sum()) / people.sum()  # of a ratio of two sums
    assert one.value == pytest.approx(share)
    assert one.low == pytest.approx(share - 1.96 * error, abs=0.03)
    assert one.high == pytest.approx(share + 1.96 * error, abs=0.03)


def test_a_difference_is_paired(content: Any) -> None:
    ids = [image["id"] for image in content["images"]]
    base = match_all(content, results_of(content, set(ids[::3])))
    same = match_all(content, results_of(content, set(ids[::3])))
    worse = match_all(content, results_of(content, {*ids[::3], *ids[1:20:3]}))
    numbers = bootstrap([base, same, worse], rounds=200)
    assert numbers.difference(1, "AP") == Interval(0.0, 0.0, 0.0)
    assert not numbers.difference(1, "AP").excludes_zero
    apart = numbers.difference(2, "AP")
    assert apart.low < apart.value < apart.high < 0 and apart.excludes_zero
    assert numbers.of(2, "AP").high > numbers.of(0, "AP").low, "the single intervals overlap"


def test_draws_are_the_same_each_time(content: Any) -> None:
    assert all((a == b).all() for a, b in zip(draws(9, 5), draws(9, 5), strict=True))
    picked = np.concatenate(list(draws(9, 50)))
    assert set(picked) == set(range(9))


def test_what_cannot_be_scored_has_no_interval() -> None:
    one = interval(np.nan, np.full(10, np.nan))
    assert np.isnan([*one]).all() and not one.excludes_zero
    assert interval(0.5, np.array([np.nan, 0.4, 0.6])).low == pytest.approx(0.405)


def test_runs_on_other_images_are_no_pair(content: Any) -> None:
    ids = [image["id"] for image in content["images"]]
    parts = [match_all(content, results_of(content, set()), image_ids=some) for some in (ids[:9], ids[9:])]
    with pytest.raises(ValueError, match="not matched on the same images"):
        bootstrap(parts)
