"""People -> AI Challenger's list, and the threshold that suits its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from pose.annotations.aic import KEYPOINTS, to_official
from pose.annotations.reader import parse
from pose.config import read_yaml
from pose.errors import UserError
from pose.metrics import aic_lists
from pose.metrics.aic_eval import Choice, evaluate
from pose.metrics.aic_lists import AicTest, as_found
from pose.skeleton import Skeleton, from_dict
from pose.structures import People

AIC14 = from_dict(read_yaml(Path(__file__).parents[3] / "configs" / "_skeletons" / "aic14.yaml"))
# two more keypoints, and the 14 in another order
UNION = Skeleton("union", ("nose", *reversed(KEYPOINTS), "chin"))


def people(*scores: float, keypoints: int = 14, seed: int = 0) -> People:
    rng = np.random.default_rng(seed)
    found = np.concatenate(
        [rng.uniform(0, 90, (len(scores), keypoints, 2)), np.ones((len(scores), keypoints, 1))], 2
    )
    return People(found.astype(np.float32), np.array(scores, np.float32))  # fmt: skip


def content(*names: str) -> dict[str, Any]:
    return {"categories": [{"id": 1, "name": "person", "keypoints": list(names)}]}


# ---- the list ----


def test_a_list_holds_whole_pixels_and_zeros_and_every_picture() -> None:
    one = people(0.5, 0.9)
    one.keypoints[0, 0] = (10.49, 20.51, 0.1)
    one.keypoints[0, 1] = (-0.4, 3.0, 0.9)
    one.keypoints[1, 3] = (55.0, 66.0, 0.0)
    found = as_found({7: one}, {8: "b", 7: "a"}, range(14))
    empty, listed = to_official(found.above(-1), boxes=False)
    assert empty == {"image_id": "b", "keypoint_annotations": {}}
    assert listed["image_id"] == "a" and list(listed["keypoint_annotations"]) == ["human1", "human2"]
    first, second = listed["keypoint_annotations"].values()
    assert first[:6] == [10, 21, 1, 0, 3, 1] and second[9:12] == [0, 0, 0]
    assert {type(value) for value in first + second} == {int} and len(first) == 42


def test_people_below_the_threshold_are_left_out_and_the_rest_numbered() -> None:
    found = as_found({1: people(0.2, 0.5, 0.9), 2: people(0.1)}, {1: "a", 2: "b"}, range(14))
    first, second = found.above(0.5)
    assert first.humans == ("human1", "human2") and second.humans == ()
    np.testing.assert_array_equal(first.keypoints, found.images[0].keypoints[1:])


def test_keypoints_are_picked_by_name_and_nobody_is_listed_without_one() -> None:
    own = people(0.5, 0.9, keypoints=16)
    own.keypoints[0, 1:15, 2] = 0  # only nose and chin
    order = aic_lists.keypoint_order(UNION)
    assert [UNION.keypoints[k] for k in order] == list(KEYPOINTS)
    found = as_found({1: own}, {1: "a"}, order)
    assert found.scores["a"].tolist() == [np.float32(0.9)]
    np.testing.assert_array_equal(found.images[0].keypoints[0, :, :2], np.rint(own.keypoints[1, 14:0:-1, :2]))


def test_a_skeleton_without_the_keypoints_is_refused_by_their_names() -> None:
    some = Skeleton("some", tuple(name for name in KEYPOINTS if name not in ("neck", "head_top")))
    with pytest.raises(UserError, match="'some' of this run has no head_top, neck"):
        aic_lists.keypoint_order(some)


def test_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    images = [(1, tmp_path / "a.jpg"), (2, tmp_path / "b.png")]
    assert aic_lists.picture_names(images) == {1: "a", 2: "b"}
    with pytest.raises(UserError, match="one picture in AI Challenger's list"):
        aic_lists.picture_names([*images, (3, tmp_path / "below/a.png")])


# ---- files ----


def test_a_file_is_known_by_the_14_names() -> None:
    spelled = [name.replace("_", " ").title() for name in KEYPOINTS]
    assert aic_lists.file_has_keypoints(parse(content(*spelled), "x.json"))
    assert aic_lists.file_has_keypoints(parse(content(*reversed(KEYPOINTS)), "x.json"))
    assert not aic_lists.file_has_keypoints(parse(content(*KEYPOINTS[1:]), "x.json"))
    assert aic_lists.file_has_keypoints(parse(content("nose", *KEYPOINTS), "x.json"))
    assert not aic_lists.file_has_keypoints(parse({"images": []}, "x.json"))


def test_a_file_is_told_the_sigmas_in_its_own_order() -> None:
    file = content(*(name.replace("_", "-") for name in reversed(KEYPOINTS)))
    file["categories"].insert(0, {"id": 2, "name": "dog"})
    assert aic_lists.aic_sigmas(parse(file, "x.json"), AIC14) == list(reversed(AIC14.sigmas))
    more = aic_lists.aic_sigmas(parse(content("nose", *KEYPOINTS), "x.json"), UNION)
    assert more == [UNION.sigmas[UNION.keypoints.index("nose")], *AIC14.sigmas]


# ---- the threshold ----


def test_thresholds_cover_people_and_scores_with_0_and_the_current_one() -> None:
    scores = np.concatenate([np.linspace(0.01, 0.02, 500), np.linspace(0.1, 0.9, 20)])
    found = as_found({1: people(*scores)}, {1: "a"}, range(14))
    tried = aic_lists.thresholds(found, 0.123456)
    assert 20 <= len(tried) <= 40 and tried == sorted(set(tried)) and {0.0, 0.123456} <= set(tried)
    assert sum(value < 0.02 for value in tried) > 8 and sum(value > 0.1 for value in tried) > 8
    assert aic_lists.thresholds(as_found({}, {1: "a"}, range(14)), 0.5) == [0.0, 0.5]


def test_the_best_choice_is_marked_and_scores_what_it_says() -> None:
    truth_file = as_found({1: people(1, 1)}, {1: "a"}, range(14)).images
    truth = [
        type(one)(one.image_id, one.humans, one.keypoints, one.boxes + [0, 0, 50, 50]) for one in truth_file
    ]
    right, wrong = people(0.8, 0.6), people(0.3, 0.5, seed=5)
    own = People(np.concatenate([right.keypoints, wrong.keypoints]), np.r_[right.scores, wrong.scores])
    test = AicTest(truth, {1: "a"}, list(range(14)), 0.0)
    choices = test.tune({1: own})
    best = aic_lists.best_choice(choices)
    assert 0.5 < best.threshold <= 0.6 and best.score == pytest.approx(1) and best.people == 2
    assert choices[0].threshold == 0 and choices[0].score == pytest.approx(0.5) and choices[0].people == 4
    chosen = AicTest(truth, {1: "a"}, list(range(14)), best.threshold)
    assert chosen.scores({1: own}).score == best.score
    assert evaluate(truth, test.found({1: own}).above(0.0)).score == choices[0].score
    text = aic_lists.curve_table(choices, 0.0)
    assert text.count("<- best") == 1 and text.count("<- now") == 1
    assert f"test.person_threshold={best.threshold} (AI Challenger official score 1.000000" in text


def test_of_equal_choices_the_lowest_threshold_is_best() -> None:
    choices = [Choice(0.0, 9, 0.2), Choice(0.1, 8, 0.3), Choice(0.2, 7, 0.3)]
    assert aic_lists.best_choice(choices) == choices[1]


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    choices = [Choice(0.0, 9, 0.2), Choice(0.1, 8, 0.3), Choice(0.2, 7, 0.1)]
    aic_lists.draw_curve(choices, 0.0, tmp_path / "curve.png")
    assert matplotlib.image.imread(tmp_path / "curve.png").shape[1] > 300
    with pytest.raises(UserError, match="cannot write"):
        aic_lists.draw_curve(choices, 0.0, tmp_path / "no/curve.png")
