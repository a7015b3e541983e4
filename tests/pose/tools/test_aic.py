"""python -m pose.tools.aic: to COCO's format and back, with pictures that are there or not."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose.annotations.annotations import load_annotations
from pose.annotations.skeletons import read_skeleton
from pose.errors import user_facing
from pose.images import UnreadableImage, read_image
from pose.tools import aic

KEYPOINTS = [n for k in range(14) for n in (10 + 2 * k, 20 + k, 1 + k % 2)]


def official(*image_ids: str, **changes: Any) -> list[dict[str, Any]]:
    entry = {
        "keypoint_annotations": {"human2": KEYPOINTS, "human1": [*KEYPOINTS[:39], 0, 0, 3]},
        "human_annotations": {"human2": [5, 6, 45, 36], "human1": [0, 0, 10, 40]},
    }
    return [{"url": f"http://{i}", "image_id": i, **entry, **changes} for i in image_ids]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """a.jpg and c.png, of different sizes."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    cv2.imwrite(str(folder / "a.jpg"), pixels)
    cv2.imwrite(str(folder / "c.png"), pixels[:40])
    return folder


def run(*arguments: Any) -> int:
    return user_facing(lambda: aic.main([str(a) for a in arguments]))()


def convert(source: Path, images: Path, *options: Any) -> tuple[int, dict[str, Any]]:
    """Exit code and the content of the file, {} where there is none."""
    out = source.parent / "out" / "coco.json"
    code = run("to-coco", source, "--images", images, "-o", out, *options)
    return code, json.loads(out.read_text()) if out.exists() else {}


def test_there_and_back(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "official.json", official("c", "a"))
    code, coco = convert(source, images)
    assert code == 0
    assert [(i["id"], i["file_name"], i["width"], i["height"], i["aic_id"]) for i in coco["images"]] == [
        (1, "c.png", 64, 40, "c"), (2, "a.jpg", 64, 48, "a"),
    ]  # fmt: skip
    summary = "2 images, 4 people; keypoints: 28 visible, 26 occluded, 2 not labelled"
    assert summary in capsys.readouterr().out
    assert run("from-coco", tmp_path / "out" / "coco.json", "-o", tmp_path / "back.json") == 0
    assert json.loads((tmp_path / "back.json").read_text()) == official("c", "a")
    assert summary in capsys.readouterr().out


def test_the_training_pipeline_reads_the_file(tmp_path: Path, images: Path) -> None:
    convert(write(tmp_path / "official.json", official("c", "a")), images)
    path = tmp_path / "out" / "coco.json"
    skeleton = read_skeleton(path)
    annotations = load_annotations(path, skeleton, strict=True, cache=False)
    assert len(annotations) == 2 and annotations.num_people == 4
    assert annotations.size(0) == (40, 64) and annotations.areas(0).tolist() == [1200, 400]
    assert annotations.keypoints(0)[0, 0].tolist() == [10, 20, 2]


def test_slots_are_written_beside(tmp_path: Path, images: Path) -> None:
    slots = tmp_path / "slots.json"
    code, coco = convert(write(tmp_path / "o.json", official("a")), images, "--neck-head-slots", slots)
    content = json.loads(slots.read_text())
    assert code == 0 and content["images"] == coco["images"]
    assert content["categories"][0]["keypoints"][:3] == ["neck", "head_top", "unused_2"]
    assert [len(one["keypoints"]) for one in content["annotations"]] == [51, 51]
    assert [one["num_keypoints"] for one in content["annotations"]] == [14, 13]
    assert run("from-coco", slots, "-o", tmp_path / "back.json") == 0
    assert json.loads((tmp_path / "back.json").read_text()) == official("a")


def test_missing_and_damaged_pictures(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = (images / "a.jpg").read_bytes()
    (images / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "head.jpg").write_bytes(whole[:10])
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.jpg").write_text("<html>not found</html>")
    bad = ["half", "head", "empty", "text", "absent", "gone"]
    source = write(tmp_path / "official.json", official("a", *bad, "c"))
    code, coco = convert(source, images)
    error = capsys.readouterr().err
    assert (code, coco) == (2, {}) and "--skip-missing" in error
    assert "6 of 8 pictures" in error and "half.jpg is cut off" in error and "and 1 more" in error
    code, coco = convert(source, images, "--skip-missing")
    assert code == 0 and "6 of 8 pictures" in caplog.text
    assert [(image["id"], image["aic_id"]) for image in coco["images"]] == [(1, "a"), (2, "c")]
    assert [one["image_id"] for one in coco["annotations"]] == [1, 1, 2, 2]
    assert "2 images, 4 people" in capsys.readouterr().out


def test_a_picture_may_have_other_data_behind_its_end(tmp_path: Path, images: Path) -> None:
    """As training reads it."""
    whole = (images / "a.jpg").read_bytes()
    source = write(tmp_path / "official.json", official("a"))
    for extra, usable in ((b"", True), (bytes(9000), True), (b"\xff\xda" * 3000, False)):
        (images / "a.jpg").write_bytes(whole + extra)
        assert convert(source, images)[0] == (0 if usable else 2)
        with contextlib.nullcontext() if usable else pytest.raises(UnreadableImage):
            read_image(images / "a.jpg")


def test_of_pictures_of_one_name_the_jpg_is_taken(tmp_path: Path, images: Path) -> None:
    (images / "a.png").write_bytes((images / "c.png").read_bytes())
    code, coco = convert(write(tmp_path / "official.json", official("a", "c")), images)
    assert code == 0 and [image["file_name"] for image in coco["images"]] == ["a.jpg", "c.png"]


def test_a_wrong_folder_is_not_skipped(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "official.json", official("x", "y"))
    assert convert(source, images, "--skip-missing")[0] == 2
    assert "check --images" in capsys.readouterr().err
    assert convert(source, tmp_path / "nowhere")[0] == 2
    assert "cannot read the folder" in capsys.readouterr().err


def test_findings_are_told_and_strict_stops(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    boxes = {"human2": [45, 6, 5, 36], "human1": [0, 0, 10, 40]}
    source = write(tmp_path / "official.json", official("a.jpg", "c", human_annotations=boxes))
    code, coco = convert(source, images, "--strict")
    error = capsys.readouterr().err
    assert (code, coco) == (2, {}) and "'a.jpg'" in error and "[45, 6, 5, 36]" in error
    code, coco = convert(source, images)
    assert code == 0 and "2 human(s) whose box has x2 < x1" in caplog.text and "'a.jpg'" in caplog.text
    assert coco["annotations"][0]["bbox"] == [5, 6, 40, 30]
    assert coco["images"][0]["aic_id"] == "a"


def test_what_cannot_be_right_beside_the_pictures_is_told(
    tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And kept: the official score counts these people."""
    content = json.loads(json.dumps(official("c", "a")))  # nothing is shared between the entries
    first, second = (entry["human_annotations"] for entry in content)
    name = next(iter(first))
    first[name] = [5, 5, 5, 30]
    second[next(iter(second))] = [-40, -40, 9000, 8000]
    content[1]["keypoint_annotations"][next(iter(second))][:3] = [10, 99999, 1]
    code, coco = convert(write(tmp_path / "official.json", content), images)
    assert code == 0 and len(coco["annotations"]) == 4
    assert f"1 human(s) whose box has no area, kept: only exact hits score (first: c {name})" in caplog.text
    assert "1 human(s) whose box reaches beyond the picture" in caplog.text
    assert "1 human(s) with a labelled keypoint outside the picture" in caplog.text


def test_files_of_another_kind(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "official.json", official("a"))
    assert run("from-coco", source, "-o", tmp_path / "x.json") == 2
    assert "AI Challenger's own file" in capsys.readouterr().err
    coco = write(tmp_path / "coco.json", {"images": [], "annotations": [], "categories": []})
    assert convert(coco, images)[0] == 2
    assert "a COCO data set" in capsys.readouterr().err
    assert run("from-coco", coco, "-o", tmp_path / "x.json") == 2
    assert "14 keypoints" in capsys.readouterr().err
    assert convert(write(tmp_path / "none.json", []), images)[0] == 2
    assert "no image in the file" in capsys.readouterr().err


def test_no_file_is_written_over_what_is_read(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "official.json", official("a"))
    assert run("to-coco", source, "--images", images, "-o", source) == 2
    assert run("to-coco", source, "--images", images, "-o", "x.json", "--neck-head-slots", "./x.json") == 2
    assert run("from-coco", source, "-o", source) == 2
    assert capsys.readouterr().err.count("named twice") == 3
    assert json.loads(source.read_text()) == official("a")


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["to-coco"], ["from-coco"]):
        with pytest.raises(SystemExit) as stopped:
            aic.main([*command, "-h"])
        example = capsys.readouterr().out.split("example")[1]
        assert stopped.value.code == 0 and "python -m pose.tools.aic" in example


def test_the_three_real_pictures(tmp_path: Path, real_data: Path) -> None:
    other = json.loads((real_data / "aic" / "three_pictures_coco_format.json").read_text())
    code, coco = convert_real(tmp_path, real_data)
    assert code == 0

    def sizes(content: dict[str, Any]) -> set[tuple[str, int, int]]:
        return {(image["file_name"], image["width"], image["height"]) for image in content["images"]}

    assert sizes(coco) == sizes(other) and len(coco["annotations"]) == len(other["annotations"])


def convert_real(tmp_path: Path, real_data: Path) -> tuple[int, dict[str, Any]]:
    """Of the 1000 images three have a picture here."""
    out = tmp_path / "coco.json"
    source = real_data / "aic" / "keypoint_annotations_example.json"
    code = run("to-coco", source, "--images", real_data / "aic", "-o", out, "--skip-missing")
    return code, json.loads(out.read_text())
