"""python -m pose.tools.doctor: findings, reports and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pose.errors import user_facing
from pose.tools import doctor
from tests.dot_people import SKELETON, write_set


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """dots.json with three pictures in dots/, other.json with two in other/, and a config of both."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, [(96, 128)] * 3)
    write_set(tmp_path, [(80, 96), (96, 80)], name="other")
    (tmp_path / "skeleton.yaml").write_text(
        yaml.safe_dump({"keypoints": list(SKELETON.keypoints), "limbs": [list(x) for x in SKELETON.limbs]})
    )
    config = {
        "data": {
            "root": ".",
            "train": {"annotations": "dots.json", "images": "dots"},
            "val": {"annotations": "other.json", "images": "other"},
            "skeleton": "skeleton.yaml",
        },
        "backbone": {"name": "hourglass"},
        "head": {"name": "tags"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    mend(tmp_path / "dots.json", lambda data: None)
    mend(tmp_path / "other.json", lambda data: None)
    return tmp_path


def mend(file: Path, change: Any) -> None:
    """Areas that agree with the boxes, then `change`."""
    data = json.loads(file.read_text())
    for person in data["annotations"]:
        person["area"] = 0.53 * person["bbox"][2] * person["bbox"][3]
    for person in data["annotations"]:  # dots are small
        person["bbox"], person["area"] = [0, 0, 80, 80], 3000.0
    change(data)
    file.write_text(json.dumps(data))


def test_a_clean_data_set(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--config", "run.yaml"]) == 0
    text = capsys.readouterr().out
    assert "train: dots.json: 3 images, 6 people with labelled keypoints" in text
    assert "val: other.json: 2 images, 3 people" in text
    assert "serious" not in text and "doubtful" not in text
    assert doctor.main(["--config", "run.yaml", "--set", "val", "--pictures", "none"]) == 0
    assert "dots.json" not in capsys.readouterr().out


def spoil(data: dict[str, Any]) -> None:
    data["annotations"][0]["area"] = 0
    data["annotations"][1]["keypoints"][0:3] = [999, 10, 2]


def test_findings_with_examples_advice_and_measured_cost(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mend(files / "dots.json", spoil)
    assert doctor.main(["--annotations", "dots.json", "--images", "dots"]) == 1
    text = capsys.readouterr().out
    assert "serious   1 labelled person(s) whose area is zero or negative" in text
    assert "e.g. image 10, annotation 1, 000.png: area 0" in text
    assert "nose by 872 pixels" in text
    assert "do: set the area of the mask" in text
    assert "against the mended one" in text and "measured change: -" in text


def test_the_json_report(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mend(files / "dots.json", spoil)
    (files / "dots" / "001.png").unlink()
    assert doctor.main(["--config", "run.yaml", "-o", "report.json"]) == 1
    train, val = json.loads(Path("report.json").read_text())["files"]
    assert (train["set"], val["set"]) == ("train", "val")
    by_kind = {finding["kind"]: finding for finding in train["findings"]}
    assert by_kind["area_zero"]["annotation_ids"] == [1]
    assert by_kind["area_zero"]["ap_cost"] > 0
    assert by_kind["image_missing"]["examples"][0]["file"] == "001.png"
    assert by_kind["outside"]["level"] == "serious"
    assert train["measured"]["mended"] > train["measured"]["as_it_is"]
    assert capsys.readouterr().out.endswith("report.json\n")


def test_the_page_shows_the_people_and_asks_nobody(files: Path) -> None:
    mend(files / "dots.json", spoil)
    assert doctor.main(["--config", "run.yaml", "-o", "report.html"]) == 1
    page = Path("report.html").read_text()
    assert page.count("<img") >= 2 and 'src="data:image/' in page
    assert "http:" not in page and "https:" not in page and "<script" not in page
    assert "3 images" in page and "val: other.json" in page


def test_validation_pictures_that_are_trained_on(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "other" / "000.png").write_bytes((files / "dots" / "000.png").read_bytes())
    assert doctor.main(["--config", "run.yaml"]) == 1
    assert "1 validation picture(s) that are trained on" in capsys.readouterr().out
    same = ["data.val.annotations=dots.json", "data.val.images=dots"]
    assert doctor.main(["--config", "run.yaml", *same]) == 1
    assert "3 validation picture(s) that are trained on" in capsys.readouterr().out
    Path("ids.txt").write_text("10")
    assert doctor.main(["--config", "run.yaml", "data.validation_ids=ids.txt"]) == 0
    assert "val:" not in capsys.readouterr().out


def test_a_run_is_examined_by_its_name(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pose.experiment import Experiment, load_config

    Experiment.create("run", load_config("run.yaml"))
    assert doctor.main(["-c", "run", "--set", "train"]) == 0
    assert "train: dots.json" in capsys.readouterr().out


def test_other_keypoints_than_the_skeleton_has_are_a_finding(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main(["--annotations", "dots.json", "--skeleton", "coco17"]) == 1
    assert "other keypoints than the config's skeleton" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--annotations", "nowhere.json"], "no annotation file nowhere.json"),
        (["--annotations", "dots.json", "--images", "nowhere"], "--images: no folder nowhere"),
        (["--annotations", "dots.json", "--skeleton", "coco71"], "no skeleton 'coco71' (known: aic14"),
        (["--annotations", "dots.json", "data.root=x"], "settings go with --config"),
        (
            ["--config", "run.yaml", "--images", "dots"],
            "--images, --skeleton, --category and --orientation go",
        ),
        (["--config", "run.yaml", "--pictures", "-3"], "expected a number, all or none"),
        (["--config", "run.yaml", "--pictures", "\u00b2"], "expected a number, all or none"),
        (["--config", "run.yaml", "-o", "report.pdf"], "named .html or .json"),
        (["--config", "run.yaml", "data.val.images=gone"], "no folder of pictures gone"),
        (["-c", "other"], "no run 'other'"),
        (["--annotations", "run.yaml"], "is a YAML file"),
    ],
)
def test_mistakes_get_one_sentence(files: Path, capsys: Any, arguments: list[str], message: str) -> None:
    assert user_facing(lambda: doctor.main(arguments))() == 2
    assert message in capsys.readouterr().err
