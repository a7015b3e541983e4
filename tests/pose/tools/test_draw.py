"""python -m pose.tools.draw: results and annotations on their pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pose.errors import user_facing
from pose.tools import draw
from tests.dot_people import write_set
from tests.image_files import read_rgb

FILES = ["--annotations", "dots.json", "--images", "dots"]


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    return write_set(tmp_path, [(100, 120), (120, 100), (90, 90)])


def changed_at(picture: Path, spot: np.ndarray) -> bool:
    before, after = read_rgb(f"dots/{picture.name}"), read_rgb(f"out/{picture.name}")
    x, y = spot.round().astype(int)
    part = slice(max(0, y - 3), y + 4), slice(max(0, x - 3), x + 4)
    return bool((before[part] != after[part]).any())


def keypoints(entry: dict[str, Any]) -> np.ndarray:
    return np.array(entry["keypoints"]).reshape(-1, 3)[:, :2]


def test_every_annotated_person_is_drawn(pictures: list[Path]) -> None:
    assert draw.main([*FILES, "-o", "out"]) == 0
    data = json.loads(Path("dots.json").read_text())
    for entry in data["annotations"]:
        picture = pictures[entry["image_id"] // 10 - 1]
        assert all(changed_at(picture, spot) for spot in keypoints(entry))
    assert cv2.imread("out/sheet.png") is not None
    assert sorted(path.name for path in Path("out").iterdir()) == [*(p.name for p in pictures), "sheet.png"]


def test_results_are_drawn_instead_where_their_score_is_high_enough(pictures: list[Path]) -> None:
    people = [[30.0, 30.0, 0.9, 60.0, 30.0, 0.9, 45.0, 60.0, 0.9], [80.0, 80.0, 0.9] * 3]
    results = [
        {"image_id": 10, "category_id": 1, "keypoints": keypoint, "score": score}
        for keypoint, score in zip(people, (0.3, 0.7), strict=True)
    ]
    Path("results.json").write_text(json.dumps(results))
    arguments = [*FILES, "-o", "out", "--results", "results.json", "--ids", "10", "--score-threshold", "0.5"]
    assert draw.main(arguments) == 0
    assert changed_at(pictures[0], np.array([80.0, 80.0]))
    assert not changed_at(pictures[0], np.array([30.0, 30.0]))
    assert not Path("out", pictures[1].name).exists()


def test_a_picture_that_cannot_be_read_is_told_and_the_rest_drawn(
    pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures[1].write_bytes(b"no picture")
    assert draw.main([*FILES, "-o", "out"]) == 0
    said = capsys.readouterr()
    assert "not drawn: dots/001.png is corrupt" in said.err and "2 pictures and sheet.png" in said.out


def test_names_in_a_file_never_lead_out_of_the_output_folder(tmp_path: Path, pictures: list[Path]) -> None:
    data = json.loads(Path("dots.json").read_text())
    for image, name in zip(data["images"], ("../dots/000.png", str(pictures[1]), "002.png"), strict=True):
        image["file_name"] = name
    Path("dots.json").write_text(json.dumps(data))
    before = {path: path.read_bytes() for path in pictures}
    assert draw.main([*FILES, "-o", "out"]) == 0
    assert {path: path.read_bytes() for path in pictures} == before
    assert len(list(Path("out").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*FILES, "-o", "dots"], "-o dots holds the pictures themselves"),
        ([*FILES, "-o", "out", "--ids", "7"], "--ids 7: dots.json has no image of this id"),
        ([*FILES, "-o", "out", "--limit", "0"], "--limit 0: expected 1 picture or more"),
        ([*FILES, "-o", "out", "--line-width", "0"], "--line-width 0: expected a number above 0"),
        (["--annotations", "dots.json", "--images", "nowhere", "-o", "out"], "none of the 3 pictures could"),
        (["--annotations", "no.json", "--images", "dots", "-o", "out"], "no annotation file no.json"),
    ],
)
def test_mistakes_get_one_sentence(capsys: Any, arguments: list[str], message: str) -> None:
    assert user_facing(lambda: draw.main(arguments))() == 2
    assert message in capsys.readouterr().err
