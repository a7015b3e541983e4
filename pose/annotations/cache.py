"""Parsed annotations on disk: `.npy` files in `.cache/` beside the JSON, mapped and never copied."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pose.annotations.issues import Told
from pose.annotations.json_file import file_digest
from pose.annotations.training import ARRAYS, Parsed, Reading, parse_file
from pose.files import cache_folders, locked

FORMAT = 7  # raise it whenever the same JSON would give other arrays or findings
ABANDONED = 24 * 3600.0  # seconds after which another process's unfinished cache is rubbish

logger = logging.getLogger("pose")


def through_cache(path: Path, how: Reading) -> tuple[Parsed, Path | None]:
    """The parsed file and the folder that it is mapped from; None where no folder can be written, or where
    the file depends on images that are not there yet."""
    roots = cache_folders(path.resolve().parent)
    before = _state(path)
    digest = _digest(path, roots, before)
    rules = {name: asdict(rule) for name, rule in how.skeleton.derived.items()}
    wanted = json.dumps([FORMAT, how.skeleton.keypoints, rules, how.partial, how.category], sort_keys=True)
    key = hashlib.sha256(f"{digest} {wanted}".encode()).hexdigest()[:16]
    for root in roots:
        folder = root / f"{path.stem}-{key}"
        found = open_folder(folder, how.images)
        if found is not None:
            return found, folder
    parsed: Parsed | None = None
    for root in roots:
        folder = root / f"{path.stem}-{key}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            with locked(root / ".lock"):  # one process parses, the others wait; without locks all parse
                found = open_folder(folder, how.images)  # made by another process while this one waited
                if found is not None:
                    return found, folder
                parsed = parsed or parse_file(path, how)
                if _state(path) != before:  # it was written meanwhile: the digest may be of another content
                    return parsed, None
                if any(finding.code == "image_size" for finding in parsed.findings):
                    return parsed, None  # the images may come later
                _store(folder, parsed, digest, how.images)
                _remove_stale(root, path.stem, digest)
        except OSError:
            continue
        found = open_folder(folder, how.images)
        if found is not None:
            return found, folder
    logger.warning("%s: no writable folder for a cache; every process keeps its own copy in memory", path)
    return parsed or parse_file(path, how), None


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _digest(path: Path, roots: Sequence[Path], state: tuple[int, int] | None) -> str:
    """sha256 of the file, remembered by its size and time of change."""
    if state is not None:
        for root in roots:
            size, changed, digest = _read_index(root).get(path.name, (None, None, ""))
            if (size, changed) == state:
                return digest
    digest = file_digest(path)
    if state is not None and _state(path) == state:
        for root in roots:
            with contextlib.suppress(OSError):
                _write_index(root, path.name, [*state, digest])
                break
    return digest


def _read_index(root: Path) -> dict[str, list[Any]]:
    try:
        index = json.loads((root / "sources.json").read_bytes())
        return {name: entry for name, entry in index.items() if len(entry) == 3}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write_index(root: Path, name: str, entry: list[Any]) -> None:
    """Two writers at once may lose an entry, which costs one more hash."""
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".sources.{os.getpid()}.{secrets.token_hex(4)}"
    temporary.write_text(json.dumps({**_read_index(root), name: entry}))
    os.replace(temporary, root / "sources.json")


def _store(folder: Path, parsed: Parsed, digest: str, images: Path | None) -> None:
    """Written under another name, then renamed: a folder of this name is always whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    meta = {
        "format": FORMAT,
        "source": digest,
        "images": str(images) if any(one.code == "size_read" for one in parsed.findings) else None,
        "findings": [asdict(finding) for finding in parsed.findings],
    }
    try:
        temporary.mkdir()
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", parsed.arrays[name])
        (temporary / "meta.json").write_text(json.dumps(meta))
        if folder.exists():  # it could not be opened, or it would have been used
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was first
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def open_folder(folder: Path, images: Path | None = None) -> Parsed | None:
    """A cache folder, mapped; None for one that is absent, damaged, or has sizes of other images."""
    meta = _read_meta(folder)
    if meta.get("format") != FORMAT:
        return None
    if images is not None and meta.get("images") not in (None, str(images)):
        return None
    try:
        arrays = {name: _map(folder / f"{name}.npy") for name in ARRAYS}
        findings = tuple(Told(**finding) for finding in meta["findings"])
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None
    whole = len(arrays["keypoints"]) == len(arrays["areas"]) == arrays["person_offsets"][-1]
    return Parsed(arrays, findings) if whole else None


def _map(file: Path) -> np.ndarray:
    try:
        mapped = np.load(file, mmap_mode="r")
    except ValueError:  # an empty array cannot be mapped; anything else fails here again
        return np.load(file)
    return np.asarray(mapped)  # the same memory without the subclass, which makes every slice slow


def _remove_stale(root: Path, stem: str, digest: str) -> None:
    """Drop the caches of earlier contents of this file and what killed processes left behind."""
    now = time.time()
    for folder in root.iterdir():
        if re.fullmatch(re.escape(stem) + r"-[0-9a-f]{16}", folder.name):
            meta = _read_meta(folder)
            if meta.get("source") != digest or meta.get("format") != FORMAT:
                shutil.rmtree(folder, ignore_errors=True)
        elif folder.name.startswith(f".{stem}-") and folder.is_dir():
            with contextlib.suppress(OSError):
                if now - folder.stat().st_mtime > ABANDONED:
                    shutil.rmtree(folder, ignore_errors=True)
