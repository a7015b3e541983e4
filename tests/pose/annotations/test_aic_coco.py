"""AI Challenger's JSON: read with every mistake told, to COCO's format and back without a loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose import config, skeleton
from pose.annotations import aic
from pose.annotations.aic_coco import Picture, from_coco, to_coco
from pose.annotations.reader import parse
from pose.config_files import config_folder
from pose.errors import UserError

LABELLED = [n for k in range(14) for n in (10 + 5 * k, 20 + 7 * k, 1 + k % 2)]
BOX = [5, 15, 105, 215]


def back(content: dict[str, Any], *, strict: bool = False) -> list[aic.AicImage]:
    return from_coco(parse(content, "some.json"), strict=strict)


def layout(name: str) -> skeleton.Skeleton:
    return skeleton.from_dict(config.read_yaml(config_folder() / "_skeletons" / f"{name}.yaml"))


def entry(image_id: str = "a", **people: Any) -> dict[str, Any]:
    """An official entry; people are pairs of keypoints and box, None for what is not there."""
    return {
        "url": f"http://x/{image_id}",
        "image_id": image_id,
        "keypoint_annotations": {name: keypoints for name, (keypoints, _) in people.items() if keypoints},
        "human_annotations": {name: box for name, (_, box) in people.items() if box},
    }


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(
    folder: Path, *entries: Any, boxes: bool = True
) -> tuple[list[aic.AicImage], dict[str, tuple[int, str]]]:
    """The images, and {kind of finding: (count, first)}."""
    images, findings = aic.read_official(write(folder / "aic.json", list(entries)), boxes=boxes)
    return images, {finding.kind: (finding.count, finding.first) for finding in findings}


def pictures(images: list[aic.AicImage]) -> list[Picture]:
    return [Picture(f"{image.image_id}.jpg", 640, 480) for image in images]


def random_entries(seed: int) -> list[dict[str, Any]]:
    """Valid annotations: images without people, humans in any order, points outside a box, halves."""
    rng = np.random.default_rng(seed)
    entries = []
    for i in range(20):
        humans = [f"human{k + 1}" for k in rng.permutation(rng.integers(0, 5))]
        people = {}
        for human in humans:
            keypoints = np.concatenate([rng.integers(-50, 900, (14, 2)), rng.integers(1, 4, (14, 1))], 1)
            keypoints[keypoints[:, 2] == 3, :2] = 0
            values: list[Any] = keypoints.ravel().tolist()
            if rng.random() < 0.2:
                values = [v if k % 3 == 2 or v == 0 else v + 0.5 for k, v in enumerate(values)]
            low = rng.integers(0, 300, 2)
            people[human] = (values, [*low.tolist(), *(low + rng.integers(0, 300, 2)).tolist()])
        entries.append(entry(f"{rng.integers(2**60):015x}{i}", **people))
    return entries


# --------------------------------------------------------------------------------------------- what is right


def test_the_names_are_those_of_the_skeleton() -> None:
    assert layout("aic14").keypoints == aic.KEYPOINTS


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["aic14", "aic17_slots"])
def test_there_and_back_is_the_same_text(tmp_path: Path, seed: int, name: str) -> None:
    """Also through a JSON text, and with the keypoints in another order and among others."""
    entries = random_entries(seed)
    images, findings = read(tmp_path, *entries)
    assert not findings
    coco = json.loads(json.dumps(to_coco(images, pictures(images), layout(name))))
    assert json.dumps(aic.to_official(back(coco), boxes=True)) == json.dumps(entries)
    assert json.dumps(aic.to_official(images, boxes=True)) == json.dumps(entries)


def test_a_converted_file_is_a_valid_coco_file(tmp_path: Path) -> None:
    images, _ = read(tmp_path, *random_entries(1))
    coco = to_coco(images, pictures(images), layout("aic14"))
    assert [image["id"] for image in coco["images"]] == list(range(1, len(images) + 1))
    annotations = coco["annotations"]
    assert [one["id"] for one in annotations] == list(range(1, len(annotations) + 1))
    for one in annotations:
        keypoints = np.array(one["keypoints"]).reshape(14, 3)
        assert one["num_keypoints"] == (keypoints[:, 2] > 0).sum()
        assert not keypoints[keypoints[:, 2] == 0].any()
        assert one["area"] == one["bbox"][2] * one["bbox"][3]
        assert one["iscrowd"] == 0 and one["category_id"] == coco["categories"][0]["id"] == 1
    from_file = skeleton.from_coco_category(coco["categories"][0])
    own = layout("aic14")
    assert (from_file.keypoints, from_file.limbs, from_file.sigmas, from_file.grouping_order) == (
        own.keypoints, own.limbs, own.sigmas, own.grouping_order
    )  # fmt: skip


def test_visibility_counts_the_other_way_in_coco(tmp_path: Path) -> None:
    keypoints = [1, 2, 1, 3, 4, 2, *([0, 0, 3] * 12)]
    images, _ = read(tmp_path, entry(human1=(keypoints, BOX)))
    (person,) = to_coco(images, pictures(images), layout("aic14"))["annotations"]
    assert person["keypoints"] == [1, 2, 2, 3, 4, 1, *([0] * 36)]
    assert person["bbox"] == [5, 15, 100, 200]
    assert all(isinstance(n, int) for n in (*person["keypoints"], *person["bbox"], person["area"]))


def test_a_submission_has_no_boxes_and_any_v(tmp_path: Path) -> None:
    keypoints = [1, 2, 1, 0, 0, 0, 3, 4, 7, *([0, 0, 0] * 11)]
    sent = [{"image_id": "a", "keypoint_annotations": {"human1": keypoints}},
            {"image_id": "b", "keypoint_annotations": {}}]  # fmt: skip
    images, findings = read(tmp_path, *sent, boxes=False)
    assert not findings
    assert images[0].keypoints.shape == (1, 14, 3) and not images[0].boxes.any()
    assert images[1].keypoints.shape == (0, 14, 3) and images[1].boxes.shape == (0, 4)
    assert aic.to_official(images, boxes=False) == sent


def test_the_official_examples_come_back_to_the_byte(real_data: Path) -> None:
    for kind, boxes, people in (("annotations", True, 2761), ("predictions", False, 2761)):
        path = real_data / "aic" / f"keypoint_{kind}_example.json"
        images, findings = aic.read_official(path, boxes=boxes)
        assert (len(images), sum(len(image.humans) for image in images)) == (1000, people)
        assert not findings
        assert json.dumps(aic.to_official(images, boxes=boxes)) == path.read_text().strip()
    images, _ = aic.read_official(real_data / "aic" / "keypoint_annotations_example.json", boxes=True)
    coco = to_coco(images, pictures(images), layout("aic14"))
    again = aic.to_official(back(json.loads(json.dumps(coco))), boxes=True)
    assert json.dumps(again) == json.dumps(aic.to_official(images, boxes=True))


def test_another_converter_agrees_on_the_nine_people(real_data: Path) -> None:
    other = json.loads((real_data / "aic" / "three_pictures_coco_format.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in other["images"]}
    images, _ = aic.read_official(real_data / "aic" / "keypoint_annotations_example.json", boxes=True)
    images = [image for image in images if image.image_id in names.values()]
    coco = to_coco(images, pictures(images), layout("aic14"))
    own_names = {image["id"]: image["aic_id"] for image in coco["images"]}

    def people(content: dict[str, Any], name_of: dict[int, str]) -> set[tuple[Any, ...]]:
        return {
            (name_of[a["image_id"]], tuple(a["bbox"]), tuple(a["keypoints"]), a["num_keypoints"])
            for a in content["annotations"]
        }

    assert len(other["annotations"]) == 9
    assert people(coco, own_names) == people(other, names)
    # and that file, with its own spelling of the names, can be read
    assert {image.image_id for image in back(other)} == set(names.values())


# --------------------------------------------------------------------------------------- COCO's slots, mirror


def mirrored(keypoints: np.ndarray, width: int, flip: Any) -> np.ndarray:
    """(K, 3): the person of a mirrored picture."""
    turned = keypoints[list(flip)].copy()
    turned[:, 0] = np.where(turned[:, 2] > 0, width - turned[:, 0], 0)
    return turned


def test_slots_hold_what_published_models_expect(tmp_path: Path) -> None:
    images, _ = read(tmp_path, entry(human1=(LABELLED, BOX)))
    (person,) = to_coco(images, pictures(images), layout("aic17_slots"))["annotations"]
    slots = np.array(person["keypoints"]).reshape(17, 3)
    source = np.array(LABELLED).reshape(14, 3)
    order = [13, 12, None, None, None, 3, 0, 4, 1, 5, 2, 9, 6, 10, 7, 11, 8]
    for slot, k in zip(slots, order):
        assert slot.tolist() == ([0, 0, 0] if k is None else [*source[k, :2], 3 - source[k, 2]])
    assert person["num_keypoints"] == 14


def test_a_person_with_only_a_neck_has_one_keypoint(tmp_path: Path) -> None:
    neck = [*([0, 0, 3] * 13), 50, 60, 1]
    images, _ = read(tmp_path, entry(human1=(neck, BOX)))
    for name in ("aic14", "aic17_slots"):
        assert to_coco(images, pictures(images), layout(name))["annotations"][0]["num_keypoints"] == 1


def test_a_mirrored_head_stays_in_its_slot(tmp_path: Path) -> None:
    images, _ = read(tmp_path, entry(human1=(LABELLED, BOX)))
    coco = to_coco(images, pictures(images), layout("aic17_slots"))
    person = np.array(coco["annotations"][0]["keypoints"]).reshape(17, 3)
    ours = skeleton.from_coco_category(coco["categories"][0])
    turned = mirrored(person, 640, ours.flip_index)
    head = ours.keypoints.index("head_top")
    assert head == 1 and turned[head].tolist() == [640 - person[head, 0], *person[head, 1:]]
    assert turned[0].tolist() == [640 - person[0, 0], *person[0, 1:]] and not turned[2:5].any()
    as_coco = mirrored(person, 640, layout("coco17").flip_index)  # the trap: an eye of the other side
    assert not as_coco[head].any() and as_coco[2, 2] > 0
    # arms and legs change places as in the official skeleton
    official = layout("aic14")
    same = mirrored(np.array(LABELLED).reshape(14, 3), 640, official.flip_index)
    for k, name in enumerate(official.keypoints):
        assert turned[ours.keypoints.index(name), :2].tolist() == same[k, :2].tolist()


def test_slots_have_the_sigmas_and_limbs_of_the_official_skeleton() -> None:
    slots, official = layout("aic17_slots"), layout("aic14")
    sigma = dict(zip(slots.keypoints, slots.sigmas))
    assert tuple(sigma[name] for name in official.keypoints) == official.sigmas
    assert slots.limbs == official.limbs
    assert slots.grouping_order[:14] == official.grouping_order


# ------------------------------------------------------------------------------------------------- bad input


def broken(index: int, value: Any) -> list[Any]:
    return [*LABELLED[:index], value, *LABELLED[index + 1 :]]


UNLABELLED = [0, 0, 3]
AROUND = [10, 20, 75, 111]


@pytest.mark.parametrize(
    ("kind", "keypoints", "box", "first", "keypoint", "corners"),
    [
        ("no keypoints", None, BOX, "a human1", UNLABELLED, BOX),
        ("no box", LABELLED, None, "a human1", LABELLED[:3], AROUND),
        ("length", LABELLED[:41], BOX, "a human1, 41 numbers", UNLABELLED, BOX),
        ("length", "text", BOX, "a human1, a str", UNLABELLED, BOX),
        ("length", [LABELLED[3 * k : 3 * k + 3] for k in range(14)], BOX, "a human1", UNLABELLED, BOX),
        ("visibility", broken(2, 7), BOX, "a human1", UNLABELLED, BOX),
        ("visibility", broken(2, 0), BOX, "a human1", UNLABELLED, BOX),
        ("visibility", broken(2, 1.5), BOX, "a human1", UNLABELLED, BOX),
        ("not finite", broken(0, None), BOX, "a human1", UNLABELLED, BOX),
        ("not finite", broken(1, float("nan")), BOX, "a human1", UNLABELLED, BOX),
        ("not finite", broken(0, float("-inf")), BOX, "a human1", UNLABELLED, BOX),
        ("not finite", broken(0, 10**400), BOX, "a human1", UNLABELLED, BOX),
        ("not finite", broken(0, "12"), BOX, "a human1", UNLABELLED, BOX),
        ("not finite", broken(2, float("nan")), BOX, "a human1", UNLABELLED, BOX),
        ("corners", LABELLED, [105, 15, 5, 215], "a human1, [105, 15, 5, 215]", LABELLED[:3], BOX),
        ("corners", LABELLED, [5, 215, 105, 15], "a human1, [5, 215, 105, 15]", LABELLED[:3], BOX),
        ("box", LABELLED, [5, 15, 105], "a human1", LABELLED[:3], AROUND),
        ("box", LABELLED, [5, 15, 105, None], "a human1", LABELLED[:3], AROUND),
        ("box", LABELLED, [5, 15, 105, float("nan")], "a human1", LABELLED[:3], AROUND),
        ("box", LABELLED, {"x": 1}, "a human1", LABELLED[:3], AROUND),
    ],
)
def test_a_broken_human_is_told_and_kept(
    tmp_path: Path, kind: str, keypoints: Any, box: Any, first: str, keypoint: list[int], corners: list[int]
) -> None:
    """The human beside it, in the same image, is as it was."""
    content = entry(human2=(LABELLED, BOX), human1=(keypoints, box))
    images, findings = read(tmp_path, content, entry("b", human1=(keypoints, box)))
    assert set(findings) == {kind}
    count, where = findings[kind]
    assert count == 2 and where.startswith(first)
    for image in images:
        k = image.humans.index("human1")
        assert image.keypoints[k, 0].tolist() == keypoint
        assert image.boxes[k].tolist() == corners
    assert images[0].keypoints[0].ravel().tolist() == LABELLED and images[0].boxes[0].tolist() == BOX
    with pytest.raises(UserError, match="a human1"):
        aic.read_official(tmp_path / "aic.json", boxes=True, strict=True)


def test_a_human_with_nothing_usable_still_counts(tmp_path: Path) -> None:
    images, findings = read(tmp_path, entry(human1=([0, 0, 3] * 14, None)))
    assert set(findings) == {"no box"} and images[0].boxes.tolist() == [[0, 0, 0, 0]]
    images, findings = read(tmp_path, entry(human1=(LABELLED[:5], [1])))
    assert set(findings) == {"length", "box"} and len(images[0].humans) == 1


def test_predictions_that_are_no_numbers_count_as_people_without_keypoints(tmp_path: Path) -> None:
    sent = {"image_id": "a", "keypoint_annotations": {"human1": broken(0, None), "human2": LABELLED[:41]}}
    images, findings = read(tmp_path, sent, boxes=False)
    assert set(findings) == {"not finite", "length"}
    assert np.isfinite(images[0].keypoints).all() and images[0].humans == ("human1", "human2")


def test_nobody_looks_at_the_v_and_boxes_of_predictions(tmp_path: Path) -> None:
    for v in (None, float("nan"), 1e12, -3):
        values = [v if k % 3 == 2 else LABELLED[k] for k in range(42)]
        sent = {"image_id": "a", "keypoint_annotations": {"human1": values}, "human_annotations": [1]}
        images, findings = read(tmp_path, sent, boxes=False)
        assert images[0].keypoints[0, :, :2].ravel().tolist() == [LABELLED[k] for k in range(42) if k % 3 < 2]
        assert not findings


def test_a_box_that_is_missing_is_drawn_around_what_is_labelled(tmp_path: Path) -> None:
    images, _ = read(tmp_path, entry(human1=([*LABELLED[:39], 0, 0, 3], None)))
    assert images[0].boxes.tolist() == [[10, 20, 70, 104]]


def test_an_extension_is_cut_off_and_told(tmp_path: Path) -> None:
    images, findings = read(tmp_path, entry("a.jpg"), entry("b.c"), entry("d.JPEG"))
    assert [image.image_id for image in images] == ["a", "b.c", "d"]
    assert findings == {"extension": (2, "'a.jpg'")}


def test_the_last_of_two_entries_for_an_image_counts(tmp_path: Path) -> None:
    images, findings = read(
        tmp_path, entry("a"), entry("b"), entry("a", human1=(LABELLED, BOX)), entry("b.jpg")
    )
    assert findings["same image"] == (2, "a")
    assert [(image.image_id, image.humans) for image in images] == [("a", ("human1",)), ("b", ())]


def test_entries_that_are_none_are_left_out(tmp_path: Path) -> None:
    without: dict[str, Any] = {"keypoint_annotations": {}, "human_annotations": {}}
    images, findings = read(tmp_path, entry(), 3, None, [], without, {**without, "image_id": 7})
    assert [image.image_id for image in images] == ["a"]
    assert findings == {"entry": (5, "entry 1")}


def test_images_without_people(tmp_path: Path) -> None:
    images, findings = read(tmp_path, entry("a"), {"image_id": "b", "keypoint_annotations": {}})
    assert not findings and all(image.keypoints.shape == (0, 14, 3) for image in images)
    images, findings = read(tmp_path, entry("a"), {"image_id": "b"}, {**entry("c"), "human_annotations": [1]})
    assert len(images) == 3 and findings == {"mapping": (2, "b, keypoint_annotations")}
    assert read(tmp_path) == ([], {})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (json.dumps([entry(human1=(LABELLED, BOX))])[:-20], "not JSON or was cut off"),
        ("", "not JSON or was cut off"),
        ("[" * 100_000, "not JSON or was cut off"),
        ('{"images": [], "annotations": []}', "a COCO data set"),
        ("3", "got a int"),
        (json.dumps([{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 3], "score": 1}]), "COCO results"),
        (json.dumps([{"image_id": "a"}]), "no AI Challenger file"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: str, says: str) -> None:
    path = write(tmp_path / "other.json", content)
    with pytest.raises(UserError, match=says) as caught:
        aic.read_official(path, boxes=True)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        aic.read_official(tmp_path / "absent.json", boxes=True)
    with pytest.raises(UserError, match="cannot read"):
        aic.read_official(tmp_path, boxes=True)
    (tmp_path / "binary.json").write_bytes(b"\xff\xd8\xff\xe0" * 10)
    with pytest.raises(UserError, match="not JSON"):
        aic.read_official(tmp_path / "binary.json", boxes=True)
    (tmp_path / "bom.json").write_text("\ufeff" + json.dumps([entry()]), encoding="utf-8")
    assert aic.read_official(tmp_path / "bom.json", boxes=True)[0][0].image_id == "a"


def test_strict_lists_every_finding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [entry("a.jpg", human1=(LABELLED[:41], [9, 9, 1, 1])), 7])
    with pytest.raises(UserError) as caught:
        aic.read_official(path, boxes=True, strict=True)
    text = str(caught.value)
    assert all(word in text for word in ("'a.jpg'", "41 numbers", "[9, 9, 1, 1]", "entry 1"))
    _, findings = aic.read_official(path, boxes=True)
    assert {finding.level for finding in findings} == {"repaired"}


# ------------------------------------------------------------------------------------------------- from COCO


def coco_file(**changes: Any) -> dict[str, Any]:
    """One picture with two people, the keypoints in another order, among others, with blanks and capitals."""
    names = ["Nose", *(name.replace("_", " ").title() for name in reversed(aic.KEYPOINTS))]
    keypoints = [v for k in range(15) for v in (k, 2 * k, 2)]
    annotation = {"id": 5, "image_id": 9, "category_id": 3, "keypoints": keypoints, "bbox": [1, 2, 3, 4]}
    return {
        "images": [{"id": 9, "file_name": "val/x.png", "width": 10, "height": 10}],
        "annotations": [{**annotation, **changes}, {**annotation, "id": 6}],
        "categories": [{"id": 3, "name": "p", "keypoints": names}, {"id": 4, "name": "car"}],
    }


def test_keypoints_go_by_name() -> None:
    (image,) = back(coco_file())
    assert (image.image_id, image.humans) == ("x", ("human1", "human2"))
    assert image.keypoints[0].tolist() == [[k, 2 * k, 1] for k in range(14, 0, -1)]
    assert image.boxes[0].tolist() == [1, 2, 4, 6]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"keypoints": [1, 2, 2]}, "of another length"),
        ({"keypoints": [float("nan")] * 45}, "a labelled keypoint that is no number"),
        ({"keypoints": [1, 2, 9] * 15}, "v is not 0, 1 or 2"),
        ({"keypoints": None}, ""),
        ({"keypoints": []}, ""),
    ],
)
def test_keypoints_that_cannot_be_used_are_not_labelled(
    changes: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    (image,) = back(coco_file(**changes))
    assert image.keypoints[0].tolist() == [UNLABELLED] * 14
    assert (image.keypoints[1, :, 2] == 1).all()
    assert (says in caplog.text) and bool(caplog.text) == bool(says)
    if says:
        with pytest.raises(UserError, match=says):
            back(coco_file(**changes), strict=True)


def test_what_is_no_person_of_an_image_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    for key, value in (("iscrowd", 1), ("category_id", 4)):
        assert back(coco_file(**{key: value}))[0].humans == ("human1",)
    assert not caplog.text
    for number in (10, [1]):
        assert back(coco_file(image_id=number))[0].humans == ("human1",)
    assert "for an image that the file does not list" in caplog.text


def test_a_box_that_is_missing_is_drawn_around_the_keypoints() -> None:
    for box in (None, [1, 2, 3], [1, 2, -3, 4], [1, 2, 3, float("nan")]):
        assert back(coco_file(bbox=box))[0].boxes[0].tolist() == [1, 2, 14, 28]


def test_humans_keep_their_names_and_never_share_one() -> None:
    assert back(coco_file(human="human2"))[0].humans == ("human2", "human3")
    content = coco_file(human="human7")
    content["annotations"][1]["human"] = "human7"
    assert back(content)[0].humans == ("human7", "human2")


def test_files_that_ai_challenger_cannot_hold() -> None:
    content = coco_file()
    content["images"].append({**content["images"][0], "id": 10, "file_name": "train/x.jpg"})
    with pytest.raises(UserError, match="'x'"):
        back(content)
    content = coco_file()
    content["categories"][0]["keypoints"] = list(layout("coco17").keypoints)
    with pytest.raises(UserError, match="head_top, neck"):
        back(content)
    with pytest.raises(UserError, match="14 keypoints"):
        back({"images": [], "annotations": []})
    with pytest.raises(UserError, match="image 0"):
        back({**coco_file(), "images": [{"id": 1}]})
    for names in (True, 7, "neck", {"neck": 1}):
        content["categories"][0]["keypoints"] = names
        with pytest.raises(UserError, match="keypoints must be a list of names"):
            back(content)
