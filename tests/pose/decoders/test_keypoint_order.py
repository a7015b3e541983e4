"""The order in which keypoints are grouped."""

from __future__ import annotations

import pytest

from pose.decoders.keypoint_order import order_index
from pose.errors import UserError
from pose.skeleton import Skeleton

SKELETON = Skeleton("three", ("head", "hip", "tail"), grouping_order=("hip", "head", "tail"))


def test_names_become_indices_and_none_are_the_skeletons_order() -> None:
    assert order_index(("tail", "head", "hip"), SKELETON) == (2, 0, 1)
    assert order_index((), SKELETON) == (1, 0, 2)


def test_other_names_are_told() -> None:
    with pytest.raises(UserError, match="no keypoint 'hed', did you mean 'head'"):
        order_index(("hed", "hip", "tail"), SKELETON)
    for names in (("hip", "tail"), ("hip", "tail", "tail")):
        with pytest.raises(UserError, match="every keypoint must be named once.*head, hip, tail"):
            order_index(names, SKELETON)
