"""Runs side by side: what differs between their configs, and which is better by how much, and how surely.

    python -m pose.tools.compare quickstart other [-m single|multi] [--tag TAG] [-o FOLDER]

Each run must have been tested (python -m pose.test -c NAME -m MODE).  Prints Markdown tables and writes them
to FOLDER/compare.md, with the curves of all runs in FOLDER/curves.png and, with --latex, FOLDER/compare.tex
(default FOLDER: exp/compare).  Intervals hold 95 % of 1000 rounds in which the tested pictures are drawn
anew, with replacement; every round draws the same pictures for all runs, so that a difference may be sure
where the intervals of two runs overlap.  Runs that were tested on different pictures are compared on the
common ones.  `data.root` and `data.val.*` may be set, where annotations have been moved.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pose.errors import UserError, user_facing
from pose.files import write_bytes, write_text
from pose.options import add_mode, user_path
from pose.report.bootstrap import ROUNDS
from pose.run_folders import RUNS

if TYPE_CHECKING:
    from pose.tools.comparison.runs import Compared, Tested

CHANGEABLE = ("data.root=", "data.val.", "data.year=")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_mode(parser)
    parser.add_argument("--tag", help="of the tests, as given to pose.test")
    parser.add_argument("-o", "--output", type=user_path, default=RUNS / "compare", metavar="FOLDER")
    parser.add_argument("--latex", action="store_true", help="the numbers and the intervals as LaTeX too")
    parser.add_argument("--all", action="store_true", help="also keys that only some of the configs have")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"draws of pictures (default {ROUNDS})")
    parser.add_argument("names", nargs="+", metavar="NAME", help="runs in exp/, and data.root=FOLDER")
    options = parser.parse_intermixed_args(arguments)
    options.settings = [text for text in options.names if "=" in text]
    options.names = [text for text in options.names if "=" not in text]
    for text in options.settings:
        if not text.startswith(CHANGEABLE):
            raise UserError(f"{text!r} cannot be changed here; data.root, data.val.* and data.year can")
    if len(options.names) < 2:
        raise UserError("give two runs or more; python -m pose.tools.list shows those there are")
    if len(set(options.names)) < len(options.names):
        raise UserError(f"a run is named twice: {', '.join(options.names)}")
    if options.rounds < 100:
        raise UserError(f"--rounds {options.rounds}: expected 100 or more, or the intervals say nothing")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    from pose.tools.comparison.curves import curves
    from pose.tools.comparison.runs import compare, read_tested
    from pose.tools.comparison.tables import latex

    if options.output.exists() and not options.output.is_dir():
        raise UserError(f"-o {options.output} is a file; give a folder")
    runs = [read_tested(name, options.mode, options.tag, options.settings) for name in options.names]
    compared = compare(runs, options.rounds)
    text = document(runs, compared, options)
    print(text)
    written = [options.output / "compare.md", options.output / "curves.png"]
    write_text(written[0], text)
    write_bytes(written[1], curves([run.experiment for run in runs]))
    if options.latex:
        written.append(options.output / "compare.tex")
        write_text(written[2], latex(options.names, compared.numbers, compared.columns))
    print("\n".join(map(str, written)))
    return 0


def document(runs: Sequence[Tested], compared: Compared, options: argparse.Namespace) -> str:
    """All tables, as Markdown."""
    from pose.tools.comparison.configs import config_rows
    from pose.tools.comparison.tables import difference_rows, markdown, number_rows

    scales = f"{options.mode}{f', {options.tag}' if options.tag else ''}"
    settings = config_rows(runs, options.all)
    names = [run.name for run in runs]
    parts = [
        f"# {', '.join(names)}",
        f"Scales: {scales}.  {len(compared.image_ids)} pictures of {runs[0].annotations.name}.  "
        f"{compared.title}, times 100.",
        *compared.remarks,
        markdown(*number_rows(runs, compared.numbers, compared.columns), left=3),
        f"Intervals hold 95 % of {options.rounds} draws of the pictures, the same for all runs:",
        markdown(*difference_rows(names, compared.numbers, compared.columns)),
        "What differs between the configs (`-`: has no such key):"
        if options.all
        else "What differs between the configs, of the keys that all have (--all: of all keys):",
        markdown(["key", *names], settings, left=1 + len(names)) if settings else "Nothing.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    sys.exit(user_facing(main)())
