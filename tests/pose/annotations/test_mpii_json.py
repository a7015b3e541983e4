"""MPII's JSON list as COCO's objects."""

from __future__ import annotations

from pose.annotations.mpii import POINTS
from pose.annotations.mpii_json import to_coco
from pose.annotations.reader import parse


def test_odd_visibilities_are_issues_and_no_labels() -> None:
    seen = ["0", "1", 3, None, [1], True, False, *[1.0] * (len(POINTS) - 7)]
    people = [{"image": "a.jpg", "joints": [[5, 6]] * len(POINTS), "joints_vis": seen}]
    file = parse(to_coco(people), "mpii.json")
    assert file.labelled[0].tolist() == [False, True, False, False, False, True, False] + [True] * 9
    assert {"annotation_text", "visibility", "not_finite"} <= {issue.code for issue in file.issues}
