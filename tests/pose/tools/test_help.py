"""Every command explains itself, with an example to copy."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def is_command(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


FILES = [path for path in sorted((ROOT / "pose").rglob("*.py")) if "_configs" not in path.parts]
COMMANDS = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in FILES if is_command(p)]


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


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_shows_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = help_of(capsys, command)
    assert text.startswith(f"usage: python -m {command}")
    assert examples(text, command), text


def test_the_commands_are_found() -> None:
    assert {"pose.train", "pose.test", "pose.tools.score", "pose.tools.visualize"} <= set(COMMANDS)
    assert len(COMMANDS) > 10
    assert examples("  python -m pose.test -c NAME", "pose.test")
    assert not examples("usage: python -m pose.test [-h]", "pose.test")
