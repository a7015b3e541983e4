"""Paths lead into archives as into folders."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pose import archives
from pose.annotations.image_files import locate, where_instead
from pose.archive_members import BadMember
from pose.archives import archive_at, files_below, is_file, is_folder, open_file, read_bytes, same_content
from pose.errors import UserError
from tests.archives import sharded, written, zipped

CONTENT = {"1.jpg": b"one", "deep/2.jpg": b"two" * 50}
Make = Callable[[Path, Path], Path]
KINDS: dict[str, Make] = {
    "zip": lambda folder, here: zipped(folder, here / "a.zip"),
    "zip with a folder": lambda folder, here: zipped(folder, here / "b.zip", "train2017"),
    "zip of another name": lambda folder, here: zipped(folder, here / "b.zip").rename(here / "images.of"),
    "shards": lambda folder, here: sharded(folder, here / "shards", 2, "x/y"),
    "tar": lambda folder, here: sharded(folder, here / "one", 1) / "shard-0.tar",
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return written(tmp_path / "images", CONTENT)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.replace(" ", "-"))
def archive(request: pytest.FixtureRequest, images: Path, tmp_path: Path) -> Path:
    return KINDS[request.param](images, tmp_path)


def forget() -> None:
    """As in a process that is spawned."""
    archives.forget_archives()


@pytest.mark.parametrize("known", [False, True])
def test_files(archive: Path, images: Path, known: bool) -> None:
    for name, content in CONTENT.items():
        if not known:
            forget()
        path = archive / name
        assert read_bytes(path).tobytes() == content == read_bytes(images / name).tobytes()
        with open_file(pickle.loads(pickle.dumps(path))) as file:
            assert file.read() == content
        assert is_file(path) and is_file(images / name)
        assert same_content(path, images / name) and not same_content(path, images / "none.jpg")
    assert not same_content(archive / "1.jpg", archive / "deep/2.jpg")
    assert not same_content(archive / "1.jpg", images / "deep" / "2.jpg")


@pytest.mark.parametrize("known", [False, True])
def test_what_is_not_there(archive: Path, known: bool) -> None:
    for name in ("none.jpg", "deep", "1.JPG", "1.jpg/x", "../images/1.jpg", "deep/../../images/1.jpg", "\0"):
        if not known:
            forget()
        path = archive / name
        if archive.is_dir() and ".." in name and not known:  # then it is a path of the file system
            continue
        assert not is_file(path)
        for read in (read_bytes, open_file):
            with pytest.raises((OSError, ValueError)):
                read(path)


def test_a_folder(archive: Path, images: Path, tmp_path: Path) -> None:
    assert is_folder(archive) and is_folder(images)
    assert not is_folder(tmp_path / "none") and not is_folder(images / "1.jpg")
    assert archive_at(images) is None and archive_at(tmp_path / "none") is None
    assert [os.path.basename(path) for path in files_below(archive)] == ["1.jpg", "2.jpg"]
    assert all(is_file(path) for path in files_below(archive))


def test_annotations_names_never_lead_out_of_an_archive(archive: Path, images: Path) -> None:
    outside = images.parent / "outside.jpg"
    outside.write_bytes(b"secret")
    for name in (str(outside), "../outside.jpg", f"../../{images.parent.name}/outside.jpg", "..", "", "/"):
        forget()
        path = locate(archive, name)
        assert archive in path.parents or path == archive
        assert not is_file(path)
        with pytest.raises(OSError):
            read_bytes(path)


@pytest.mark.parametrize(
    "name",
    ["deep/2.jpg", "train2017/deep/2.jpg", "/data/train2017/deep/2.jpg", "http://a.org/deep/2.jpg",
     r"deep\2.jpg", "./deep/2.jpg", "2.jpg"],
)  # fmt: skip
def test_annotations_names_as_in_a_folder(archive: Path, name: str) -> None:
    for _ in range(2):
        assert read_bytes(locate(archive, name)).tobytes() == CONTENT["deep/2.jpg"]
        forget()


def test_a_name_that_several_files_could_be_is_none_of_them(images: Path, tmp_path: Path) -> None:
    (images / "other").mkdir()
    (images / "other" / "2.jpg").write_bytes(b"other")
    path = zipped(images, tmp_path / "a.zip")
    assert not is_file(locate(path, "2.jpg")) and is_file(locate(path, "other/2.jpg"))
    assert where_instead(path, "x/2.png").startswith(f"; {path}/")


def test_where_a_missing_file_lies_instead(archive: Path) -> None:
    locate(archive, "none")
    assert where_instead(archive, "ONE/1.JPG").endswith("1.jpg is there")
    assert where_instead(archive, "2.png").endswith("deep/2.jpg is there")
    assert where_instead(archive, "5.jpg") == ""


def test_an_archive_that_has_changed_is_opened_anew(images: Path, tmp_path: Path) -> None:
    path = zipped(images, tmp_path / "a.zip")
    first = archive_at(path)
    assert first is not None and archive_at(path) is first
    (images / "3.jpg").write_bytes(b"three")
    zipped(images, path)
    os.utime(path, (1, 1))
    assert archive_at(path) is not first and read_bytes(path / "3.jpg").tobytes() == b"three"
    path.unlink()
    assert archive_at(path) is None


def test_a_tar_beside_loose_images_is_not_read(images: Path) -> None:
    with tarfile.open(images / "more.tar", "w") as file:
        file.add(images / "1.jpg", "5.jpg")
    (images / "deep" / "2.jpg").rename(images / "2.jpg")
    (images / "deep").rmdir()
    for other in (images / "1.jpg", images / "2.jpg"):
        assert archive_at(images) is None and not is_file(images / "5.jpg")
        other.unlink()
    assert is_file(images / "5.jpg") and is_file(images / "1.jpg") is False


def test_a_tar_beside_the_folder_that_it_was_packed_from_is_not_read(images: Path, tmp_path: Path) -> None:
    """Nor does it matter that it is cut off, and that an image is missing."""
    (tmp_path / "images.tar").write_bytes(b"half")
    for name in ("images/none.jpg", "images/1.jpg", "none.jpg"):
        assert is_file(locate(tmp_path, name)) == (name == "images/1.jpg")
    assert archive_at(tmp_path) is None and is_folder(tmp_path)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst", "a.7z", "a.rar"])
def test_what_is_compressed_as_a_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match="is compressed as a whole.*unpack it, or make a .zip"):
        is_folder(tmp_path / name)


def test_a_damaged_archive_is_a_sentence_wherever_a_path_leads_into_it(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4")
    for ask in (is_folder, is_file, read_bytes, open_file):
        with pytest.raises(UserError, match="copy or download it again"):
            ask(tmp_path / "a.zip" if ask is is_folder else tmp_path / "a.zip" / "1.jpg")


def test_a_damaged_file_in_an_archive(images: Path, tmp_path: Path) -> None:
    path = zipped(images, tmp_path / "a.zip")
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    with pytest.raises(BadMember, match="fails the check"):
        read_bytes(path / "1.jpg")
    assert read_bytes(path / "deep/2.jpg").tobytes() == CONTENT["deep/2.jpg"]
