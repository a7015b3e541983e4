"""Makes archives of folders of images, for tests."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def zipped(folder: Path, archive: Path, top: str = "", method: int = zipfile.ZIP_STORED) -> Path:
    """All files below a folder, below the folder `top` of a zip."""
    with zipfile.ZipFile(archive, "w", method) as file:
        if top:
            file.writestr(f"{top}/", b"")
        for path in files(folder):
            file.write(path, str(Path(top) / path.relative_to(folder)))
    return archive


def sharded(folder: Path, target: Path, count: int = 3, top: str = "") -> Path:
    """All files below a folder in `count` tar archives of the folder `target`, in no order."""
    target.mkdir()
    for number in range(count):
        with tarfile.open(target / f"shard-{number}.tar", "w") as file:
            for path in files(folder)[number::count][::-1]:
                file.add(path, str(Path(top) / path.relative_to(folder)))
    return target


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def written(folder: Path, content: Mapping[str, bytes]) -> Path:
    """The folder with these files, by their paths in it."""
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
