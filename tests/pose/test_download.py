"""pose.download: a file is complete or absent, whatever the server and other processes do."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pose import __version__, download
from pose.errors import UserError
from tests.file_server import FileServer, served
from tests.training_fixtures import environment

CONTENT = bytes(range(256)) * 400  # 102 400 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def fetch(server: FileServer | str, file: Path, sha256: str = SHA256[:8], **settings: Any) -> Path:
    url = server if isinstance(server, str) else server.url
    return download.fetch(url, file, sha256, **{"pause": 0.01, "timeout": 5.0, **settings})


def files_in(folder: Path) -> list[str]:
    """Without the lock."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


def test_a_file_is_downloaded_once(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "zoo" / "model.pth"
    with served(CONTENT) as server:
        assert fetch(server, file) == file
        assert fetch(server, file, SHA256.upper()) == file
    assert file.read_bytes() == CONTENT and files_in(file.parent) == ["model.pth"]
    ((path, headers),) = server.requests
    assert path == "/files/model.pth" and headers["User-Agent"] == f"bottomup-pose/{__version__}"
    assert set(headers) == {"User-Agent", "Host", "Accept-Encoding", "Connection"}


def test_a_file_that_is_put_there_by_hand_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:1/model.pth", file) == file
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(
        UserError, match=f"model.pth is not the published file: .* not with {SHA256[:8]}; rem"
    ):
        fetch("http://127.0.0.1:1/model.pth", file)
    assert file.read_bytes() == CONTENT[:-1]


# ------------------------------------------------------------------------------------------ broken transfers


def test_what_was_cut_off_is_resumed(tmp_path: Path) -> None:
    with served(CONTENT, cuts=[30_000, 1, 50_000]) as server:
        file = fetch(server, tmp_path / "model.pth")
    assert file.read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=30000-", "bytes=30001-", "bytes=80001-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"1"', '"1"', '"1"']


@pytest.mark.parametrize("settings", [{"ranges": False}, {"send_length": False, "ranges": False}])
def test_a_server_that_cannot_resume_starts_over(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / ".model.pth.partial").write_bytes(CONTENT[:70_000])
    with served(CONTENT, **settings) as server:
        file = fetch(server, tmp_path / "model.pth")
    assert file.read_bytes() == CONTENT and server.ranges_asked == ["bytes=70000-"]


def test_a_file_that_changes_meanwhile_is_not_mixed(tmp_path: Path) -> None:
    with served(CONTENT, cuts=[30_000], etag='"2"') as server:
        other = bytes(len(CONTENT))
        server.content, new = other, server.content
        original = server.requests

        class Switch(list):  # type: ignore[type-arg]
            def append(self, item: Any) -> None:
                super().append(item)
                if len(self) == 2:
                    server.content, server.etag = new, '"3"'

        server.requests = Switch(original)
        file = fetch(server, tmp_path / "model.pth")
    assert file.read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=30000-"]  # answered by the whole file: If-Range


@pytest.mark.parametrize("begun", [b"something else" * 1000, CONTENT + b"more"], ids=["other", "longer"])
def test_the_beginning_of_another_file_is_dropped(tmp_path: Path, begun: bytes) -> None:
    (tmp_path / ".model.pth.partial").write_bytes(begun)
    with served(CONTENT) as server:
        file = fetch(server, tmp_path / "model.pth")
    assert file.read_bytes() == CONTENT
    assert server.ranges_asked == [f"bytes={len(begun)}-", None]
    assert files_in(tmp_path) == ["model.pth"]


def test_a_process_that_was_killed_after_the_last_byte(tmp_path: Path) -> None:
    (tmp_path / ".model.pth.partial").write_bytes(CONTENT)
    with served(CONTENT) as server:
        file = fetch(server, tmp_path / "model.pth")
    assert file.read_bytes() == CONTENT and server.ranges_asked == [f"bytes={len(CONTENT)}-"]


def test_a_connection_that_always_breaks_is_given_up(tmp_path: Path) -> None:
    with served(CONTENT, cuts=[1000] * 50) as server, pytest.raises(UserError, match="cut off after 5000 of"):
        fetch(server, tmp_path / "model.pth")
    assert len(server.requests) == download.ATTEMPTS
    assert files_in(tmp_path) == [".model.pth.partial"]  # for the next time
    with served(CONTENT) as server:
        fetch(server, tmp_path / "model.pth")
    assert server.ranges_asked == ["bytes=5000-"]


def test_progress_grants_further_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ENOUGH", 1000)
    with served(CONTENT, cuts=[1000] * 50) as server:
        fetch(server, tmp_path / "model.pth")
    assert len(server.requests) == 51
    monkeypatch.setattr(download, "MOST_ATTEMPTS", 10)
    with served(CONTENT, cuts=[1000] * 50) as server, pytest.raises(UserError, match="cut off"):
        fetch(server, tmp_path / "again.pth")
    assert len(server.requests) == 10


@pytest.mark.parametrize("settings", [{}, {"hang_after": 30_000}], ids=["no answer", "half-way"])
def test_a_server_that_hangs(tmp_path: Path, settings: dict[str, Any]) -> None:
    message = "no connection .no answer" if not settings else "the connection broke .no data|cut off"
    start = time.monotonic()
    with served(CONTENT, hang=1.0, **settings) as server, pytest.raises(UserError, match=message):
        server.ranges = False  # no progress from one attempt to the next
        fetch(server, tmp_path / "model.pth", timeout=0.1)
    assert time.monotonic() - start < 5
    assert len(server.requests) == download.ATTEMPTS


def test_a_slow_server_is_waited_for(tmp_path: Path) -> None:
    with served(CONTENT, seconds_per_chunk=0.06) as server:  # 0.4 s in all
        assert fetch(server, tmp_path / "model.pth", timeout=0.2).read_bytes() == CONTENT
    assert len(server.requests) == 1


# ---------------------------------------------------------------------------------------------- other answers


@pytest.mark.parametrize(("statuses", "count"), [([404], 1), ([403], 1), ([503] * 9, download.ATTEMPTS)])
def test_a_refusal_says_what_to_do(tmp_path: Path, statuses: list[int], count: int) -> None:
    with served(CONTENT, statuses=statuses.copy()) as server, pytest.raises(UserError) as caught:
        fetch(server, tmp_path / "model.pth")
    assert f"the server answers {statuses[0]} " in str(caught.value)
    assert f"cannot download {server.url}" in str(caught.value)
    assert str(caught.value).endswith(f"fetch it by hand and put it into {tmp_path} as model.pth")
    assert len(server.requests) == count and files_in(tmp_path) == []


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with served(CONTENT, statuses=[503, 429, 200]) as server:
        assert fetch(server, tmp_path / "model.pth").read_bytes() == CONTENT


def test_offline(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    for url in (f"http://127.0.0.1:{port}/model.pth", "http://no-such-host.invalid/model.pth"):
        with pytest.raises(UserError, match="no connection .*fetch it by hand and put it into"):
            fetch(url, tmp_path / "model.pth", pause=60)
    assert time.monotonic() - start < 30  # without a pause


@pytest.mark.parametrize("ranges", [True, False])
def test_another_file_is_not_kept(tmp_path: Path, ranges: bool) -> None:
    with (
        served(CONTENT[::-1], ranges=ranges) as server,
        pytest.raises(
            UserError, match=f"sent another file .its SHA-256 begins with .*, not with {SHA256[:8]}"
        ),
    ):
        fetch(server, tmp_path / "model.pth")
    assert files_in(tmp_path) == [] and len(server.requests) == 1


def test_another_file_in_pieces_is_not_fetched_for_ever(tmp_path: Path) -> None:
    with served(CONTENT[::-1], cuts=[10, 10, 10]) as server, pytest.raises(UserError, match="another file"):
        fetch(server, tmp_path / "model.pth")
    assert len(server.requests) == 5 and files_in(tmp_path) == []


def test_an_endless_body_is_left(tmp_path: Path) -> None:
    with (
        served(CONTENT, endless=True, send_length=False) as server,
        pytest.raises(UserError, match="it has more than 1000000 bytes"),
    ):
        fetch(server, tmp_path / "model.pth", largest=1_000_000)
    assert sum((tmp_path / name).stat().st_size for name in files_in(tmp_path)) == 0
    with served(CONTENT, endless=True) as server:  # beyond the length that it says
        assert fetch(server, tmp_path / "model.pth").read_bytes() == CONTENT


def test_what_is_too_large_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        served(CONTENT) as server,
        pytest.raises(UserError, match="it has 102400 bytes, and 1000 are the most"),
    ):
        fetch(server, tmp_path / "model.pth", largest=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=50_000))
    with served(CONTENT) as server, pytest.raises(UserError, match="cannot write .*0 MB needed, 0 MB free"):
        fetch(server, tmp_path / "model.pth")
    assert files_in(tmp_path) == []


def test_compressed_content_is_refused(tmp_path: Path) -> None:
    with (
        served(CONTENT, headers={"Content-Encoding": "gzip"}) as server,
        pytest.raises(UserError, match="compr"),
    ):
        fetch(server, tmp_path / "model.pth")


def test_redirects(tmp_path: Path) -> None:
    with served(CONTENT) as server:
        moved = server.url.replace("/files/model.pth", "/moved")
        server.redirect = server.url
        assert fetch(moved, tmp_path / "model.pth").read_bytes() == CONTENT
        for target in ("http://localhost:1/x", "ftp://127.0.0.1/x", "file:///etc/hostname"):
            server.redirect = target
            with pytest.raises(UserError, match="not https|not allowed"):
                fetch(moved, tmp_path / "other.pth")
        server.redirect = moved  # in a circle
        with pytest.raises(UserError, match="302"):
            fetch(moved, tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("https://a.org/x", "https://b.org/x", True),
        ("http://a.org/x", "https://b.org/x", True),
        ("http://a.org/x", "http://a.org:8080/y", True),
        ("https://a.org/x", "http://a.org/x", False),
        ("http://a.org/x", "http://b.org/x", False),
    ],
)
def test_where_a_server_may_send_us(old: str, new: str, allowed: bool) -> None:
    request = urllib.request.Request(old, headers={"Range": "bytes=3-"})
    arguments: Any = (request, None, 302, "Found", {}, new)
    if not allowed:
        with pytest.raises(download.Failed, match="not https"):
            download._Redirects().redirect_request(*arguments)
        return
    redirected = download._Redirects().redirect_request(*arguments)
    assert redirected is not None and redirected.full_url == new and redirected.headers["Range"] == "bytes=3-"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/model.pth", "model.pth", ""])
def test_only_the_web(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="only http and https are supported"):
        fetch(url, tmp_path / "model.pth")


def test_a_proxy_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(CONTENT) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
        assert fetch("http://zoo.invalid/a/model.pth", tmp_path / "model.pth").read_bytes() == CONTENT
        assert [path for path, _ in server.requests] == ["http://zoo.invalid/a/model.pth"]
        monkeypatch.setenv("no_proxy", "zoo.invalid")
        with pytest.raises(UserError, match="no connection"):
            fetch("http://zoo.invalid/a/model.pth", tmp_path / "again.pth")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with served(CONTENT) as server, pytest.raises(UserError, match="cannot write .*cache/model.pth"):
        fetch(server, tmp_path / "cache" / "model.pth")
    assert server.requests == []


# -------------------------------------------------------------------------------------------- other processes

PROGRAM = """
import logging, sys
from pathlib import Path
from pose import download
logging.basicConfig(level=logging.INFO, format="%(message)s")
download.fetch(sys.argv[1], Path(sys.argv[2]), sys.argv[3], pause=0.01)
print("ready", flush=True)
"""


def start(server: FileServer, file: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PROGRAM, server.url, str(file), SHA256[:8]]
    env = {key: value for key, value in environment().items() if "proxy" not in key.lower()}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_of_two_processes_one_downloads(tmp_path: Path) -> None:
    file, partial = tmp_path / "model.pth", tmp_path / ".model.pth.partial"
    with served(CONTENT, seconds_per_chunk=0.3) as server:
        first = start(server, file)
        wait_for(lambda: partial.exists())
        second = start(server, file)
        ends = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], ends
    assert [out for out, _ in ends] == ["ready\n", "ready\n"] and file.read_bytes() == CONTENT
    assert len(server.requests) == 1 and files_in(tmp_path) == ["model.pth"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_after_a_kill_the_next_process_goes_on(tmp_path: Path) -> None:
    file, partial = tmp_path / "model.pth", tmp_path / ".model.pth.partial"
    with served(CONTENT, seconds_per_chunk=0.2) as server:
        killed = start(server, file)
        wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=60)
        here = partial.stat().st_size
        assert not file.exists() and 0 < here < len(CONTENT)
        server.seconds_per_chunk = 0
        assert fetch(server, file).read_bytes() == CONTENT
    assert server.ranges_asked == [None, f"bytes={here}-"]


def test_without_locks_each_process_has_its_own_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any, **__: Any) -> bool:
        raise OSError("no locks available")

    monkeypatch.setattr("pose.files._lock", no_locks)
    (tmp_path / ".model.pth.partial").write_bytes(b"of another process")
    with served(CONTENT, cuts=[1000]) as server:
        assert fetch(server, tmp_path / "model.pth").read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=1000-"]
    assert (tmp_path / ".model.pth.partial").read_bytes() == b"of another process"
    with served(CONTENT, statuses=[404]) as server, pytest.raises(UserError):
        fetch(server, tmp_path / "other.pth")
    assert files_in(tmp_path) == [".model.pth.partial", "model.pth"]
