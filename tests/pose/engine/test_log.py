"""What a run leaves to read: log.jsonl, TensorBoard, curves, environment."""

from __future__ import annotations

import gc
import json
import math
import time
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pose.engine import log as module
from pose.engine.log import RunLog, draw_curves, environment, keep_until, read_log, shown_numbers
from pose.metrics.base import Scores


def filled(folder: Path, steps: range, start: int = 0, validated: int = 0) -> RunLog:
    log = RunLog(folder, start, 100, validated=validated, bar=False)
    for step in steps:
        log.scalars("train", step, {"loss": 1 / step, "loss/heatmap": 0.5 / step, "lr": 1e-3})
    return log


def board(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def test_lines_and_events_have_the_same_values(tmp_path: Path) -> None:
    log = filled(tmp_path, range(1, 6))
    log.image("validation/people", 5, np.full((20, 30, 3), 200, np.uint8))
    log.close()
    records = read_log(tmp_path / "log.jsonl")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert records[1] == {"kind": "train", "step": 2, "loss": 0.5, "loss/heatmap": 0.25, "lr": 0.001}
    events = board(tmp_path)
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("train/loss")] == [
        (step, 1 / step) for step in range(1, 6)
    ]
    (image,) = events.Images("validation/people")
    assert (image.step, image.width, image.height) == (5, 30, 20)


def test_a_value_that_is_no_number_is_null(tmp_path: Path) -> None:
    log = filled(tmp_path, range(0))
    log.scalars("train", 1, {"loss": math.nan, "lr": 0.1})
    log.close()
    expected = {"kind": "train", "step": 1, "loss": None, "lr": 0.1}
    assert json.loads((tmp_path / "log.jsonl").read_text()) == expected
    assert board(tmp_path).Tags()["scalars"] == ["train/lr"]


def test_continuing_drops_what_will_come_again(tmp_path: Path) -> None:
    log = filled(tmp_path, range(1, 9))
    log.scalars("validation", 4, {"AP": 0.1})
    log.scalars("validation", 6, {"AP": 0.2})  # its checkpoint was never saved
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 9, "lo')  # a kill in the middle of a line
    time.sleep(1.05)  # TensorBoard reads files in the order of their names, which have seconds
    filled(tmp_path, range(7, 9), start=6, validated=4).close()
    records = read_log(tmp_path / "log.jsonl")
    assert [record["step"] for record in records if record["kind"] == "train"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [record["step"] for record in records if record["kind"] == "validation"] == [4]
    assert [e.step for e in board(tmp_path).Scalars("train/loss")] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_keeping_nothing_of_no_file(tmp_path: Path) -> None:
    keep_until(tmp_path / "log.jsonl", 3, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_curves_are_a_picture_with_something_drawn(tmp_path: Path) -> None:
    log = filled(tmp_path, range(1, 20))
    log.scalars("train", 20, {"loss": math.nan, "loss/heatmap": math.nan})
    draw_curves(log.file, tmp_path / "without.png")
    log.scalars("validation", 10, {"AP": 0.3, "AP50": 0.6, "AP75": 0.2})
    log.scalars("validation", 20, {"AP": 0.4, "AP50": 0.7, "AP75": 0.3})
    log.close()
    draw_curves(log.file, tmp_path / "with.png")
    draw_curves(tmp_path / "absent.jsonl", tmp_path / "empty.png")
    pictures = [cv2.imread(str(tmp_path / f"{name}.png")) for name in ("with", "without", "empty")]
    colors = [len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in pictures if picture is not None]
    assert colors[0] > colors[1] > colors[2]


def test_a_validation_says_by_what_it_chose(tmp_path: Path) -> None:
    """And old records are shown by their first three numbers."""
    log = filled(tmp_path, range(1, 2))
    log.scores(4, Scores("other", {"hits": 0.5, "more": math.nan, "loss": 2.0}, "hits", ("hits", "more")))
    log.close()
    (record,) = [one for one in read_log(log.file) if one["kind"] == "validation"]
    assert record["hits"] == 0.5 and record["more"] is None and record["loss"] == 2
    assert shown_numbers(record) == ("other", ["hits", "more"])
    old = {"kind": "validation", "step": 3, "AP": 0.1, "AP50": 0.2, "AP75": 0.1, "APM": 0.1}
    assert shown_numbers(old) == ("coco", ["AP", "AP50", "AP75"]) and shown_numbers({})[1] == ["AP"]


def test_environment_names_versions_git_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "orig_argv", ["/usr/bin/python", "-m", "pose.train", "a b=[1, 2]"])
    found = json.loads(json.dumps(environment()))
    assert found["command"].endswith(" -m pose.train 'a b=[1, 2]'")  # as it can be typed again
    assert found["packages"]["torch"] and found["packages"]["numpy"] and found["python"].startswith("3.")
    assert found["git"] is None or len(found["git"]) == 40
    assert isinstance(found["gpus"], list) and isinstance(found["git_changed_files"], list)


def test_environment_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment()["git"] is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_lines_wait_until_they_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = filled(tmp_path, range(1, 3))
    real, log.file = log.file, Path("/dev/full")
    log.scalars("train", 3, {"loss": 1.0})
    log.scalars("train", 4, {"loss": 1.0})
    log.file = real
    log.scalars("train", 5, {"loss": 1.0})
    log.close()
    assert [record["step"] for record in read_log(real)] == [1, 2, 3, 4, 5]
    told = capsys.readouterr().err
    assert told.count("cannot write /dev/full: No space left on device; the training goes on") == 1
    assert "could not be written" not in told


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(tmp_path, range(1, 3))
    real = module.write_whole

    def half(file: Any, content: bytes) -> None:
        file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_whole", half)
    log.scalars("train", 3, {"loss": 1.0})
    monkeypatch.setattr(module, "write_whole", real)
    log.scalars("train", 4, {"loss": 1.0})
    log.close()
    lines = log.file.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    """A figure is full of cycles: each was kept until Python happened to look for some."""
    log = RunLog(tmp_path, 0, 1000, bar=False)
    panel = np.zeros((64, 64, 3), np.uint8)
    sizes, figures = [], []
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for step in range(1, 1001):
            log.scalars("train", step, {f"loss/{i}": 1 / step for i in range(8)})
            log.advance(1, {"loss": "1"})
            if step % 20 == 0:
                log.image("panels/0", step, panel)
            if step % 250 == 0:
                log.curves()
                figures.append(sum(type(one) is Figure for one in gc.get_objects()))
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
        gc.enable()
        log.close()
    assert figures == [0, 0, 0, 0]
    assert sizes[3] - sizes[1] < 100_000, sizes  # bytes; 200 a step
