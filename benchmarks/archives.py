"""Images out of a zip and out of tar shards against those of a folder: opening, and reading one.

    python -m benchmarks.archives [--smallest]

118 287 files of 700 bytes, as many as COCO's train2017 has, in a folder of the archive; then files of 160 KB.
Processor time; folder, zip and shards take turns.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import Row, command_line, compare
from pose import archives
from pose.archives import archive_at, read_bytes

FILES, SMALL, LARGE = 118_287, 700, 160_000  # files, bytes, bytes
READ, TURNS, SHARDS = 300, 9, 8


def name(number: int) -> str:
    return f"{number:012d}.jpg"


def write(folder: Path, count: int, size: int, loose: bool) -> list[Path]:
    """The same files in a zip, in shards and, where asked for, in a folder."""
    content = np.random.default_rng(0).bytes(size)
    with zipfile.ZipFile(folder / "images.zip", "w") as file:
        for number in range(count):
            file.writestr(f"images/{name(number)}", content)
    (folder / "shards").mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / "shards" / f"{shard}.tar", "w") as tar:
            for number in range(shard, count, SHARDS):
                info = tarfile.TarInfo(f"images/{name(number)}")
                info.size = size
                tar.addfile(info, io.BytesIO(content))
    if loose:
        (folder / "images").mkdir()
        for number in range(count):
            (folder / "images" / name(number)).write_bytes(content)
    return [folder / "images", folder / "images.zip", folder / "shards"]


def spent(call: Callable[[], object]) -> float:
    """Milliseconds of processor time."""
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def opening(folder: Path, count: int) -> None:
    _, zipped, shards = write(folder, count, SMALL, loose=False)
    for what, path in (
        ("zip", zipped),
        ("shards, the first time", shards),
        ("shards, by the kept index", shards),
    ):
        archives.forget_archives()
        needed = spent(lambda path=path: archive_at(path))  # type: ignore[misc]
        archive = archive_at(path)
        assert archive is not None and len(archive.members) == count
        members = archive.members
        arrays = (members.ends, members.entries, members.hashes, members.places)
        size = (len(members.text) + sum(one.nbytes for one in arrays)) / 1e6
        print(f"open {count} files, {what:<28}{needed:>10.1f} ms, index {size:.1f} MB", flush=True)


def reading(folder: Path, count: int, turns: int) -> None:
    paths = write(folder, count, LARGE, loose=True)
    for path in paths[1:]:
        archive_at(path)
    times: dict[Path, list[float]] = {path: [] for path in paths}
    for _ in range(turns):
        for path in paths:
            times[path].append(spent(lambda path=path: [read_bytes(path / name(n)) for n in range(count)]))  # type: ignore[misc]
    for path in paths:
        print(f"read {LARGE // 1000} KB, {path.name:<36}{np.median(times[path]) / count:>10.3f} ms")


def rows(smallest: bool = False) -> Iterator[Row]:
    """Files of 160 KB out of archives, against a folder's."""
    count, turns = (16, 1) if smallest else (READ, TURNS)
    with tempfile.TemporaryDirectory() as folder:
        loose, *packed = write(Path(folder), count, LARGE, loose=True)

        def read(path: Path) -> None:
            for number in range(count):
                read_bytes(path / name(number))

        for path in packed:
            what = f"{count} files of {LARGE // 1000} KB, {path.name}; literal: a folder"
            yield compare(what, partial(read, loose), partial(read, path), literal_runs=turns, runs=turns)


def main(arguments: list[str] | None = None) -> None:
    options = command_line("benchmarks.archives", __doc__).parse_args(arguments)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        opening(Path(one), 100 if options.smallest else FILES)
        reading(Path(other), 16 if options.smallest else READ, 1 if options.smallest else TURNS)


if __name__ == "__main__":
    main()
