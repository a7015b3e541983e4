"""The drawn data set: same seed same files, annotations that hold, pictures that may be mirrored."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from pose.errors import UserError
from pose.synthetic.dataset import (
    SyntheticConfig,
    draw_picture,
    ensure,
    render,
    synthesize,
)
from pose.synthetic.figures import KEYPOINTS, LIMBS
from pose.synthetic.scenes import describe, mirror
from pose.tools.synthesize import main

CFG = SyntheticConfig(train=20, val=6, size=160)
Drawn = list[tuple[np.ndarray, list[dict[str, Any]]]]
K = {name: index for index, name in enumerate(KEYPOINTS)}
OTHER = {"left": "right", "right": "left"}
FLIP = [K["_".join(OTHER.get(word, word) for word in name.split("_"))] for name in KEYPOINTS]


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def points(annotation: dict[str, Any]) -> np.ndarray:
    return np.array(annotation["keypoints"], float).reshape(-1, 3)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    cfg = SyntheticConfig(size=192)
    return [draw_picture(index, "train", cfg) for index in range(150)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "one_process"
    synthesize(folder, CFG, processes=1, progress=False)
    return folder


def test_files_do_not_depend_on_the_number_of_processes(root: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "two", CFG, processes=2, progress=False)
    assert digests(tmp_path / "two") == digests(root)
    assert not (tmp_path / "two.partial").exists()


def test_pictures_depend_on_seed_split_and_index_only() -> None:
    first = draw_picture(3, "train", CFG)[0]
    assert np.array_equal(first, draw_picture(3, "train", SyntheticConfig(train=900, size=160))[0])
    for other in (draw_picture(4, "train", CFG), draw_picture(3, "val", CFG)):
        assert not np.array_equal(first, other[0])
    assert not np.array_equal(first, draw_picture(3, "train", SyntheticConfig(seed=2, size=160))[0])


@pytest.mark.parametrize(("split", "count"), [("train", CFG.train), ("val", CFG.val)])
def test_the_files_are_a_coco_data_set(root: Path, split: str, count: int) -> None:
    coco = COCO(str(root / "annotations" / f"person_keypoints_{split}.json"))
    assert coco.getImgIds() == list(range(1, count + 1))
    assert coco.getAnnIds() == list(range(1, len(coco.anns) + 1))
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = cv2.imread(str(root / split / image["file_name"]))
        assert pixels is not None and pixels.shape == (image["height"], image["width"], 3)
        assert max(pixels.shape) == CFG.size
    (category,) = coco.loadCats(coco.getCatIds())
    assert category["name"] == "person" and tuple(category["keypoints"]) == KEYPOINTS
    names = [tuple(category["keypoints"][number - 1] for number in limb) for limb in category["skeleton"]]
    assert names == list(LIMBS)


def test_annotations_hold(drawn: Drawn) -> None:
    for image, found in drawn:
        h, w = image.shape[:2]
        for annotation in found:
            keypoints = points(annotation)
            assert keypoints.shape == (17, 3) and np.isin(keypoints[:, 2], (0, 1, 2)).all()
            labelled = keypoints[:, 2] > 0
            assert annotation["num_keypoints"] == labelled.sum()
            assert (keypoints[~labelled] == 0).all()
            assert (keypoints[labelled, :2] >= 0).all() and (keypoints[labelled, :2] <= (w - 1, h - 1)).all()
            x, y, box_w, box_h = annotation["bbox"]
            assert 0 <= x < x + box_w <= w and 0 <= y < y + box_h <= h
            assert 0 < annotation["area"] <= box_w * box_h
            seen = keypoints[keypoints[:, 2] == 2, :2]
            assert (seen >= (x - 2, y - 2)).all() and (seen <= (x + box_w + 2, y + box_h + 2)).all()


def test_segmentations_decode_to_the_stated_area(drawn: Drawn) -> None:
    coco = COCO()
    crowds = 0
    for image, found in drawn:
        coco.imgs = {1: {"height": image.shape[0], "width": image.shape[1]}}
        for annotation in found:
            mask = coco.annToMask({**annotation, "image_id": 1})
            assert mask.shape == image.shape[:2]
            if annotation["iscrowd"]:
                crowds += 1
                assert mask.sum() == annotation["area"] and annotation["num_keypoints"] == 0
                assert list(cv2.boundingRect(mask)) == annotation["bbox"]
            else:  # polygons run through the centres of the border pixels, so they lose half a pixel
                assert 0.6 * annotation["area"] - 20 < mask.sum() < 1.25 * annotation["area"] + 20
    assert crowds > 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_pictures_show_nobody_to_five_people(split: str) -> None:
    cfg = SyntheticConfig(size=64)
    counts = {len(describe(index, split, cfg).people) for index in range(150)}
    assert counts == {0, 1, 2, 3, 4, 5}


def test_max_people_is_a_limit_and_every_number_occurs() -> None:
    cfg = SyntheticConfig(size=64, max_people=8)
    assert {len(describe(index, "train", cfg).people) for index in range(400)} == set(range(9))


def test_all_kinds_of_labels_occur(drawn: Drawn) -> None:
    people = [a for _, found in drawn for a in found if not a["iscrowd"]]
    assert any(a["num_keypoints"] == 0 for a in people)
    values = np.stack([points(a)[:, 2] for a in people if a["num_keypoints"]])
    for v in (0, 1, 2):
        assert (values == v).any(0).all()  # for every keypoint
    assert (values == 2).mean() > 0.6


def test_mirroring_a_scene_mirrors_its_picture_and_annotations() -> None:
    cfg, changed, total = SyntheticConfig(size=256), 0, 0
    for index in range(30):
        scene = describe(index, "train", cfg)
        image, annotations = render(scene)
        mirrored_image, mirrored = render(mirror(scene))
        difference = np.abs(image[:, ::-1].astype(int) - mirrored_image)
        assert difference.mean() < 1.0 and (difference.max(2) > 40).mean() < 0.01
        assert len(annotations) == len(mirrored)
        for one, two in zip(annotations, mirrored, strict=True):
            assert abs(one["area"] - two["area"]) <= 0.03 * one["area"] + 10
            a, b = points(one), points(two)[FLIP]
            both = (a[:, 2] > 0) & (b[:, 2] > 0)
            np.testing.assert_allclose(image.shape[1] - 1 - b[both, 0], a[both, 0], atol=0.11)
            np.testing.assert_allclose(b[both, 1], a[both, 1], atol=0.11)
            changed += int((a[:, 2] != b[:, 2]).sum())
            total += len(a)
    assert changed < 0.02 * total  # a pixel at the rim of an occluder may fall the other way


def test_mirroring_twice_changes_nothing() -> None:
    scene = describe(1, "train", CFG)
    twice = mirror(mirror(scene))
    assert np.array_equal(render(scene)[0], render(twice)[0])
    for one, two in zip(scene.people, twice.people, strict=True):
        np.testing.assert_allclose(one.joints, two.joints)
        np.testing.assert_array_equal(one.guesses, two.guesses)


def test_the_face_tells_left_from_right() -> None:
    """Seen from the front a person's left is on the picture's right; seen from behind it is the other way."""
    cfg, fronts, backs = SyntheticConfig(size=128), 0, 0
    for index in range(120):
        for annotation in draw_picture(index, "train", cfg)[1]:
            keypoints = points(annotation)
            left, right = keypoints[K["left_ear"]], keypoints[K["right_ear"]]
            if left[2] < 2 or right[2] < 2:
                continue
            face = keypoints[[K["nose"], K["left_eye"], K["right_eye"]], 2] > 0
            if face.all():
                fronts += 1
                assert left[0] > right[0]
            elif not face.any() and left[0] < right[0]:
                backs += 1
    assert fronts > 4 * backs > 0


def test_ensure_draws_once_and_refuses_other_data(root: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert ensure(root, CFG, processes=1, progress=False) is False
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(UserError, match="other settings"):
        ensure(root, SyntheticConfig(train=20, val=6, size=160, seed=9), progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="already holds something"):
        ensure(tmp_path / "mine", CFG, progress=False)
    assert (tmp_path / "mine" / "holiday.jpg").exists()


AT_ONCE = """
import sys
from pathlib import Path
from pose.synthetic.dataset import SyntheticConfig, ensure
print(ensure(Path(sys.argv[1]), SyntheticConfig(train=12, val=3, size=96), processes=1, progress=False))
"""


@pytest.mark.slow
def test_processes_at_once_draw_one_data_set(tmp_path: Path) -> None:
    """The second one removed what the first was drawing."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, str(tmp_path / "drawn")], stdout=subprocess.PIPE, text=True,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    assert sorted(output for output, _ in told) == ["False\n", "False\n", "True\n"]
    ensure(tmp_path / "alone", SyntheticConfig(train=12, val=3, size=96), processes=1, progress=False)
    for file in (tmp_path / "alone").rglob("*.*"):
        assert (tmp_path / "drawn" / file.relative_to(tmp_path / "alone")).read_bytes() == file.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot draw people into .*/file/drawn: "):
        ensure(tmp_path / "file" / "drawn", SyntheticConfig(train=1, val=0), progress=False)


def test_ensure_recovers_from_a_stopped_run(tmp_path: Path) -> None:
    cfg = SyntheticConfig(train=2, val=1, size=64)
    (tmp_path / "data.partial" / "train").mkdir(parents=True)
    (tmp_path / "data.partial" / "train" / "000009.jpg").write_bytes(b"half")
    (tmp_path / "data").mkdir()  # an empty folder is nobody's data
    assert ensure(tmp_path / "data", cfg, processes=1, progress=False) is True
    names = sorted(path.name for path in (tmp_path / "data" / "train").iterdir())
    assert names == ["000001.jpg", "000002.jpg"]
    assert not (tmp_path / "data.partial").exists()


@pytest.mark.parametrize("wrong", [{"train": -1}, {"size": 8}, {"max_people": 0}, {"seed": -1}])
def test_impossible_settings_are_the_users_to_fix(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError):
        SyntheticConfig(**wrong)


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "people"
    line = ["--root", str(root), "--train", "2", "--val", "1", "--size", "64", "--processes", "1"]
    main(line)
    out = capsys.readouterr().out
    assert "drawn" in out and str(root / "train") in out and "person_keypoints_val.json" in out
    assert json.loads((root / "synthetic.json").read_text())["config"]["train"] == 2
    main(line)
    assert "already there" in capsys.readouterr().out
