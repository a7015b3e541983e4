"""Options that several commands have: one spelling, one default and one sentence, wherever they stand."""

from __future__ import annotations

import argparse
from pathlib import Path

RUN = "the run exp/NAME/"
TEST_SETTINGS = "test.*, head.decoder.*"  # what may be set for a trained run, see experiment.run_settings


def user_path(text: str) -> Path:
    """The type of options that name a file or folder; `~` is the home folder, also behind `--option=`."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~somebody who has no home here
        return Path(text)


def add_run(parser: argparse._ActionsContainer, *, required: bool = True) -> None:
    """-c, --continue; the name is `options.name`."""
    parser.add_argument("-c", "--continue", dest="name", metavar="NAME", required=required, help=RUN)


def add_config_or_run(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """--config or -c, one of them; returns their group, in which there may be more."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--config", metavar="FILE", help="a config")
    add_run(group, required=False)
    return group


def add_mode(parser: argparse.ArgumentParser) -> None:
    """-m, --mode."""
    choices = ["single", "multi"]
    parser.add_argument(
        "-m", "--mode", choices=choices, default="single", help="one scale (default) or several"
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights."""
    parser.add_argument("--weights", help="best, last or a file (default: best, else last)")


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """--device."""
    sentence = f"auto, cpu, cuda or cuda:N (default {default})"
    parser.add_argument("--device", default=default, help=sentence)


def add_settings(parser: argparse.ArgumentParser, which: str = "changes to the config") -> None:
    """key.sub=value, any number of them; which: the sentence that says what they may be."""
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help=which)
