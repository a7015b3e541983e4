"""COCO annotations: parsing, what is wrong with them, and the cache."""

from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pose.annotations import cache as annotation_cache
from pose.annotations.annotations import LENIENT, load_annotations
from pose.annotations.issues import CODES
from pose.annotations.names import match_keypoints
from pose.annotations.reader import parse
from pose.annotations.skeletons import read_skeleton
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.errors import UserError
from pose.skeleton import Derived, Skeleton, from_dict

SKELETON = Skeleton("three", ("head", "left_hand", "right_hand"))
HEIGHT, WIDTH = 40, 60


@pytest.fixture(autouse=True)
def own_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user_cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def person(id: int, image: Any, keypoints: Any = None, **more: Any) -> dict[str, Any]:
    points = [5.5, 6, 2, 7, 8, 1, 0, 0, 0] if keypoints is None else keypoints
    return {"id": id, "image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": points,
            "bbox": [5, 6, 10, 20], "area": 77.0, **more}  # fmt: skip


def coco() -> dict[str, Any]:
    """Image 7: two people; 3: nobody; 9: one person, a crowd and a person without labelled keypoints."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in (7, 3, 9)
        ],
        "annotations": [
            person(1, 9),
            person(2, 7, area=0),
            person(3, 7, [1, 2, 0, 30, 20, 2, 4, 5, 1]),
            person(4, 9, [0] * 9, iscrowd=1, segmentation=crowd_rle()),
            person(5, 9, [0] * 9, segmentation=[[30, 10, 50, 10, 50, 30, 30, 30]]),
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(SKELETON.keypoints)}],
    }  # fmt: skip


def crowd_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:9, 2:12] = 1
    return mask


def crowd_rle(compressed: bool = False) -> dict[str, Any]:
    if compressed:
        rle = coco_mask.encode(np.asfortranarray(crowd_mask()))
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    flat = crowd_mask().ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *edges, flat.size]).tolist()}


def write(tmp_path: Path, data: Any, name: str = "people.json") -> Path:
    path = tmp_path / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


# -------------------------------------------------------------------------------------------------- parsing


@pytest.mark.parametrize("cache", [True, False])
def test_arrays_say_what_the_file_says(tmp_path: Path, cache: bool) -> None:
    loaded = load_annotations(write(tmp_path, coco()), SKELETON, cache=cache)
    assert loaded.image_ids.tolist() == [7, 3, 9]
    assert [loaded.file_name(i) for i in range(3)] == ["7.jpg", "3.jpg", "9.jpg"]
    assert loaded.size(0) == (HEIGHT, WIDTH)
    assert [len(loaded.keypoints(i)) for i in range(3)] == [2, 0, 1]
    assert loaded.with_people().tolist() == [0, 2]
    assert loaded.indices_of([9, 7]).tolist() == [0, 2]
    np.testing.assert_array_equal(loaded.keypoints(2)[0], [[5.5, 6, 2], [7, 8, 1], [0, 0, 0]])
    np.testing.assert_array_equal(loaded.boxes(2), [[5, 6, 10, 20]])
    assert loaded.keypoints(0).dtype == np.float32 and loaded.areas(0).dtype == np.float32


def test_a_missing_area_is_a_share_of_the_box(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pose"):
        loaded = load_annotations(write(tmp_path, coco()), SKELETON, strict=True)
    np.testing.assert_allclose(loaded.areas(0), [0.53 * 200, 77])
    assert "1 labelled person(s) without an area" in caplog.text and "annotation 2 in 7.jpg" in caplog.text


@pytest.mark.parametrize("compressed", [True, False])
def test_crowds_and_unlabelled_people_make_the_ignore_region(tmp_path: Path, compressed: bool) -> None:
    data = coco()
    data["annotations"][3]["segmentation"] = crowd_rle(compressed)
    loaded = load_annotations(write(tmp_path, data), SKELETON)
    assert loaded.ignore_mask(0) is None and loaded.ignore_mask(1) is None
    expected = crowd_mask()
    expected[10:30, 30:50] = 1
    np.testing.assert_array_equal(loaded.ignore_mask(2), expected)


@pytest.mark.parametrize(
    "segmentation",
    [None, [], [[1, 2, 3]], [[float("nan")] * 6], [["a"] * 6], {"size": [40, 61], "counts": [2400]},
     {"size": [40, 60], "counts": [10, -5, 2395]}, {"size": [40, 60], "counts": [10, 5]},
     {"size": [40, 60], "counts": "~~~~"}, {"size": [40, 60], "counts": "zzz"}, {"counts": None}, "nonsense"],
)  # fmt: skip
def test_a_segmentation_that_cannot_be_used_gives_the_box(tmp_path: Path, segmentation: Any) -> None:
    data = coco()
    unlabelled = person(2, 9, [0] * 9, bbox=[-5, 30, 15, 99], segmentation=segmentation)
    data["annotations"] = [person(1, 7), unlabelled]
    loaded = load_annotations(write(tmp_path, data), SKELETON, strict=True)
    expected = np.zeros((HEIGHT, WIDTH))
    expected[30:, :10] = 1
    np.testing.assert_array_equal(loaded.ignore_mask(2), expected)


def test_a_polygon_far_outside_costs_nothing(tmp_path: Path) -> None:
    data = coco()
    data["annotations"][4]["segmentation"] = [[30, -1e8, 1e8, -1e8, 1e8, 1e8, 30, 1e8]]
    mask = load_annotations(write(tmp_path, data), SKELETON).ignore_mask(2)
    assert mask is not None and mask[:, 31:].all() and not mask[10:, :29].any()


def test_people_without_a_keypoint_list_are_ignored_regions(tmp_path: Path) -> None:
    data = coco()
    del data["annotations"][0]["keypoints"]
    data["annotations"][1]["keypoints"] = []
    loaded = load_annotations(write(tmp_path, data), SKELETON, strict=True)
    assert loaded.num_people == 1
    mask = loaded.ignore_mask(0)
    assert mask is not None and mask[6:26, 5:15].all() and mask.sum() == 200


def test_other_categories_are_left_alone(tmp_path: Path) -> None:
    data = coco()
    data["categories"].append({"id": 2, "name": "dog"})
    data["annotations"].append({"id": 50, "image_id": 3, "category_id": 2, "bbox": [0, 0, 9, 9]})
    loaded = load_annotations(write(tmp_path, data), SKELETON, strict=True)
    assert loaded.num_people == 3 and loaded.ignore_mask(1) is None


def test_images_without_annotations_are_a_test_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = {"images": coco()["images"], "categories": [{"id": 1, "name": "person"}]}
    loaded = load_annotations(write(tmp_path, data), SKELETON)
    assert len(loaded) == 3 and not len(loaded.with_people())
    assert "no person with labelled keypoints" in caplog.text


def test_the_skeleton_of_a_file(tmp_path: Path) -> None:
    skeleton = read_skeleton(write(tmp_path, coco()))
    assert skeleton.keypoints == SKELETON.keypoints and skeleton.flip_index == (0, 2, 1)


# ------------------------------------------------------------------------ keypoints by name, and derived ones


def test_keypoints_are_matched_by_name(tmp_path: Path) -> None:
    """The same file with its names and lists in any order gives the same keypoints."""
    expected = load_annotations(write(tmp_path, coco()), SKELETON)
    for order in ([2, 0, 1], [1, 0, 2], [2, 1, 0]):
        data = coco()
        names = data["categories"][0]["keypoints"]
        data["categories"][0]["keypoints"] = [names[k] for k in order]
        for annotation in data["annotations"]:
            values = np.reshape(annotation["keypoints"], (3, 3))
            annotation["keypoints"] = values[order].ravel().tolist()
        loaded = load_annotations(write(tmp_path, data), SKELETON, strict=True)
        for i in range(3):
            np.testing.assert_array_equal(loaded.keypoints(i), expected.keypoints(i))
        places = match_keypoints(parse(data, "here"), SKELETON).places
        assert [data["categories"][0]["keypoints"][place] for place in places] == names


def with_middle(visible: Any = "any", rounded: bool = False) -> Skeleton:
    """In the order middle, right, head, left; the file has head, left, right."""
    names = ("middle", "right_hand", "head", "left_hand")
    return Skeleton("four", names, derived={"middle": Derived(names[1::2], visible, rounded)})


def derive(tmp_path: Path, left: list[float], right: list[float], skeleton: Skeleton) -> list[float]:
    data = coco()
    data["annotations"] = [person(1, 7, [9, 9, 2, *left, *right])]
    loaded = load_annotations(write(tmp_path, data), skeleton, strict=True).keypoints(0)
    assert loaded.shape == (1, 4, 3) and loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded[0, 2], [9, 9, 2])
    np.testing.assert_array_equal(loaded[0, 3], np.array(left, np.float32) if left[2] else [0, 0, 0])
    np.testing.assert_array_equal(loaded[0, 1], np.array(right, np.float32) if right[2] else [0, 0, 0])
    return loaded[0, 0].tolist()


def test_a_derived_keypoint_lies_in_the_middle(tmp_path: Path) -> None:
    exact, rounded = with_middle(), with_middle(rounded=True)
    assert derive(tmp_path, [101, 50, 2], [104, 51, 2], exact) == [102.5, 50.5, 2]
    assert derive(tmp_path, [101, 50, 2], [104, 51, 2], rounded) == [102, 50, 2]  # halves to the even number
    assert derive(tmp_path, [103, 51, 2], [104, 52, 2], rounded) == [104, 52, 2]
    assert derive(tmp_path, [0.1, 0.1, 2], [0.2, 0.2, 2], exact)[0] == np.float32((0.1 + 0.2) / 2)


@pytest.mark.parametrize(
    ("left", "right", "any_of_them", "all_of_them"),
    [(2, 2, 2, 2), (1, 1, 1, 1), (1, 2, 2, 1), (2, 1, 2, 1), (0, 2, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0)],
)
def test_a_derived_keypoint_is_as_visible_as_its_sources(
    tmp_path: Path, left: int, right: int, any_of_them: int, all_of_them: int
) -> None:
    """Any: v = 2 where one is seen, as rtpose has it (its older code too).  All: CMU's product.

    CMU writes 1 = visible, 0 = occluded, 2 = unlabelled: its product 0 * 1 = 0 is our 1."""
    for rule, v in (("any", any_of_them), ("all", all_of_them)):
        middle = derive(tmp_path, [10, 20, left], [20, 22, right], with_middle(rule))
        assert middle == ([15, 21, v] if v else [0, 0, 0])
    theirs = {2: 1, 1: 0, 0: 2}
    both = theirs[left], theirs[right]
    product = 2 if 2 in both else both[0] * both[1]
    assert theirs[all_of_them] == product


def test_derived_keypoints_need_the_names_of_the_file(tmp_path: Path) -> None:
    data = coco()
    names = data["categories"][0]["keypoints"]
    for other, words in [
        (["top", *names[1:]], "other keypoints than the skeleton 'four' .* middle can be worked out"),
        ([*names, "middle"], "other keypoints than the skeleton 'four'"),
        (names[:2], "other keypoints"),
    ]:
        data["categories"][0]["keypoints"] = other
        with pytest.raises(UserError, match=f"people.json: .*{words}.*data.skeleton"):
            load_annotations(write(tmp_path, data), with_middle())
    pictures = {"images": coco()["images"], "categories": [{"id": 1, "name": "person"}]}
    with pytest.raises(UserError, match="no category lists the names .* middle of the skeleton 'four'"):
        load_annotations(write(tmp_path, pictures), with_middle())


def test_other_names_in_other_places_are_not_guessed(tmp_path: Path) -> None:
    """Head and top may be the same; but here left and right would be exchanged without a word."""
    data = coco()
    data["categories"][0]["keypoints"] = ["top", "right_hand", "left_hand"]
    fails(tmp_path, data, "some other keypoints, and the rest in another order, than the skeleton 'three'")
    data["categories"][0]["keypoints"] = "head left right"
    fails(tmp_path, data, "keypoints must be a list of names")


def test_the_rules_of_derived_keypoints_are_part_of_the_cache(tmp_path: Path) -> None:
    data = coco()
    data["annotations"] = [person(1, 7, [9, 9, 2, 10, 20, 1, 21, 20, 2])]
    path = write(tmp_path, data)
    for _ in range(2):  # made, and from the cache
        found = {
            (rule, rounded): load_annotations(path, with_middle(rule, rounded)).keypoints(0)[0, 0].tolist()
            for rule in ("any", "all")
            for rounded in (False, True)
        }
        assert found == {
            ("any", False): [15.5, 20, 2], ("any", True): [16, 20, 2],
            ("all", False): [15.5, 20, 1], ("all", True): [16, 20, 1],
        }  # fmt: skip
    assert len(caches(tmp_path / ".cache")) == 4


def test_the_order_of_openpose_from_cocos(real_data: Path, tmp_path: Path) -> None:
    """As rtpose lists it: nose, neck, right arm, left arm, right leg, left leg, eyes, ears."""
    order = [0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    source = real_data / "coco_train80" / "person_keypoints_train2017.json"
    path = write(tmp_path, source.read_text())
    plain = load_annotations(path, read_skeleton(path))
    skeleton = from_dict(read_yaml(config_folder() / "_skeletons/coco18.yaml"))
    loaded = load_annotations(path, skeleton, strict=True)
    assert loaded.num_people == plain.num_people
    necks = 0
    for i in range(len(loaded)):
        for person, given in zip(loaded.keypoints(i), plain.keypoints(i), strict=True):
            neck = np.zeros(3)
            if given[5, 2] and given[6, 2]:
                neck = np.array([*((given[5, :2] + given[6, :2]) / 2).round(), max(given[5, 2], given[6, 2])])
                necks += 1
            np.testing.assert_array_equal(person, np.vstack([given, neck])[order])
        np.testing.assert_array_equal(loaded.areas(i), plain.areas(i))
        np.testing.assert_array_equal(loaded.boxes(i), plain.boxes(i))
    assert necks > 30


def test_real_annotations_agree_with_pycocotools(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "coco_train80" / "person_keypoints_train2017.json"
    path = write(tmp_path, source.read_text())
    loaded = load_annotations(path, read_skeleton(path), strict=True)
    reference = COCO(str(path))
    assert loaded.num_people == 86 and len(loaded) == 80 and len(loaded.with_people()) == 28
    for i, image_id in enumerate(loaded.image_ids.tolist()):
        entries = reference.imgToAnns[image_id]
        people = [a for a in entries if not a["iscrowd"] and a["num_keypoints"]]
        keypoints = np.array([a["keypoints"] for a in people], np.float32).reshape(-1, 17, 3)
        np.testing.assert_array_equal(loaded.keypoints(i), keypoints)
        np.testing.assert_allclose(loaded.areas(i), [a["area"] for a in people], rtol=1e-6)
        ignored = [reference.annToMask(a) for a in entries if a not in people]
        mask = loaded.ignore_mask(i)
        if mask is None:
            assert not ignored
        else:
            np.testing.assert_array_equal(mask, np.max(ignored, 0))


# ------------------------------------------------------------------------------------------------ bad input


def fails(tmp_path: Path, data: Any, *words: str, strict: bool = False) -> None:
    path = write(tmp_path, data)
    with pytest.raises(UserError) as error:
        load_annotations(path, SKELETON, strict=strict)
    for word in (str(path), *words):
        assert word in str(error.value)
    assert not [f for f in (tmp_path / ".cache").glob("*") if f.name not in (".lock", "sources.json")]


@pytest.mark.parametrize("text", ["{", '{"images": [', "\x00" * 100])
def test_a_file_that_is_no_json(tmp_path: Path, text: str) -> None:
    fails(tmp_path, text, "not JSON or was cut off", "again")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no annotation file .*nowhere.json"):
        load_annotations(tmp_path / "nowhere.json", SKELETON)


def test_files_of_another_kind(tmp_path: Path) -> None:
    fails(tmp_path, [{"image_id": 1}], "is a results file")
    fails(tmp_path, [{"id": 1}], "expected a COCO data set", "a list of objects with id")
    fails(tmp_path, {"images": {"a": 1}}, "'images' must be a list")
    fails(tmp_path, {}, "no usable image")
    fails(tmp_path, {**coco(), "images": []}, "no usable image")


def test_two_categories_with_keypoints_are_named(tmp_path: Path) -> None:
    data = coco()
    data["categories"].append({"id": 2, "name": "horse", "keypoints": ["nose"]})
    fails(tmp_path, data, "'person' with 3 keypoints, 'horse' with 1 keypoints", "data.category=person")


def test_keypoints_of_another_skeleton(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = coco()
    data["categories"][0]["keypoints"] = ["head"]
    fails(tmp_path, data, "other keypoints")
    data["categories"][0]["keypoints"] = ["top", "left_hand", "right_hand"]
    load_annotations(write(tmp_path, data), SKELETON)
    assert "'top' there and 'head'" in caplog.text


def test_all_fatal_findings_come_at_once(tmp_path: Path) -> None:
    data = coco()
    data["images"].append({**data["images"][0], "file_name": "again.jpg"})
    data["annotations"][0]["keypoints"] = [1, 2, 2]
    data["annotations"][1]["keypoints"] = "1 2 2"
    fails(
        tmp_path, data,
        "1 image(s) whose id another image has (first: again.jpg: id 7: 7.jpg and again.jpg)",
        "2 keypoint list(s) of another length",
        "annotation 1 in 9.jpg: 3 numbers, 9 are needed (3 names x 3)",
    )  # fmt: skip


def broken(code: str) -> tuple[dict[str, Any], str]:
    """A file with one fault that is repaired or left out, and words of the warning."""
    data = coco()
    first = data["annotations"][0]
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "visibility": (
            {"keypoints": [5, 6, 2, 7, 8, 3, 1, 1, -1]},
            "1 person(s) with a keypoint whose v is not 0, 1 or 2, it counts as",
        ),
        "not_finite": (
            {"keypoints": [5, 6, 2, float("nan"), 8, 2, "x", 10**400, 1]},
            "1 person(s) with a labelled keypoint that is no number, it counts as",
        ),
        "minus_one": (
            {"keypoints": [5, 6, 2, 7, 8, 1, -1, -1, 2]},
            "1 person(s) with a labelled keypoint at -1, -1: not labelled?",
        ),
        "annotation_text": (
            {"keypoints": ["5", "6", "2", 7, 8, 1, 0, 0, 0]},
            "1 annotation(s) with a number",
        ),
        "truth_text": ({"iscrowd": "0"}, "1 annotation(s) whose iscrowd is written as text, read as true"),
        "iscrowd": ({"iscrowd": "some"}, "1 annotation(s) whose iscrowd is neither 0 nor 1"),
        "box": ({"bbox": [1, 2]}, "1 annotation(s) whose bbox is not four finite numbers, taken as missing"),
        "area_range": ({"area": 2e10}, "1 person(s) with an area above COCO's range"),
        "category": ({"category_id": 8}, "1 annotation(s) with keypoints but of a category that lists none"),
    }
    if code in changes:
        change, words = changes[code]
        first.update(change)
        return data, words
    if code == "shares":
        for entry in data["annotations"]:
            points = np.reshape(entry["keypoints"], (-1, 3)) / [WIDTH, HEIGHT, 1]
            entry["keypoints"] = points.ravel().tolist()
        return data, "3 person(s) with all keypoints between 0 and 1, as the whole file: shares"
    if code == "absent_image":
        data["annotations"] += [person(70 + i, image) for i, image in enumerate((999, None, [1], True))]
        return (
            data,
            "4 annotation(s) for an image that the file does not list, left out (first: annotation 7",
        )
    if code == "same_annotation":
        data["annotations"].append(copy.deepcopy(first))
        return (
            data,
            "1 annotation(s) that repeat another word for word, left out (first: annotation 1 in",
        )
    if code == "same_annotation_id":
        data["annotations"].append(person(1, 3))
        return data, "1 annotation(s) whose id another has, kept"
    if code == "image_size":
        data["images"][1] = {"id": 3, "file_name": "3.jpg"}
        data["annotations"].append(person(80, 3))
        return data, "1 image(s) without width and height, left out (first: 3.jpg)"
    if code == "huge_image":
        data["images"][1].update(height=70000, width=70000)
        return data, (
            "1 image(s) said to have more than 178 megapixels or a side beyond 1048576 pixels, left out "
            "(first: 3.jpg: 70000 x 70000)"
        )
    if code == "image_text":
        data["images"][1]["height"] = "40"
        return data, "1 image(s) with a number written as text, read as numbers (first: 3.jpg)"
    if code == "image_entry":
        data["images"] += ["x", {"id": "abc", "file_name": "b.jpg"}, {"id": 50}]
        return data, "3 image entries that are no objects, or lack a whole-number id or a file name, left out"
    if code == "annotation_entry":
        data["annotations"] += [5, {"id": 4}]
        return data, "2 annotation(s) that are no objects or have no category_id, left out"
    if code == "keypoints_key":
        one = data["annotations"][0]
        one["keypoints_3"] = one.pop("keypoints")
        return data, "1 annotation(s) without `keypoints`, but with another list of as many numbers"
    if code == "region":
        data["annotations"][4].update(segmentation=None, bbox=[0, 0, 0, 0])
        return data, "1 crowd(s) or people without labelled keypoints that have neither"
    assert code == "no_people"
    return {**data, "annotations": []}, "no person with labelled keypoints"


REPAIRED = [
    code for code, kind in CODES.items()
    if kind.level != "note" and not kind.stops and code not in LENIENT and code != "no_sides"
]  # fmt: skip


@pytest.mark.parametrize("code", REPAIRED)
def test_what_can_be_repaired_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    data, words = broken(code)
    for _ in range(2):  # parsed, and from the cache
        caplog.clear()
        loaded = load_annotations(write(tmp_path, data), SKELETON)
        assert words in caplog.text and "people.json" in caplog.text
    with pytest.raises(UserError, match="data.strict"):
        load_annotations(tmp_path / "people.json", SKELETON, strict=True)
    if code in ("visibility", "not_finite"):
        np.testing.assert_array_equal(loaded.keypoints(2)[0], [[5, 6, 2], [0, 0, 0], [0, 0, 0]])
    if code in ("annotation_text", "truth_text"):
        assert loaded.num_people == 3 and loaded.keypoints(2)[0, 0].tolist()[2] == 2
    if code == "same_annotation":
        assert loaded.num_people == 3 and len(loaded.keypoints(2)) == 1
    if code == "same_annotation_id":  # another person stays
        assert loaded.num_people == 4 and len(loaded.keypoints(2)) == 1
    if code in ("image_size", "huge_image"):
        assert loaded.image_ids.tolist() == [7, 9]


# --------------------------------------------------------------------------------------------------- cache


def caches(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir())


def no_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(annotation_cache, "parse_file", refuse)


def test_the_second_time_nothing_is_parsed_or_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, coco())
    first = load_annotations(path, SKELETON)
    no_parsing(monkeypatch)
    monkeypatch.setattr(annotation_cache, "file_digest", None)
    second = load_annotations(path, SKELETON)
    np.testing.assert_array_equal(first.keypoints(0), second.keypoints(0))


def test_touching_the_file_hashes_it_again_but_parses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, coco())
    load_annotations(path, SKELETON)
    os.utime(path, ns=(1, 1))
    no_parsing(monkeypatch)
    load_annotations(path, SKELETON)


def test_a_changed_file_replaces_its_cache(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    other = write(tmp_path, coco(), "people-2.json")
    load_annotations(other, SKELETON)
    load_annotations(path, SKELETON)
    data = coco()
    data["annotations"].pop(0)
    write(tmp_path, data)
    assert load_annotations(path, SKELETON).num_people == 2
    names = caches(tmp_path / ".cache")
    assert len(names) == 2 and any(name.startswith("people-2-") for name in names)


def test_a_skeleton_with_other_names_has_its_own_cache(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    load_annotations(path, SKELETON)
    load_annotations(path, Skeleton("other", ("top", "left_hand", "right_hand")))
    assert len(caches(tmp_path / ".cache")) == 2


@pytest.mark.parametrize("damage", ["keypoints.npy", "meta.json", "areas.npy"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path, coco())
    load_annotations(path, SKELETON)
    (file,) = (tmp_path / ".cache").glob(f"*/{damage}")
    file.write_bytes(file.read_bytes()[:20])
    assert load_annotations(path, SKELETON).num_people == 3
    assert len(file.read_bytes()) > 20


def test_a_folder_that_cannot_be_written_uses_the_users_cache(
    tmp_path: Path, own_user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, coco())
    (tmp_path / ".cache").write_text("in the way")
    loaded = load_annotations(path, SKELETON)
    assert loaded.folder is not None and own_user_cache in loaded.folder.parents
    no_parsing(monkeypatch)
    assert load_annotations(path, SKELETON).num_people == 3


def test_without_any_folder_it_works_in_memory(
    tmp_path: Path, own_user_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, coco())
    (tmp_path / ".cache").write_text("in the way")
    own_user_cache.write_text("in the way")
    assert load_annotations(path, SKELETON).num_people == 3
    assert "no writable folder" in caplog.text


def test_a_full_disk_while_writing_leaves_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, coco())
    real, calls = np.save, []

    def full(file: Path, array: np.ndarray) -> None:
        calls.append(file)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        real(file, array)

    monkeypatch.setattr(np, "save", full)
    loaded = load_annotations(path, SKELETON)
    assert loaded.num_people == 3 and caches(tmp_path / ".cache") == []


def _load(path: Path) -> tuple[int, str]:
    loaded = load_annotations(path, SKELETON)
    return loaded.num_people, str(loaded.folder)


def test_processes_at_once_make_one_cache(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
        results = list(pool.map(_load, [path] * 12))
    assert len(set(results)) == 1 and results[0][0] == 3
    assert caches(tmp_path / ".cache") == [Path(results[0][1]).name]


def test_pickling_ships_a_name_and_maps_again(tmp_path: Path) -> None:
    data = coco()
    data["annotations"] += [person(100 + i, 3) for i in range(2000)]
    loaded = load_annotations(write(tmp_path, data), SKELETON)
    shipped = pickle.dumps(loaded)
    assert len(shipped) < 1000
    again = pickle.loads(shipped)
    np.testing.assert_array_equal(again.keypoints(1), loaded.keypoints(1))
    assert isinstance(_owner(again.keypoints(1)), np.memmap) and not again.keypoints(1).flags.writeable


def _owner(array: Any) -> Any:
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return array


def test_a_cache_that_went_away_is_explained(tmp_path: Path) -> None:
    path = write(tmp_path, coco())
    shipped = pickle.dumps(load_annotations(path, SKELETON))
    data = coco()
    data["annotations"].pop()
    write(tmp_path, data)
    load_annotations(path, SKELETON)
    with pytest.raises(UserError, match="start again"):
        pickle.loads(shipped)


def test_uncached_annotations_pickle_whole(tmp_path: Path) -> None:
    loaded = load_annotations(write(tmp_path, coco()), SKELETON, cache=False)
    assert not (tmp_path / ".cache").exists()
    again = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(again.keypoints(0), loaded.keypoints(0))
    assert again.findings == loaded.findings
