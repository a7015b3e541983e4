"""pose.registry: names become classes, and a wrong name becomes a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pose.errors import UserError
from pose.registry import BACKBONES, DECODERS, HEADS, Registry, nearest


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Registry:
    """A folder with one file, `fine.py`; other files may be added before the first use."""
    package = f"parts_{abs(hash(request.node.name))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("part", package)
    monkeypatch.setitem(sys.modules, f"{package}_registry", registry)  # type: ignore[arg-type]
    add(tmp_path / package, "fine", "fine")
    return registry


def add(folder: Path, file: str, name: str, cls: str = "Part") -> None:
    (folder / f"{file}.py").write_text(
        f"from {folder.name}_registry import register\n\n\n"
        f"@register({name!r}, dict)\nclass {cls}:\n"
        "    def __init__(self, *a, **k):\n        self.given = a, k\n"
    )


def folder_of(registry: Registry, tmp_path: Path) -> Path:
    return tmp_path / registry.package


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def test_files_register_themselves_on_first_use(registry: Registry, tmp_path: Path) -> None:
    add(folder_of(registry, tmp_path), "other", "other")
    assert registry.names() == ["fine", "other"]
    cfg = Named("other")
    built: Any = registry.build(cfg, 1, two=2)
    assert type(built).__module__.endswith(".other") and built.given == ((cfg, 1), {"two": 2})


@pytest.mark.parametrize("cls", ["Part", "Another"])
def test_a_name_taken_twice_is_an_error(registry: Registry, tmp_path: Path, cls: str) -> None:
    add(folder_of(registry, tmp_path), "twin", "fine", cls)  # a copied file whose name was left as it was
    with pytest.raises(ValueError, match=r"part 'fine' is registered twice: \S+\.fine and \S+\.twin"):
        registry.names()


def test_the_same_file_twice_is_no_clash(registry: Registry) -> None:
    part = registry["fine"].component
    assert registry.register("fine", dict)(part) is part
    as_program = type("Part", (), {"__module__": "__main__", "__qualname__": "Part"})
    registry.register("fine", dict)(as_program)


@pytest.mark.parametrize("registry_", [BACKBONES, HEADS, DECODERS], ids=lambda r: r.kind)
def test_an_unknown_name_names_the_nearest_and_all(registry_: Registry) -> None:
    known = registry_.names()
    with pytest.raises(UserError) as caught:
        registry_[known[0] + "x"]
    assert f"unknown {registry_.kind}" in str(caught.value)
    assert f"did you mean {known[0]!r}?" in str(caught.value)
    assert str(caught.value).endswith(f"(known: {', '.join(known)})")


def test_nearest_is_silent_where_nothing_is_near() -> None:
    assert nearest("zzz", ["hourglass"]) == ""
    assert nearest("hourglas", ["tiny", "hourglass"]) == ", did you mean 'hourglass'?"
