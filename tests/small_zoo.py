"""A zoo of one small network, `small`, and its file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pose import config as cfg
from pose import zoo
from tests.file_server import FileServer

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def write_entry(folder: Path, **changes: Any) -> None:
    """`small.yaml`, which is higherhrnet_w32's with another file."""
    entry = cfg.to_plain(zoo.entry("higherhrnet_w32"))
    del entry["name"]
    entry |= {"url": "https://example.org/a/small.pth", "sha256": SHA256[:8], **changes}
    (folder / "small.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")


def make_zoo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the zoo into the place of the project's; returns the cache folder, which is not made."""
    (folder / "zoo").mkdir()
    write_entry(folder / "zoo")
    monkeypatch.setattr(zoo, "_folder", lambda: folder / "zoo")
    monkeypatch.setenv("POSE_CACHE", str(folder / "cache"))
    for name in ("POSE_ZOO_URL", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder / "cache"


def use_mirror(server: FileServer, monkeypatch: pytest.MonkeyPatch, folder: str = "") -> None:
    monkeypatch.setenv("POSE_ZOO_URL", f"http://127.0.0.1:{server.port}{folder}")
