"""Networks of the zoo as runs: `-c zoo:NAME` wherever a run is named."""

from __future__ import annotations

import sys
from pathlib import Path

from pose import zoo
from pose.errors import UserError
from pose.published.conversion import Converted, convert, write_run
from pose.published.publications import Publication, is_publication
from pose.published.sources import SOURCES
from pose.run_folders import RUNS, run_folder

# skeleton of an entry -> what the converters call its data set
DATA = {
    "coco17": "coco", "aic14": "aic", "crowdpose14": "crowdpose", "mhp16": "mhp",
    "coco_wholebody133": "wholebody",
}  # fmt: skip


def run_name(name: str) -> str:
    """The name of a run, for `zoo:NAME` that which `run_of` makes.  Raises `UserError` for a network that is
    not known."""
    if not name.startswith(zoo.PREFIX):
        return name
    own = published_run(name)
    return own.run if own else f"zoo-{zoo.entry(name).name}"


def published_run(name: str) -> Publication | None:
    """What `zoo:DIR` or `zoo:ADDRESS` names; None for a name in the zoo."""
    where = name.removeprefix(zoo.PREFIX)
    return Publication(where) if is_publication(where) else None


def run_of(name: str, runs: Path = RUNS) -> str:
    """The name of a run; for `zoo:NAME`, of the run zoo-NAME, which is downloaded and converted on first use.
    `zoo:DIR` and `zoo:https://...` are runs that others have exported.

    Raises `UserError` for a network that is not known, cannot be fetched or whose method is not built."""
    if not name.startswith(zoo.PREFIX):
        return name
    own = published_run(name)
    run = own.run if own else run_name(name)
    if (run_folder(run, runs) / "best.pt").is_file():
        return run
    converted, title = (own.convert(), own.title) if own else _of_the_zoo(zoo.entry(name))
    try:
        experiment = write_run(run, converted, name, runs)
    except UserError:
        if not (run_folder(run, runs) / "best.pt").is_file():  # else another process was faster
            raise
        return run
    print(f"{experiment.folder}: {title}", file=sys.stderr)
    return run


def _of_the_zoo(network: zoo.ZooEntry) -> tuple[Converted, str]:
    """A network with its weights, and what it is."""
    file = zoo.fetch(network.name)
    converted = convert(
        SOURCES[network.converter],
        file,
        [f"test.{mode}={scales}" for mode, scales in _scales(network).items()],
        data=DATA[network.skeleton],
        size=int(network.settings["input"]["size"][0]),
        udp=bool(network.source_settings.get("use_udp", False)),
    )
    title = f"{network.title} of {network.source.system}, {converted.told}; licence {network.licence}"
    return converted, title


def _scales(network: zoo.ZooEntry) -> dict[str, list[float]]:
    """Test scales as published, by mode."""
    test = network.settings.get("test", {})
    return {mode: [float(s) for s in test[mode]] for mode in ("single", "multi") if mode in test}
