"""Downloads: resumed where they were cut off, checked against their SHA-256, complete or absent."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from pose import __version__
from pose.errors import UserError
from pose.files import locked

LARGEST = 2 << 30  # bytes of a file
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row that bring less than ENOUGH
ENOUGH = 1 << 20  # bytes
MOST_ATTEMPTS = 100
PAUSE = 1.0  # seconds before the second attempt; twice as long before each further one
CHUNK = 1 << 18  # bytes
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)  # HTTP status of a server that may answer later

logger = logging.getLogger("pose")


class Failed(Exception):
    """An attempt that did not bring the file; the text is the reason."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again  # whether another attempt makes sense


def fetch(
    url: str,
    file: Path,
    sha256: str,
    *,
    largest: int = LARGEST,
    timeout: float = TIMEOUT,
    pause: float = PAUSE,
) -> Path:
    """`file`, downloaded from the http(s) address `url` unless it is there already.

    sha256: the first hexadecimal digits of the file's SHA-256, at least 8; an existing file is checked too.
    largest: bytes, timeout: seconds without a byte, pause: seconds before the second attempt.
    What was cut off (`.NAME.partial` beside the file) is resumed, by this call and by a later one.  Of
    several processes one downloads and the others wait.  Raises `UserError`."""
    if os.path.exists(file):
        check(file, sha256)
        return file
    partial = file.with_name(f".{file.name}.partial")
    by_hand = f"fetch it by hand and put it into {file.parent} as {file.name}"
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise Failed("only http and https are supported", again=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        busy = f"{file.name} is being downloaded by another process; waiting for it"
        with locked(file.with_name(f".{file.name}.lock"), busy) as alone:
            if os.path.exists(file):
                check(file, sha256)
                return file
            if not alone:  # nobody else may write to the same file, so nobody can resume it
                partial = partial.with_name(f".{file.name}.{os.getpid()}.partial")
            try:
                _Download(url, partial, largest, timeout, pause).checked(sha256)
                os.replace(partial, file)
            finally:
                if not alone:
                    partial.unlink(missing_ok=True)
    except Failed as error:
        raise UserError(f"cannot download {url}: {error}; {by_hand}") from None
    except OSError as error:  # of the disk
        raise UserError(f"cannot write {file}: {error.strerror or error}") from None
    return file


def check(file: Path, sha256: str) -> None:
    """Raises `UserError` where the SHA-256 of a file begins otherwise."""
    try:
        found = _digest(file)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    if not found.startswith(sha256.lower()):
        raise UserError(
            f"{file} is not the published file: its SHA-256 begins with {found[: len(sha256)]} and not with "
            f"{sha256.lower()}; remove it and run this again"
        )


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class _Download:
    """One file on its way into `partial`."""

    def __init__(self, url: str, partial: Path, largest: int, timeout: float, pause: float) -> None:
        self.url, self.partial = url, partial
        self.largest, self.timeout, self.pause = largest, timeout, pause
        self.opener = _opener()
        self.tag: str | None = None  # the server's version of the content in `partial`
        self.resumed = False  # whether `partial` may have come from several versions

    def checked(self, sha256: str) -> None:
        """`partial` is the whole file.  Raises `Failed`, `OSError`."""
        wanted = sha256.lower()
        found = self._whole()
        if not found.startswith(wanted) and self.resumed:  # the versions may differ
            logger.info("%s: what was resumed is not the published file; starting over", self.url)
            self.partial.unlink()
            found = self._whole()
        if not found.startswith(wanted):
            self.partial.unlink()
            raise Failed(
                f"the server sent another file (its SHA-256 begins with {found[: len(wanted)]}, not "
                f"with {wanted})",
                again=False,
            )

    def _whole(self) -> str:
        """The SHA-256 of `partial`, once complete."""
        failures = 0
        for remaining in reversed(range(MOST_ATTEMPTS)):
            before = self._size()
            try:
                self._attempt(before)
                break
            except Failed as error:
                failures = 0 if self._size() - before >= ENOUGH else failures + 1
                if not error.again or failures >= ATTEMPTS or not remaining:
                    raise
                wait = self.pause * 2 ** max(failures - 1, 0)
                logger.info("%s: %s; trying again in %g s", self.url, error, wait)
                time.sleep(wait)
        return _digest(self.partial)

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _attempt(self, start: int) -> None:
        """Appends what is missing, or starts over where the server does not resume."""
        try:
            response = self._open(start)
        except Failed:
            raise
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and start:  # `partial` has everything, or is of another version
                    return self._beyond_the_end(start, error.headers.get("Content-Range", ""))
            again = error.code in TRANSIENT
            raise Failed(f"the server answers {error.code} {error.reason}", again=again) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _no_connection(error) from None
        with response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Failed("the server compresses it", again=False)
            if response.status == 206:
                self._check_range(start, response.headers.get("Content-Range", ""))
                self.resumed = True
            else:
                start = 0
            self.tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
            length = response.headers.get("Content-Length", "")
            self._receive(response, start, start + int(length) if length.isdecimal() else None)

    def _open(self, start: int) -> http.client.HTTPResponse:
        request = urllib.request.Request(self.url, headers={"User-Agent": f"bottomup-pose/{__version__}"})
        request.add_header("Accept-Encoding", "identity")
        if start:
            request.add_header("Range", f"bytes={start}-")
            if self.tag and not self.tag.startswith("W/"):
                request.add_header("If-Range", self.tag)
        return self.opener.open(request, timeout=self.timeout)

    def _beyond_the_end(self, start: int, content_range: str) -> None:
        if content_range.rpartition("/")[2] != str(start):
            self.partial.unlink()
            raise Failed("the file on the server has changed", again=True)
        self.resumed = True

    def _check_range(self, start: int, content_range: str) -> None:
        found = re.match(r"bytes (\d+)-", content_range)
        if not found or int(found[1]) != start:
            self.partial.unlink()
            raise Failed("the server resumed at another place", again=True)

    def _receive(self, response: http.client.HTTPResponse, start: int, total: int | None) -> None:
        if (total or 0) > self.largest:
            raise Failed(f"it has {total} bytes, and {self.largest} are the most", again=False)
        free = shutil.disk_usage(self.partial.parent).free
        if total is not None and total - start > free:
            raise OSError(errno.ENOSPC, f"{(total - start) / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free")
        size = f"{total / 1e6:.1f} MB" if total is not None else "a file"
        more = f", resuming at {start / 1e6:.1f} MB" if start else ""
        logger.info("downloading %s (%s%s)", self.url, size, more)
        with (
            open(self.partial, "ab" if start else "wb") as output,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, leave=False, disable=None) as bar,
        ):
            here = start
            for chunk in _chunks(response):
                here += len(chunk)
                if here > self.largest:
                    output.truncate(0)
                    raise Failed(f"it has more than {self.largest} bytes", again=False)
                output.write(chunk)
                bar.update(len(chunk))
        if total is not None and here < total:
            raise Failed(f"it was cut off after {here} of {total} bytes", again=True)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """What the server sends, as it comes.  Raises `Failed` where the connection breaks."""
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "no data" if isinstance(error, TimeoutError) else _text(error)
            raise Failed(f"the connection broke ({reason})", again=True) from None
        if not chunk:
            return
        yield chunk


def _no_connection(error: Exception) -> Failed:
    """No further attempt where it would fail again at once: offline, a wrong name, a wrong
    certificate."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    lasting = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError, ValueError)
    unreachable = isinstance(reason, OSError) and "unreachable" in str(reason)
    text = "no answer" if isinstance(reason, TimeoutError) else _text(reason)
    return Failed(f"no connection ({text})", again=not (isinstance(reason, lasting) or unreachable))


def _text(reason: Any) -> str:
    text = getattr(reason, "strerror", None) or str(reason)
    return text.strip().split("\n")[0][:200] or type(reason).__name__


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To another host only over https, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        same = (new.scheme, new.hostname) == (old.scheme, old.hostname)
        if new.scheme != "https" and not (same and new.scheme == "http"):
            raise Failed(f"the server redirects to {newurl}, which is not https", again=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """For http and https, through the proxies of the environment (http_proxy, https_proxy, no_proxy)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = []
    return opener
