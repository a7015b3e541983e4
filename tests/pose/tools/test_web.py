"""python -m pose.tools.web without a browser: what it takes, what it shows and keeps, how it starts."""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pose.data.settings import DataSettings
from pose.draw.people import Style
from pose.errors import UserError, user_facing
from pose.images import UnreadableImage
from pose.predict.batches import BatchPredictor
from pose.predict.settings import TestSettings
from pose.predictor import Predictor
from pose.structures import People
from pose.tools import web
from pose.web import limits as web_limits
from pose.web import page as web_page
from pose.web.limits import Limits, open_picture
from pose.web.views import Viewer, page_sized, summary
from tests.dot_people import SKELETON, assert_same_people, dot_model, dots, write_set
from tests.image_files import read_rgb

SIZE = (120, 160)  # height, width


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it has so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def viewer_of(folder: Path, limits: Limits | None = None) -> Viewer:
    """Of a network that sees the dots."""
    batches = BatchPredictor(dot_model(size=160), TestSettings())
    experiment: Any = argparse.Namespace(folder=folder / "seeing")
    return Viewer(Predictor(batches, SKELETON, experiment), limits or Limits())


@pytest.fixture
def viewer(tmp_path: Path) -> Viewer:
    return viewer_of(tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "two.png"
    cv2.imwrite(str(path), dots(SIZE, 2)[0][..., ::-1])
    return path


# ---- what is taken ----


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"I am no picture", "text.png is no picture"),
        ("empty.jpg", b"", "empty.jpg is no picture"),
        ("bomb.png", png_header(20_000, 20_000), "bomb.png has far too many pixels; at most 50 mega"),
        ("large.png", png_header(10_000, 9_000), "large.png has 10000 x 9000 pixels; at most 50 mega"),
        ("wide.png", png_header(2**31 - 1, 1), "wide.png"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "drawing.svg is no picture"),
        ("script.ps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "script.ps is no picture"),
        ("heavy.png", bytes(1_500_000), "heavy.png has 1.4 MB; at most 1 MB"),
    ],
)
def test_what_is_no_bearable_picture_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(web_limits, "read_image", lambda path: pytest.fail("decoded"))
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        open_picture(path, Limits(megabytes=1))
    assert message in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp"])
def test_a_cut_file_is_told_without_its_folder(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    content = cv2.imencode(f".{suffix}", noise)[1].tobytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content)
    assert open_picture(path, Limits()).shape == (80, 80, 3)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableImage) as caught:
        open_picture(path, Limits())
    assert f"cut.{suffix} is" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_was_removed_is_asked_for_again(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"^old\.png is no longer here; upload it again$"):
        open_picture(tmp_path / "old.png", Limits())


def test_the_limits_themselves_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "edge.png"
    cv2.imwrite(str(path), np.zeros((100, 100), np.uint8))
    assert open_picture(path, Limits(megapixels=0.01)).shape == (100, 100, 3)
    with pytest.raises(UnreadableImage, match=r"100 x 100 pixels; at most 0\.0099 megapixels"):
        open_picture(path, Limits(megapixels=0.0099))


@pytest.mark.parametrize("limits", [{"megapixels": 0.0}, {"megabytes": -1.0}, {"megabytes": float("nan")}])
def test_limits_are_above_zero(limits: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected a number above 0"):
        Limits(**limits)


def test_more_pixels_than_can_be_told_are_no_limit() -> None:
    with pytest.raises(UserError, match="178 is the most"):
        Limits(megapixels=179)


# ---- what is shown ----


def test_people_are_found_in_pixels_of_the_picture(viewer: Viewer, picture: Path) -> None:
    seen, panels = viewer.see(picture)
    assert_same_people(seen.people, dots(SIZE, 2)[1], tolerance=1)
    assert seen.size == SIZE
    assert seen.shown.shape == (4 * 120, 4 * 160, 3)
    assert list(panels) == viewer.field_names()
    assert {"heatmap", "tag"} <= set(panels)
    for panel in panels.values():
        assert panel.dtype == np.uint8
        assert np.abs(np.array(panel.shape[:2]) - seen.shown.shape[:2]).max() <= 16  # a cell of the network


def test_panels_lie_over_the_picture(viewer: Viewer, tmp_path: Path) -> None:
    """Also where the picture fills only a part of the canvas."""
    image, people = dots((60, 160), 1)
    cv2.imwrite(str(tmp_path / "wide.png"), image[..., ::-1])
    seen, panels = viewer.see(tmp_path / "wide.png")
    heat = panels["heatmap"].astype(int)
    zoom = seen.shown.shape[1] / 160
    color = heat.max(2) - heat.min(2)
    for x, y, _ in people[0]:
        row, column = round(float(y) * zoom), round(float(x) * zoom)
        assert color[row - 8 : row + 9, column - 8 : column + 9].max() > 0.8 * color.max()


def test_a_turned_photo_is_seen_upright(viewer: Viewer, tmp_path: Path) -> None:
    image, people = dots(SIZE, 2)
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    Image.fromarray(np.rot90(image)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    seen, _ = viewer.see(tmp_path / "turned.jpg")
    assert seen.size == SIZE
    assert_same_people(seen.people, people, tolerance=1.5)


def test_drawing_follows_the_controls(viewer: Viewer, picture: Path) -> None:
    seen, _ = viewer.see(picture)
    drawn = viewer.draw(seen, Style())
    assert (drawn != seen.shown).any(2).mean() > 0.005
    assert (viewer.draw(seen, Style(min_score=1.0)) == seen.shown).all()
    assert (viewer.draw(seen, Style(min_keypoint=1.0)) == seen.shown).all()
    assert (viewer.draw(seen, Style(width=3)) != drawn).any()
    assert viewer.draw_whole(seen, Style()).shape == (*SIZE, 3)


def test_the_record_has_who_is_shown(viewer: Viewer, picture: Path) -> None:
    seen, _ = viewer.see(picture)
    record = json.loads(json.dumps(viewer.record(seen, Style())))
    assert (record["width"], record["height"]) == (160, 120)
    assert record["picture"] == "two.png"
    assert record["run"] == "seeing"
    assert record["keypoint_names"] == list(SKELETON.keypoints)
    keypoints = np.array([person["pose_keypoints_2d"] for person in record["people"]]).reshape(-1, 3, 3)
    assert_same_people(People(keypoints, np.ones(len(keypoints))), dots(SIZE, 2)[1], tolerance=1)
    best = float(seen.people.scores[0])
    assert len(viewer.record(seen, Style(min_score=best))["people"]) == 1
    assert viewer.record(seen, Style(min_score=best + 0.01))["people"] == []


def test_the_line_counts_who_is_shown(viewer: Viewer, picture: Path) -> None:
    seen, _ = viewer.see(picture)
    assert summary(seen, Style()).startswith("2 people · ")
    assert summary(seen, Style()).endswith(" ms · 160 × 120 pixels")
    best = float(seen.people.scores[0])
    assert summary(seen, Style(min_score=best)).startswith("1 person (1 more below the scores) · ")
    assert summary(seen, Style(min_keypoint=1.0)).startswith("0 people (2 more below the scores) · ")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (640, 640)),
        ((300, 400), (600, 800)),
        ((700, 650), (700, 650)),
        ((4000, 3000), (1600, 1200)),
        ((2, 9000), (1, 1600)),
    ],
)
def test_a_page_shows_middle_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert page_sized(np.zeros((*size, 3), np.uint8)).shape == (*expected, 3)


def test_tiny_and_long_pictures(viewer: Viewer, tmp_path: Path) -> None:
    for size in ((1, 1), (3, 900), (900, 3)):
        path = tmp_path / f"{size[0]}x{size[1]}.png"
        cv2.imwrite(str(path), np.full((*size, 3), 99, np.uint8))
        seen, panels = viewer.see(path)
        assert viewer.draw(seen, Style()).shape == seen.shown.shape
        assert all(panel.size for panel in panels.values())


# ---- the page's calls ----

CONTROLS: tuple[float, float, float, str, list[str]] = (
    0.0,
    0.05,
    1.0,
    "person",
    [],
)  # as sliders() lists them


class FakeGradio:
    """The few parts that the handlers use."""

    class Error(Exception):
        def __init__(self, message: str, print_exception: bool) -> None:
            super().__init__(message)

    @staticmethod
    def skip() -> str:
        return "skipped"

    @staticmethod
    def update(**change: Any) -> dict[str, Any]:
        return change


def handlers_of(viewer: Viewer) -> web_page.Handlers:
    runs = viewer.predictor.experiment.folder.parent
    return web_page.Handlers(FakeGradio(), viewer, viewer.field_names(), runs)


def test_redrawing_does_not_ask_the_network(
    viewer: Viewer, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = handlers_of(viewer)
    seen, status, result, *panels, _, button, _, _ = handlers.see({"path": str(picture)}, *CONTROLS)
    assert status.startswith('<p class="told">2 people')
    assert len(panels) == len(viewer.field_names())
    assert button == {"interactive": True}
    monkeypatch.setattr(BatchPredictor, "fields", lambda *_: pytest.fail("the network was asked"))
    status, hidden = handlers.redraw(seen, 1.0, *CONTROLS[1:])
    assert status.startswith('<p class="told">0 people')
    assert (hidden == seen.shown).all()
    assert (handlers.redraw(seen, *CONTROLS)[1] == result).all()


def test_visitors_do_not_see_each_other(viewer: Viewer, tmp_path: Path) -> None:
    """All that a call knows of a visitor is what it is given."""
    handlers = handlers_of(viewer)
    before = {name: value for name, value in vars(viewer).items()}
    kept = []
    for people in (1, 3):
        path = tmp_path / f"{people}.png"
        cv2.imwrite(str(path), dots(SIZE, people)[0][..., ::-1])
        kept.append(handlers.see({"path": str(path)}, *CONTROLS)[0])
    assert [handlers.redraw(seen, *CONTROLS)[0][16:18] for seen in kept] == ["1 ", "3 "]
    assert vars(viewer) == before
    assert handlers.redraw(None, *CONTROLS) == ("skipped", "skipped")
    for write in (handlers.write_json, handlers.write_png):
        with pytest.raises(FakeGradio.Error, match="choose it again"):
            write(None, *CONTROLS)


def test_what_cannot_be_read_gives_a_message_and_an_empty_page(viewer: Viewer, tmp_path: Path) -> None:
    handlers = handlers_of(viewer)
    path = tmp_path / "<b>.png"
    path.write_text("no picture")
    seen, status, *rest = handlers.see({"path": str(path)}, *CONTROLS)
    assert seen is None
    assert status.startswith('<p class="problem">&lt;b&gt;.png is no picture')
    assert rest[: 1 + len(viewer.field_names())] == [None] * (1 + len(viewer.field_names()))
    assert rest[1 + len(viewer.field_names())] is None  # the source lets go of it
    assert {"interactive": False} in rest
    emptied = handlers.see(None, *CONTROLS)
    assert emptied[0] is None
    assert emptied[-4] == "skipped"  # the source: the next picture may be there already


def test_other_files_of_the_machine_are_not_read(
    viewer: Viewer, picture: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    handlers = handlers_of(viewer)
    secret = tmp_path_factory.mktemp("secret") / "mine.png"
    secret.write_bytes(picture.read_bytes())
    for path in (str(secret), str(picture.parent / ".." / secret.parent.name / "mine.png"), None, ""):
        seen, status, *_ = handlers.see({"path": path}, *CONTROLS)
        assert seen is None
        assert "only uploaded pictures are taken" in status


def test_a_score_beyond_1_stretches_the_slider(
    viewer: Viewer, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = handlers_of(viewer)
    assert handlers.see({"path": str(picture)}, *CONTROLS)[-1] == {"maximum": 1}
    decode = BatchPredictor.decode

    def louder(self: BatchPredictor, *given: Any) -> Any:
        return [(i, People(people.keypoints, people.scores * 30)) for i, people in decode(self, *given)]

    monkeypatch.setattr(BatchPredictor, "decode", louder)
    seen, *_, slider = handlers.see({"path": str(picture)}, *CONTROLS)
    assert seen.people.scores.max() <= slider["maximum"] < seen.people.scores.max() + 1


def test_downloads_lie_where_nobody_can_guess(viewer: Viewer, picture: Path, tmp_path: Path) -> None:
    handlers = handlers_of(viewer)
    seen = handlers.see({"path": str(picture)}, *CONTROLS)[0]
    files = [Path(str(handlers.write_json(seen, *CONTROLS))) for _ in range(2)]
    assert files[0].name == "two-people.json"
    assert len({file.parent for file in files}) == 2
    assert all(len(file.parent.name) == 32 and file.is_relative_to(tmp_path) for file in files)
    drawn = read_rgb(handlers.write_png(seen, *CONTROLS))
    assert (drawn == viewer.draw_whole(seen, Style())).all()


# ---- the start ----


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot serve port {port} .*--port 0"):
            web.free_port("127.0.0.1", port)
    assert web.free_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("no such host", 0, "there is no such address"),
        ("192.0.2.1", 0, "is no address of this machine"),  # reserved for documentation
        ("127.0.0.1", -1, "--port -1: expected 0 to 65535"),
        ("127.0.0.1", 70_000, "--port 70000: expected 0 to 65535"),
    ],
)
def test_a_wrong_address_is_told(host: str, port: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        web.free_port(host, port)


def test_the_private_folder_is_gone_afterwards() -> None:
    with web.private_folder() as folder:
        (folder / "deep").mkdir()
        (folder / "deep/file").write_text("x")
        if os.name == "posix":
            assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*web.QUIET, "GRADIO_TEMP_DIR", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")  # put back afterwards
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'bottomup-pose\[web\]'"):
        web.import_gradio(tmp_path)


def test_examples_are_the_given_pictures_those_of_the_run_or_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = write_set(tmp_path, [(32, 32)] * 8)
    (tmp_path / "dots/.hidden.png").write_bytes(b"")
    (tmp_path / "dots/notes.txt").write_text("")
    (tmp_path / "bare").mkdir()

    def of(images: str) -> Any:
        data = DataSettings.model_validate(
            {"root": str(tmp_path), "val": {"annotations": "dots.json", "images": images}}
        )
        experiment = argparse.Namespace(config=argparse.Namespace(data=data))
        return argparse.Namespace(experiment=experiment)

    assert web.find_examples(tmp_path / "dots", of("bare"), tmp_path) == mine[: web.EXAMPLES]
    assert web.find_examples(None, of("dots"), tmp_path) == mine[: web.EXAMPLES]
    drawn = web.find_examples(None, of("bare"), tmp_path)
    assert len(drawn) == web.EXAMPLES
    assert all(read_rgb(path).max() > 100 for path in drawn)
    for given, message in ((tmp_path / "nowhere", "is no folder"), (tmp_path / "bare", "has no pictures")):
        with pytest.raises(UserError, match=message):
            web.find_examples(given, of("dots"), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "x", "--max-megapixels", "0"], "--max-megapixels is 0"),
        (["-c", "x", "--port", "99999"], "expected 0 to 65535"),
        (["-c", "x", "--port", "0"], "no run 'x'"),
    ],
)
def test_mistakes_get_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert user_facing(lambda: web.main(arguments))() == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
