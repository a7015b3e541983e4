"""Tests and benchmarks call what is public: a private name may change with nothing but its own file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"engine", "data", "model", "training", "sessions", "panels"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and len(name) > 1


def private_names(trees: list[ast.Module]) -> set[str]:
    """Of functions, classes, variables and attributes."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return {name for name in names if is_private(name)}


def used_private(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Private names of others, with their lines: attributes, imports, and what is patched by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            names = [] if own else [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            texts = [text.value for text in node.args[:2] if isinstance(text, ast.Constant)]
            names = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
        else:
            continue
        yield from ((node.lineno, name) for name in names if is_private(name))


def uses(folder: str, private: set[str]) -> list[str]:
    """Lines of the tests or benchmarks that use one of the package's private names."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = tree_of(path)
        own = private_names([tree])
        found += [
            f"{path.relative_to(ROOT)}:{line}: {name}"
            for line, name in used_private(tree)
            if name in private - own
        ]
    return found


def test_benchmarks_use_public_names() -> None:
    private = private_names([tree_of(path) for path in (ROOT / "pose").rglob("*.py")])
    assert len(private) > 100 and uses("benchmarks", private) == []


def test_tests_use_public_names_of_the_engine_and_its_data() -> None:
    """A private method of another part may have the same name: tests/pose/decoders is not asked."""
    root = ROOT / "pose"
    files = [
        path for path in root.rglob("*.py") if path.relative_to(root).parts[0].removesuffix(".py") in ROOMS
    ]
    private = private_names([tree_of(path) for path in files])
    found = [line for line in uses("tests", private) if "tests/pose/decoders/" not in line]
    assert len(private) > 20 and found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("trainer._step(1)", ["_step"]),
        ("self._step(1)", []),
        ("from pose.engine.log import _write, read_log", ["_write"]),
        ("monkeypatch.setattr('pose.engine.log._write', None)", ["_write"]),
        ("monkeypatch.setattr(Trainer, '_step', None)", ["_step"]),
        ("a._replace; a.__class__", ["_replace"]),
    ],
)
def test_the_search_for_private_names(source: str, found: list[str]) -> None:
    assert [name for _, name in used_private(ast.parse(source))] == found
