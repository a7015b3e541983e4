"""Settings as options: one place says what they may be."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import pytest

from pose.config import Counts, Settings, keys_that_count
from pose.errors import UserError
from pose.experiment import ExperimentConfig
from pose.options import TEST_SETTINGS, add_setting_options, run_settings, was_given


class Own(Settings):
    name: Literal["own"] = "own"
    some_number: float = 0.25
    """How much.  100 % is all."""
    kind: Literal["a", "b"] = "a"
    """Which."""
    output: Path | None = None
    """Where to."""
    strict: bool = False
    """Stop at anything."""
    limits: tuple[float, float] = (0.0, 1.0)
    """From, to."""


NAMES = ("some_number", "kind", "output", "strict", "limits")


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(prog="x")
    add_setting_options(one, Own, NAMES)
    return one


def test_options_are_what_the_settings_take() -> None:
    plain = parser().parse_args([])
    assert Own(**vars(plain)) == Own() and not was_given(plain, Own, NAMES)
    words = ["--some-number", "3", "--kind", "b", "--output", "x.json", "--strict", "--limits", "0.5,0.75"]
    given = parser().parse_args(words)
    assert Own(**vars(given)) == Own(
        some_number=3.0, kind="b", output=Path("x.json"), strict=True, limits=(0.5, 0.75)
    )
    assert was_given(given, Own, ["kind"]) and not was_given(plain, Own, ["kind"])


@pytest.mark.parametrize("words", [["--kind", "c"], ["--some-number", "x"], ["--limits", "a,b"]])
def test_other_values_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    assert words[0] in capsys.readouterr().err


def test_the_help_is_the_settings_own() -> None:
    text = " ".join(parser().format_help().split())
    assert "how much. 100 % is all" in text and "--output FILE where to" in text


def test_what_may_be_changed_for_a_trained_run_is_what_its_settings_say() -> None:
    for text in (
        "test.flip=false",
        "test={flip: false}",
        "head.decoder.name=multicut",
        "head.decoder.max_people=3",
    ):
        assert run_settings([text]) == [text]
    for text in ("data.root=x", "data.val.images=x", "data.workers=0", "data.synthetic=null"):
        assert run_settings([text], data=True) == [text]
        with pytest.raises(UserError, match="cannot be changed for a trained run; .*test.* can"):
            run_settings([text])
    for text in ("testing.flip=1", "head.decoders=1", "head.sigma=1", "data.max_people=3", "train.lr=1"):
        with pytest.raises(UserError):
            run_settings([text], data=True)
    named = {word.removesuffix(".*") for word in TEST_SETTINGS.split(", ")}
    assert named == {".".join(key) for key in keys_that_count(ExperimentConfig, Counts.AFTER_TRAINING)}
    assert keys_that_count(ExperimentConfig, Counts.ONLY_AT_START) == [("head", "statistics")]
