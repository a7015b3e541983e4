"""Zip archives of every kind are read in place, and damaged ones are told."""

from __future__ import annotations

import logging
import random
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from pose.archive_members import BadMember
from pose.archive_zip import open_zip
from pose.errors import UserError
from tests.archives import written, zipped

CONTENT = {"1.jpg": b"a" * 5000, "deep/2.jpg": bytes(range(256)) * 20, "3.jpg": b""}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return written(tmp_path / "images", CONTENT)


def contents(path: Path) -> dict[str, bytes]:
    archive = open_zip(path)
    return {name: archive.read(row) for row, name in enumerate(archive.names)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "train2017"])
def test_contents(images: Path, tmp_path: Path, method: int, top: str) -> None:
    archive = open_zip(zipped(images, tmp_path / "a.zip", top, method))
    for name, content in CONTENT.items():
        row = archive.find(name)
        assert row is not None and archive.read(row) == content and archive.size(row) == len(content)
        with archive.open(row) as file:
            assert file.read() == content


def test_zip64_and_long_extra_fields(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        with file.open("1.jpg", "w", force_zip64=True) as member:
            member.write(b"zip64")
        info = zipfile.ZipInfo("2.jpg")
        info.extra = struct.pack("<HH", 0x9999, 500) + bytes(500)
        file.writestr(info, b"far")
    assert contents(tmp_path / "a.zip") == {"1.jpg": b"zip64", "2.jpg": b"far"}


def test_what_lies_before_the_archive(images: Path, tmp_path: Path) -> None:
    plain = zipped(images, tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(b"#!/bin/sh\n" * 50 + plain.read_bytes())
    assert contents(tmp_path / "b.zip") == CONTENT


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_repeated_names_the_last_one_counts_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for content in (b"first", b"second"):
            file.writestr("1.jpg", content)
        file.writestr("../2.jpg", b"out")
    with caplog.at_level(logging.WARNING, "pose"):
        assert contents(tmp_path / "a.zip") == {"1.jpg": b"second"}
    assert "a.zip: 2 file(s) are left out: a later one has the same path" in caplog.text


def test_links_and_folders_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("folder/", b"")
        link = zipfile.ZipInfo("link.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        file.writestr("1.jpg", b"x")
    assert contents(tmp_path / "a.zip") == {"1.jpg": b"x"}


def test_names_in_utf8_without_its_flag_and_with_backslashes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("aa.jpg", b"1")
        file.writestr("c*d.jpg", b"2")
    raw = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(
        raw.replace(b"aa.jpg", "ä.jpg".encode()).replace(b"c*d.jpg", rb"c\d.jpg")
    )
    assert contents(tmp_path / "a.zip") == {"ä.jpg": b"1", "c/d.jpg": b"2"}


def patched(path: Path, offset: int, value: int, target: Path) -> Path:
    """With a field of two bytes of the first entry of the directory set."""
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\1\2") + offset
    raw[place : place + 2] = value.to_bytes(2, "little")
    target.write_bytes(raw)
    return target


def test_encrypted_files_and_other_methods(images: Path, tmp_path: Path) -> None:
    path = zipped(images, tmp_path / "a.zip")
    archive = open_zip(patched(path, 8, 1, tmp_path / "b.zip"))
    with pytest.raises(BadMember, match=r"encrypted in .*b\.zip; make an archive without a password"):
        archive.read(0)
    assert archive.read(1) == CONTENT["3.jpg"]
    archive = open_zip(patched(path, 10, 9, tmp_path / "c.zip"))
    with pytest.raises(BadMember, match="compressed by method 9 .*; make an archive that stores or deflates"):
        archive.open(0)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as file:
        file.writestr("1.jpg", b"x")
    with pytest.raises(UserError, match="is encrypted; unpack it"):
        open_zip(patched(tmp_path / "d.zip", 8, 1, tmp_path / "d.zip"))


def test_a_bomb_is_unpacked_no_further_than_it_says(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1.jpg", bytes(50_000_000))
    patched(tmp_path / "a.zip", 24, 100, tmp_path / "b.zip")
    raw = bytearray((tmp_path / "b.zip").read_bytes())
    place = raw.index(b"PK\1\2") + 26
    raw[place : place + 2] = bytes(2)
    (tmp_path / "b.zip").write_bytes(raw)
    with pytest.raises(BadMember, match="fails the check"):
        open_zip(tmp_path / "b.zip").read(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no zip archive, or is cut off or corrupt"),
        (b"no zip at all", "is no zip archive, or is cut off or corrupt .*copy or download it again"),
        (b"PK\5\6" + bytes(18), "has no files in it"),
    ],
)
def test_no_archives(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_zip(tmp_path / "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_archive_gives_its_content_or_a_sentence(images: Path, tmp_path: Path, method: int) -> None:
    """Cut at any place, or with any byte changed; what it gives is never another content."""
    raw = zipped(images, tmp_path / "a.zip", "top", method).read_bytes()
    rng = random.Random(0)
    cuts = [raw[:size] for size in range(0, len(raw), 1 + len(raw) // 150)]
    flips = []
    directory = raw.index(b"PK\1\2")
    for _ in range(600):
        changed = bytearray(raw)
        place = rng.randrange(directory, len(raw)) if rng.random() < 0.7 else rng.randrange(len(raw))
        changed[place] = rng.randrange(256)
        flips.append(bytes(changed))
    told = 0
    for number, damaged in enumerate([*cuts, *flips]):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(damaged)
        try:
            archive = open_zip(path)
        except UserError:
            told += 1
            continue
        for row in range(len(archive.members)):
            try:
                assert archive.read(row) in CONTENT.values()
            except BadMember:
                told += 1
    assert told > len(cuts)


def test_archives_of_info_zip(images: Path, tmp_path: Path) -> None:
    try:
        subprocess.run(["zip", "-qr", "a.zip", "images"], cwd=tmp_path, check=True)
    except FileNotFoundError:
        pytest.skip("no zip here")
    assert contents(tmp_path / "a.zip") == {f"images/{name}": content for name, content in CONTENT.items()}
