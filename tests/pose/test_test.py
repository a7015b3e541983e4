"""python -m pose.test: what it prints and writes, what it refuses, and that processes share the work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pose import test as test_command
from pose.annotations.annotations import load_annotations
from pose.annotations.skeletons import read_skeleton
from pose.engine.distributed import processes
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.inference import Comparison
from pose.metrics import coco_eval
from pose.metrics.results import results_json
from pose.model import build_model
from pose.predict import predict_set
from pose.predict.images import Outcome
from pose.skeleton import Skeleton
from pose.structures import People
from pose.synthetic import dataset as synthetic
from tests.dot_people import SKELETON, assert_same_people, dot_model, dots, write_set
from tests.training_fixtures import command, drawn, settings

ROOT = Path(__file__).parents[2]
SIZES = [(120, 160), (160, 120), (140, 140), (101, 203), (120, 160), (97, 128), (120, 160)]
NET = {"name": "hourglass", "stacks": 1, "width": 8, "growth": 4, "depth": 2, "stem_width": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 7 pictures and a run `tiny` whose network knows nothing."""
    folder = tmp_path_factory.mktemp("work")
    write_set(folder, SIZES, category=5)
    files = {"annotations": "dots.json", "images": "dots"}
    data: dict[str, Any] = {"root": ".", "train": files, "val": files, "workers": 0}
    data["skeleton"] = {
        "name": "dots",
        "keypoints": list(SKELETON.keypoints),
        "limbs": [list(limb) for limb in SKELETON.limbs],
    }
    config = {"input": {"size": [160, 160]}, "data": data, "backbone": NET, "head": {"name": "tags"}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create("tiny", load_config(folder / "tiny.yaml"), runs=folder / "exp")
    save_weights(experiment)
    return folder


def save_weights(experiment: Experiment) -> None:
    """Random weights that see something everywhere."""
    config = experiment.config
    torch.manual_seed(0)
    model = config.build_model()
    with torch.no_grad():
        model.backbone.stacks[-1].prediction.bias.fill_(0.3)  # type: ignore[index, union-attr]
        model.backbone.stacks[-1].prediction.weight.mul_(10)  # type: ignore[index, union-attr]
    torch.save({"model": model.state_dict()}, experiment.path("last.pt"))


@pytest.fixture
def at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the folder; what earlier tests left in the run is removed."""
    monkeypatch.chdir(folder)
    for pattern in ("results-*", "metrics-*", "images-*", "pictures-*"):
        for file in (folder / "exp/tiny").glob(pattern):
            file.unlink()
    return folder


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's network is replaced by one that sees the dots."""

    def load(experiment: Experiment, choice: str, device: torch.device) -> Any:
        return dot_model(size=160), experiment.weights(choice)

    monkeypatch.setattr("pose.sessions.load_model", load)


def run(*arguments: str) -> int:
    """The command's own main, with its exit code."""

    def main() -> int:
        options = test_command.parse([*arguments, "--device", "cpu"])
        with processes(options.device) as group:
            return test_command.test(options, group)

    return user_facing(main)()


def written(folder: Path, name: str) -> Any:
    return json.loads((folder / "exp/tiny" / name).read_text())


# ---- the set ----


@pytest.mark.parametrize(("mode", "scales"), [("single", "1"), ("multi", "2, 1, 0.5")])
def test_what_was_drawn_is_found_scored_and_reported(at_work, seeing, capsys, mode, scales):
    assert run("-c", "tiny", "-m", mode) == 0
    printed = capsys.readouterr().out
    for statement in ("run: tiny", "weights: last.pt", "flip: on", f"scales: {scales}", "precision: fp32"):
        assert statement in printed
    assert "7 of dots.json (all, with and without people)" in printed
    assert "resize: letterbox 160 x 160" in printed
    assert "Average Precision  (AP) @[ IoU=0.50:0.95" in printed
    metrics = written(at_work, f"metrics-{mode}.json")
    assert metrics["stats"]["AP"] > 0.95
    assert metrics["num_images"] == 7
    assert metrics["unreadable"] == []
    assert metrics["header"]["scales"] == scales
    assert metrics["settings"]["test"]["flip"] is True
    results = written(at_work, f"results-{mode}.json")
    assert len(results) == metrics["num_results"] == 13  # 1, 2, 3, 1, 2, 3, 1 people
    assert {record["category_id"] for record in results} == {5}
    assert {record["image_id"] for record in results} == {10 * i for i in range(1, 8)}


def test_the_network_is_arranged_for_inference(at_work, monkeypatch):
    tested = []
    predict = predict_set.predict_set

    def spy(models, *rest, **more):
        tested.extend(models)
        return predict(models, *rest, **more)

    monkeypatch.setattr(predict_set, "predict_set", spy)
    monkeypatch.setattr("pose.inference.channels_last_wins", lambda device: True)
    assert run("-c", "tiny", "-m", "single") == 0
    kernels = [one for one in tested[0].parameters() if one.dim() == 4 and one.shape[1] > 1 < one.shape[2]]
    assert kernels and all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)


def test_a_chosen_precision_is_told_used_and_reported(at_work, seeing, monkeypatch, capsys):
    monkeypatch.setattr("pose.cpu.has_bf16", lambda: True)
    monkeypatch.setattr("pose.inference.compare", lambda *_: Comparison(2.0, 0.01))
    used = set()

    def spy(device, precision):
        used.add(precision)
        return nullcontext()

    monkeypatch.setattr("pose.model.autocast", spy)
    assert run("-c", "tiny", "-m", "single") == 0
    printed = capsys.readouterr()
    assert "precision: bf16 (2.0x as quick here, fields within 1.0%)" in printed.err
    assert "precision: bf16" in printed.out
    assert written(at_work, "metrics-single.json")["header"]["precision"] == "bf16"
    assert run("-c", "tiny", "-m", "single", "test.precision=fp32") == 0
    printed = capsys.readouterr()
    assert "bf16" not in printed.out + printed.err
    assert used == {"bf16", "fp32"}
    shutil.rmtree(at_work / "exp/tiny/.cache")


def test_settings_of_testing_may_be_changed_and_are_reported(at_work, seeing, capsys):
    assert run("-c", "tiny", "test.flip=false", "test.single=[1.5]", "head.decoder.subpixel=none") == 0
    printed = capsys.readouterr().out
    assert "flip: off" in printed and "scales: 1.5" in printed
    settings = written(at_work, "metrics-single.json")["settings"]
    assert settings["head"]["decoder"]["subpixel"] == "none"


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (["test.resize=short_side", "test.input_size=[100, 200]"], "short side 100, multiples of 32"),
        (["test.resize=long_side", "test.input_size=[100, 200]"], "long side 200, multiples of 32"),
        (["test.input_size=[100, 200]"], "letterbox 224 x 128"),
        (["test.resize=short_side"], "short side 160, multiples of 32"),
    ],
)
def test_the_resize_rule_is_reported(at_work, seeing, capsys, settings, rule):
    assert run("-c", "tiny", "--limit", "1", *settings) == 0
    assert f"resize: {rule}" in capsys.readouterr().out
    assert written(at_work, "metrics-single-limit1.json")["header"]["resize"] == rule


def test_pictures_without_people_may_be_left_out(at_work, seeing, capsys):
    """And the report says so."""
    file = at_work / "dots.json"
    before = file.read_text()
    content = json.loads(before)
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] > 20]
    try:
        file.write_text(json.dumps(content))
        assert run("-c", "tiny") == 0
        assert "7 of dots.json (all, with and without people)" in capsys.readouterr().out
        everything = written(at_work, "metrics-single.json")
        assert run("-c", "tiny", "data.validation_people_only=true") == 0
        assert "5 of dots.json (all, only those with people)" in capsys.readouterr().out
        some = written(at_work, "metrics-single.json")
    finally:
        file.write_text(before)
    assert (everything["num_images"], some["num_images"]) == (7, 5)
    assert everything["num_results"] == 13 and some["num_results"] == 10
    assert some["stats"]["AP"] > everything["stats"]["AP"]  # what is found on the others counts against it


def test_both_backends_give_equal_numbers(at_work, seeing):
    stats = []
    for backend in ("fast", "pycocotools"):
        # badly placed people, for numbers other than 0 and 1
        assert run("-c", "tiny", "--backend", backend, "test.input_size=[64, 64]") == 0
        metrics = written(at_work, "metrics-single.json")
        assert metrics["backend"] == backend
        stats.append(metrics["stats"])
    assert stats[0] == pytest.approx(stats[1])
    assert stats[0]["AP"] > 0


def test_a_limit_takes_a_fixed_subset(at_work, seeing, capsys):
    chosen = []
    for _ in range(2):
        assert run("-c", "tiny", "--limit", "3") == 0
        assert "3 of dots.json (a fixed random subset" in capsys.readouterr().out
        chosen.append({record["image_id"] for record in written(at_work, "results-single-limit3.json")})
        assert written(at_work, "metrics-single-limit3.json")["num_images"] == 3
    assert chosen[0] == chosen[1] and len(chosen[0]) == 3


def test_an_unreadable_picture_is_counted_named_and_missed(at_work, seeing, capsys, monkeypatch):
    hidden = at_work / "hidden.png"
    (at_work / "dots/002.png").rename(hidden)
    try:
        assert run("-c", "tiny") == 0
        assert "pictures skipped (unreadable or too small): 1" in capsys.readouterr().out
        metrics = written(at_work, "metrics-single.json")
        assert len(metrics["unreadable"]) == 1 and "002.png" in metrics["unreadable"][0]
        assert metrics["num_images"] == 7 and metrics["stats"]["AR"] < 0.9
        assert run("-c", "tiny", "data.strict=true") == 2
        assert "002.png" in capsys.readouterr().err
    finally:
        hidden.rename(at_work / "dots/002.png")


def test_pictures_are_drawn_on_demand(at_work, seeing):
    assert run("-c", "tiny") == 0
    assert not (at_work / "exp/tiny/pictures-single.png").exists()
    assert run("-c", "tiny", "--save-pictures", "3") == 0
    sheet = cv2.imread(str(at_work / "exp/tiny/pictures-single.png"))
    assert sheet is not None and sheet.shape[1] > 3 * 300


# ---- a folder of pictures ----


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "not_a_picture.jpg").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    for i, name in enumerate(["a.png", "b.JPG", "below/c.jpeg"]):
        cv2.imwrite(str(tmp_path / name), dots((120, 160), 1 + i, seed=i)[0][..., ::-1])
    upright = Image.Exif()
    upright[0x0112] = 6  # stored turned by 90 degrees, with the remark how to turn it back
    stored = Image.fromarray(dots((120, 160), 2, seed=1)[0]).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "b.JPG", "JPEG", quality=98, exif=upright)
    (tmp_path / "z.png").write_text("damaged")
    return tmp_path


def test_people_of_a_folder_without_a_score(at_work, seeing, photos, capsys):
    assert run("-c", "tiny", "--images", str(photos), "--save-pictures", "9") == 0
    printed = capsys.readouterr().out
    assert "6 people on 3 pictures" in printed and "skipped (unreadable or too small): 1" in printed
    names = written(at_work, "images-single-images.json")
    assert [Path(names[key]).name for key in "1234"] == ["a.png", "b.JPG", "c.jpeg", "z.png"]
    results = written(at_work, "results-single-images.json")
    for image_id, number in ((1, 1), (2, 2), (3, 3)):
        own = [record for record in results if record["image_id"] == image_id]
        keypoints = np.array([r["keypoints"] for r in own], np.float32).reshape(-1, 3, 3)
        scores = np.array([r["score"] for r in own], np.float32)
        assert_same_people(People(keypoints, scores), dots((120, 160), number, seed=image_id - 1)[1], 1.0)
    assert (at_work / "exp/tiny/pictures-single-images.png").is_file()
    assert not (at_work / "exp/tiny/metrics-single-images.json").exists()
    assert run("-c", "tiny", "--images", str(photos), "--limit", "2", "-m", "multi") == 0
    assert "3 people on 2 pictures" in capsys.readouterr().out


# ---- refusals: one sentence, exit code 2 ----

REFUSALS = {
    "no run": (["-c", "tinny"], "did you mean 'tiny'"),
    "no folder": (["-c", "tiny", "--images", "nowhere"], "no folder nowhere"),
    "no pictures": (["-c", "tiny", "--images", "exp"], "holds no pictures"),
    "no weights": (["-c", "tiny", "--weights", "best"], "there are last.pt"),
    "no file": (["-c", "tiny", "--weights", "no/such.pt"], "no weights no/such.pt"),
    "limit": (["-c", "tiny", "--limit", "0"], "--limit 0"),
    "pictures": (["-c", "tiny", "--save-pictures", "-1"], "--save-pictures -1"),
    "tag": (["-c", "tiny", "--tag", "a/b"], "--tag 'a/b'"),
    "backbone": (["-c", "tiny", "backbone.width=16"], "cannot be changed for a trained run"),
    "input": (["-c", "tiny", "input.size=[64, 64]"], "cannot be changed for a trained run"),
    "training": (["-c", "tiny", "train.optimizer.lr=1.0"], "cannot be changed for a trained run"),
    "skeleton": (["-c", "tiny", "data.skeleton=coco17"], "cannot be changed for a trained run"),
    "unknown key": (["-c", "tiny", "test.flipp=true"], "did you mean 'flip'"),
    "scale": (["-c", "tiny", "test.single=[0.0]"], "above 0"),
    "no picture left": (["-c", "tiny", "data.root=elsewhere"], "elsewhere"),
    "people only": (["-c", "tiny", "data.validation_people_only=some"], "expected true or false"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_mistakes_get_one_sentence_and_exit_code_2(at_work, capsys, case):
    arguments, sentence = REFUSALS[case]
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not list((at_work / "exp/tiny").glob("results-*"))


def test_weights_of_another_network_are_refused(at_work, tmp_path, capsys):
    config = Experiment.open("tiny").config
    wider = config.backbone.model_copy(update={"width": 16})
    model = build_model(wider, config.head, config.skeleton, config.input)
    torch.save({"model": model.state_dict()}, tmp_path / "wider.pt")
    assert run("-c", "tiny", "--weights", str(tmp_path / "wider.pt")) == 2
    error = capsys.readouterr().err
    assert "another network" in error and "Traceback" not in error


def test_best_weights_are_preferred_and_the_choice_is_reported(at_work, capsys):
    best = at_work / "exp/tiny/best.pt"
    best.write_bytes((at_work / "exp/tiny/last.pt").read_bytes())
    try:
        for arguments, name in (([], "best.pt"), (["--weights", "last"], "last.pt")):
            assert run("-c", "tiny", "test.flip=false", *arguments) == 0
            assert f"weights: {name}" in capsys.readouterr().out
    finally:
        best.unlink()


# ---- keypoints in another order than the annotations', and a derived one ----


def of_annotations(skeleton: Skeleton, file: Path) -> dict[int, People]:
    """What is annotated, in the skeleton's order, moved by chance that depends on the keypoint's name."""
    annotations = load_annotations(file, skeleton)
    people = {}
    for i, image_id in enumerate(annotations.image_ids.tolist()):
        keypoints = annotations.keypoints(i).copy()
        for k, name in enumerate(skeleton.keypoints):
            rng = np.random.default_rng([image_id, *name.encode()])
            keypoints[:, k, :2] += rng.normal(0, 2, (len(keypoints), 2))
        people[image_id] = People(keypoints, np.linspace(1, 0.5, len(keypoints), dtype=np.float32))
    return people


@pytest.mark.slow
@pytest.mark.parametrize("skeleton", ["coco17", "coco18"])
def test_a_run_with_a_neck_goes_from_cocos_annotations_to_cocos_results(
    tmp_path, monkeypatch, capsys, skeleton
):
    """Trained, validated and tested on annotations of 17 keypoints in another order; AP is that of the same
    people in the annotations' own order."""
    root = drawn(tmp_path)
    monkeypatch.chdir(tmp_path)
    short = [
        "train.epochs=1",
        "train.steps_per_epoch=2",
        "train.validate_every=1",
        f"data.skeleton={skeleton}",
    ]
    assert command(monkeypatch, "-e", "run", *settings(root, *short)) == 0
    run_folder = tmp_path / "exp/run"
    low = ["head.decoder.detection_threshold=0.0", "test.flip=false"]
    for more in ([], ["--images", str(root / "val")]):
        assert run("-c", "run", *low, *more) == 0
    found = json.loads((run_folder / "results-single.json").read_text())
    loose = json.loads((run_folder / "results-single-images.json").read_text())
    assert found and {len(record["keypoints"]) for record in [*found, *loose]} == {51}
    names = [name for name in Experiment.open("run").config.skeleton.keypoints if name != "neck"]
    back = [names.index(name) for name in synthetic.KEYPOINTS]
    reordered = [np.reshape(record["keypoints"], (17, 3))[back].ravel().tolist() for record in loose]
    assert sorted(reordered) == sorted(record["keypoints"] for record in found)

    truth = root / "annotations/person_keypoints_val.json"
    config = Experiment.open("run").config
    monkeypatch.setattr(
        "pose.predict.predict_set.predict_set",
        lambda *_, **__: (of_annotations(config.skeleton, truth), Outcome()),
    )
    capsys.readouterr()
    assert run("-c", "run", "--tag", "known") == 0
    assert f"sigmas: {skeleton}" in capsys.readouterr().out
    metrics = json.loads((run_folder / "metrics-single-known.json").read_text())
    direct = {
        image_id: (people.keypoints, people.scores)
        for image_id, people in of_annotations(read_skeleton(truth), truth).items()
    }
    expected = coco_eval.evaluate(truth, results_json(direct), sigmas=coco_eval.COCO_SIGMAS)
    assert metrics["stats"] == expected.stats and 0.1 < expected.stats["AP"] < 0.95


# ---- processes ----


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(at_work):
    settings = ["test.batch_size=1", "head.decoder.detection_threshold=0.05"]
    assert run("-c", "tiny", *settings) == 0
    alone = written(at_work, "results-single.json"), written(at_work, "metrics-single.json")["stats"]
    assert len(alone[0]) > 7  # else there is nothing to compare
    for file in ("results-single.json", "metrics-single.json"):
        (at_work / "exp/tiny" / file).unlink()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launch, "-m", "pose.test", "-c", "tiny", "--device", "cpu", *settings],
        cwd=at_work, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Average Precision  (AP) @[ IoU=0.50:0.95") == 3  # all, medium, large: told once
    together = written(at_work, "results-single.json"), written(at_work, "metrics-single.json")["stats"]
    assert together[1] == pytest.approx(alone[1])
    assert len(together[0]) == len(alone[0])
    for one, other in zip(*(sorted(part[0], key=place) for part in (together, alone)), strict=True):
        assert one["image_id"] == other["image_id"]
        assert one["keypoints"] == pytest.approx(other["keypoints"], abs=2e-3)
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def place(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["image_id"], -round(record["score"], 4), *(round(value, 1) for value in record["keypoints"])
