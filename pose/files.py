"""Files that end, and files that are whole at any moment: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pose.errors import UserError

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger("pose")


def is_regular(path: Path | str) -> bool:
    """Whether there is a file that ends: no folder, pipe or device."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def check_ends(path: Path | str) -> None:
    """Raises `OSError` for a pipe or a device, which may never end; not for what cannot be opened anyway."""
    if os.path.exists(path) and not os.path.isdir(path) and not is_regular(path):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_text(path: Path | str, encoding: str = "utf-8") -> str:
    """The text of a file that ends.  Raises `OSError`, `UnicodeDecodeError`."""
    check_ends(path)
    return Path(path).read_text(encoding=encoding)


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[bool]:
    """Holds the lock of the file `path`, which is made where it is missing and stays; while another process
    or thread holds it, this one waits and logs the sentence `waiting`.

    Gives False where the system has no locks, as some network drives.  A process that ends, however it ends,
    holds no lock any more.  Raises `OSError` where the file cannot be made."""
    with open(path, "ab") as file:
        try:
            if not _lock(file, wait=False):
                if waiting:
                    logger.info("%s", waiting)
                _lock(file, wait=True)
            held = True
        except OSError:
            held = False
        yield held  # closing the file gives the lock back


def _lock(file: IO[bytes], *, wait: bool) -> bool:
    """Whether this process has the lock now.  Raises `OSError` where the system has no locks."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:
                    return False
                time.sleep(0.2)
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def cache_folders(folder: Path) -> list[Path]:
    """Where what is worked out of a folder's files may be kept, the best place first: `.cache` in it, else
    in the user's cache, apart for each folder."""
    places = [folder / ".cache"]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        own = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        places.append(Path(home) / "bottomup-pose" / own)
    return places


def write_bytes(path: Path | str, content: bytes) -> None:
    """A reader of `path` sees the old file or the whole new one, never a part.  Folders are made.  Raises
    `UserError` where the file cannot be written."""
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.partial"  # with_name would fail for "." and ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:  # also where the user interrupts
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def write_text(path: Path | str, text: str) -> None:
    """`write_bytes` of the text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, data: Any, indent: int | None = None) -> None:
    """`write_text` of the data as JSON, compact where there is no indent.  Raises `ValueError` for a number
    that is not finite."""
    text = json.dumps(data, indent=indent, separators=None if indent else (",", ":"), allow_nan=False)
    write_text(path, text)


def encode_picture(picture: np.ndarray, kind: str, quality: int = 90) -> bytes:
    """picture (H, W, 3) uint8 RGB -> the content of a file; kind: "png", "jpg" or another suffix that OpenCV
    writes.  quality: of JPEG and WebP, 1 to 100."""
    import cv2  # every command reads files, few write pictures

    flags = {"jpg": cv2.IMWRITE_JPEG_QUALITY, "jpeg": cv2.IMWRITE_JPEG_QUALITY}
    flags["webp"] = cv2.IMWRITE_WEBP_QUALITY
    kind = kind.lower().removeprefix(".")
    options = [flags[kind], quality] if kind in flags else []
    try:
        done, content = cv2.imencode(f".{kind}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    except cv2.error:  # no such kind, or sides that the kind does not have (JPEG: 65500 pixels)
        done = False
    if not done:
        height, width = picture.shape[:2]
        raise UserError(f"a picture of {width} x {height} pixels cannot be written as {kind!r}; try png")
    return content.tobytes()


def write_picture(path: Path | str, picture: np.ndarray, quality: int = 90) -> None:
    """picture (H, W, 3) uint8 RGB to a file whose suffix says what kind it is; as `write_bytes`."""
    path = Path(path)
    if not path.suffix:
        raise UserError(f"{path} has no suffix that says what kind of picture to write; name it {path}.png")
    write_bytes(path, encode_picture(picture, path.suffix, quality))
