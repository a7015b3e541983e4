"""What names on the command line stand for."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose.errors import UserError
from pose.media.sources import find_sources, listed_sources, outputs, stdin_lines

OUT = Path("out")


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.PNG", "sub/a.jpg", "sub/c.webp", "sub/.hidden.jpg", "notes.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "in/film.mp4").write_bytes(b"")
    (tmp_path / "empty").mkdir()


def found(*given: str, output: Path = OUT) -> list[tuple[str, str, str]]:
    return [(s.kind, s.path.as_posix(), s.name.as_posix()) for s in find_sources(given, output)]


def test_a_folder_stands_for_what_is_in_it_and_below() -> None:
    assert found("in") == [
        ("picture", "in/a.jpg", "a"),
        ("picture", "in/b.PNG", "b"),
        ("video", "in/film.mp4", "film"),
        ("picture", "in/sub/a.jpg", "sub/a"),
        ("picture", "in/sub/c.webp", "sub/c"),
    ]


def test_what_was_drawn_into_a_folder_is_not_drawn_again() -> None:
    Path("in/sub/drawn").mkdir()
    Path("in/sub/drawn/a.jpg").write_bytes(b"")
    assert "in/sub/drawn/a.jpg" in [path for _, path, _ in found("in")]
    assert "in/sub/drawn/a.jpg" not in [path for _, path, _ in found("in", output=Path("in/sub/drawn"))]


def test_patterns_are_matched_and_keep_the_folders_below_their_fixed_part() -> None:
    assert found("in/*.jpg") == [("picture", "in/a.jpg", "a")]
    assert [name for _, _, name in found("in/**/*.jpg")] == ["a", "sub/a"]
    Path("in/[x].jpg").write_bytes(b"")
    assert found("in/[x].jpg") == [("picture", "in/[x].jpg", "[x]")]  # a name that looks like a pattern


def test_equal_names_are_numbered() -> None:
    assert [name for *_, name in found("in/a.jpg", "in/sub/a.jpg", "in/a.jpg")] == ["a", "a-2", "a-3"]
    Path("A.png").write_bytes(b"")
    Path("a-2.jpg").write_bytes(b"")
    assert [n for *_, n in found("in/a.jpg", "a-2.jpg", "A.png", "in/sub/a.jpg")] == [
        "a",
        "a-2",
        "A-2-2",
        "a-3",
    ]


def test_a_camera_has_a_number() -> None:
    (camera,) = find_sources(["camera:1"], OUT)
    assert (camera.kind, camera.camera, str(camera)) == ("camera", 1, "camera 1")
    assert outputs(camera, OUT) == OUT / "camera-1.mp4"


def test_files_without_a_known_suffix_are_told_by_their_content() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    Path("picture.x").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    writer = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (32, 32))
    for _ in range(3):
        writer.write(picture)
    writer.release()
    os.rename("film.mp4", "film.x")
    assert [kind for kind, *_ in found("picture.x", "film.x")] == ["picture", "video"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.jpg", "no file or folder nowhere.jpg"),
        ("in/*.bmp", "no file matches in/*.bmp"),
        ("empty", "the folder empty holds no pictures"),
        ("camera", "camera:0 is the first one"),
        ("x" * 300 + ".jpg", "no file can have the name xxx"),
    ],
)
def test_a_slip_of_the_pen_is_one_sentence(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("*", r"\*")):
        find_sources(["in/a.jpg", given], OUT)


def test_nothing_that_was_given_is_drawn_over() -> None:
    for given, output in ((["in/a.jpg"], "in"), (["in/sub/a.jpg", "in/a.jpg"], "in"), (["in"], "in")):
        with pytest.raises(UserError, match="choose another folder with -o"):
            find_sources(given, Path(output))
    assert find_sources(["in/sub/c.webp"], Path("in"))  # in/c.webp is nobody's


def test_outputs_keep_their_kind_where_everybody_can_read_it() -> None:
    for name, drawn in (("a.jpg", "a.jpg"), ("b.PNG", "b.png"), ("t.tiff", "t.png"), ("f.mov", "f.mp4")):
        Path(name).write_bytes(b"")
        assert outputs(find_sources([name], OUT)[0], OUT).name == drawn


def test_a_list_is_read_line_by_line_and_bad_lines_are_problems() -> None:
    lines = ["in/a.jpg", "", "in/sub/a.jpg\r", "out/old.jpg", "missing.jpg"]
    taken = find_sources(["in/a.jpg"], OUT)
    listed = list(listed_sources(iter(lines), OUT, taken))
    assert [s.name.as_posix() for s in listed] == ["a-2", "a-3", "old", "missing"]
    assert [bool(s.problem) for s in listed] == [False, False, True, False]


def test_lines_come_as_soon_as_they_are_there() -> None:
    out, into = os.pipe()
    with open(out) as stream:
        lines = stdin_lines(stream)
        os.write(into, b"one\ntw")
        assert next(lines) == "one"
        os.write(into, b"o\n\xff.jpg")
        assert next(lines) == "two"
        os.close(into)
        assert os.fsencode(next(lines)) == b"\xff.jpg"
        assert list(lines) == []


def test_names_that_no_file_can_have_are_problems() -> None:
    """`find -print0`, and a text that is no list of names."""
    listed = list(listed_sources(["in/a.jpg\0in/b.PNG\0", "x" * 300, "in/a.jpg"], OUT))
    assert [bool(source.problem) for source in listed] == [True, True, False]
    assert "line ends" in listed[0].problem


def test_without_a_standard_input_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="no standard input"):
        list(stdin_lines())


def test_names_never_lead_out_of_the_output_folder() -> None:
    """Nor back to the picture itself."""
    assert {name for *_, name in found("*/../in/a.jpg")} == {"empty/in/a", "in/in/a"}


def test_a_pattern_matches_files_and_no_folders(tmp_path: Path) -> None:
    (tmp_path / "set" / "b.png").mkdir(parents=True)
    for name in ("a.png", "c.png", "b.png/inside.png"):
        cv2.imwrite(str(tmp_path / "set" / name), np.zeros((4, 4, 3), np.uint8))
    found = find_sources([str(tmp_path / "set" / "*.png")], tmp_path / "out")
    assert [source.path.name for source in found] == ["a.png", "c.png"]


@pytest.mark.parametrize("name", ["..jpg", "...jpg"])
def test_the_output_of_a_file_name_of_dots_is_a_file_in_its_folder(name: str) -> None:
    """Which part of such a name is the suffix depends on the version of Python."""
    Path("dots/sub").mkdir(parents=True)
    for folder in ("dots", "dots/sub"):
        Path(folder, name).write_bytes(b"")
    given = [*find_sources([f"dots/{name}", f"dots/*/{name}"], OUT), *listed_sources([f"dots/{name}"], OUT)]
    drawn = [outputs(source, OUT) for source in given]
    assert [file.parent for file in drawn] == [OUT, OUT / "sub", OUT]
    assert all(file.suffix in (".jpg", ".png") for file in drawn)
