"""Every check finds the fault that it is for, and nothing serious in careful annotations."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose.annotations.issues import SHOWN
from pose.annotations.reader import parse
from pose.archives import same_content
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.doctor.checks import check, image_faults, shared_images
from pose.doctor.content import content_of
from pose.doctor.images import check_images
from pose.doctor.sides import find_exchanged, pair_index, side_signs
from pose.doctor.texts import KINDS
from pose.errors import UserError
from pose.skeleton import Skeleton, from_dict

Json = dict[str, Any]


def skeleton(name: str) -> Skeleton:
    return from_dict(read_yaml(config_folder() / "_skeletons" / f"{name}.yaml"))


COCO = skeleton("coco17")
# a person of 100 x 200 pixels who faces the camera, around (100, 120)
STANDING = {
    "nose": (100, 40), "eye": (10, 35), "ear": (20, 38), "shoulder": (35, 70), "elbow": (45, 110),
    "wrist": (48, 145), "hip": (22, 140), "knee": (24, 185), "ankle": (24, 225),
}  # fmt: skip


def standing(dx: float = 0, dy: float = 0, flip: int = 1) -> list[float]:
    """51 numbers.  flip -1: seen from behind."""
    values: list[float] = []
    for name in COCO.keypoints:
        side, _, part = name.partition("_")
        x, y = STANDING[part or side]
        reach = {"left": flip * x, "right": -flip * x}.get(side, 0)
        values += [100 + reach + dx, y + dy, 2]
    return values


def data() -> Json:
    """Three pictures with two people each, and a crowd: nothing is wrong."""
    images: list[Json] = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in (1, 2, 3)]
    annotations: list[Json] = []
    for image in images:
        for dx in (0, 250):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": 1,
                    "iscrowd": 0,
                    "keypoints": standing(dx + 7 * image["id"], 20),
                    "num_keypoints": 17,
                    "bbox": [50 + dx, 40, 120, 220],
                    "area": 12000,
                }  # fmt: skip
            )
    crowd = {
        "id": 99,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 1,
        "keypoints": [0] * 51,
        "num_keypoints": 0,
    }
    annotations.append(
        {**crowd, "bbox": [500, 300, 60, 60], "area": 900, "segmentation": [[500, 300, 560, 300, 560, 360]]}
    )
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": [[2, 3]]}
    return {"images": images, "annotations": annotations, "categories": [category]}


def found(content: Json, **options: Any) -> dict[str, Any]:
    return {fault.kind: fault for fault in check(content_of(parse(content, "x.json"), COCO, **options))}


def first(**changes: Any) -> Callable[[Json], None]:
    return lambda content: content["annotations"][0].update(changes)


def keypoint(k: int, *values: float) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        content["annotations"][0]["keypoints"][3 * k : 3 * k + 3] = values

    return change


def image(**changes: Any) -> Callable[[Json], None]:
    return lambda content: content["images"][1].update(changes)


def swapped(*parts: str, people: slice = slice(1)) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        for person in content["annotations"][people]:
            points = np.array(person["keypoints"]).reshape(-1, 3)
            for part in parts:
                left, right = pair_index(COCO)[part]
                points[[left, right]] = points[[right, left]]
            person["keypoints"] = points.ravel().tolist()

    return change


def copied(**changes: Any) -> Callable[[Json], None]:
    return lambda content: content["annotations"].append({**content["annotations"][0], **changes})


def crowd(**changes: Any) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        content["annotations"][-1] = {**content["annotations"][-1], **changes}

    return change


def nested(numbers: list[float]) -> list[list[float]]:
    return [numbers[i : i + 3] for i in range(0, len(numbers), 3)]


FAULTS: list[tuple[str, int, Callable[[Json], Any]]] = [
    ("image_entry", 1, image(file_name="")),
    ("image_size", 1, image(width=None)),
    ("huge_image", 1, image(width=70000, height=70000)),
    ("image_float", 1, image(width=640.0)),
    ("image_text", 1, image(width="640")),
    ("image_id_key", 1, lambda c: c["images"][1].update(image_id=c["images"][1].pop("id"))),
    ("file_name_key", 1, lambda c: c["images"][1].update(path=c["images"][1].pop("file_name"))),
    ("nested", 1, lambda c: c["annotations"][0].update(keypoints=nested(c["annotations"][0]["keypoints"]))),
    ("same_image", 1, lambda c: c["images"].append(dict(c["images"][0]))),
    ("annotation_entry", 1, lambda c: c["annotations"].append(7)),
    ("annotation_float", 1, first(image_id=1.0)),
    ("annotation_text", 1, first(category_id="1")),
    ("truth_text", 1, first(iscrowd="0")),
    ("iscrowd", 1, first(iscrowd="perhaps")),
    ("same_annotation", 1, lambda c: c["annotations"].append(dict(c["annotations"][0]))),
    ("box", 1, first(bbox=[1, 2])),
    ("area_range", 1, first(area=2e10)),
    ("not_finite_unlabelled", 1, keypoint(4, math.nan, math.nan, 0)),
    ("visibility_truth", 1, keypoint(4, 100, 100, True)),
    ("minus_one", 1, keypoint(4, -1, -1, 2)),
    ("same_image_id", 1, lambda c: c["images"].append({**c["images"][0], "file_name": "other.jpg"})),
    ("same_file", 1, image(file_name="1.jpg")),
    ("no_annotations", 1, lambda c: c["images"].append({**c["images"][0], "id": 9, "file_name": "9.jpg"})),
    ("absent_image", 1, first(image_id=77)),
    ("category", 1, first(category_id=5)),
    ("keypoint_length", 1, first(keypoints=[1, 2, 2])),
    ("same_annotation_id", 1, first(id=2)),
    ("annotation_id", 1, first(id=0)),
    ("annotation_id", 1, first(id="a")),
    ("copies", 1, copied(id=1000)),
    ("not_finite", 1, keypoint(3, float("nan"), 3, 2)),
    ("visibility", 1, keypoint(3, 80, 60, 3)),
    ("origin", 1, keypoint(3, 0, 0, 2)),
    ("outside", 1, keypoint(9, 700, 60, 2)),
    ("outside", 1, keypoint(9, -3, 60, 1)),
    ("num_keypoints_zero", 1, first(num_keypoints=0)),
    ("num_keypoints_empty", 1, first(keypoints=[0] * 51)),
    ("num_keypoints", 1, first(num_keypoints=12)),
    ("sides_face", 6, swapped(*pair_index(COCO), people=slice(6))),
    ("area_missing", 1, first(area=None)),
    ("area_zero", 1, first(area=0)),
    ("area_zero", 1, first(area=-5)),
    ("area_box", 1, first(area=120 * 220 * 1.2)),
    ("area_box", 1, first(area=0.03)),
    ("area_extent", 1, first(area=6, bbox=[50, 40, 2, 4])),
    ("box_missing", 1, first(bbox=None)),
    ("box_missing", 1, first(bbox=[5, 5, 0, 10])),
    ("box_keypoints", 1, first(bbox=[400, 300, 100, 130])),
    ("box_picture", 1, first(bbox=[50, 40, 800, 220])),
    ("small", 1, first(area=900)),
    ("region", 1, crowd(segmentation=None, bbox=None)),
    ("crowd_box", 1, crowd(segmentation={"size": [2, 2], "counts": [4]})),
    ("unlabelled", 1, first(keypoints=[0] * 51, num_keypoints=0)),
]  # fmt: skip


def test_nothing_is_wrong_with_careful_annotations() -> None:
    assert found(data()) == {}


@pytest.mark.parametrize(
    ("kind", "count", "spoil"), FAULTS, ids=[f"{f[0]}-{i}" for i, f in enumerate(FAULTS)]
)
def test_an_injected_fault_is_found(kind: str, count: int, spoil: Callable[[Json], Any]) -> None:
    content = data()
    spoil(content)
    faults = found(content)
    assert kind in faults, f"found {sorted(faults)}"
    assert faults[kind].count == count
    assert faults[kind].examples


def test_every_kind_of_fault_is_tested_somewhere() -> None:
    elsewhere = {
        "names", "no_people", "never_labelled", "sides_file", "sides_pair", "sides_person", "shared",
        "crowded", "limbs", "image_missing", "image_corrupt", "image_mismatch", "size_read", "image_turned",
        "image_turn_unclear", "no_images", "crowdpose", "shares", "no_sides", "other_category",
        "percent", "keypoints_key", "unnamed",
    }  # fmt: skip
    assert {kind for kind, _, _ in FAULTS} | elsewhere == set(KINDS)
    assert not {kind for kind, _, _ in FAULTS} & elsewhere


def test_the_example_names_the_place() -> None:
    content = data()
    keypoint(9, 700, 60, 2)(content)
    example = found(content)["outside"].examples[0]
    assert (example.image_id, example.annotation_id, example.file) == (1, 1, "1.jpg")
    assert example.detail == "left_wrist by 61 pixels"


def test_the_file_as_a_whole() -> None:
    content = data()
    for person in content["annotations"]:
        person["keypoints"][6:9] = [0, 0, 0]  # the right eye
        person["num_keypoints"] = min(person["num_keypoints"], 16)
    assert found(content)["never_labelled"].examples[0].detail == "right_eye"
    for person in content["annotations"]:
        person.update(keypoints=[0] * 51, num_keypoints=0)
    assert "no_people" in found(content)
    content = data()
    content["categories"][0]["keypoints"][0] = "snout"
    content["categories"][0]["keypoints"].reverse()
    assert "data.skeleton must be that of this file" in found(content)["names"].examples[0].detail
    content = data()
    content["categories"][0]["skeleton"] = [[1, 2]]
    assert "has no mirror image" in found(content)["limbs"].examples[0].detail
    content = data()
    content["annotations"] += [
        {**content["annotations"][0], "id": 1000 + i, "keypoints": standing(10 * i, 20 * i % 200)}
        for i in range(20)
    ]
    assert found(content)["crowded"].examples[0].detail == "22 people"
    del content["categories"][0]["keypoints"]
    assert "left_eye" in found(content)["unnamed"].examples[0].detail
    with pytest.raises(UserError, match="no category lists the names of the 17 keypoints"):
        content_of(parse(content, "x.json"))


def many(count: int = 40) -> Json:
    """As `data`, with so many people that a file can be judged; every third is seen from behind."""
    content = data()
    for i in range(count):
        behind = -1 if i % 3 == 0 else 1
        person = standing(3 * i, 2 * i, behind)
        if behind < 0:
            person[0:9] = [0] * 9  # neither nose nor eyes
        content["images"].append({**content["images"][0], "id": 100 + i, "file_name": f"{100 + i}.jpg"})
        content["annotations"].append(
            {
                **content["annotations"][0],
                "id": 100 + i,
                "image_id": 100 + i,
                "keypoints": person,
                "num_keypoints": sum(v > 0 for v in person[2::3]),
                "bbox": [50 + 3 * i, 20 + 2 * i, 110, 220],
            }  # fmt: skip
        )
    return content


def test_exchanged_sides_of_the_whole_file() -> None:
    assert found(many()) == {}
    content = many()
    swapped(*pair_index(COCO), people=slice(None))(content)
    assert "faces have their left eye on the right" in found(content)["sides_file"].examples[0].detail
    content = many()
    swapped("knee", people=slice(None))(content)
    assert [e.detail for e in found(content)["sides_pair"].examples] == ["knee"]


@pytest.mark.parametrize("part", ["shoulder", "hip", "ear"])
def test_one_exchanged_pair(part: str) -> None:
    content = many()
    swapped(part, people=slice(10, 13))(content)
    fault = found(content)["sides_person"]
    assert fault.count == 3 and fault.level == "doubtful"
    assert {example.detail for example in fault.examples} == {part}
    content = many()
    swapped(part, people=slice(10, 11))(content)
    assert found(content)["sides_person"].level == "note", "careful files have as many"


def test_files_without_faces_are_judged_by_who_faces_the_camera() -> None:
    aic = skeleton("aic14")
    people = np.zeros((120, 14, 3))
    for k, name in enumerate(aic.keypoints):
        side, _, part = name.partition("_")
        x, y = STANDING.get(part or side, (0, 30))
        people[:, k] = (100 + {"left": x, "right": -x}.get(side, 0), y, 2)
    assert find_exchanged(people, aic).exchanged == ""
    assert "0 of 120" in find_exchanged(people[:, list(aic.flip_index)], aic).exchanged


# ------------------------------------------------------------------------------------------------ real data


@pytest.mark.parametrize(
    "file", ["coco_eval/person_keypoints_val250.json", "coco_train80/person_keypoints_train2017.json"]
)
def test_real_annotations_give_no_alarm(real_data: Path, file: str) -> None:
    content = json.loads((real_data / file).read_text())
    assert [fault.kind for fault in found(content).values() if fault.level != "note"] == []


def real_people(real_data: Path, which: str) -> tuple[Skeleton, np.ndarray]:
    if which == "aic14":
        official = json.loads((real_data / "aic/keypoint_annotations_example.json").read_text())
        rows = [person for one in official for person in one["keypoint_annotations"].values()]
        people = np.array(rows, float).reshape(-1, 14, 3)
        people[..., 2] = np.choose(people[..., 2].astype(int), [0, 2, 1, 0])
        return skeleton(which), people
    content = json.loads((real_data / "coco_eval/person_keypoints_val250.json").read_text())
    rows = [one["keypoints"] for one in content["annotations"] if one["num_keypoints"]]
    return COCO, np.array(rows, float).reshape(-1, 17, 3)


@pytest.mark.parametrize("which", ["coco17", "aic14"])
@pytest.mark.parametrize("part", ["shoulder", "hip"])
def test_swaps_in_real_annotations_are_found_and_others_are_not_accused(
    real_data: Path, which: str, part: str
) -> None:
    """At least 65 of 100 swaps are found, at most 1 of 100 people is accused without reason."""
    layout, people = real_people(real_data, which)
    clean = find_exchanged(people, layout)
    assert len(clean.people) + len(clean.faces) <= 0.01 * len(people)
    assert not clean.exchanged and not clean.pairs
    left, right = pair_index(layout)[part]
    chosen = np.flatnonzero((people[:, [left, right], 2] > 0).all(1))[::5]
    spoiled = people.copy()
    spoiled[chosen, left], spoiled[chosen, right] = people[chosen, right], people[chosen, left]
    accused = find_exchanged(spoiled, layout)
    assert np.isin(chosen, accused.people).mean() > 0.65
    assert (~np.isin(accused.people, chosen)).sum() <= 0.01 * len(people)
    assert find_exchanged(people[:, list(layout.flip_index)], layout).exchanged


# ------------------------------------------------------------------------------------------------- pictures


def test_pictures_are_opened_and_some_decoded(tmp_path: Path) -> None:
    content = data()
    content["images"] += [{**content["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in (4, 5, 6)]
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    for i in (1, 2, 3, 4):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), picture if i < 4 else picture[:, :320])
    cut = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "3.jpg").write_bytes(b"no picture")
    scan = bytearray((tmp_path / "1.jpg").read_bytes())
    (tmp_path / "6.jpg").write_bytes(bytes(scan))
    parsed = content_of(parse(content, "x.json"), COCO)
    seen: list[int] = []
    problems = check_images(parsed, tmp_path, None, seen.append)
    assert sum(seen) == 6
    assert {(parsed.file.file_names[place], kind) for place, kind, _ in problems} == {
        ("2.jpg", "image_corrupt"), ("3.jpg", "image_corrupt"), ("4.jpg", "image_mismatch"),
        ("5.jpg", "image_missing"),
    }  # fmt: skip
    faults = {fault.kind: fault for fault in image_faults(parsed, problems)}
    assert faults["image_corrupt"].count == 2
    assert "320 x 480, the annotations say 640 x 480" in faults["image_mismatch"].examples[0].detail


def test_only_the_missing_images_that_are_shown_are_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = data()
    content["images"] = [{**content["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in range(1, 300)]
    searched: list[str] = []

    def search(_: Path, name: str) -> str:
        searched.append(name)
        return f"; other/{name} is there"

    monkeypatch.setattr("pose.doctor.images.where_instead", search)
    parsed = content_of(parse(content, "x.json"), COCO)
    faults = image_faults(parsed, check_images(parsed, tmp_path))
    (missing,) = (fault for fault in faults if fault.kind == "image_missing")
    assert missing.count == 299 and len(searched) == SHOWN
    assert [one.detail for one in missing.examples] == [f"other/{name} is there" for name in searched]


def test_shared_images_are_those_with_the_same_bytes(tmp_path: Path) -> None:
    content = content_of(parse(data(), "x.json"), COCO)
    for folder, texts in (("train", "aab"), ("val", "acb")):
        (tmp_path / folder).mkdir()
        for i, text in enumerate(texts, start=1):
            (tmp_path / folder / f"{i}.jpg").write_text(text)
    train, val = (content, tmp_path / "train"), (content, tmp_path / "val")
    (fault,) = shared_images([train], val, same_content)
    assert fault.count == 2 and {example.file for example in fault.examples} == {"1.jpg", "3.jpg"}
    (fault,) = shared_images([val], val, lambda one, other: False)
    assert fault.count == 3, "of one folder, names are enough"


@pytest.mark.parametrize("name", [[], {}, None, 5])
def test_a_file_name_that_is_no_text_is_a_finding(name: Any) -> None:
    content = data()
    content["images"][0]["file_name"] = name
    (fault,) = [one for one in check(content_of(parse(content, "x.json"), COCO)) if one.level == "serious"]
    assert fault.kind == "image_entry" and fault.count == 1


def test_a_file_without_images_is_a_finding() -> None:
    content = data()
    content["images"] = []
    faults = {fault.kind: fault for fault in check(content_of(parse(content, "x.json"), COCO))}
    assert faults["absent_image"].count == len(content["annotations"])
    assert "outside" not in faults and "box_picture" not in faults


def test_names_without_mirror_images_can_be_looked_at() -> None:
    """As in a set of a mixture that labels one side only."""
    content = data()
    content["categories"][0] |= {"keypoints": ["nose", "left_eye"], "skeleton": []}
    for one in content["annotations"]:
        one |= {"keypoints": one["keypoints"][:6], "num_keypoints": 2}
    parsed = content_of(parse(content, "x.json"), COCO, partial=True)
    assert parsed.skeleton is COCO and parsed.keypoints[0, :2].all() and not parsed.keypoints[:, 2:].any()
    assert {fault.kind for fault in check(parsed) if fault.level != "note"} == set()
    alone = content_of(parse(content, "x.json"))
    assert alone.skeleton.keypoints == ("nose", "left_eye") and alone.skeleton.flip_index == (0, 1)


def test_a_person_who_shares_a_few_keypoints_is_no_copy() -> None:
    content = data()
    some = copy.deepcopy(content["annotations"][0])
    some |= {"id": 99, "num_keypoints": 4, "keypoints": [*some["keypoints"][:12], *[0] * 39]}
    content["annotations"].append(some)
    assert "copies" not in {fault.kind for fault in check(content_of(parse(content, "x.json"), COCO))}
    some |= {"num_keypoints": 17, "keypoints": content["annotations"][0]["keypoints"]}
    assert "copies" in {fault.kind for fault in check(content_of(parse(content, "x.json"), COCO))}


def test_the_head_tells_which_way_is_up_where_no_hips_are_labelled() -> None:
    for flip in (1, -1):
        person = np.array(standing(flip=flip)).reshape(1, 17, 3)
        person[0, [COCO.keypoints.index(f"{side}_hip") for side in ("left", "right")]] = 0
        parts, signs = side_signs(person, COCO)
        assert np.sign(signs[0, parts.index("shoulder")]) == np.sign(signs[0, parts.index("eye")]) == flip


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture(tmp_path: Path) -> None:
    content = data()
    content["images"] = content["images"][:1]
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    whole = cv2.imencode(".jpg", cv2.resize(picture[:9, :9], (640, 480)))[1].tobytes()
    with_thumbnail = whole[:2] + b"\xff\xe1\x00\x06\xff\xd8\xff\xd9" + whole[2:]
    parsed = content_of(parse(content, "x.json"), COCO)
    for end, kinds in ((len(with_thumbnail), []), (len(with_thumbnail) - 500, ["image_corrupt"])):
        (tmp_path / "1.jpg").write_bytes(with_thumbnail[:end])
        assert [kind for _, kind, _ in check_images(parsed, tmp_path, decode=0)] == kinds


def test_the_content_is_not_changed() -> None:
    content = data()
    before = copy.deepcopy(content)
    found(content)
    assert content == before


def crowdpose() -> Json:
    """COCO's people with CrowdPose's habits: 14 keypoints, of which the last two never count; no areas."""
    content = data()
    names = list(from_dict(read_yaml(config_folder() / "_skeletons/crowdpose14.yaml")).keypoints)
    content["categories"][0] |= {"keypoints": names, "skeleton": [[16, 14], [1, 2]]}
    for one in content["images"]:
        one["crowdIndex"] = 0.5
    for one in content["annotations"]:
        points = np.reshape(one["keypoints"], (-1, 3))[:14]
        one |= {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:12, 2] > 0).sum())}
        del one["area"]
    return content


def test_crowdposes_traps_are_named_and_its_rules_are_no_fault() -> None:
    content = crowdpose()
    first = content["annotations"][0]
    first["keypoints"][: 12 * 3] = [0] * 36
    first["keypoints"][36:] = [100, 60, 2, 100, 80, 2]
    first["num_keypoints"] = 0
    faults = {fault.kind: fault for fault in check(content_of(parse(content, "x.json")))}
    assert "1 people with nothing else labelled" in faults["crowdpose"].examples[0].detail
    assert not {"num_keypoints", "num_keypoints_zero", "area_missing"} & set(faults)
    assert "limbs" in faults and faults["crowdpose"].level == "note"
    for one in content["images"]:
        del one["crowdIndex"]
    faults = {fault.kind: fault for fault in check(content_of(parse(content, "x.json")))}
    assert {"num_keypoints_zero", "area_missing"} <= set(faults) and "crowdpose" not in faults
