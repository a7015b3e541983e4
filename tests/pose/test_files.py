"""Files that are whole at any moment."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pose.errors import UserError
from pose.files import encode_picture, write_bytes, write_picture, write_text
from tests.image_files import read_rgb


def test_folders_are_made_and_an_older_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.txt"
    write_text(file, "löng")
    write_text(file, "short")
    assert file.read_text(encoding="utf-8") == "short"
    assert [path.name for path in file.parent.iterdir()] == ["b.txt"]


def test_what_cannot_be_written_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "b.txt"
    write_text(file, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="cannot write .*b.txt: No space left"):
        write_bytes(file, b"new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "")
    with pytest.raises(UserError, match="cannot write"):
        write_text(tmp_path / "a" / "b.txt", "")


@pytest.mark.parametrize("kind", ["png", ".JPG", "webp", "bmp"])
def test_a_picture_comes_back(tmp_path: Path, kind: str) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, 15:] = (250, 120, 10)
    file = tmp_path / f"a.{kind.removeprefix('.')}"
    write_picture(file, picture, quality=95)
    again = read_rgb(file)
    np.testing.assert_allclose(again[:, [2, 27]], picture[:, [2, 27]], atol=12)


def test_quality_counts_for_jpeg() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert len(encode_picture(picture, "jpg", 30)) < 0.5 * len(encode_picture(picture, "jpg", 95))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("a", (4, 4, 3), "no suffix"),
        ("a.nothing", (4, 4, 3), "4 x 4 pixels cannot be written as 'nothing'"),
        ("a.jpg", (2, 70000, 3), "70000 x 2 pixels cannot be written as 'jpg'; try png"),
    ],
)
def test_pictures_that_cannot_be_written_are_told(
    tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_picture(tmp_path / name, np.zeros(shape, np.uint8))
    assert list(tmp_path.iterdir()) == []
