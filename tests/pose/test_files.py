"""Files that are whole at any moment."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pose.errors import UserError
from pose.files import encode_picture, locked, write_bytes, write_picture, write_text
from tests.image_files import decode_rgb, read_rgb
from tests.training_fixtures import environment


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


def test_a_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is "", which a shell makes of a variable that is not set; it stands for the folder itself."""
    monkeypatch.chdir(tmp_path)
    for path in (".", "", tmp_path):
        with pytest.raises(UserError, match="^cannot write "):
            write_text(path, "text")
    assert not list(tmp_path.iterdir())


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


# ------------------------------------------------------------------------------------------------------------
# Pictures in files have the colours that they have in memory, whatever the memory looks like.


KINDS = ["jpg", "jpeg", "png", "webp"]
COLORS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250), "orange": (250, 130, 10)}


def stripes() -> np.ndarray:
    """(24, 64, 3) uint8: a stripe of 16 pixels for each of COLORS."""
    return np.repeat(np.repeat(np.array([list(COLORS.values())], np.uint8), 16, axis=1), 24, axis=0)


def opened(content: bytes) -> np.ndarray:
    """By another library than the one that wrote it: its mistakes would cancel out."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def assert_alike(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    inside = [i for i in range(expected.shape[1]) if 4 <= i % 16 < 12]  # JPEG blurs colours at their edges
    np.testing.assert_allclose(found[:, inside].astype(int), expected[:, inside].astype(int), atol=14)


@pytest.mark.parametrize("kind", KINDS)
def test_red_stays_red_and_blue_stays_blue(kind: str) -> None:
    assert_alike(opened(encode_picture(stripes(), kind, 95)), stripes())


def test_png_keeps_every_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    np.testing.assert_array_equal(opened(encode_picture(picture, "png")), picture)


VIEWS = {
    "a part": np.pad(stripes(), ((5, 7), (16, 32), (0, 0)))[5:-7, 16:-32],
    "every other row": np.repeat(stripes(), 2, axis=0)[::2],
    "upside down": stripes()[::-1][::-1],
    "rows backwards": stripes()[::-1],
    "mirrored": stripes()[:, ::-1],
    "blue first": np.ascontiguousarray(stripes()[..., ::-1])[..., ::-1],
    "channels first": np.ascontiguousarray(stripes().transpose(2, 0, 1)).transpose(1, 2, 0),
    "columns first": np.asfortranarray(stripes()),
}


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("name", list(VIEWS))
def test_a_view_of_another_array_is_written_as_it_looks(name: str, kind: str) -> None:
    view = VIEWS[name]
    before = view.copy()
    assert_alike(opened(encode_picture(view, kind, 95)), np.ascontiguousarray(view))
    np.testing.assert_array_equal(view, before)


def test_a_picture_that_nobody_may_write_to_is_written_to_a_file() -> None:
    picture = stripes()
    picture.flags.writeable = False
    assert_alike(opened(encode_picture(picture, "png")), picture)


@pytest.mark.parametrize("shape", [(24, 64), (24, 64, 1)])
def test_a_grey_picture_is_grey_or_refused(shape: tuple[int, ...]) -> None:
    """It is none that may be given: OpenCV 5 takes it, OpenCV 4 does not."""
    grey = stripes()[..., 1].reshape(shape)
    try:
        content = encode_picture(grey, "png")
    except UserError:
        return
    np.testing.assert_array_equal(opened(content), np.repeat(grey.reshape(24, 64, 1), 3, axis=2))


def test_the_longest_side_of_a_jpeg_is_written() -> None:
    wide = np.zeros((1, 65500, 3), np.uint8)
    assert decode_rgb(encode_picture(wide, "jpg")).shape == wide.shape


# ---- locks

HOLD = """
import sys, time
from pathlib import Path
from pose.files import locked
with locked(Path(sys.argv[1])) as held:
    print(held, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_a_lock_is_waited_for_and_ends_with_its_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pose")
    words = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    entered: list[bool] = []

    def enter() -> None:
        with locked(tmp_path / "lock", "waiting for the other one") as held:
            entered.append(held)

    thread = threading.Thread(target=enter)
    thread.start()
    deadline = time.monotonic() + 60
    while "waiting for the other one" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert entered == []
    other.kill()  # as kill -9 does
    other.communicate(timeout=60)
    thread.join(timeout=60)
    assert entered == [True]


def test_a_lock_holds_against_threads_and_is_given_back(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        with locked(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (inside, most) == (0, 1)


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError("no locks available")

    monkeypatch.setattr("pose.files._lock", refuse)
    with locked(tmp_path / "lock") as held:
        assert held is False
