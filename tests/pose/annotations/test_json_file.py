"""A file that is no COCO file is named as what it is; every encoding of JSON is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pose.annotations.reader import read
from pose.errors import UserError
from tests.user_files import base, results

PERSON = {"image_id": "1.jpg", "category_id": 1, "keypoints": [0] * 51, "score": 2.1, "box": [0, 0, 1, 1]}
VIA = {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": [], "file_attributes": {}}}
CONTENTS: list[tuple[str, Any, str]] = [
    ("one.json", {"version": "5", "shapes": [], "imagePath": "a.jpg"}, "labelme's file of one image"),
    ("ls.json", [{"id": 1, "data": {"img": "x"}, "annotations": []}], "export of Label Studio"),
    (
        "min.json",
        [{"id": 1, "img": "x", "kp-1": []}],
        "a list of objects with id, img, kp-1",
    ),
    ("via.json", {"_via_settings": {}, "_via_img_metadata": {}}, "project of the VGG Image Annotator"),
    ("via3.json", {"project": {}, "metadata": {}, "view": {}}, "project of the VGG Image Annotator"),
    ("regions.json", VIA, "export of the VGG Image Annotator"),
    ("sleap.json", {"skeletons": [], "videos": [], "labels": []}, "SLEAP project"),
    ("openpose.json", {"version": 1.3, "people": []}, "OpenPose's output for one image"),
    ("mmpose.json", {"meta_info": {}, "instance_info": []}, "predictions file of MMPose"),
    ("datumaro.json", {"info": {}, "categories": {}, "items": []}, "Datumaro"),
    ("results.json", results(base()), "a results file .*; give the annotations"),
    ("alphapose.json", [PERSON], "a results file .*; give the annotations"),
    ("boxes.json", [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "a results file"),
    ("wrapped.json", {"data": base()}, "none of images, annotations, categories, but data"),
    ("aic.json", [{"image_id": "a", "keypoint_annotations": {}}], "python -m pose.tools.aic to-coco"),
    ("text.json", "abc", "got a str"),
    ("null.json", None, "got a NoneType"),
    ("numbers.json", [1, 2], "got a list"),
    ("dict.json", {"images": {"1": {}}, "annotations": []}, "'images' must be a list, got a dict"),
]
BYTES: list[tuple[str, bytes, str]] = [
    ("labels.txt", b"0 0.5 0.5 0.2 0.3 0.4 0.5 2\n", "YOLO"),
    ("data.yaml", b"kpt_shape: [17, 3]\n", "YAML file"),
    ("voc.xml", b"<annotation></annotation>", "XML .*VOC"),
    ("cvat", b"<?xml version='1.0'?><annotations/>", "XML .*CVAT"),
    ("collected.csv", b"scorer,me\nbodyparts,nose\n", "table"),
    ("collected.h5", b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5"),
    ("labels.slp", b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5 .*SLEAP"),
    ("annot.mat", b"MATLAB 5.0 MAT-file", "MATLAB"),
    ("lines.json", b'{"id": 1}\n{"id": 2}\n', "JSON lines"),
    ("packed.json", gzip.compress(b"{}"), "gzip"),
    ("a.zip", b"PK\x03\x04" + bytes(20), "archive"),
    ("page.json", b"<!DOCTYPE html><html></html>", "web page"),
    ("pointer.json", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ("empty.json", b" \n", "is empty"),
    ("printed.json", b"{'images': []}", "printed by Python, .* json.dump"),
    ("cut.json", json.dumps(base()).encode()[:300], "cut off"),
    ("latin.json", b'{"info": "\xe9"}', "not JSON .*codec"),
    ("photo.json", b"\xff\xd8\xff\xe0" + bytes(9), "an image"),
    ("pickle.json", b"\x80\x04\x95", "pickle"),
]


@pytest.mark.parametrize(("name", "content", "says"), CONTENTS, ids=[one[0] for one in CONTENTS])
def test_another_format_is_named(tmp_path: Path, name: str, content: Any, says: str) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{name}.*{says}"):
        read(tmp_path / name)


@pytest.mark.parametrize(("name", "content", "says"), BYTES, ids=[one[0] for one in BYTES])
def test_what_is_not_json_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{says}"):
        read(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_of_json_is_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(json.dumps({**base(), "info": "人"}, ensure_ascii=False).encode(encoding))
    assert read(file).people.sum() == 8


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(UserError, match="no annotation file"):
        read(tmp_path / "none.json")
