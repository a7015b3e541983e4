"""Documented lines that need nothing but a small run and drawn images do what they say, word for word."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from pose.errors import user_facing
from pose.run_folders import RUNS
from pose.synthetic import dataset as synthetic
from tests.command_lines import ROOT, SAMPLE_CONFIG, Line, documented_lines
from tests.training_fixtures import DRAWN, command, settings

# pose.tools.web serves until it is stopped; pose.train makes the run that the others use
RUNNABLE = {
    "pose.demo",
    "pose.test",
    *(
        f"pose.tools.{name}"
        for name in ("browse", "compare", "doctor", "draw", "list", "show_config", "synthesize", "visualize")
    ),
}
LESS = {"2000": "4", "200": "2"}  # images that synthesize draws


# names of files that are not there
ELSEWHERE = re.compile(r"\.onnx|\bmy[._]|photo|film|camera|\[|[*]|configs/animals")


def runnable(line: Line) -> bool:
    """Asks for no file or run that is not there."""
    if line.mention or line.command not in RUNNABLE or ELSEWHERE.search(line.rest):
        return False
    words = shlex.split(line.rest)
    if "configs/coco" in line.rest and line.command != "pose.tools.show_config":
        return False
    if line.command == "pose.tools.synthesize" and not words:  # draws all of its images
        return False
    placeholders = [word for word in words if re.fullmatch(r"[A-Z_]+(\.json)?", word)]
    runs = [after for flag, after in zip(words, words[1:]) if flag == "-c"]
    return placeholders in ([], ["OTHER"], ["AP"]) and runs in ([], ["quickstart"])


LINES = sorted({(line.command, line.rest) for line in documented_lines() if runnable(line)})


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configs, a few drawn images, and two runs that were trained and tested."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "configs", folder / "configs")
    base = folder / "configs/_base/synthetic.yaml"
    text, changed = re.subn(r"synthetic: \{.*\}", f"synthetic: {DRAWN}", base.read_text())
    assert changed == 1
    base.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        synthetic.ensure(Path("data/synthetic"), synthetic.SyntheticConfig(**DRAWN), 1, progress=False)
        less = settings("data/synthetic", "train.epochs=1", "data.workers=0", "test.multi=[1.0, 0.8]")
        assert command(patch, "-e", "quickstart", "--config", SAMPLE_CONFIG, *less) == 0
        assert run(patch, "pose.test", ["-c", "quickstart", "-m", "single"]) == 0
        shutil.copytree(Path(RUNS, "quickstart"), Path(RUNS, "OTHER"))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]) -> int:
    """`python -m NAME WORDS` in this process and folder; returns the exit code."""
    monkeypatch.setattr(sys, "argv", [name, *words])
    return user_facing(importlib.import_module(name).main)()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rest"), LINES, ids=[" ".join(line) for line in LINES])
def test_a_documented_line_runs(
    name: str,
    rest: str,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(checkout)
    words = shlex.split(rest)
    if name == "pose.tools.synthesize":
        words = [LESS.get(word, word) for word in words]
        monkeypatch.chdir(checkout / "configs")  # not over the images of the others
    code = run(monkeypatch, name, words)
    printed = capsys.readouterr()
    # of the doctor, 1: something is worth a look
    assert code in ((0, 1) if name == "pose.tools.doctor" else (0,)), printed.err
    assert printed.out or printed.err


def test_every_kind_of_line_is_run() -> None:
    assert {name for name, _ in LINES} == RUNNABLE
