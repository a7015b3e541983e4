"""python -m pose.tools.compare: numbers that are those of a test, on common pictures, and what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.metrics import coco_eval
from pose.tools import compare
from pose.tools.comparison.curves import COLORS, STYLES
from tests.dot_people import SKELETON, write_set
from tests.image_files import read_rgb
from tests.small_networks import SMALL

FEW = ("--rounds", "100")
IDS = [10 * (i + 1) for i in range(24)]


def make_run(
    name: str, noise: float, ids: list[int] = IDS, mode: str = "single", **sections: Any
) -> Experiment:
    """A run that was tested on the images `ids` of dots.json, and found everybody there with an error of
    `noise` pixels."""
    files = {"annotations": "dots.json", "images": "dots"}
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    config: dict[str, Any] = {
        "input": {"size": [64, 64]},
        "data": {"root": ".", "train": files, "val": files, "skeleton": skeleton, "cache": False},
        "backbone": {"name": "hourglass", **SMALL["hourglass"]},
        "head": {"name": "tags"},
        "train": {"epochs": 3, "steps_per_epoch": 10},
    }
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values}
    Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create(name, load_config(f"{name}.yaml"))
    content = json.loads(Path("dots.json").read_text())
    rng = np.random.default_rng(7)
    results = []
    for one in content["annotations"]:
        if one["image_id"] in ids:
            keypoints = np.array(one["keypoints"]).reshape(-1, 3)
            keypoints[:, :2] += rng.normal(0, noise + 1e-9, (len(keypoints), 2))
            results.append({"image_id": one["image_id"], "category_id": 1, "score": float(rng.uniform()),
                            "keypoints": keypoints.ravel().tolist()})  # fmt: skip
    scores = coco_eval.evaluate(content, results, sigmas=SKELETON.sigmas, image_ids=ids)
    metrics = {"stats": scores.stats, "num_images": len(ids), "annotations": "dots.json", "image_ids": ids}
    experiment.path(f"results-{mode}.json").write_text(json.dumps(results))
    experiment.path(f"metrics-{mode}.json").write_text(json.dumps(metrics))
    with open(experiment.path("log.jsonl"), "w") as log:
        for step in range(5, 31, 5):
            log.write(
                json.dumps({"kind": "train", "step": step, "loss": 1 / step, "epoch": step / 10}) + "\n"
            )
        log.write(json.dumps({"kind": "validation", "step": 30, "AP": scores.stats["AP"]}) + "\n")
    return experiment


@pytest.fixture(autouse=True)
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path, [(120, 160)] * len(IDS))
    return tmp_path


def rows(text: str, title: str) -> list[list[str]]:
    """Cells of the Markdown table whose header begins with `title`."""
    lines = iter(text.splitlines())
    found = []
    for line in lines:
        if line.startswith(f"| {title}"):
            found.append(line)
            for more in lines:
                if not more.startswith("|"):
                    break
                found.append(more)
            break
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found if "---" not in line]


def numbers(name: str) -> dict[str, float]:
    return json.loads(Path(f"exp/{name}/metrics-single.json").read_text())["stats"]


def test_numbers_are_those_of_the_tests(capsys: Any) -> None:
    make_run("good", 1.0)
    make_run("bad", 6.0)
    make_run("twin", 1.0)
    assert compare.main(["good", "bad", "twin", "-o", "out", *FEW]) == 0
    text = capsys.readouterr().out
    table = rows(text, "run  | backbone")
    assert table[0][6:] == ["AP", "AP50", "AP75", "APM", "APL", "AR"]
    for cells in table[1:]:
        for column, cell in zip(table[0][6:], cells[6:], strict=True):
            expected = numbers(cells[0])[column]
            assert cell == ("-" if expected < 0 else f"{100 * expected:.1f}")
        assert cells[1:3] == ["hourglass", "tags"] and cells[4:6] == ["30", "3"] and float(cells[3]) > 0
    differences = {cells[0]: cells for cells in rows(text, "run  |  ")[1:]}
    assert differences["bad"][3] == "worse" and differences["bad"][2].startswith("-")
    assert differences["twin"][2:4] == ["+0.0 [+0.0, +0.0]", "not sure: 0 is inside"]
    assert Path("out/compare.md").read_text() in text
    assert "Nothing." in text, "their configs are the same"


def test_what_differs_between_configs(capsys: Any) -> None:
    make_run("one", 1.0)
    make_run("other", 1.0, train={"optimizer": {"lr": 0.5}}, head={"name": "paf"}, data={"workers": 3})
    assert compare.main(["one", "other", "-o", "out", *FEW]) == 0
    found = {cells[0]: cells[1:] for cells in rows(capsys.readouterr().out, "key")[1:]}
    assert found["head.name"] == ["tags", "paf"] and found["train.optimizer.lr"][1] == "0.5"
    assert "data.workers" not in found and "head.tag_dim" not in found and "train.epochs" not in found
    assert compare.main(["one", "other", "-o", "out", *FEW, "--all"]) == 0
    found = {cells[0]: cells[1:] for cells in rows(capsys.readouterr().out, "key")[1:]}
    assert found["head.tag_dim"] == ["1", "-"] and found["head.background"] == ["-", "true"]


def test_what_was_set_for_the_test_counts(capsys: Any) -> None:
    make_run("one", 1.0)
    two = make_run("two", 1.0)
    metrics = json.loads(two.path("metrics-single.json").read_text())
    metrics["settings"] = {"test": {"flip": False}}
    two.path("metrics-single.json").write_text(json.dumps(metrics))
    assert compare.main(["one", "two", "-o", "out", *FEW]) == 0
    assert ["test.flip", "true", "false"] in rows(capsys.readouterr().out, "key")


def test_runs_on_different_pictures_are_compared_on_the_common_ones(capsys: Any) -> None:
    make_run("whole", 2.0)
    make_run("part", 2.0, ids=IDS[:7])
    assert compare.main(["whole", "part", "-o", "out", *FEW]) == 0
    text = capsys.readouterr().out
    assert "whole on 24, part on 7); compared on the 7 common ones" in text
    part = [cells for cells in rows(text, "run   | backbone") if cells[0] == "part"][0]
    assert part[6] == f"{100 * numbers('part')['AP']:.1f}"


def test_a_test_that_noted_no_pictures_was_on_the_whole_set(capsys: Any) -> None:
    for name in ("old", "new"):
        make_run(name, 2.0)
    file = Path("exp/old/metrics-single.json")
    metrics = json.loads(file.read_text())
    del metrics["image_ids"], metrics["annotations"]
    file.write_text(json.dumps(metrics))
    assert compare.main(["old", "new", "-o", "out", *FEW]) == 0
    assert "24 pictures of dots.json" in capsys.readouterr().out
    file.write_text(json.dumps({**metrics, "num_images": 9}))
    assert user_facing(lambda: compare.main(["old", "new"]))() == 2
    assert "does not say which pictures it was on; test again" in capsys.readouterr().err


def test_every_run_has_its_colour_in_the_curves() -> None:
    for i in range(3):
        make_run(f"run{i}", 1.0 + i)
    assert compare.main(["run0", "run1", "run2", "-o", "out", *FEW]) == 0
    picture = read_rgb("out/curves.png")
    for color in COLORS[:3]:
        wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(picture.astype(int) - wanted).max(-1) <= 2).sum() > 100
    assert len(set(COLORS)) == len(set(map(str, STYLES))) == 8


def test_latex_has_the_intervals_and_the_best_in_bold(capsys: Any) -> None:
    make_run("good_one", 1.0)
    make_run("bad", 6.0)
    assert compare.main(["good_one", "bad", "-o", "out", *FEW, "--latex"]) == 0
    lines = Path("out/compare.tex").read_text().splitlines()
    good, bad = (next(line for line in lines if line.startswith(name)) for name in (r"good\_one", "bad"))
    assert (
        rf"\textbf{{{100 * numbers('good_one')['AP']:.1f}}}" in good and r"\textbf" not in bad.split("&")[1]
    )
    printed = {cells[0]: cells[1] for cells in rows(capsys.readouterr().out, "run      |  ")[1:]}
    for name, line in (("good_one", good), ("bad", bad)):
        around = printed[name].partition(" ")[2]
        assert around.startswith("[") and f"{{\\scriptsize {around}}}" == line.split("&")[2].strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "give two runs or more"),
        (["one", "one"], "a run is named twice"),
        (["one", "nobody"], "no run 'nobody'"),
        (
            ["one", "untested"],
            "has no metrics-single.json; test it first: python -m pose.test -c untested -m single",
        ),
        (["one", "two", "-m", "multi"], "test it first: python -m pose.test -c one -m multi"),
        (["one", "two", "--tag", "x"], "test it first: python -m pose.test -c one -m single --tag x"),
        (["one", "broken"], "cannot read exp/broken/results-single.json"),
        (["one", "elsewhere"], "one on the other's: python -m pose.test -c elsewhere data.val.annotations="),
        (["one", "gone"], "that gone was tested on are not there"),
        (["one", "apart"], "with none in common"),
        (["one", "two", "train.optimizer.lr=1"], "'train.optimizer.lr=1' cannot be changed here"),
        (["one", "two", "--rounds", "3"], "expected 100 or more"),
        (["one", "two", "-o", "dots.json"], "-o dots.json is a file"),
    ],
)
def test_mistakes_get_one_sentence(capsys: Any, arguments: list[str], message: str) -> None:
    make_run("one", 1.0, ids=IDS[:3])
    for name in {"two", "untested", "broken", "gone", "elsewhere"} & set(arguments):
        run = make_run(name, 1.0, ids=IDS[:3])
    if "untested" in arguments:
        run.path("metrics-single.json").unlink()
    elif "broken" in arguments:
        run.path("results-single.json").write_text("[{")
    elif "apart" in arguments:
        make_run("apart", 1.0, ids=IDS[5:8])
    elif "gone" in arguments or "elsewhere" in arguments:
        shutil.copy("dots.json", "other.json")
        with open("other.json", "a") as file:
            file.write(" ")
        metrics = json.loads(run.path("metrics-single.json").read_text())
        metrics["annotations"] = "other.json"
        run.path("metrics-single.json").write_text(json.dumps(metrics))
        if "gone" in arguments:
            text = run.path("config.yaml").read_text().replace("dots.json", "nowhere.json")
            run.path("config.yaml").write_text(text)
            Path("other.json").unlink()
    assert user_facing(lambda: compare.main(arguments))() == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
