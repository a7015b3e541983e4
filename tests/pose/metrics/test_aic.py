"""AI Challenger's metric behind the door: people of a run and its own lists are scored alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose.annotations.aic import KEYPOINTS
from pose.annotations.aic_coco import Picture, to_coco
from pose.annotations.reader import parse
from pose.errors import UserError
from pose.metrics import aic_lists
from pose.metrics.aic import Aic, AicSettings
from pose.metrics.aic_lists import as_found
from pose.skeleton import Skeleton
from pose.structures import People
from tests.pose.metrics.test_aic_lists import AIC14, UNION, content, people


@pytest.mark.parametrize("skeleton", [AIC14, UNION], ids=["aic14", "union"])
def test_people_equal_to_the_annotations_score_1_whatever_the_orders(skeleton: Skeleton) -> None:
    """The file in its order, the run's skeleton in another, only some of the pictures tested."""
    found = as_found(
        {1: people(1, 1), 2: people(1, seed=1), 3: people()}, {1: "a", 2: "b", 3: "c"}, range(14)
    )
    turned = Skeleton("turned", KEYPOINTS[3:] + KEYPOINTS[:3])
    pictures = [Picture(f"{one.image_id}.jpg", 100, 100) for one in found.images]
    boxed = [
        type(one)(one.image_id, one.humans, one.keypoints, one.boxes + [0, 0, 50, 50]) for one in found.images
    ]
    file = parse(to_coco(boxed, pictures, turned), "x.json")
    metric = Aic(AicSettings(), file, skeleton)
    assert metric.test([2, 1]).names == {2: "b", 1: "a"}
    mine = {}
    for image_id, number, seed in ((1, 2, 0), (2, 1, 1)):
        keypoints = np.zeros((number, len(skeleton), 3), np.float32)
        keypoints[:, aic_lists.keypoint_order(skeleton)] = people(*[1] * number, seed=seed).keypoints
        mine[image_id] = People(keypoints, np.ones(number, np.float32))
    scores = metric.evaluate(mine, [2, 1])
    assert (scores.value, scores.details["images"], scores.details["people"]) == (pytest.approx(1), 2, 3)


def test_entries_that_are_no_images_are_told() -> None:
    entries: list[Any] = [None, {}, 3]
    for entry in entries:
        file = {**content(*KEYPOINTS), "images": [entry], "annotations": []}
        with pytest.raises(UserError, match="some.json: image 0 has no id or no file_name"):
            Aic(AicSettings(), parse(file, "some.json"), AIC14)
