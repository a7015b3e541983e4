"""python -m pose.tools.web in a real Chromium, with a network that sees dots.

Every request of the page and every connection of the server is watched: none may leave this machine.  Skipped
without gradio, playwright or a Chromium (apt-get install chromium)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import yaml

from pose.experiment import Experiment, load_config
from pose.structures import People
from tests.dot_people import SKELETON, assert_same_people, dots, write_set
from tests.image_files import read_rgb
from tests.small_networks import SMALL

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [name for name in ("gradio", "playwright") if find_spec(name) is None]
MISSING += [] if CHROMIUM else ["a chromium (apt-get install chromium)"]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"the web page in a browser needs {', '.join(MISSING)}"),
    pytest.mark.skipif(os.name != "posix", reason="stops the server by SIGINT"),
]

ROOT = Path(__file__).parents[2]
SIZE = (120, 160)  # height, width
WAIT = 15_000  # milliseconds; two processes and a browser may share one core

# The command with the seeing network in the place of the run's, and with a watch on its connections.
SERVER = """
import socket, sys
from pathlib import Path

def local(address):
    return not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")

def watched(call, address_of):
    def guard(*given, **named):
        address = address_of(given)
        if not local(address):
            with open("outside.txt", "a") as file:
                print(address, file=file)
            raise OSError("no network in this test")
        return call(*given, **named)
    return guard

socket.socket.connect = watched(socket.socket.connect, lambda given: given[1])
socket.socket.connect_ex = watched(socket.socket.connect_ex, lambda given: given[1])
socket.getaddrinfo = watched(socket.getaddrinfo, lambda given: (given[0] or "", given[1]))

import torch
from tests.dot_people import dot_model
from pose import predictor
from pose.errors import user_facing
from pose.tools import web

torch.set_num_threads(1)
predictor.load_model = lambda experiment, weights, device: (dot_model(size=160), None)
sys.exit(user_facing(lambda: web.main(sys.argv[1:]))())
"""


class Server(NamedTuple):
    url: str
    folder: Path  # it runs in


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started as a user would, on any free port; at the end it is stopped by Ctrl-C."""
    folder = tmp_path_factory.mktemp("web")
    make_run(folder)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir()
    command = [sys.executable, "-c", SERVER, "-c", "seeing", "--port", "0", "--device", "cpu"]
    command += ["--max-megabytes", "8", "test.flip=false"]
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield Server(address(process, folder / "log.txt"), folder)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
    told = (folder / "log.txt").read_text()
    assert told.rstrip().endswith("stopped"), told
    assert told.count("Traceback") == told.count("exceptions.InvalidPathError:"), told  # of no_other_file
    assert not (folder / "outside.txt").exists(), (folder / "outside.txt").read_text()
    assert list((folder / "tmp").iterdir()) == []  # nobody's pictures stay
    assert {path.name for path in folder.iterdir()} <= {
        "exp", "dots", "dots.json", "run.yaml", "log.txt", "tmp"
    }  # fmt: skip


def make_run(folder: Path) -> None:
    """Without weights, which are not asked for."""
    write_set(folder, [SIZE, (160, 120)])
    files = {"annotations": "dots.json", "images": "dots"}
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    config = {
        "input": {"size": [160, 160]},
        "data": {"root": ".", "train": files, "val": files, "skeleton": skeleton},
        "backbone": {"name": "hourglass", **SMALL["hourglass"]},
        "head": {"name": "tags"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    before = Path.cwd()
    os.chdir(folder)
    try:
        Experiment.create("seeing", load_config("run.yaml"))
    finally:
        os.chdir(before)


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """That the server prints when it is ready."""
    for _ in range(600):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *camera]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens the page as one more visitor.  What it asks of others fails, and then the test."""
    outside: list[str] = []
    contexts: list[Any] = []

    def watch(request: Any) -> None:
        if not request.url.startswith((f"{server.url}/", "data:", "blob:")):
            outside.append(request.url)

    def open_page(width: int = 1280, height: int = 900) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        context.set_default_timeout(WAIT)
        context.on("request", watch)
        context.route(lambda url: url.startswith("http") and not url.startswith(server.url), no_entry)
        page = context.new_page()
        page.on("websocket", lambda socket: outside.append(socket.url))
        page.goto(server.url)
        page.wait_for_selector("#source input[type=file]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert outside == []


def no_entry(route: Any) -> None:
    route.abort()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "two people.png"
    cv2.imwrite(str(path), dots(SIZE, 2)[0][..., ::-1])
    return path


def upload(page: Any, path: Path, status: str) -> None:
    """And waits for the line that says `status`."""
    page.set_input_files("#source input[type=file]", str(path))
    line(page, status)


def line(page: Any, text: str) -> None:
    try:
        page.wait_for_function(
            "text => (document.querySelector('#status') || {}).innerText?.includes(text)", arg=text
        )
    except Exception:
        raise AssertionError(f"no {text!r} on the page:\n{page.locator('body').inner_text()}") from None


def saved(page: Any, button: str, folder: Path) -> Path:
    """The file that a click downloads."""
    with page.expect_download() as download:
        page.click(f"#{button}")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def to_the_end(page: Any, label: str) -> None:
    """The slider to its maximum."""
    page.get_by_role("slider", name=re.compile(label)).focus()
    page.keyboard.press("End")


def test_people_appear_and_go_with_the_slider(
    visit: Callable[..., Any], picture: Path, tmp_path: Path
) -> None:
    page = visit()
    assert page.locator("#save-json").is_disabled()
    upload(page, picture, "2 people")
    line(page, "160 × 120 pixels")
    page.wait_for_selector("#skeletons img")

    image, expected = dots(SIZE, 2)
    record = json.loads(saved(page, "save-json", tmp_path).read_text())
    keypoints = np.array([person["pose_keypoints_2d"] for person in record["people"]]).reshape(-1, 3, 3)
    assert_same_people(People(keypoints, np.ones(len(keypoints))), expected, tolerance=1)
    assert (record["width"], record["height"]) == (160, 120)
    assert record["keypoint_names"] == list(SKELETON.keypoints)
    drawing = saved(page, "save-png", tmp_path)
    assert drawing.suffix == ".png"
    drawn = read_rgb(drawing)
    assert (drawn[:5] == image[:5]).all()
    for x, y, _ in expected.reshape(-1, 3).round().astype(int):
        assert (drawn[y, x] != image[y, x]).any(), f"nothing is drawn at {x}, {y}"

    to_the_end(page, "score of a person")
    line(page, "0 people (2 more below the scores)")
    assert json.loads(saved(page, "save-json", tmp_path).read_text())["people"] == []
    assert (read_rgb(saved(page, "save-png", tmp_path)) == image).all()


def test_every_field_has_a_tab(visit: Callable[..., Any], picture: Path) -> None:
    page = visit()
    upload(page, picture, "2 people")
    titles = page.get_by_role("tab").all_inner_texts()
    assert titles[:2] == ["Skeletons", "Heatmaps"]
    assert "Tags" in titles
    assert "Limbs" not in titles
    shown = set()
    for title in titles:
        page.get_by_role("tab", name=title, exact=True).click()
        panel = page.locator("#skeletons img:visible, .field img:visible")
        panel.wait_for()
        assert panel.evaluate("image => image.decode().then(() => image.naturalWidth)") > 400
        shown.add(panel.get_attribute("src"))
    assert len(shown) == len(titles)


def test_what_is_no_picture_or_too_much_is_refused_and_the_page_goes_on(
    visit: Callable[..., Any], picture: Path, tmp_path: Path
) -> None:
    page = visit()
    (tmp_path / "text.png").write_text("I am no picture\n" * 100)
    upload(page, tmp_path / "text.png", "text.png is no picture")
    (tmp_path / "bomb.png").write_bytes(bomb(14_000))
    upload(page, tmp_path / "bomb.png", "bomb.png has far too many pixels; at most 50 megapixels")
    content = picture.read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    upload(page, tmp_path / "cut.png", "cut.png is damaged")
    (tmp_path / "heavy.png").write_bytes(content + bytes(9_000_000))
    page.set_input_files("#source input[type=file]", str(tmp_path / "heavy.png"))
    page.get_by_text(
        re.compile(r"exceed the maximum allowed size of 8(\.0)? Mb")
    ).first.wait_for()  # told by gradio
    upload(page, picture, "2 people")


def bomb(side: int) -> bytes:
    """A whole black PNG of side x side pixels in some 50 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (1 + (side + 7) // 8)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_visitors_have_their_own_pictures(visit: Callable[..., Any], picture: Path, tmp_path: Path) -> None:
    mine, other = visit(), visit(390, 844)
    cv2.imwrite(str(tmp_path / "three.png"), dots(SIZE, 3)[0][..., ::-1])
    upload(mine, picture, "2 people")
    upload(other, tmp_path / "three.png", "3 people")
    to_the_end(mine, "score of a person")
    line(mine, "0 people (2 more")
    assert other.locator("#status").inner_text().startswith("3 people")
    other.get_by_label("left and right").check()
    assert len(json.loads(saved(other, "save-json", tmp_path).read_text())["people"]) == 3
    assert other.evaluate("document.documentElement.scrollWidth") <= 390  # a phone shows it whole


def test_examples_and_camera(visit: Callable[..., Any]) -> None:
    page = visit()
    page.locator("#examples button").first.click()
    line(page, "1 person")
    page.locator("#source").get_by_label("Remove Image").click()
    line(page, "Choose a picture")
    page.wait_for_selector("#save-json:disabled")
    page.locator("#source").get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#source video')?.videoWidth > 0")
    page.get_by_label("capture photo").click()
    line(page, " pixels")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("http://example.com/a.png", "only uploaded pictures are taken"),  # gradio itself would fetch it
        ("/etc/hostname", ""),
        ("run.yaml", ""),
    ],
)
def test_a_request_gets_no_other_file(server: Server, path: str, message: str) -> None:
    config = json.loads(urllib.request.urlopen(f"{server.url}/config").read())
    ids = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    calls = {
        call["id"]: call["targets"][0]
        for call in config["dependencies"]
        if call["targets"] and call["backend_fn"]
    }
    (see,) = [call for call, (part, event) in calls.items() if event == "change" and ids[part] == "source"]
    away = {"path": path, "meta": {"_type": "gradio.FileData"}}
    session = f"somebody{len(path)}"
    body = {"data": [away, 0, 0, 1, "person", []], "fn_index": see, "session_hash": session}
    request = urllib.request.Request(
        f"{server.url}/gradio_api/queue/join",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).read()
    stream = urllib.request.urlopen(f"{server.url}/gradio_api/queue/data?session_hash={session}", timeout=15)
    answers = [json.loads(line[5:]) for line in stream if line.startswith(b"data:")]
    (done,) = [answer for answer in answers if answer["msg"] == "process_completed"]
    assert not done["success"]
    assert message in json.dumps(done["output"])
