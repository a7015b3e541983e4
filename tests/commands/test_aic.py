"""python -m pose.test on AI Challenger's terms: both scores, the list to hand in, the person threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from benchmarks.aic_score import scene
from pose import test as test_command
from pose.annotations.aic import KEYPOINTS, to_official
from pose.annotations.aic_coco import Picture, to_coco
from pose.config import read_yaml
from pose.data.images import SetImage
from pose.engine.distributed import processes
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.predict.images import Outcome
from pose.skeleton import from_dict
from pose.structures import People
from pose.tools import score as score_tool
from tests.literal.reference import aic_score as literal

NET = {"name": "hourglass", "stacks": 1, "width": 8, "growth": 4, "depth": 2, "stem_width": 4}
NAMES = [f"{i:040x}" for i in range(6)]
UNION = {"name": "union", "keypoints": ["nose", *reversed(KEYPOINTS), "chin"]}
OTHER = {"name": "other", "keypoints": ["nose", "chin"]}
AIC14 = from_dict(read_yaml(Path(__file__).parents[2] / "configs" / "_skeletons" / "aic14.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six grey pictures with people in official and in COCO format, and runs with three skeletons."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "pictures").mkdir()
    truth, _ = scene(2, 2, images=len(NAMES))
    for name in NAMES:
        cv2.imwrite(str(folder / f"pictures/{name}.jpg"), np.full((64, 80, 3), 90, np.uint8))
    (folder / "official.json").write_text(json.dumps(to_official(truth, boxes=True)))
    file = to_coco(truth, [Picture(f"{one.image_id}.jpg", 80, 64) for one in truth], AIC14)
    (folder / "coco.json").write_text(json.dumps(file))
    file["categories"][0] |= {
        "keypoints": OTHER["keypoints"],
        "skeleton": [],
        "sigmas": None,
        "grouping_order": None,
    }
    for person in file["annotations"]:
        person |= {"keypoints": person["keypoints"][:6]}
    (folder / "other.json").write_text(json.dumps(file))
    make_run(folder, "plain", "coco.json", "aic14")
    make_run(folder, "other", "other.json", OTHER)
    make_run(folder, "union", "coco.json", UNION, mixed=True)
    return folder


def make_run(folder: Path, name: str, annotations: str, skeleton: Any, mixed: bool = False) -> None:
    """A run with random weights that see something everywhere."""
    files = {"annotations": annotations, "images": "pictures"}
    data: dict[str, Any] = {"sets": [files]} if mixed else {"train": files}
    data |= {"root": ".", "val": files, "workers": 0, "skeleton": skeleton, "cache": False}
    config = {"input": {"size": [64, 64]}, "data": data, "backbone": NET, "head": {"name": "tags"}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create(name, load_config(folder / f"{name}.yaml"), runs=folder / "exp")
    torch.manual_seed(0)
    own = experiment.config
    model = own.build_model()
    with torch.no_grad():
        model.backbone.stacks[-1].prediction.bias.fill_(0.3)  # type: ignore[index, union-attr]
        model.backbone.stacks[-1].prediction.weight.mul_(10)  # type: ignore[index, union-attr]
    torch.save({"model": model.state_dict()}, experiment.path("last.pt"))


@pytest.fixture
def at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the folder; what earlier tests left in the runs is removed."""
    monkeypatch.chdir(folder)
    for pattern in ("*/results-*", "*/metrics-*", "*/images-*", "*/tune-*"):
        for file in (folder / "exp").glob(pattern):
            file.unlink()
    return folder


@pytest.fixture
def seeing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The annotated people are found nearly where they are, with high scores; others with low ones."""

    def find(models: Any, images: Sequence[SetImage], *_: Any, **__: Any) -> Any:
        skeleton = models[0].head.skeleton
        places = [skeleton.keypoints.index(name) for name in KEYPOINTS]
        truth = {one.image_id: one for one in scene(2, 2, images=len(NAMES))[0]}
        people = {}
        for one in images[1:]:  # the first picture cannot be read
            rng = np.random.default_rng(one.id)
            known = truth[one.path.stem].keypoints
            xy = np.concatenate([known[..., :2], rng.uniform(0, 600, (4, 14, 2))])
            seen = np.concatenate([known[..., 2] < 3, rng.random((4, 14)) < 0.8])
            own = np.zeros((len(xy), len(skeleton), 3), np.float32)
            own[:, places] = np.concatenate([xy + rng.normal(0, 1.5, xy.shape), seen[..., None]], 2)
            scores = [rng.uniform(0.5, 1, len(known)), rng.uniform(0, 0.6, 4)]
            people[one.id] = People(own, np.concatenate(scores).astype(np.float32))
        return people, Outcome(unreadable={0: "no picture"})

    monkeypatch.setattr("pose.predict.predict_set.predict_set", find)


def run(*arguments: str) -> int:
    """The command's own main, with its exit code."""

    def main() -> int:
        options = test_command.parse([*arguments, "--device", "cpu"])
        with processes(options.device) as group:
            return test_command.test(options, group)

    return user_facing(main)()


def written(folder: Path, name: str, run: str = "plain") -> Any:
    return json.loads((folder / "exp" / run / name).read_text())


# ---- the set ----


@pytest.mark.parametrize("threshold", [0.0, 0.45])
def test_both_scores_are_told_and_the_official_one_is_that_of_the_list(at_work, seeing, capsys, threshold):
    """By our tool from the official and from the COCO file, and by the loops of the official script."""
    setting = f"test.person_threshold={threshold}"
    assert run("-c", "plain", "--submission", "out/list.json", setting) == 0
    printed = capsys.readouterr().out
    assert "Average Precision  (AP) @[ IoU=0.50:0.95" in printed
    assert "metric: COCO's AP by OKS" in printed and "sigmas: AI Challenger's" in printed
    assert f"people with a score of {threshold:g} or more (test.person_threshold)" in printed
    metrics = written(at_work, "metrics-single.json")
    assert metrics["stats"]["AP"] > 0 and 0.05 < metrics["aic"]["score"] < 1
    assert metrics["aic"]["person_threshold"] == threshold
    assert f"AI Challenger official score (mean of the ten below) = {metrics['aic']['score']:.6f}" in printed

    listed = json.loads((at_work / "out/list.json").read_text())
    assert [entry["image_id"] for entry in listed] == NAMES
    assert listed[0]["keypoint_annotations"] == {}  # could not be read
    official = json.loads((at_work / "official.json").read_text())
    assert literal.evaluate(official, listed)[0] == metrics["aic"]["score"]
    for truth in ("official.json", "coco.json"):
        options = ["--annotations", truth, "--results", "out/list.json", "--strict", "-o", "again.json"]
        score_tool.main(["aic", *options])
        again = json.loads((at_work / "again.json").read_text())
        assert again["score"] == metrics["aic"]["score"] and again["ap"] == metrics["aic"]["ap"]


def test_leaving_people_out_changes_the_official_score_only(at_work, seeing):
    found = {}
    for threshold in (0.0, 0.45):
        assert run("-c", "plain", f"test.person_threshold={threshold}") == 0
        found[threshold] = written(at_work, "metrics-single.json")
    low, high = found.values()
    assert low["stats"] == high["stats"] and low["num_results"] == high["num_results"]
    assert low["aic"]["score"] < high["aic"]["score"]
    assert low["aic"]["predictions"] == low["num_results"] > high["aic"]["predictions"]


def test_a_run_with_more_keypoints_in_another_order_has_the_same_scores(at_work, seeing):
    found = {}
    for name in ("plain", "union"):
        assert run("-c", name, "--submission", f"{name}.json") == 0
        found[name] = written(at_work, "metrics-single.json", name)
    assert found["union"]["aic"] == found["plain"]["aic"]
    assert found["union"]["stats"] == pytest.approx(found["plain"]["stats"])
    assert (at_work / "union.json").read_text() == (at_work / "plain.json").read_text()


def test_the_threshold_is_swept_and_the_best_one_gives_what_it_promises(at_work, seeing, capsys):
    assert run("-c", "plain", "--tune") == 0
    printed = capsys.readouterr().out
    tuned = written(at_work, "tune-single.json")
    now = written(at_work, "metrics-single.json")["aic"]
    rows = {row["threshold"]: row for row in tuned["curve"]}
    assert tuned["current"] == 0 and rows[0.0]["score"] == now["score"]
    assert rows[0.0]["people"] == now["predictions"]
    best = tuned["best"]
    assert best["score"] == max(row["score"] for row in tuned["curve"]) > now["score"]
    assert f"test.person_threshold={best['threshold']}" in printed
    assert (at_work / "exp/plain/tune-single.png").is_file()
    assert run("-c", "plain", f"test.person_threshold={best['threshold']}", "--tune", "--tag", "best") == 0
    again = written(at_work, "metrics-single-best.json")["aic"]
    assert (again["score"], again["predictions"]) == (best["score"], best["people"])
    assert written(at_work, "tune-single-best.json")["current"] == best["threshold"]


def test_a_subset_is_scored_alone(at_work, seeing):
    assert run("-c", "plain", "--limit", "2", "--submission", "few.json") == 0
    assert written(at_work, "metrics-single-limit2.json")["aic"]["images"] == 2
    assert len(json.loads((at_work / "few.json").read_text())) == 2


# ---- a folder of pictures ----


def test_a_folder_gives_a_list_of_every_picture(at_work, capsys):
    """With a real network; one picture cannot be read."""
    (at_work / "test").mkdir()
    for i, name in enumerate(["b", "a"]):
        picture = np.random.default_rng(i).integers(0, 255, (64, 80, 3), np.uint8)
        cv2.imwrite(str(at_work / f"test/{name}.png"), picture)
    (at_work / "test/c.jpg").write_text("damaged")
    low = ["head.decoder.detection_threshold=0.0", "test.flip=false"]
    assert run("-c", "plain", "--images", "test", "--submission", "list.json", *low) == 0
    assert "on 3 pictures: list.json" in capsys.readouterr().out
    listed = {
        one["image_id"]: one["keypoint_annotations"]
        for one in json.loads((at_work / "list.json").read_text())
    }
    assert list(listed) == ["a", "b", "c"] and listed["c"] == {}
    results = written(at_work, "results-single-images.json")
    assert results and len(listed["a"]) == sum(record["image_id"] == 1 for record in results)
    assert list(listed["a"])[0] == "human1"
    for record, human in zip(results, [*listed["a"].values(), *listed["b"].values()], strict=True):
        points, own = (np.reshape(values, (14, 3)) for values in (record["keypoints"], human))
        seen = points[:, 2] > 0
        assert (own[:, 2] == seen).all() and (own[~seen] == 0).all()
        assert np.abs(own[seen, :2] - points[seen, :2]).max() < 0.501
    score_tool.main(["aic", "--annotations", "official.json", "--results", "list.json", "--strict"])


def test_a_list_is_about_pixels_as_they_are_stored(at_work, monkeypatch):
    """Without one a photo is turned upright."""
    seen = []

    def find(*_: Any, orientation: str, **__: Any) -> Any:
        seen.append(orientation)
        return {}, Outcome()

    monkeypatch.setattr("pose.predict.predict_set.predict_set", find)
    for more in ([], ["--submission", "stored.json"]):
        assert run("-c", "plain", "--images", "pictures", *more) == 0
    assert seen == ["exif", "stored"]


# ---- refusals, before anybody is looked for ----

REFUSALS = {
    "tune without annotations": (["-c", "plain", "--tune", "--images", "pictures"], "--tune needs annotated"),
    "tune of another set": (["-c", "other", "--tune"], "other.json does not have its 14 keypoints"),
    "submission of another skeleton": (
        ["-c", "other", "--submission", "x.json"],
        "'other' of this run has no",
    ),
    "folder and another skeleton": (
        ["-c", "other", "--images", "pictures", "--submission", "x.json"],
        "'other' of this run has no right_shoulder",
    ),
    "a folder for a file": (["-c", "plain", "--submission", "pictures"], "--submission pictures is a folder"),
    "two of one name": (
        ["-c", "plain", "--images", "twice", "--submission", "x.json"],
        "would be one picture in AI Challenger's list",
    ),
    "threshold": (["-c", "plain", "test.person_threshold=high"], "person_threshold"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_mistakes_get_one_sentence_and_exit_code_2(at_work, capsys, monkeypatch, case):
    monkeypatch.setattr("pose.predict.predict_set.predict_set", None)
    for place in ("a.png", "below/a.jpg"):
        (at_work / "twice" / place).parent.mkdir(exist_ok=True, parents=True)
        (at_work / "twice" / place).write_bytes(b"")
    arguments, sentence = REFUSALS[case]
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert not (at_work / "x.json").exists()


def test_other_sets_have_no_official_score(at_work, monkeypatch, capsys):
    monkeypatch.setattr("pose.predict.predict_set.predict_set", lambda *_, **__: ({}, Outcome()))
    assert run("-c", "other") == 0
    assert "AI Challenger" not in capsys.readouterr().out
    metrics = written(at_work, "metrics-single.json", "other")
    assert "aic" not in metrics and "metric" not in metrics["header"]
