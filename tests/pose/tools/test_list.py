"""python -m pose.tools.list: every run in a line, however damaged its folder."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pose.errors import user_facing
from pose.run_folders import summarize
from pose.tools import list as command

CONFIG = """
backbone: {name: hourglass}
head: {name: tags}
data: {skeleton: {name: coco17}}
train: {epochs: 4, steps_per_epoch: %s, lr: 4e-3}
"""


def make_run(
    name: str,
    *,
    steps: int = 40,
    scores: tuple[float, ...] = (0.2, 0.5, 0.4),
    tested: dict[str, float] | None = None,
    per_epoch: Any = 10,
    age: float = 3600.0,
) -> Path:
    folder = Path("exp") / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG % per_epoch)
    (folder / "last.pt").write_bytes(b"x" * 2000)
    with open(folder / "log.jsonl", "w") as log:
        for step in range(5, steps + 1, 5):
            log.write(json.dumps({"kind": "train", "step": step, "loss": 1.0, "epoch": step / 10}) + "\n")
        for score in scores:
            log.write(json.dumps({"kind": "validation", "step": steps, "AP": score}) + "\n")
    for stem, score in (tested or {}).items():
        (folder / f"metrics-{stem}.json").write_text(json.dumps({"stats": {"AP": score}}))
    for file in folder.iterdir():
        then = time.time() - age
        os.utime(file, (then, then))
    return folder


@pytest.fixture(autouse=True)
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: Any, *arguments: str) -> list[str]:
    assert command.main([*arguments]) == 0
    return capsys.readouterr().out.splitlines()


def names(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines[2:] if not line.startswith(" ")]


def test_a_run_in_a_line(capsys: Any) -> None:
    make_run("one", tested={"multi": 0.61, "single": 0.52, "single-tag": 0.7})
    header, _, line = printed(capsys)
    assert header.split("  ")[0] == "run"
    words = line.split()
    assert words[:8] == ["one", "hourglass", "+", "tags", "coco17", "40/40", "finished", "0.500"]
    assert line.endswith("single 0.520, multi 0.610 (+1)")
    assert "2 kB" in line or "3 kB" in line


@pytest.mark.parametrize(
    ("changes", "state", "total"),
    [
        ({"steps": 40}, "finished", 40),
        ({"steps": 20}, "stopped", 40),
        ({"steps": 20, "age": 5.0}, "running", 40),
        ({"steps": 20, "per_epoch": "null"}, "stopped", 40),  # from the epoch that the log notes
        ({"steps": 0, "scores": (), "per_epoch": "null"}, "stopped", None),
    ],
)
def test_how_far_a_run_is(changes: dict[str, Any], state: str, total: int | None) -> None:
    found = summarize(make_run("one", **changes))
    assert (found.state, found.total, found.step) == (state, total, changes["steps"])


def test_weights_without_a_training_are_converted_ones() -> None:
    folder = make_run("one")
    (folder / "log.jsonl").unlink()
    assert summarize(folder).state == "converted"
    (folder / "last.pt").unlink()
    assert summarize(folder).state == "new"


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("config.yaml", "a: [", "config.yaml is not YAML"),
        ("config.yaml", "- 3", "config.yaml is not a run's"),
        ("config.yaml", "backbone: {name: x}", "config.yaml lacks 'head'"),
        ("config.yaml", None, "no config.yaml"),
        ("metrics-single.json", "{", "metrics-single.json is damaged"),
        ("metrics-single.json", "[1]", "metrics-single.json is damaged"),
        ("metrics-single.json", '{"stats": {"AP": NaN}}', "metrics-single.json is damaged"),
        ("log.jsonl", "nonsense\n", "log.jsonl holds no step"),
        ("log.jsonl", '{"kind": "train", "step": null}\n', "log.jsonl holds no step"),
        ("log.jsonl", '{"kind": "train", "step": "x", "epoch": "y"}\n', "log.jsonl holds no step"),
        ("last.pt", None, "no checkpoint"),
    ],
)
def test_a_damaged_run_says_what_is_wrong_and_the_rest_goes_on(
    capsys: Any, file: str, content: str | None, problem: str
) -> None:
    broken = make_run("broken")
    make_run("whole", age=7200.0)
    if content is None:
        (broken / file).unlink()
    else:
        (broken / file).write_text(content)
    lines = printed(capsys, "--sort", "name")
    assert names(lines) == ["broken", "whole"]
    assert lines[3] == f"  ! {problem}" and len(lines) == 5


def test_a_line_cut_off_by_a_kill_does_not_matter() -> None:
    folder = make_run("one", steps=20)
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"kind": "train", "step": 25, "lo')
    found = summarize(folder)
    assert (found.step, found.best, found.problems) == (20, 0.5, [])


def test_the_metric_of_the_last_validation_counts(capsys: Any) -> None:
    """And those before, where a log does not say by which they were."""
    folder = make_run("one", scores=(0.2, 0.9), tested={"single": 0.3})
    other = {"kind": "validation", "step": 40, "metric": "crowdpose", "best": "AP", "AP": 0.4}
    hits = {
        "kind": "validation",
        "step": 40,
        "metric": "other",
        "best": "hits",
        "shown": ["hits"],
        "hits": 0.1,
    }
    for record, best, metric in ((other, 0.9, "crowdpose AP"), (hits, 0.1, "other hits")):
        with open(folder / "log.jsonl", "a") as log:
            log.write(json.dumps(record) + "\n")
        found = summarize(folder)
        assert (found.metric, found.best) == (metric, best)
    line = printed(capsys)[2]
    assert "0.100  other hits" in line and line.endswith("single 0.300 AP")


def test_order(capsys: Any) -> None:
    make_run("old", tested={"single": 0.9}, age=9000)
    make_run("middle", tested={"single-limit5": 1.0}, scores=(0.3,), steps=20, age=6000)
    make_run("new", tested={"single": 0.1}, age=3000)
    assert names(printed(capsys)) == ["new", "middle", "old"]
    assert names(printed(capsys, "--sort", "AP")) == ["old", "new", "middle"]
    assert names(printed(capsys, "--sort", "name")) == ["middle", "new", "old"]
    assert names(printed(capsys, "--sort", "steps"))[-1] == "middle"


def test_json_has_everything(capsys: Any) -> None:
    make_run("one", tested={"single-tag": 0.7})
    (run,) = json.loads("\n".join(printed(capsys, "--json")))
    assert run["tested"] == {"single-tag": 0.7} and run["best"] == 0.5 and run["size"] > 2000
    assert run["problems"] == [] and (run["step"], run["total"]) == (40, 40)


def test_folders_that_are_no_runs_are_left_out(capsys: Any) -> None:
    make_run("one")
    Path("exp/compare").mkdir()
    Path("exp/compare/compare.md").write_text("")
    Path("exp/note.txt").write_text("")
    assert names(printed(capsys)) == ["one"]


@pytest.mark.parametrize("made", [False, True])
def test_no_runs_at_all(capsys: Any, made: bool) -> None:
    if made:
        Path("exp").mkdir()
    assert user_facing(lambda: command.main([]))() == 2
    assert "there are no runs in exp/ yet; start one with python -m pose.train" in capsys.readouterr().err
