"""Every benchmark runs at its smallest size, as `python -m benchmarks.NAME --smallest` starts it."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


def has_command(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


FILES = sorted(path for path in FOLDER.glob("*.py") if has_command(path))
MODULES = ["benchmarks" if path.stem == "__main__" else f"benchmarks.{path.stem}" for path in FILES]


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_runs(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # it leaves nothing behind
    monkeypatch.setattr(sys, "argv", [module, "--smallest"])
    threads = torch.get_num_threads()
    monkeypatch.delitem(sys.modules, module, raising=False)  # imported by another test
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert re.search(r"\d (ms|images/s)", printed), printed
    assert torch.get_num_threads() == threads
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_every_comparison() -> None:
    from benchmarks.__main__ import PARTS

    compared = [path.stem for path in FILES if "def rows(" in path.read_text(encoding="utf-8")]
    assert sorted(part.__name__.rpartition(".")[2] for part in PARTS) == compared
