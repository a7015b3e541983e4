"""Every command explains itself, with an example to copy; options that several have are the same in all."""

from __future__ import annotations

import argparse
import importlib
import re
from collections import defaultdict
from typing import Any

import pytest

from tests.command_lines import COMMANDS, options_of, parser_of

PACKAGE = [command for command in COMMANDS if command.startswith("pose.")]


def help_of(capsys: pytest.CaptureFixture[str], command: str, *words: str) -> str:
    module = importlib.import_module(command)
    start = getattr(module, "parse", None) or module.main
    with pytest.raises(SystemExit) as ended:
        start([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def examples(text: str, command: str) -> list[str]:
    """Lines that can be copied: with the command, something behind it, and no usage brackets."""
    lines = [line.strip() for line in text.splitlines() if not line.startswith("usage:")]
    pattern = rf"python -m {re.escape(command)} +[\w./*-]"
    return [line for line in lines if re.search(pattern, line)]


@pytest.mark.parametrize("command", PACKAGE)
def test_a_command_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = help_of(capsys, command)
    assert text.startswith(f"usage: python -m {command}")
    assert examples(text, command), text


def test_the_commands_are_found() -> None:
    assert {"pose.train", "pose.test", "pose.tools.score", "pose.tools.visualize"} <= set(COMMANDS)
    assert len(COMMANDS) > 10
    assert examples("  python -m pose.test -c NAME", "pose.test")
    assert not examples("usage: python -m pose.test [-h]", "pose.test")


# ---- the same options in all of them ----


@pytest.fixture(scope="module")
def options() -> dict[str, list[argparse.Action]]:
    """Every option and argument of each command of the package."""
    return {command: list(options_of(parser_of(command))) for command in PACKAGE}


def test_a_flag_has_one_spelling(options: dict[str, list[argparse.Action]]) -> None:
    """No -c that is --checkpoint elsewhere, no --continue without -c."""
    spellings = defaultdict(set)
    for actions in options.values():
        for flags in {tuple(action.option_strings) for action in actions}:
            for flag in flags:
                spellings[flag].add(flags)
    several = {flag: found for flag, found in spellings.items() if len(found) > 1}
    own = {"-n", "--score-threshold"}  # visualize: without a long form, and with an older name
    assert {flag: found for flag, found in several.items() if flag not in own} == {}
    assert spellings["-c"] == {("-c", "--continue")} and spellings["-m"] == {("-m", "--mode")}


def test_what_several_commands_share_is_the_same_in_all(options: dict[str, list[argparse.Action]]) -> None:
    shared = ("--continue", "--mode", "--weights", "--device", "settings")
    worded = shared[1:-1]  # with the same sentence; those of others fit the command
    found: dict[str, dict[Any, list[str]]] = defaultdict(lambda: defaultdict(list))
    for command, actions in options.items():
        for action in actions:
            name = (action.option_strings or [action.dest])[-1]
            if name in shared:
                told = action.help if name in worded else ""
                choices = tuple(action.choices or ())
                alike = (action.default, action.metavar, action.nargs, action.type, choices, told)
                found[name][alike].append(command)
    by_default = {alike[0]: commands for alike, commands in found["--device"].items()}
    assert by_default.keys() == {"auto", "cpu"} and by_default["cpu"] == ["pose.tools.visualize"]
    assert [len(found[name]) for name in shared] == [1, 1, 1, 2, 1], {name: found[name] for name in shared}
    assert {"pose.test", "pose.demo", "pose.tools.web"} <= set(*found["--weights"].values())
