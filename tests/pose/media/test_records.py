"""What is written of people: OpenPose's files, COCO's list, both whole at any end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pose.errors import UserError
from pose.media.pipeline import Frame
from pose.media.records import Records, openpose, openpose_name
from pose.media.sources import Source
from pose.skeleton import Derived, Skeleton
from pose.structures import People

SKELETON = Skeleton(
    "s", ("neck", "left_hand", "right_hand"), limbs=(("left_hand", "neck"), ("right_hand", "neck")),
    derived={"neck": Derived(("left_hand", "right_hand"))},
)  # fmt: skip
PEOPLE = People(
    np.array([[[1, 2, 0.5], [3, 4, 0.25], [5, 6, 1]], [[7, 8, 1], [0, 0, 0], [9.12345, 9, 0.1]]], np.float32),
    np.array([0.75, 0.5], np.float32),
)
PICTURE = Source("picture", Path("in/a.jpg"), Path("sub/a"))
FILM = Source("video", Path("in/film.mp4"), Path("film"))


def test_openpose_has_every_keypoint_and_an_id_for_who_is_followed() -> None:
    record = openpose(PEOPLE)
    assert [one["person_id"] for one in record["people"]] == [[-1], [-1]]
    assert record["people"][0]["pose_keypoints_2d"] == [1, 2, 0.5, 3, 4, 0.25, 5, 6, 1]
    assert record["people"][0]["face_keypoints_2d"] == record["people"][0]["hand_left_keypoints_3d"] == []
    assert record["people"][1]["pose_keypoints_2d"][3:] == [0, 0, 0, 9.123, 9, 0.1]
    assert [one["score"] for one in record["people"]] == [0.75, 0.5]
    assert [one["person_id"] for one in openpose(PEOPLE, [4, 2])["people"]] == [[4], [2]]
    assert openpose(People.none(3)) == {"version": 1.3, "people": []}


def test_files_are_named_as_openpose_names_them() -> None:
    assert openpose_name(Frame(1, PICTURE)) == Path("sub/a_keypoints.json")
    assert openpose_name(Frame(9, FILM, number=7)) == Path("film_000000000007_keypoints.json")


def test_coco_lists_annotated_keypoints_and_says_which_picture_is_which(tmp_path: Path) -> None:
    records = Records(tmp_path, tmp_path / "people.json", SKELETON)
    records.add(Frame(1, PICTURE, size=(30, 40)), PEOPLE)
    records.add(Frame(2, FILM, number=7, seconds=0.7, size=(50, 60)), PEOPLE, [4, 2])
    records.add(Frame(3, PICTURE, size=(30, 40)), People.none(3))
    assert not (tmp_path / "people.json").exists()  # not before it is whole
    records.close()
    results = json.loads((tmp_path / "people.json").read_text())
    assert [entry["image_id"] for entry in results] == [1, 1, 2, 2]
    assert results[0]["keypoints"] == [3, 4, 0.25, 5, 6, 1]
    assert [entry.get("track_id") for entry in results] == [None, None, 4, 2]
    described = json.loads((tmp_path / "people-images.json").read_text())
    assert described["categories"][0]["keypoints"] == ["left_hand", "right_hand"]
    assert described["images"] == [
        {"id": 1, "file_name": "in/a.jpg", "width": 40, "height": 30},
        {"id": 2, "file_name": "in/film.mp4", "width": 60, "height": 50, "frame": 7, "seconds": 0.7},
        {"id": 3, "file_name": "in/a.jpg", "width": 40, "height": 30},
    ]
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")}
    openposes = {"sub/a_keypoints.json", "film_000000000007_keypoints.json"}
    assert written == openposes | {"people.json", "people-images.json"}
    assert not list(tmp_path.rglob(".*"))


def test_somebody_with_derived_keypoints_only_keeps_the_others_ids(tmp_path: Path) -> None:
    records = Records(tmp_path, tmp_path / "p.json", SKELETON)
    keypoints = PEOPLE.keypoints.copy()
    keypoints[0, 1:] = 0
    records.add(Frame(1, FILM), People(keypoints, PEOPLE.scores), [4, 2])
    records.close()
    assert [entry["track_id"] for entry in json.loads((tmp_path / "p.json").read_text())] == [2]


def test_nothing_found_is_an_empty_list(tmp_path: Path) -> None:
    Records(tmp_path, tmp_path / "p.json", SKELETON).close()
    assert json.loads((tmp_path / "p.json").read_text()) == []
    assert json.loads((tmp_path / "p-images.json").read_text())["images"] == []


def test_a_place_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for file in (tmp_path, Path("."), tmp_path / "file/p.json"):
        with pytest.raises(UserError, match="is a folder|cannot write"):
            Records(tmp_path, file, SKELETON)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    records = Records(tmp_path, tmp_path / "p.json", SKELETON)
    assert records._results.file is not None
    records._results.file.close()
    records._results.file = open(full, "w")  # noqa: SIM115
    records.add(Frame(1, PICTURE), PEOPLE)
    with pytest.raises(UserError, match="cannot write .*p.json: No space left"):
        records.close()
    assert not (tmp_path / "p.json").exists()
    assert not list(tmp_path.glob(".*"))  # nor a part of the other list


def test_limbs_are_counted_from_1(tmp_path: Path) -> None:
    limbs = (("nose", "left_hand"), ("nose", "right_hand"))
    skeleton = Skeleton("hands", ("nose", "left_hand", "right_hand"), limbs=limbs)
    records = Records(tmp_path / "out", tmp_path / "people.json", skeleton)
    records.add(Frame(1, Source("picture", Path("a.png"), Path("a")), size=(4, 6)), People.none(3))
    records.close()
    (category,) = json.loads((tmp_path / "people-images.json").read_text())["categories"]
    assert category["skeleton"] == [[1, 2], [1, 3]]
