"""Image files are found by the spellings that annotation files have."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from pose.annotations.image_files import locate, where_instead


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "val2017" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "two words.jpg", unicodedata.normalize("NFC", "Zoë.jpg"), "sub/b.jpg"):
        (tmp_path / "val2017" / name).write_bytes(b"\xff\xd8")
    return tmp_path / "val2017"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("/a.jpg", "a.jpg"),
        ("val2017/a.jpg", "a.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("C:\\data\\val2017\\a.jpg", "a.jpg"),
        ("/home/me/a.jpg", "a.jpg"),
        ("sub\\b.jpg", "sub/b.jpg"),
        ("/data/val2017/sub/b.jpg", "sub/b.jpg"),
        (unicodedata.normalize("NFD", "Zoë.jpg"), unicodedata.normalize("NFC", "Zoë.jpg")),
        ("http://images.cocodataset.org/val2017/a.jpg", "a.jpg"),
        ("https://example.org/two%20words.jpg?size=full#top", "two words.jpg"),
    ],
)
def test_the_file_that_is_meant_is_found(folder: Path, name: str, file: str) -> None:
    assert locate(folder, name).resolve() == (folder / file).resolve()


@pytest.mark.parametrize("name", ["a.JPG", "a.png", "A.jpg", "b.jpg"])
def test_a_file_that_is_not_there_is_told_where_it_lies(folder: Path, name: str) -> None:
    """Other capitals or another suffix may be another image: nothing is guessed."""
    if (folder / name).exists():
        pytest.skip("a file system without capitals")
    assert locate(folder, name) == folder / name
    assert f"{name[0].lower()}.jpg is there" in where_instead(folder, name)


def test_nothing_is_told_of_what_is_nowhere(folder: Path) -> None:
    assert where_instead(folder, "none.jpg") == ""


def test_two_files_that_could_be_meant_are_not_guessed_between(folder: Path) -> None:
    (folder / "sub" / "a.jpg").write_bytes(b"\xff\xd8")
    assert locate(folder, "x/sub/a.jpg") == folder / "x/sub/a.jpg"
