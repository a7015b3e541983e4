"""pose.skeleton: left and right are read from names, and what makes no sense is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pose import skeleton
from pose.config import read_yaml
from pose.errors import UserError
from pose.skeleton import Skeleton, from_coco_category, from_dict, mirrored_name, rule_sigma, to_dict

SKELETONS = sorted((Path(__file__).parents[2] / "configs" / "_skeletons").glob("*.yaml"))
COCO_PAIRS = [
    [16, 14],
    [14, 12],
    [17, 15],
    [15, 13],
    [12, 13],
    [6, 12],
    [7, 13],
    [6, 7],
    [6, 8],
    [7, 9],
    [8, 10],
    [9, 11],
    [2, 3],
    [1, 2],
    [1, 3],
    [2, 4],
    [3, 5],
    [4, 6],
    [5, 7],
]  # of COCO's annotation files, counted from 1


def coco17() -> Skeleton:
    return from_dict(read_yaml(next(path for path in SKELETONS if path.stem == "coco17")))


def test_coco17_is_cocos() -> None:
    one = coco17()
    assert one.flip_index == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert [[a + 1, b + 1] for a, b in one.limb_index] == COCO_PAIRS
    category = {"name": "person", "keypoints": list(one.keypoints), "skeleton": COCO_PAIRS}
    same = from_coco_category(category)
    assert (same.keypoints, same.limb_index, same.flip_index) == (
        one.keypoints,
        one.limb_index,
        one.flip_index,
    )
    assert one.grouping_index == (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)  # pose-ae-train's


@pytest.mark.parametrize("path", SKELETONS, ids=lambda p: p.stem)
def test_a_skeleton_survives_being_written(path: Path) -> None:
    one = from_dict(read_yaml(path))
    assert from_dict(to_dict(one)) == one
    assert sorted(one.grouping_index) == list(range(len(one)))
    assert [one.flip_index[k] for k in one.flip_index] == list(range(len(one)))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_knee", "right_knee"),
        ("kneeL", "kneeR"),
        ("L_knee", "R_knee"),
        ("leftKnee", "rightKnee"),
        ("l_knee", "r_knee"),
        ("LeftKnee", "RightKnee"),
        ("LEFT_KNEE", "RIGHT_KNEE"),
        ("knee_left", "knee_right"),
        ("knee-l", "knee-r"),
        ("upper left lip", "upper right lip"),
        ("LKnee", "RKnee"),
        ("l1", "r1"),
        ("lknee", "rknee"),
        ("kneel", "kneer"),
        ("lhip", "rhip"),
        ("front_left_paw", "front_right_paw"),
        ("left2", "right2"),
    ],
)
def test_sides_are_read_from_names(left: str, right: str) -> None:
    names = ("nose", left, right)
    assert mirrored_name(left, names) == right and mirrored_name(right, names) == left
    assert Skeleton("s", names).flip_index == (0, 2, 1)


@pytest.mark.parametrize(
    "name", ["nose", "tail", "collar", "lip", "ear", "l", "upright_ear", "throttle_r", "hat1"]
)
def test_a_name_without_a_partner_stays(name: str) -> None:
    assert mirrored_name(name, ("nose", name)) == name


def test_mirror_may_be_given_where_names_do_not_tell() -> None:
    one = Skeleton("s", ("a", "b", "c"), mirror={"a": "b"})
    assert one.flip_index == (1, 0, 2)


def test_grouping_follows_the_limbs_by_default() -> None:
    names = ("nose", "left_foot", "right_foot", "left_hip", "right_hip")
    limbs = (
        ("left_hip", "left_foot"),
        ("right_hip", "right_foot"),
        ("nose", "left_hip"),
        ("nose", "right_hip"),
    )
    order = Skeleton("s", names, limbs).grouping_order
    assert order == ("nose", "left_hip", "right_hip", "left_foot", "right_foot")
    assert Skeleton("s", ("b", "a")).grouping_order == ("b", "a")  # no limbs: as they are listed


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"keypoints": []}, "no keypoints"),
        ({}, "keypoints: expected a list of names"),
        ({"keypoints": "nose"}, "keypoints: expected a list of names"),
        ({"keypoints": [1, 2]}, "keypoints: expected a list of names"),
        ({"keypoints": ["a", "a"]}, "'a' is named twice"),
        ({"keypoints": ["a", "left_b"]}, "'left_b' would mirror to 'right_b', which is no keypoint"),
        (
            {"keypoints": ["nose", "neck"], "limbs": [["nose", "nekc"]]},
            "no keypoint 'nekc', did you mean 'neck'?",
        ),
        ({"keypoints": ["a", "b"], "limbs": [["a", "b", "a"]]}, "limbs: expected a list of pairs"),
        ({"keypoints": ["a", "b"], "limbs": [[0, 1]]}, "limbs: expected a list of pairs"),
        ({"keypoints": ["a", "b"], "limbs": ["ab"]}, "limbs: expected a list of pairs"),
        ({"keypoints": ["a", "b"], "limbs": [["a", "a"]]}, "joins two different keypoints"),
        ({"keypoints": ["a", "b"], "limbs": [["a", "b"], ["b", "a"]]}, "listed once"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1]}, "2 keypoints but 1 sigmas"),
        ({"keypoints": ["a", "b"], "sigmas": {"a": 0.1}}, "sigmas: nothing for b"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1, -1]}, "sigmas must be positive"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1, float("nan")]}, "sigmas must be positive"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1, float("inf")]}, "sigmas must be positive"),
        ({"keypoints": ["a", "b"], "sigmas": ["x", "y"]}, "sigmas: expected numbers"),
        ({"keypoints": ["a", "b"], "sigmas": 3}, "sigmas: expected numbers"),
        ({"keypoints": ["a", "b"], "grouping_order": ["a"]}, "grouping_order must name every keypoint once"),
        (
            {"keypoints": ["a", "b"], "grouping_order": ["a", "a"]},
            "grouping_order must name every keypoint once",
        ),
        ({"keypoints": ["a", "b"], "mirror": {"a": "z"}}, "no keypoint 'z'"),
        ({"keypoints": ["a", "b"], "mirror": ["a"]}, "mirror: expected names by name"),
        ({"keypoints": ["a", "b", "c"], "mirror": {"a": "b", "c": "b"}}, "mirrors to"),
        ({"keypoints": ["n", "l_a", "r_a"], "limbs": [["n", "l_a"]]}, "limb n-l_a has no mirror image"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r"^skeleton 's': ") as caught:
        from_dict({"name": "s", **data})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"name": "cat"}, "lists no keypoints"),
        ({"name": "cat", "keypoints": ["a", "b"], "skeleton": [[0, 1]]}, "count keypoints from 1 to 2"),
        ({"name": "cat", "keypoints": ["a", "b"], "skeleton": [[1, 3]]}, "count keypoints from 1 to 2"),
        ({"name": "cat", "keypoints": ["a", "b"], "skeleton": [[1, 2, 1]]}, "count keypoints from 1 to 2"),
        ({"name": "cat", "keypoints": ["a", "b"], "skeleton": [["a", "b"]]}, "count keypoints from 1 to 2"),
        ({"name": "cat", "keypoints": ["a", "b"], "skeleton": [3]}, "count keypoints from 1 to 2"),
        ({"name": "cat", "keypoints": "ab"}, "keypoints: expected a list of names"),
        ({"name": "cat", "keypoints": 3}, "keypoints: expected a list of names"),
    ],
)
def test_a_coco_category_that_is_no_skeleton(category: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_coco_category(category)


def test_a_coco_category_carries_more_where_it_has_it() -> None:
    category = {"name": "cat", "keypoints": ["a", "b"], "sigmas": [0.1, 0.2], "grouping_order": ["b", "a"]}
    one = from_coco_category(category)
    assert (one.name, one.sigmas, one.grouping_order) == ("cat", (0.1, 0.2), ("b", "a"))
    assert from_coco_category({"keypoints": ["a"]}).sigmas == (skeleton.DEFAULT_SIGMA,)


@pytest.mark.parametrize(
    ("rule", "sigma"), [("dlc", 0.1), ("sleap", 0.025), ("ultralytics", 0.5), ("uniform:0.05", 0.05)]
)
def test_sigmas_by_a_rule_stay_a_rule(rule: str, sigma: float) -> None:
    one = from_dict({"keypoints": ["a", "b"], "sigmas": rule})
    assert one.sigmas == (sigma, sigma) and not one.has_default_sigmas
    assert one.sigma_label == f"{rule} ({sigma:g} for all)"
    assert to_dict(one)["sigmas"] == rule and from_dict(to_dict(one)) == one


@pytest.mark.parametrize("rule", ["dcl", "uniform", "uniform:x", "uniform:-1", "uniform:inf", "0.05"])
def test_an_unknown_rule_is_refused(rule: str) -> None:
    with pytest.raises(UserError, match="no rule .*dlc, sleap, ultralytics"):
        rule_sigma(rule, 3)
    with pytest.raises(UserError, match="no rule"):
        from_dict({"keypoints": ["a"], "sigmas": rule})
