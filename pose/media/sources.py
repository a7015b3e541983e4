"""What a person names on the command line -> pictures, videos and cameras, in order."""

from __future__ import annotations

import glob
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

import cv2

from pose.archives import archive_at, files_below
from pose.errors import UserError
from pose.images import tell_unread

PICTURES = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".jp2",
    ".ppm",
    ".pgm",
    ".avif",
}
VIDEOS = {
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts",
    ".ogv", ".gif",
}  # fmt: skip
STDIN = "-"

Kind = Literal["picture", "video", "camera"]


@dataclass(frozen=True)
class Source:
    """One picture, video or camera."""

    kind: Kind
    path: Path  # of a camera: camera-0
    name: Path  # for its outputs: relative, without a suffix, given once only
    camera: int = 0
    problem: str = ""  # why it must not be read

    def __str__(self) -> str:
        return f"camera {self.camera}" if self.kind == "camera" else str(self.path)


@dataclass
class Names:
    """A name for each source.  Pictures of the same name from several folders are numbered: a, a-2, a-3."""

    used: dict[str, int] = field(default_factory=dict)

    def give(self, name: Path) -> Path:
        key = str(name).casefold()  # a.jpg and A.jpg are one file on some systems
        count = self.used.get(key, 0) + 1
        self.used[key] = count
        if count == 1:
            return name
        return self.give(name.with_name(f"{name.name}-{count}"))


def find_sources(given: Sequence[str], output: Path) -> list[Source]:
    """The sources named by everything but "-".

    A folder stands for its pictures and videos and those of its folders, sorted, but not for what lies in the
    folder `output` inside it; * ? [ ] ** in a name are matched here, for shells that do not.  Outputs keep
    the folders below the one that was named.  Raises `UserError` for a name that nothing answers to, so that
    a slip of the pen is seen before the work begins."""
    names = Names()
    found = [source for text in given if text != STDIN for source in _of(text, output, names)]
    _check_outputs(found, output)
    return found


def _of(text: str, output: Path, names: Names) -> Iterator[Source]:
    if camera := re.fullmatch(r"camera:(\d+)", text):
        number = int(camera[1])
        yield Source("camera", Path(f"camera-{number}"), names.give(Path(f"camera-{number}")), number)
        return
    path = Path(os.path.expanduser(text))
    if not _possible(path):
        raise UserError(f"no file can have the name {text[:60]}...")
    if path.is_dir() or archive_at(path) is not None:
        files = _below(path, output)
        if not files:
            raise UserError(
                f"the folder {text} holds no pictures and no videos ({', '.join(sorted(PICTURES | VIDEOS))})"
            )
        base = path
    elif path.exists():
        files, base = [path], path.parent
    elif glob.has_magic(text):
        files = sorted(Path(one) for one in glob.glob(str(path), recursive=True))
        files = [file for file in files if file.is_file()]
        base = _fixed_part(path)
        if not files:
            raise UserError(f"no file matches {text}")
    elif text.startswith("camera"):
        raise UserError(f"{text!r} is no camera; camera:0 is the first one of this computer")
    else:
        raise UserError(f"no file or folder {text}")
    for file in files:
        # .. would lead out of the output folder
        folders = [part for part in file.relative_to(base).parts[:-1] if part != ".."]
        yield file_source(file, names.give(Path(*folders, _bare_name(file))))


def _bare_name(file: Path) -> str:
    """The file's name without its suffix.  Of ..jpg only dots would be left, which name a folder."""
    return file.stem if file.stem.strip(".") else "picture"


def file_source(path: Path, name: Path) -> Source:
    """A picture or a video: by its suffix, else by its content."""
    suffix = path.suffix.lower()
    picture = suffix in PICTURES or (suffix not in VIDEOS and not _is_video(path))
    return Source("picture" if picture else "video", path, name)


def _possible(path: Path) -> bool:
    """Whether a file may have such a name: no NUL, and not too long."""
    try:
        path.is_file()
    except (OSError, ValueError):
        return False
    return "\0" not in str(path)


def _is_video(path: Path) -> bool:
    """Of a file whose suffix says nothing."""
    from pose.media.video import VideoFile, for_opencv

    try:
        if not path.is_file() or cv2.haveImageReader(for_opencv(path)):
            return False
        VideoFile(path).close()
    except UserError:
        return False
    return True


def _below(folder: Path, output: Path) -> list[Path]:
    if archive_at(folder) is not None:
        parts = {file: file.relative_to(folder).parts for file in files_below(folder)}
        shown = [one for one in parts if not any(part.startswith((".", "__MACOSX")) for part in parts[one])]
        tell_unread(shown, folder)
        return [file for file in shown if file.suffix.lower() in PICTURES]  # no video is read in place
    inside, found = output.resolve(), []
    for root, folders, files in os.walk(folder):
        folders[:] = [
            one
            for one in folders
            if not one.startswith(".") and one != "__MACOSX" and Path(root, one).resolve() != inside
        ]
        found += [Path(root, file) for file in files if not file.startswith(".")]
    tell_unread(found, folder)
    return sorted(file for file in found if file.suffix.lower() in PICTURES | VIDEOS)


def _fixed_part(pattern: Path) -> Path:
    """The folder of a pattern above its first part with * ? or [."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def outputs(source: Source, folder: Path) -> Path:
    """The file of the drawn picture or video."""
    if source.kind != "picture":
        return folder / source.name.with_name(source.name.name + ".mp4")
    suffix = source.path.suffix.lower()
    kept = suffix if suffix in (".jpg", ".jpeg", ".png", ".webp", ".bmp") else ".png"
    return folder / source.name.with_name(source.name.name + kept)


def _check_outputs(sources: Iterable[Source], folder: Path) -> None:
    """Raises `UserError` where a drawing would be laid over something that was given."""
    if not folder.is_dir():
        return
    given = {os.path.realpath(source.path) for source in sources}
    for source in sources:
        if os.path.realpath(outputs(source, folder)) in given:
            raise UserError(
                f"{outputs(source, folder)} is to be read, and the drawn {source} would replace it; choose "
                "another folder with -o"
            )


def listed_sources(lines: Iterable[str], output: Path, taken: Iterable[Source] = ()) -> Iterator[Source]:
    """A source for each line, as it comes.  A file in the output folder has a problem: it may be of our own
    making, or be replaced before it is read.  taken: sources that have their names already."""
    names = Names({str(source.name).casefold(): 1 for source in taken})
    inside = output.resolve()
    for line in lines:
        text = line.strip("\r\n")
        if not text.strip():
            continue
        if not _possible(Path(text)):
            told = "; separate names by line ends (find -print)" if "\0" in text else ""
            problem = f"no file can have the name {text[:60].replace(chr(0), ' ')}...{told}"
            yield Source("picture", Path("-"), names.give(Path("picture")), problem=problem)
            continue
        path = Path(text)
        name = names.give(Path(_bare_name(path)))
        if inside in path.resolve().parents:
            yield Source(
                "picture", path, name, problem=f"{path} lies in the output folder; choose another (-o)"
            )
        else:
            yield file_source(path, name)


def stdin_lines(stream: TextIO | None = None) -> Iterator[str]:
    """Lines of the standard input as soon as they are there.

    Read below Python's buffer: a thread that waits for an endless pipe would keep its lock, and with it the
    program from ending."""
    stream = stream or sys.stdin
    if stream is None:
        raise UserError("there is no standard input to read names from")
    try:
        number = stream.fileno()
    except (io.UnsupportedOperation, AttributeError, ValueError):
        yield from stream
        return
    rest = b""
    while chunk := os.read(number, 1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(os.fsdecode, lines)
    if rest:
        yield os.fsdecode(rest)
