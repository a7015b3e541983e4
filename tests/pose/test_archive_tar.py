"""Tar archives are read in place by an index that is kept beside them, or in the user's cache."""

from __future__ import annotations

import io
import logging
import os
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pose import archive_members, archive_tar
from pose.archive_members import ArchiveFile, BadMember
from pose.archive_tar import TarArchive, open_tars
from pose.errors import UserError
from tests.archives import sharded, written

CONTENT = {"1.jpg": b"a" * 5000, "deep/2.jpg": bytes(range(256)) * 20, "3.jpg": b"", "deep/4.jpg": b"four"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return written(tmp_path / "images", CONTENT)


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the archives whose headers are read."""
    names: list[str] = []
    real = archive_tar.scan

    def scan(file: ArchiveFile) -> archive_tar.Shard:
        names.append(os.path.basename(file.path))
        return real(file)

    monkeypatch.setattr(archive_tar, "scan", scan)
    return names


def contents(path: Path) -> dict[str, bytes]:
    archive = open_tars(path)
    return {name: archive.read(row) for row, name in enumerate(archive.names)}


def tar(path: Path, *members: tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def offsets(path: Path) -> list[int]:
    """Where the headers of a tar begin."""
    with tarfile.open(path) as file:
        return [info.offset for info in file.getmembers()]


@pytest.mark.parametrize("count", [1, 3])
def test_shards_in_no_order(images: Path, tmp_path: Path, count: int) -> None:
    folder = sharded(images, tmp_path / "shards", count, "train2017")
    assert contents(folder) == {f"train2017/{name}": content for name, content in CONTENT.items()}
    assert contents(folder / "shard-0.tar").items() <= contents(folder).items()


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats_and_long_names(tmp_path: Path, format: int) -> None:
    long = "/".join(["folder"] * 20) + "/" + "n" * 80 + ".jpg"
    path = tar(tmp_path / "a.tar", (f"./{long}", b"x" * 700), ("ä.jpg", b"y"), format=format)
    assert contents(path) == {long: b"x" * 700, "ä.jpg": b"y"}


def test_links_and_whatever_else_is_no_file_are_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name, kind in (("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("p", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"{name}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
        file.addfile(tarfile.TarInfo("1.jpg"))
        file.addfile(tarfile.TarInfo("../2.jpg"))
    assert contents(tmp_path / "a.tar") == {"1.jpg": b""}


def test_the_index_is_kept_and_only_what_has_changed_is_read_again(
    images: Path, tmp_path: Path, scanned: list[str]
) -> None:
    folder = sharded(images, tmp_path / "shards", 3)
    for _ in range(2):
        assert contents(folder) == CONTENT
    assert sorted(scanned) == ["shard-0.tar", "shard-1.tar", "shard-2.tar"]
    assert [path.name for path in (folder / ".cache").iterdir()] == ["shards.index.npz"]
    scanned.clear()
    tar(folder / "shard-1.tar", ("new.jpg", b"new"))
    tar(folder / "more.tar", ("more.jpg", b"more"))
    (folder / "shard-2.tar").unlink()
    archive = open_tars(folder)
    assert sorted(scanned) == ["more.tar", "shard-1.tar"]
    assert {"new.jpg", "more.jpg"} < set(archive.names) and contents(folder)["new.jpg"] == b"new"
    fresh = {name: content for name, content in contents(folder).items()}
    (folder / ".cache" / "shards.index.npz").unlink()
    assert contents(folder) == fresh


def test_an_archive_knows_when_it_is_no_longer_current(images: Path, tmp_path: Path) -> None:
    folder = sharded(images, tmp_path / "shards", 2)
    archive = open_tars(folder)
    assert archive.is_current()
    os.utime(folder / "shard-0.tar", (1, 1))
    assert not archive.is_current()
    archive_members._handle.cache_clear()  # what is open is read on
    with pytest.raises(UserError, match="was replaced while it was in use"):
        [archive.read(row) for row in range(len(archive.members))]


def test_of_repeated_names_that_of_the_last_shard_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    tar(folder / "a.tar", ("1.jpg", b"first"), ("1.jpg", b"second"))
    tar(folder / "b.tar", ("1.jpg", b"third"))
    with caplog.at_level(logging.WARNING, "pose"):
        assert contents(folder) == contents(folder) == {"1.jpg": b"third"}
    assert caplog.text.count("2 file(s) are left out") == 1
    tar(folder / "b.tar", ("2.jpg", b"other"))  # the earlier one of this name counts again
    assert contents(folder) == {"1.jpg": b"second", "2.jpg": b"other"}


def test_in_a_folder_that_cannot_be_written_the_index_goes_to_the_users_cache(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = sharded(images, tmp_path / "shards", 2)
    (folder / ".cache").write_text("no folder")  # as root may write anywhere
    for _ in range(2):
        assert contents(folder) == CONTENT
    assert len(scanned) == 2 and len(list((tmp_path / "home").rglob("shards.index.npz"))) == 1


def test_nowhere_to_keep_an_index(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = sharded(images, tmp_path / "shards", 1)
    (folder / ".cache").write_text("no folder")
    with caplog.at_level(logging.WARNING, "pose"):
        assert contents(folder) == CONTENT
    assert "no writable folder for its index" in caplog.text


def test_a_damaged_index_is_made_again(images: Path, tmp_path: Path, scanned: list[str]) -> None:
    folder = sharded(images, tmp_path / "shards", 2)
    open_tars(folder)
    index = folder / ".cache" / "shards.index.npz"
    raw = index.read_bytes()
    rng = random.Random(0)
    for number in range(300):
        damaged = bytearray(raw if number % 2 else raw[: rng.randrange(len(raw))])
        for _ in range(number % 7):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        index.write_bytes(bytes(damaged))
        assert contents(folder) == CONTENT
    assert len(scanned) > 200


def test_an_index_that_was_not_written_by_us(images: Path, tmp_path: Path) -> None:
    """Its numbers lead nowhere outside the shards."""
    folder = sharded(images, tmp_path / "shards", 1)
    open_tars(folder)
    index = folder / ".cache" / "shards.index.npz"
    with np.load(index) as content:
        arrays = dict(content)
    for field, value in (("offset", -5), ("offset", 2**40), ("size", -1), ("stored", 2**50), ("method", 77)):
        entries = arrays["entries"].copy()
        entries[field] = value
        np.savez(index, **{**arrays, "entries": entries})
        archive = open_tars(folder)
        with pytest.raises(BadMember):
            [archive.read(row) for row in range(len(archive.members))]
    for name in ("ends", "places", "hashes"):
        np.savez(index, **{**arrays, name: arrays[name][::-1] - 3})
        for row in range(len(open_tars(folder).members)):
            assert isinstance(open_tars(folder).read(row), bytes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no tar archive, or is cut off or corrupt .*; copy or download it again"),
        (b"no tar at all" * 100, "is no tar archive, or is cut off or corrupt"),
        (bytes(10240), "has no files in it"),
    ],
)
def test_no_archives(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_tars(tmp_path / "a.tar")


def test_an_archive_that_is_cut_off_at_any_place_is_told(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = (sharded(images, tmp_path / "shards", 1) / "shard-0.tar").read_bytes()
    end = len(raw.rstrip(b"\0"))
    starts = offsets(tmp_path / "shards" / "shard-0.tar")
    for size in sorted({*range(1, end, 97), *starts[1:]}):
        path = tmp_path / f"{size}.tar"
        path.write_bytes(raw[:size])
        caplog.clear()
        try:
            found = contents(path)
        except UserError as error:
            assert str(path) in str(error) and "cut off" in str(error)
        else:  # between two files
            assert size in starts and found.items() < CONTENT.items()
            assert "has no mark at its end: it may be cut off" in caplog.text


def test_a_damaged_header_is_told(images: Path, tmp_path: Path) -> None:
    """And no file behind it is lost without a word."""
    raw = (sharded(images, tmp_path / "shards", 1) / "shard-0.tar").read_bytes()
    headers = offsets(tmp_path / "shards" / "shard-0.tar")
    told = 0
    rng = random.Random(0)
    for number in range(200):
        changed = bytearray(raw)
        place = rng.choice(headers) + rng.randrange(500)
        changed[place] ^= 1 << rng.randrange(7)
        path = tmp_path / f"{number}.tar"
        path.write_bytes(changed)
        try:
            assert contents(path) == CONTENT  # some bytes mean nothing
        except UserError as error:
            assert "is no tar archive, or is cut off or corrupt" in str(error)
            told += 1
    assert told > 150


def test_sizes_that_lead_backwards_end(tmp_path: Path) -> None:
    info = tarfile.TarInfo("1.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xf8\x00"  # -2048
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(
        tar(tmp_path / "b.tar", ("0.jpg", b"x" * 3000)).read_bytes()[:3584] + header + bytes(1024)
    )
    with pytest.raises(UserError, match="is no tar archive, or is cut off or corrupt"):
        open_tars(tmp_path / "a.tar")


def test_a_file_that_is_cut_off_after_it_was_indexed(images: Path, tmp_path: Path) -> None:
    path = sharded(images, tmp_path / "shards", 1) / "shard-0.tar"
    archive = open_tars(path)
    state = path.stat()
    os.truncate(path, 600)
    os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
    fake = [ArchiveFile(str(path), (600, state.st_mtime_ns))]
    with pytest.raises(BadMember, match="cut off in"):
        [TarArchive(path, fake, archive.members).read(row) for row in range(4)]
