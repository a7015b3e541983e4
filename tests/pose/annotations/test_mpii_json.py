"""MPII's JSON list as COCO's objects."""

from __future__ import annotations

from pose.annotations.mpii import POINTS
from pose.annotations.mpii_json import is_mpii, to_coco
from pose.annotations.reader import parse


def test_odd_visibilities_are_issues_and_no_labels() -> None:
    seen = ["0", "1", 3, None, [1], True, False, *[1.0] * (len(POINTS) - 7)]
    people = [{"image": "a.jpg", "joints": [[5, 6]] * len(POINTS), "joints_vis": seen}]
    file = parse(to_coco(people), "mpii.json")
    assert file.labelled[0].tolist() == [False, True, False, False, False, True, False] + [True] * 9
    assert {"annotation_text", "visibility", "not_finite"} <= {issue.code for issue in file.issues}


def test_images_are_numbered_as_they_appear_and_people_kept() -> None:
    joints = [[5.5, 6]] * len(POINTS)
    people = [
        {"image": name, "joints": joints, "joints_vis": [1] * len(POINTS), "center": [1, 2], "scale": 3}
        for name in ("b.jpg", "a.jpg", "b.jpg")
    ]
    assert (
        is_mpii(people) and not is_mpii([]) and not is_mpii({"images": []}) and not is_mpii([{"image": "x"}])
    )
    file = parse(to_coco(people), "mpii.json")
    assert file.file_names == ("b.jpg", "a.jpg") and file.image.tolist() == [0, 1, 0]
    assert file.names == POINTS and (file.keypoints == [5.5, 6, 2]).all()


def test_people_that_are_no_objects_or_have_no_image_are_issues() -> None:
    sound = {"image": "a.jpg", "joints": [[5, 6]] * len(POINTS), "joints_vis": [1] * len(POINTS)}
    file = parse(to_coco([sound, 7, {**sound, "image": None}, {**sound, "joints": None}]), "mpii.json")
    assert file.people.sum() == 1
    assert {"annotation_entry", "absent_image"} <= {issue.code for issue in file.issues}
