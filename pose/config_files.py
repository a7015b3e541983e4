"""Where the project's configs lie, and finding one by its name."""

from __future__ import annotations

import os
from pathlib import Path

from pose.errors import UserError
from pose.registry import nearest

DEFAULT_CONFIG = "synthetic/ae_small.yaml"


def config_folder() -> Path:
    """`configs/` of the checkout, or its copy inside an installed package."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "configs", here / "_configs"):
        if folder.is_dir():
            return folder
    raise UserError("the configs that belong to the package are missing; install it again")


def find_config(name: str | Path) -> Path:
    """A config file by path, or by its path inside the project's `configs/` folder (`.yaml` may be left
    out)."""
    given = Path(os.path.expanduser(name))
    folder = config_folder()
    inside = Path(*given.parts[1:]) if given.parts[:1] == ("configs",) else given
    for candidate in (given, folder / inside, folder / f"{inside}.yaml"):
        if candidate.is_file():
            return candidate
    known = [str(Path("configs") / p.relative_to(folder)) for p in sorted(folder.rglob("*.yaml"))]
    known = [file for file in known if "/_" not in file and Path(file).parts[1] != "zoo"]
    hint = nearest(str(name), known)
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    raise UserError(f"no config file {name}{hint} (there are {', '.join(known[:12])}{more})")
