"""Files in archives are found by their paths, and read by several processes and threads at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pose.archive_members import (
    BARE,
    ENTRY,
    LARGEST_MEMBER,
    BadMember,
    Members,
    inner_path,
    read_at,
    state_of,
)
from pose.archives import archive_at
from pose.errors import UserError
from tests.archives import sharded, zipped


def members(*names: str) -> Members:
    entries = np.zeros(len(names), ENTRY)
    entries["offset"] = np.arange(len(names))
    return Members.of(names, entries)


def found(some: Members, name: str) -> int | None:
    """The number of the file that was given to `members`."""
    row = some.find(name)
    return None if row is None else int(some.entries["offset"][row])


def slow(names: Sequence[str], wanted: str) -> int | None:
    """As `Members.find`, word for word."""
    last = {inner_path(name): number for number, name in enumerate(names) if inner_path(name)}
    if wanted in last:
        return last[wanted]
    ending = [number for name, number in last.items() if name.endswith(f"/{wanted}")]
    return ending[0] if len(ending) == 1 else None


def test_a_file_is_found_by_its_path_or_the_end_of_it() -> None:
    some = members("train/a/1.jpg", "train/b/1.jpg", "train/b/2.jpg", "2.png", "train/2.png", "x.jpg/3")
    assert found(some, "train/a/1.jpg") == found(some, "a/1.jpg") == 0
    assert found(some, "b/1.jpg") == 1 and found(some, "2.jpg") == 2
    assert found(some, "1.jpg") is None  # two end so
    assert found(some, "2.png") == 3  # one is called so
    for absent in ("", "jpg", "/2.png", ".jpg", "TRAIN/b/2.jpg", "../2.png", "b", "train", "x.jpg"):
        assert found(some, absent) is None


def test_finding_is_the_plain_search() -> None:
    rng = np.random.default_rng(0)
    parts = ["a", "b", "ä", "1.jpg", "2.jpg", ".", "..", ""]
    names = ["/".join(rng.choice(parts, rng.integers(1, 5))) for _ in range(200)]
    some = members(*names)
    wanted = ["/".join(rng.choice(parts[:5], rng.integers(1, 4))) for _ in range(400)]
    assert [found(some, one) for one in wanted] == [slow(names, one) for one in wanted]
    assert sum(found(some, one) is not None for one in wanted) > 20


def test_of_files_of_one_path_the_last_one_counts() -> None:
    some = members("a/1.jpg", "2.jpg", "./a//1.jpg")
    assert len(some) == 2 and found(some, "a/1.jpg") == 2 and found(some, "2.jpg") == 1


def test_paths_that_lead_out_of_the_archive_are_left_out() -> None:
    some = members("../1.jpg", "a/../../2.jpg", "/etc/3.jpg", "a/..")
    assert [some.name(row) for row in range(len(some))] == ["etc/3.jpg"]


def test_names_that_are_no_unicode() -> None:
    some = members("a/\udce4.jpg", "b/ä.jpg")
    assert found(some, "\udce4.jpg") == 0 and found(some, "ä.jpg") == 1 and some.name(0) == "a/\udce4.jpg"


@pytest.mark.parametrize("field", ["size", "stored"])
def test_what_is_larger_than_any_image_is_not_read(tmp_path: Path, field: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"x" * 10)
    archive = archive_at(zipped(tmp_path / "images", tmp_path / "a.zip"))
    assert archive is not None
    archive.members.entries[field] = LARGEST_MEMBER + 1
    with pytest.raises(BadMember, match="no image is that large"):
        archive.read(0)
    with pytest.raises(BadMember, match="no image is that large"):
        archive.open(0)


def test_a_file_that_is_replaced_while_it_is_in_use(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    state = state_of(file.stat())
    file.write_bytes(b"123456")
    with pytest.raises(UserError, match="was replaced while it was in use; start again"):
        read_at(str(file), state, 0, 1)


def test_a_window_is_read_like_a_file(tmp_path: Path) -> None:
    content = bytes(range(250)) * 100
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(content)
    for path in (
        zipped(tmp_path / "images", tmp_path / "a.zip"),
        sharded(tmp_path / "images", tmp_path / "s", 1),
    ):
        archive = archive_at(path)
        assert archive is not None and archive.members.entries["method"][0] in (0, BARE)
        with archive.open(0) as file:
            assert file.read(5) == content[:5] and file.tell() == 5
            assert file.seek(-7, os.SEEK_END) == len(content) - 7 and file.read() == content[-7:]
            assert file.seek(3) == 3 and file.seek(2, os.SEEK_CUR) == 5 and file.read() == content[5:]
            assert file.read(1) == b""


def contents(path: Path, names: Sequence[str]) -> list[bytes]:
    archive = archive_at(path)
    assert archive is not None
    rows = [archive.find(name) for name in names]
    return [archive.read(row) for row in rows if row is not None]


def test_threads_and_forked_processes_read_the_same_archive_at_once(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    wanted = {f"{i}.jpg": rng.bytes(3000 + i) for i in range(60)}
    for name, content in wanted.items():
        (tmp_path / "images" / name).write_bytes(content)
    names = [*wanted] * 5
    for path in (
        zipped(tmp_path / "images", tmp_path / "a.zip"),
        sharded(tmp_path / "images", tmp_path / "s", 7),
    ):
        archive_at(path)
        orders = [list(rng.permutation(names)) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            for order, got in zip(orders, pool.map(contents, [path] * 4, orders), strict=True):
                assert got == [wanted[name] for name in order]
        with multiprocessing.get_context("fork").Pool(3) as processes:
            for order, got in zip(
                orders, processes.starmap(contents, [(path, o) for o in orders]), strict=True
            ):
                assert got == [wanted[name] for name in order]


@pytest.mark.slow
def test_many_shards_need_few_open_files(tmp_path: Path) -> None:
    """With `ulimit -n 64`, 100 shards."""
    (tmp_path / "images").mkdir()
    for i in range(100):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(b"%d" % i)
    sharded(tmp_path / "images", tmp_path / "shards", 100)
    program = (
        "import json, os, resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from pathlib import Path\n"
        "from pose.archives import read_bytes\n"
        "found = [bytes(read_bytes(Path(f'shards/{i % 100}.jpg'))).decode() for i in range(200)]\n"
        "print(json.dumps([found, len(os.listdir('/dev/fd'))]))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, opened = json.loads(done.stdout)
    assert found == [str(i % 100) for i in range(200)] and 16 < opened < 32
