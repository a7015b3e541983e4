"""Published networks by name: what there is, where it is from, and the files.

    python -m pose.tools.zoo list
    python -m pose.tools.zoo show higherhrnet_w32
    python -m pose.tools.zoo get higherhrnet_w32
    python -m pose.tools.zoo export RUN -o DIR --licence CC-BY-4.0

get downloads a file into the user's cache folder (POSE_CACHE names another; --to DIR for this file alone),
resumes what was cut off and checks the SHA-256.  POSE_ZOO_URL names a mirror.  Offline it says which file to
put where.  export writes one of your own runs for others: weights, config and a card with its scores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose import config as cfg
from pose import download, zoo
from pose.errors import UserError, user_facing
from pose.options import add_weights, user_path
from pose.zoo import ZooEntry

HEADER = ("name", "method", "data", "licence", "state", "input", "single", "multi", "parameters", "size")
LEFT = 5  # columns
NOT_BUILT = "method not built yet"
NO_LICENCE = "not stated yet"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listed = commands.add_parser("list", help="all networks, with AP as published")
    kinds = listed.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="everything, for programs")
    kinds.add_argument("--markdown", action="store_true", help="the table of docs/zoo.md")
    show = commands.add_parser("show", help="everything about one network")
    get = commands.add_parser("get", help="download a network's file and print where it is")
    for one in (show, get):
        one.add_argument("name", metavar="NAME", help="as list shows it")
    get.add_argument(
        "--to", type=user_path, metavar="DIR", help="folder for the file (default: the cache folder)"
    )
    publish = commands.add_parser("export", help="write a run for publishing")
    publish.add_argument("run", metavar="RUN", help="the run exp/RUN/")
    publish.add_argument(
        "-o", "--output", required=True, type=user_path, metavar="DIR", help="folder to write, new or empty"
    )
    publish.add_argument(
        "--licence", default=NO_LICENCE, metavar="TEXT", help="licence of the weights, for the card"
    )
    add_weights(publish)
    return parser.parse_args(arguments)


# ------------------------------------------------------------------------------------------------- the table


def row(network: ZooEntry, state: str) -> tuple[str, ...]:
    height, width = network.input_size
    terms = f" (data: {network.data_terms})" if network.data_terms else ""
    return (
        network.name,
        zoo.METHODS[network.method],
        network.data,
        network.licence + terms,
        state,
        f"{width} x {height}",
        *(_score(network.score(test)) for test in ("single", "multi")),
        f"{network.parameters / 1e6:.1f} M",
        f"{network.megabytes:.0f} MB",
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def state(network: ZooEntry) -> str:
    if not network.usable:
        return NOT_BUILT
    return "downloaded" if zoo.cached_file(network) else "not downloaded"


def markdown_table(networks: Sequence[ZooEntry]) -> str:
    """The same on every machine."""
    from pose.tools.comparison.tables import markdown

    rows = [row(one, "" if one.usable else NOT_BUILT) for one in networks]
    return markdown(HEADER, rows, left=LEFT)


def text_table(networks: Sequence[ZooEntry]) -> str:
    """Columns as wide as they need."""
    rows = [HEADER, *(row(one, state(one)) for one in networks)]
    widths = [max(map(len, column)) for column in zip(*rows)]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.ljust(width) if i < LEFT else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(placed).rstrip()

    return "\n".join([line(HEADER), "  ".join("-" * width for width in widths), *map(line, rows[1:])])


def record(network: ZooEntry) -> dict[str, Any]:
    """Everything about a network, for programs."""
    file = zoo.cached_file(network)
    return {**cfg.to_plain(network), "usable": network.usable, "file": str(file) if file else None}


# ----------------------------------------------------------------------------------------------- the commands


def show(name: str) -> None:
    network = zoo.entry(name)
    print(f"# {zoo.cache_folder() / network.file_name}: {state(network)}")
    print(cfg.describe(network))


def get(name: str, folder: Path | None) -> Path:
    """Also from the cache folder, which may have the file already."""
    network = zoo.entry(name)
    zoo.check_usable(network)
    cached = zoo.cached_file(network)
    if folder is None or cached is None or cached.parent == folder:
        return zoo.fetch(name, folder)
    target = folder / network.file_name
    if not target.exists():
        download.check(cached, network.sha256)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cached, target)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror}") from None
    download.check(target, network.sha256)
    return target


def export(options: argparse.Namespace) -> None:
    import torch

    from pose.experiment import Experiment
    from pose.published.zoo_runs import run_of
    from pose.tools.publication import publish

    with torch.no_grad():
        experiment = Experiment.open(run_of(options.run))
        for file in publish(experiment, options.weights, options.output, options.licence):
            print(file)
    if options.licence == NO_LICENCE:
        print(f"{options.output} states no licence; give one with --licence", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.command == "list":
        networks = zoo.entries()
        if options.json:
            print(json.dumps([record(one) for one in networks], indent=1))
        else:
            print((markdown_table if options.markdown else text_table)(networks))
    elif options.command == "show":
        show(options.name)
    elif options.command == "get":
        print(get(options.name, options.to))
    else:
        export(options)
    return 0


if __name__ == "__main__":
    sys.exit(user_facing(main)())
