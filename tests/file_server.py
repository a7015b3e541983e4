"""An HTTP server in the test's process that serves one file, in all the ways in which servers fail."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FileServer:
    """What is served, and what was asked for."""

    content: bytes
    ranges: bool = True
    etag: str | None = '"1"'
    send_length: bool = True
    statuses: list[int] = field(default_factory=list)  # of the first requests; then 200 or 206
    cuts: list[int] = field(
        default_factory=list
    )  # bytes of the first bodies, after which the server hangs up
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None  # where /moved leads
    hang: float = 0.0  # seconds before the answer
    hang_after: int | None = None  # bytes of a body before it hangs for `hang` seconds
    seconds_per_chunk: float = 0.0
    endless: bool = False
    port: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/files/model.pth"

    @property
    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


CHUNK = 1 << 14


def answer(server: FileServer, request: BaseHTTPRequestHandler) -> None:
    server.requests.append((request.path, dict(request.headers)))
    if server.hang and server.hang_after is None:
        time.sleep(server.hang)
    if request.path == "/moved" and server.redirect:
        request.send_response(302)
        request.send_header("Location", server.redirect)
        request.end_headers()
        return
    if server.statuses and (status := server.statuses.pop(0)) != 200:
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    start, size = 0, len(server.content)
    asked = re.match(r"bytes=(\d+)-", request.headers.get("Range", "")) if server.ranges else None
    if asked and request.headers.get("If-Range", server.etag) == server.etag:
        start = int(asked[1])
        if start >= size:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{size}")
            request.end_headers()
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    else:
        request.send_response(200)
    if server.send_length:
        request.send_header("Content-Length", str(size - start))
    for name, value in {**({"ETag": server.etag} if server.etag else {}), **server.headers}.items():
        request.send_header(name, value)
    request.end_headers()
    send(server, request, server.content[start:])


def send(server: FileServer, request: BaseHTTPRequestHandler, body: bytes) -> None:
    if server.cuts:
        body = body[: server.cuts.pop(0)]
    sent = 0
    while sent < len(body):
        if server.hang_after is not None and sent >= server.hang_after:
            time.sleep(server.hang)
            return
        request.wfile.write(body[sent : sent + CHUNK])
        sent += CHUNK
        time.sleep(server.seconds_per_chunk)
    while server.endless:
        request.wfile.write(bytes(CHUNK))


@contextmanager
def served(content: bytes, **settings: Any) -> Iterator[FileServer]:
    """A server on a free port of this machine."""
    server = FileServer(content, **settings)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
                answer(server, self)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
