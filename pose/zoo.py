"""The zoo: networks that others have published, by name.  Each is one YAML file in configs/zoo/.

`entry("higherhrnet_w32")` says what is known of a network, `fetch("higherhrnet_w32")` downloads its file.
Environment variables: POSE_CACHE, the folder for downloads; POSE_ZOO_URL, a mirror that has the files side by
side.  Proxies are taken from http_proxy, https_proxy and no_proxy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pose import config as cfg
from pose import download
from pose.config import Settings
from pose.config_files import config_folder
from pose.errors import UserError
from pose.registry import HEADS, nearest

PREFIX = "zoo:"  # of a name on the command line, where it may also be a run's
METHODS = {"tags": "associative embedding", "center_offsets": "DEKR", "instances": "CID"}

Test = Literal["single", "multi"]


class Source(Settings):
    """Where the weights were trained."""

    system: str
    """Name of the code base."""
    branch: str
    """Its branch or version."""
    config: str
    """Path of the training config in that code base."""


class ZooEntry(Settings):
    """A published network: where its file is, what it was trained on, and what it scored."""

    name: str
    """Name in the zoo; its file is configs/zoo/NAME.yaml."""
    title: str
    """Name in the literature."""
    method: Literal["tags", "center_offsets", "instances"]
    """The head that groups keypoints: tags (associative embedding), center_offsets (DEKR) or instances
    (CID)."""
    url: str = Field(pattern=r"^https://\S+/[^/\s]+$")
    """Address of the file."""
    sha256: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    """First digits of the file's SHA-256, as far as they are known."""
    licence: str
    """Licence of the weights."""
    data: str
    """Data set that it was trained and tested on."""
    data_terms: str = ""
    """Terms of the data set that also concern the weights."""
    skeleton: str
    """Its keypoints: a file of configs/_skeletons/."""
    converter: Literal["mmpose"]
    """Which code reads the file."""
    source: Source
    """Where the weights were trained."""
    network: dict[str, str | int]
    """Backbone, its size, and the layers behind it."""
    parameters: int = Field(gt=0)
    """Number of parameters, also of layers that only training or scoring needs."""
    published: dict[Test, dict[str, float]] = Field(min_length=1)
    """Scores as published, by test: single (one scale) or multi (several), both with mirrored images."""
    settings: dict[str, Any] = {}
    """Settings of a config as published, by section."""
    source_settings: dict[str, Any] = {}
    """Further settings of the published test, by their names in that code base."""

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.settings["input"]["size"]
        return height, width

    @property
    def megabytes(self) -> float:
        """Approximate size of the file: 32 bits per parameter."""
        return self.parameters * 4 / 1e6

    @property
    def usable(self) -> bool:
        """Whether the method is built here."""
        return HEADS.has_file(self.method)

    def score(self, test: Test) -> float | None:
        """AP as published; of COCO-WholeBody that over all keypoints.  None: not published."""
        scores = self.published.get(test, {})
        return scores.get("AP", scores.get("Whole AP"))


def _folder() -> Path:
    return config_folder() / "zoo"


def names() -> list[str]:
    """The names in the zoo, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def entry(name: str) -> ZooEntry:
    """The entry of that name, with or without `zoo:` before it.  Raises `UserError` for an unknown one."""
    name = name.removeprefix(PREFIX)
    known = names()
    if name not in known:
        raise UserError(
            f"no network {name!r} in the zoo{nearest(name, known)}; python -m pose.tools.zoo list shows all"
        )
    merged = cfg.merge(ZooEntry, _folder() / f"{name}.yaml")
    merged.put({"name": name}, str(_folder() / f"{name}.yaml"))
    return cfg.validate(ZooEntry, merged)


def entries() -> list[ZooEntry]:
    """All entries, by name."""
    return [entry(name) for name in names()]


def check_usable(network: ZooEntry) -> None:
    """Raises `UserError` where the method of a network is not built."""
    if not network.usable:
        raise UserError(
            f"{network.name}: its method {METHODS[network.method]} (head {network.method}) is not built yet, "
            "so it cannot be used; python -m pose.tools.zoo list shows which can"
        )


def fetch(name: str, cache: Path | None = None) -> Path:
    """The file of a network, downloaded unless it is in the folder `cache` (None: `cache_folder()`) already,
    and checked in any case.

    Raises `UserError`, which says how to get the file where downloading fails."""
    network = entry(name)
    check_usable(network)
    folder = cache if cache is not None else cache_folder()
    return download.fetch(address(network), folder / network.file_name, network.sha256)


def cached_file(network: ZooEntry) -> Path | None:
    """Where a network's file is in the user's cache folder; None where it is absent."""
    file = cache_folder() / network.file_name
    return file if file.is_file() else None


def address(network: ZooEntry) -> str:
    """Where to download from: `url`, or the mirror of POSE_ZOO_URL, which has all files in one folder."""
    mirror = os.environ.get("POSE_ZOO_URL", "").strip()
    if not mirror:
        return network.url
    if not mirror.startswith(("http://", "https://")):
        raise UserError(
            f"POSE_ZOO_URL={mirror} is not an http or https address; for files on a disk, put them into "
            f"{cache_folder()} or set POSE_CACHE to their folder"
        )
    return f"{mirror.rstrip('/')}/{network.file_name}"


def cache_folder() -> Path:
    """The folder for downloaded networks: POSE_CACHE, else bottomup-pose/zoo in the platform's folder for
    caches."""
    given = os.environ.get("POSE_CACHE", "").strip()
    if given:
        return Path(given).expanduser()
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = named if named.is_absolute() else home / ".cache"  # relative ones are to be ignored
    return base / "bottomup-pose" / "zoo"
