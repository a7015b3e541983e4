"""python -m pose.tools.visualize: a sheet for every picture, from any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from pose.draw.sheets import MARGIN, captioned
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.tools import visualize
from tests.dot_people import SKELETON, dots, write_set
from tests.image_files import read_rgb
from tests.small_networks import SMALL

PANELS = {  # beside the people: of the targets, of the prediction
    "tags": (["heatmap", "tag", "tag_people"], ["tag_values"]),
    "paf": (["heatmap", "background", "paf"], []),
    "pairwise": (["heatmap", "locref", "pairwise"], []),
}
BACKBONES = {"tags": "hourglass", "paf": "vgg19_cpm", "pairwise": "resnet"}
STAGES = {"tags": 2, "paf": 3, "pairwise": 2}
SIDE = 6 * 64  # enlarged to field_sheets.SMALLEST


@pytest.fixture(params=sorted(PANELS))
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of each head, with random weights -> its head and its pictures."""
    return make_run(request.param, tmp_path, monkeypatch)


@pytest.fixture
def tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    return make_run("tags", tmp_path, monkeypatch)[1]


def make_run(head: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[Path]]:
    monkeypatch.chdir(folder)
    pictures = write_set(folder, [(48, 64), (64, 48), (40, 40)])
    files = {"annotations": "dots.json", "images": "dots"}
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    config = {
        "input": {"size": [64, 64]},
        "data": {"root": ".", "train": files, "val": files, "skeleton": skeleton, "cache": False},
        "backbone": {"name": BACKBONES[head], **SMALL[BACKBONES[head]]},
        "head": {"name": head},
        "test": {"flip": False},
    }
    Path("run.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create("run", load_config("run.yaml"))
    built = experiment.config
    torch.manual_seed(0)
    model = built.build_model()
    torch.save({"model": model.state_dict()}, experiment.path("last.pt"))
    return head, pictures


def drawn(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[np.ndarray]:
    assert visualize.main(["-c", "run", *arguments]) == 0
    return [read_rgb(line) for line in capsys.readouterr().out.split()]


def cells(sheet: np.ndarray) -> tuple[int, int]:
    """Rows and columns of its panels."""
    bar = captioned(np.zeros((SIDE, SIDE, 3), np.uint8), "").shape[0] - SIDE
    rows, left = divmod(sheet.shape[0] + MARGIN, SIDE + bar + MARGIN)
    columns, right = divmod(sheet.shape[1] + MARGIN, SIDE + MARGIN)
    assert left == right == 0
    return rows, columns


@pytest.mark.slow
def test_targets_stand_above_the_prediction(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    head, pictures = run
    assert visualize.main(["-c", "run", *map(str, pictures)]) == 0
    written = capsys.readouterr().out.split()
    assert written == [f"exp/run/{picture.stem}-fields.png" for picture in pictures]
    for name in written:
        sheet = read_rgb(name)
        assert cells(sheet) == (2, 1 + sum(map(len, PANELS[head])))
        assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 20


def test_the_targets_are_where_the_people_are(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The dots of a person are the brightest of the picture, and its annotations."""
    head, pictures = run
    (sheet,) = drawn(capsys, str(pictures[0]))
    heat = sheet[-2 * SIDE - MARGIN - 25 : -SIDE - MARGIN - 25, SIDE + MARGIN : 2 * SIDE + MARGIN].max(2)
    _, people = dots((48, 64), 1)
    for x, y, _ in people[0]:  # the canvas: 8 pixels of border above the picture
        assert heat[round(6 * (y + 8.5)), round(6 * (x + 0.5))] > 100
    assert np.percentile(heat, 20) < 60


def test_other_pictures_have_no_targets(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    head, pictures = run
    Path("other").mkdir()
    image, _ = dots((30, 64), 2)
    cv2.imwrite(f"other/{pictures[0].name}", image)  # the name of an annotated one, but not its size
    (sheet,) = drawn(capsys, f"other/{pictures[0].name}", "-o", "out")
    assert cells(sheet) == (1, 1 + sum(map(len, PANELS[head])))


def test_a_picture_that_was_moved_is_found_by_name(
    tags: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path("moved", tags[0].name)
    moved.parent.mkdir()
    tags[0].rename(moved)
    (sheet,) = drawn(capsys, str(moved))
    assert cells(sheet)[0] == 2
    Path("dots.json").rename("elsewhere.json")  # the annotations too
    assert cells(drawn(capsys, str(moved))[0])[0] == 1
    assert cells(drawn(capsys, str(moved), "--annotations", "elsewhere.json")[0])[0] == 2


def test_every_stage_has_a_row(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    head, pictures = run
    (sheet,) = drawn(capsys, str(pictures[0]), "--stages")
    assert cells(sheet) == (2 + STAGES[head], 1 + sum(map(len, PANELS[head])))


def test_every_keypoint_has_a_panel(tags: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    (sheet,) = drawn(capsys, str(tags[0]), "--keypoints")
    assert cells(sheet) == (4, 6)  # 8 panels, 6 side by side
    (small,) = drawn(capsys, str(tags[0]), "--max-side", "100")
    assert small.shape[1] == 5 * 100 + 4 * MARGIN


@pytest.mark.parametrize(
    ("arguments", "stems"),
    [
        (["-n", "2"], None),
        (["--ids", "30", "10"], ["002", "000"]),
        (["--ids", "30", "test.batch_size=1", "dots/000.png"], ["000", "002"]),
        (["dots/001.png", "--ids", "20"], ["001"]),
    ],
)
def test_pictures_of_the_validation_set(
    tags: list[Path], capsys: pytest.CaptureFixture[str], arguments: list[str], stems: list[str] | None
) -> None:
    if "test.batch_size=1" in arguments:
        arguments = [arguments[3], *arguments[:3]]
    assert visualize.main(["-c", "run", *arguments]) == 0
    found = [Path(line).stem.removesuffix("-fields") for line in capsys.readouterr().out.split()]
    assert found == stems if stems else len(found) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "run", "nowhere.png"], "no image nowhere.png"),
        (["-c", "run", "test.flip=false"], "no picture given"),
        (["-c", "run", "a.png", "backbone.width=3"], "cannot be changed for a trained run"),
        (["-c", "other", "a.png"], "no run 'other'"),
        (["-c", "run", "a.png", "b/a.jpg"], "a.png and b/a.jpg would both be drawn to exp/run/a-fields.png"),
        (["-c", "run", "a.png", "-o", "run.yaml"], "cannot make the folder run.yaml"),
        (["-c", "run", "a.png", "--device", "gpu"], "unknown device 'gpu'"),
        (["-c", "run", "--ids", "10", "77"], "'77' is no picture of the validation set (it has 10, 20, 30"),
        (["-c", "run", "-n", "0"], "ask for 1 picture or more"),
        (["-c", "run", "dots"], "dots is a folder"),
        (["-c", "run", "dots/000.png", "--annotations", "none.json"], "none.json"),
        (["-c", "run", "dots/000.png", "--max-side", "3"], "a panel needs 64 pixels"),
    ],
)
def test_mistakes_get_one_sentence(tags: Any, capsys: Any, arguments: list[str], message: str) -> None:
    assert user_facing(lambda: visualize.main(arguments))() == 2
    assert message in capsys.readouterr().err
