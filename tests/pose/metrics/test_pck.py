"""PCK against what is worked out by hand, and its command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.errors import UserError, user_facing
from pose.metrics import pck
from pose.tools.score import main

NAMES = ["head", "hand", "foot"]
PERSON = [10, 20, 2, 60, 20, 1, 30, 120, 2]  # 100 pixels high


def truth(*people: tuple[int, list[Any]], images: int = 3, **more: Any) -> dict[str, Any]:
    """(image id, keypoints) of everybody."""
    annotations = [
        {"id": i + 1, "image_id": image, "category_id": 1, "keypoints": keypoints, **more}
        for i, (image, keypoints) in enumerate(people)
    ]
    return {
        "images": [{"id": i + 1} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
    }


def result(image: int, keypoints: list[Any], score: float = 0.5) -> dict[str, Any]:
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score}


def moved(keypoints: list[Any], *steps: float) -> list[Any]:
    """To the right, each keypoint by its step; scores 0 count for nothing."""
    points = np.array(keypoints, float).reshape(-1, 3)
    points[:, 0] += steps
    points[:, 2] = 0
    return points.ravel().tolist()


def test_a_keypoint_is_correct_up_to_a_share_of_the_longer_side() -> None:
    scores = pck.evaluate(truth((1, PERSON)), [result(1, moved(PERSON, 20, 20.01, -5))])
    assert scores.by_keypoint == {"head": 1.0, "hand": 0.0, "foot": 1.0}
    assert scores.pck == scores.mean == pytest.approx(2 / 3)
    assert pck.evaluate(truth((1, PERSON)), [result(1, PERSON)], threshold=1e-6).pck == 1


def test_only_labelled_keypoints_count_and_make_the_rectangle() -> None:
    person = [10, 20, 2, 60, 20, 2, 999, 999, 0]  # 50 wide
    scores = pck.evaluate(truth((1, person)), [result(1, moved(person, 9.9, 10.1, 0))])
    assert scores.by_keypoint == {"head": 1.0, "hand": 0.0, "foot": -1.0}
    assert scores.labelled == {"head": 1, "hand": 1, "foot": 0}
    assert scores.pck == scores.mean == 0.5


def test_pck_is_of_all_keypoints_and_the_mean_of_kinds() -> None:
    partly = [10, 20, 2, 60, 20, 2, 0, 0, 0]
    scores = pck.evaluate(
        truth((1, PERSON), (2, partly)), [result(1, PERSON), result(2, moved(partly, 99, 0, 0))]
    )
    assert scores.pck == pytest.approx(4 / 5) and scores.mean == pytest.approx((0.5 + 1 + 1) / 3)


def test_the_result_with_the_highest_score_counts() -> None:
    wrong, right = result(1, moved(PERSON, 99, 99, 99), 0.4), result(1, PERSON, 0.6)
    assert pck.evaluate(truth((1, PERSON)), [wrong, right]).pck == 1
    assert pck.evaluate(truth((1, PERSON)), [{**wrong, "score": 0.7}, right]).pck == 0
    assert (
        pck.evaluate(truth((1, PERSON)), [{**wrong, "score": 0.6}, right]).pck == 0
    )  # the first of equal ones


def test_an_image_without_results_is_all_wrong() -> None:
    scores = pck.evaluate(truth((1, PERSON), (2, PERSON)), [result(2, PERSON)])
    assert scores.pck == 0.5 and scores.num_people == 2 and scores.num_compared == 1
    assert pck.evaluate(truth((1, PERSON)), []).pck == 0


def test_results_of_several_people_choose_in_the_order_of_their_scores() -> None:
    other = moved(PERSON, 200, 200, 200)
    other[2::3] = [2, 2, 2]
    both = truth((1, PERSON), (1, other))
    swapped = [result(1, other, 0.9), result(1, PERSON, 0.8), result(1, PERSON, 0.1)]
    assert pck.evaluate(both, swapped).pck == 1
    assert pck.evaluate(both, swapped[::-1]).pck == 1
    # a bad result with a high score takes a person away
    assert pck.evaluate(both, [result(1, moved(PERSON, 0, 99, 99), 0.9), *swapped]).pck == pytest.approx(
        4 / 6
    )
    assert pck.evaluate(both, [result(1, other, 0.9)]).pck == 0.5


def test_crowds_and_people_without_extent_do_not_count() -> None:
    point = [10, 20, 2, 0, 0, 0, 0, 0, 0]
    nothing = [0.0] * 9
    twice = [10, 20, 2, 10, 20, 2, 0, 0, 0]
    data = truth((1, PERSON), (2, point), (2, nothing), (2, twice), (3, PERSON))
    data["annotations"][-1]["iscrowd"] = 1
    scores = pck.evaluate(data, [result(1, PERSON), result(2, PERSON), result(3, PERSON)])
    assert scores.pck == 1 and scores.num_people == 1
    assert scores.ignored == {"crowd": 1, "no_extent": 3}
    assert "3 without two labelled keypoints" in pck.table(scores)
    empty = pck.evaluate(truth((2, point)), [])
    assert empty.pck == empty.mean == -1


def test_it_is_the_literal_formula() -> None:
    rng = np.random.default_rng(0)
    people = rng.uniform(0, 200, (30, 3, 3))
    people[..., 2] = rng.integers(0, 3, (30, 3))
    found = people + rng.normal(0, 15, people.shape)
    data = truth(*((i + 1, p.ravel().tolist()) for i, p in enumerate(people)), images=30)
    scores = pck.evaluate(data, [result(i + 1, p.ravel().tolist()) for i, p in enumerate(found)])
    right = total = 0
    for person, one in zip(people, found, strict=True):
        labelled = [k for k in range(3) if person[k, 2] > 0]
        if len(labelled) < 2:
            continue
        sides = [
            max(person[k, axis] for k in labelled) - min(person[k, axis] for k in labelled) for axis in (0, 1)
        ]
        for k in labelled:
            total += 1
            right += np.hypot(*(person[k, :2] - one[k, :2])) <= 0.2 * max(sides)
    assert 0 < right < total and scores.pck == pytest.approx(right / total)
    assert sum(scores.labelled.values()) == total


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {name: tmp_path / f"{name}.json" for name in ("truth", "results", "scores")}
    paths["truth"].write_text(json.dumps(truth((1, PERSON), (2, PERSON))))
    paths["results"].write_text(json.dumps([result(1, moved(PERSON, 0, 15, 0))]))
    files = ["pck", "--annotations", str(paths["truth"]), "--results", str(paths["results"])]
    main([*files, "--threshold", "0.1", "-o", str(paths["scores"])])
    text = capsys.readouterr().out
    assert "PCK@0.1 hand" in text and "all labelled keypoints" in text and "=  0.333" in text
    written = json.loads(paths["scores"].read_text())
    assert written["metric"] == "pck" and written["threshold"] == 0.1
    assert written["by_keypoint"] == {"head": 0.5, "hand": 0.0, "foot": 0.5}
    main(files)
    assert "PCK@0.2 hand" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "results", "threshold", "sentence"),
    [
        (truth((1, PERSON)), [result(1, PERSON)], 0.0, "must be above 0"),
        (truth((1, PERSON)), [result(9, PERSON)], 0.2, "image 9"),
        (truth((1, PERSON)), [result(1, PERSON[:6])], 0.2, "9 numbers"),
        (truth((1, PERSON)), {"results": []}, 0.2, "list of records"),
        ({"images": [{"id": 1}]}, [], 0.2, "annotations"),
        (truth((1, [])), [], 0.2, "no annotation has keypoints"),
    ],
)
def test_bad_files_are_named(data: Any, results: Any, threshold: float, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pck.evaluate(data, results, threshold=threshold)


def test_a_missing_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pck", "--annotations", str(tmp_path / "a.json"), "--results", str(tmp_path / "b.json")]
    assert user_facing(lambda: main(arguments))() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "a.json" in error and error.count("\n") == 1
