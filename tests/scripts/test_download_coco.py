"""scripts/download_coco.sh against a little web server with archives of a few kilobytes."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "download_coco.sh"
FILES = ["dirname", "df", "find", "mkdir", "mv", "rm"]
TEXT = ["awk", "cat", "grep", "sed", "tail", "tr", "wc"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a bash script")


def archive(files: dict[str, int]) -> bytes:
    """A zip of incompressible files: name -> size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, size in files.items():
            zipped.writestr(name, bytes((i * 7919 + len(name)) % 251 for i in range(size)))
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """`files`: path -> content; `requests`: (method, path, Range header) in order; `limit`: bytes after which
    a download breaks off, None for never."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.limit: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self) -> list[tuple[str, str | None]]:
        return [(path, part) for method, path, part in self.requests if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.command, self.path, asked))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_body:
            self.wfile.write(content[start : self.server.limit])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.files = {
        "/zips/train2017.zip": archive({f"train2017/{i:012d}.jpg": 900 for i in range(5)}),
        "/zips/val2017.zip": archive({f"val2017/{i:012d}.jpg": 700 for i in range(3)}),
        "/annotations/annotations_trainval2017.zip": archive(
            {f"annotations/person_keypoints_{part}2017.json": 400 for part in ("train", "val")}
        ),
    }
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["curl unzip", "wget python3"])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of programs to find on the PATH: the basic ones, one downloader, one unpacker."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ["bash", *FILES, *TEXT, *request.param.split()]:
        found = sys.executable if name == "python3" else shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} on this machine")
        (folder / name).symlink_to(found)
    return folder


def download(
    server: Server | str, root: Path, tools: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    url = server if isinstance(server, str) else server.url
    home = os.environ.get("HOME", "/")
    environment = {"PATH": str(tools), "LC_ALL": "C", "HOME": home, "no_proxy": "127.0.0.1"}
    return subprocess.run(
        ["bash", SCRIPT, "--root", root, "--base-url", url, *arguments],
        capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


def names(root: Path) -> list[str]:
    """The files a user sees."""
    return sorted(
        str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")
    )


def contents(server: Server) -> dict[str, bytes]:
    zips = [zipfile.ZipFile(io.BytesIO(content)) for content in server.files.values()]
    return {name: zipped.read(name) for zipped in zips for name in zipped.namelist()}


def test_a_complete_run_gives_every_file_and_a_second_one_does_nothing(
    server: Server, tools: Path, tmp_path: Path
) -> None:
    root = tmp_path / "my coco"
    first = download(server, root, tools)
    assert first.returncode == 0, first.stderr
    assert {name: (root / name).read_bytes() for name in names(root)} == contents(server)

    server.requests.clear()
    second = download(server, root, tools)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("nothing to do") == 3
    assert server.requests == []


def test_a_lost_file_is_fetched_again(server: Server, tools: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    assert download(server, root, tools, "--only", "val").returncode == 0
    lost = root / "val2017" / f"{1:012d}.jpg"
    lost.unlink()
    assert download(server, root, tools, "--only", "val").returncode == 0
    assert lost.read_bytes() == contents(server)["val2017/000000000001.jpg"]


def test_a_cut_off_download_goes_on_where_it_stopped(server: Server, tools: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    root.mkdir()
    content = server.files["/zips/train2017.zip"]
    (root / "train2017.zip").write_bytes(content[:1000])
    done = download(server, root, tools, "--only", "train", "--keep-zips")
    assert done.returncode == 0, done.stderr
    assert "going on" in done.stdout
    assert [part for _, part in server.gets()] == ["bytes=1000-"]
    assert (root / "train2017.zip").read_bytes() == content
    assert len(names(root)) == 1 + 5


def test_a_connection_that_breaks_is_reported_and_kept(server: Server, tmp_path: Path, tools: Path) -> None:
    root = tmp_path / "coco"
    if not (tools / "curl").exists():
        pytest.skip("wget goes on by itself")
    server.limit = 1500
    done = download(server, root, tools, "--only", "val")
    assert done.returncode == 1
    assert "start this again" in done.stderr
    assert (root / "val2017.zip").stat().st_size == 1500
    server.limit = None
    assert download(server, root, tools, "--only", "val").returncode == 0
    assert len(names(root)) == 3


def test_a_damaged_archive_is_found_and_loaded_anew(server: Server, tools: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    content = server.files["/zips/val2017.zip"]
    server.files["/zips/val2017.zip"] = content[:300] + bytes(50) + content[350:]
    done = download(server, root, tools, "--only", "val")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and "damaged" in done.stderr
    assert names(root) == []
    server.files["/zips/val2017.zip"] = content
    assert download(server, root, tools, "--only", "val").returncode == 0
    assert len(names(root)) == 3


def test_a_file_larger_than_the_servers_is_started_over(server: Server, tools: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    root.mkdir()
    (root / "val2017.zip").write_bytes(bytes(10_000))
    done = download(server, root, tools, "--only", "val")
    assert done.returncode == 0, done.stderr
    assert [part for _, part in server.gets()] == [None]


def test_no_server_gives_a_sentence(server: Server, tools: Path, tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"  # the discard port: nothing listens
    done = download(nobody, tmp_path / "coco", tools)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot load http://127.0.0.1:9/annotations/")
    assert "--base-url" in done.stderr and len(done.stderr.strip().splitlines()) == 1

    missing = download(server, tmp_path / "coco", tools, "--year", "2014")
    assert missing.returncode == 1
    assert "annotations_trainval2014.zip" in missing.stderr and "404" in missing.stderr


def test_the_disk_is_checked_before_anything_is_loaded(server: Server, tools: Path, tmp_path: Path) -> None:
    (tools / "df").unlink()
    (tools / "df").write_text("#!/bin/sh\necho Filesystem\necho /dev/x 1 1 2 99% /\n")
    (tools / "df").chmod(0o755)
    done = download(server, tmp_path / "coco", tools, "--only", "train")
    assert done.returncode == 2
    assert "free" in done.stderr and "--root" in done.stderr
    assert server.gets() == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--year", "2016"], "2016"),
        (["--only", "test"], "annotations, train or val"),
        (["--fast"], "--fast"),
        (["--root"], "--root needs a value"),
    ],
)
def test_wrong_arguments_give_a_sentence(arguments: list[str], word: str) -> None:
    done = subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and word in done.stderr
