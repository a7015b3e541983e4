"""Weights that no network can compute with, and a moving average that is missing: one sentence from every
command that reads them, and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pose import checkpoint, demo
from pose import test as pose_test
from pose import train as pose_train
from pose.errors import user_facing
from pose.tools import export
from tests.training_fixtures import drawn, settings

State = dict[str, Any]
SHORT = ("train.epochs=1", "train.steps_per_epoch=2", "train.validate_every=0", "train.panels_every=0")
NAME = "backbone.stem.0.0.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a short run `good`, which keeps an average, and an image."""
    folder = tmp_path_factory.mktemp("weights")
    data = drawn(tmp_path_factory.getbasetemp())
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert run(monkeypatch, pose_train.main, "-e", "good", *settings(data, *SHORT)) == 0
    return folder


def run(monkeypatch: pytest.MonkeyPatch, main: Callable[[], int | None], *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    return user_facing(main)()


def with_value(value: float) -> Callable[[State], None]:
    def change(state: State) -> None:
        for part in ("ema", "model"):
            state[part][NAME][0, 0, 0, 3] = value

    return change


def of_kind(kind: torch.dtype) -> Callable[[State], None]:
    def change(state: State) -> None:
        for part in ("ema", "model"):
            state[part][NAME] = state[part][NAME].to(kind)

    return change


def without_average(state: State) -> None:
    del state["ema"]


def empty_average(state: State) -> None:
    state["ema"] = {}


def no_average(state: State) -> None:
    state["ema"] = None


CHANGES: dict[str, tuple[Callable[[State], None], str]] = {
    "nan": (with_value(float("nan")), f"{NAME} has 1 of 588 values that are not finite"),
    "infinity": (with_value(float("-inf")), f"{NAME} has 1 of 588 values that are not finite"),
    "integers": (of_kind(torch.int32), f"{NAME} holds int32, not floating-point numbers"),
    "complex": (of_kind(torch.complex64), f"{NAME} holds complex64, not floating-point numbers"),
    "no key": (without_average, "lacks the moving average"),
    "empty": (empty_average, "lacks the moving average"),
    "none": (no_average, "lacks the moving average"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_every_command_refuses_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    monkeypatch.chdir(folder)
    file = folder / "exp/good/last.pt"
    whole = file.read_bytes()
    spoil, says = CHANGES[change]
    state = checkpoint.load(file)
    spoil(state)
    checkpoint.save(state, file)
    data = folder.parent / "tiny"
    root = next(path for path in (data, *folder.parent.glob("*/tiny")) if path.is_dir())
    image = next((root / "val").glob("*.jpg"))
    commands: list[tuple[Callable[[], int | None], list[str]]] = [
        (pose_train.main, ["-e", "next", *settings(root, *SHORT, f"train.weights={file}")]),
        (pose_train.main, ["-c", "good"]),
        (pose_test.main, ["-c", "good", "--device", "cpu"]),
        (
            pose_test.main,
            ["-c", "good", "--weights", str(file), "--images", str(image.parent), "--limit", "1"],
        ),
        (demo.main, ["-c", "good", str(image), "--device", "cpu"]),
        (export.main, ["-c", "good", "--format", "torchscript"]),
    ]
    try:
        for main, arguments in commands:
            capsys.readouterr()
            assert run(monkeypatch, main, *arguments) == 2, (main.__module__, arguments)
            told = capsys.readouterr().err
            assert told.count("error: ") == 1 and "Traceback" not in told, told
            assert says in told and file.name in told, told
        assert not (folder / "exp/next").exists()
    finally:
        file.write_bytes(whole)


@pytest.mark.slow
def test_the_advice_about_a_missing_average_is_accepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    file, config = folder / "exp/good/last.pt", folder / "exp/good/config.yaml"
    whole, text = file.read_bytes(), config.read_text()
    state = checkpoint.load(file)
    del state["ema"]
    try:
        checkpoint.save(state, file)
        assert run(monkeypatch, pose_test.main, "-c", "good", "--device", "cpu") == 2
        assert "set train.ema: 0 in exp/good/config.yaml" in capsys.readouterr().err
        config.write_text(text.replace("ema: 0.9", "ema: 0"))
        assert run(monkeypatch, pose_test.main, "-c", "good", "--device", "cpu") == 0
        assert run(monkeypatch, pose_train.main, "-c", "good", "--device", "cpu") == 0
    finally:
        file.write_bytes(whole)
        config.write_text(text)
