"""What the pairwise terms of DeeperCut know beforehand of a data set, as one JSON.

    python -m pose.tools.pairwise_stats --config FILE -o OUT.json    means and deviations of the offsets
    python -m pose.tools.pairwise_stats -c NAME                      how well they must fit, to exp/NAME/

`pose.train` works out the first by itself where `head.statistics` is null.  The second fits a logistic model
for every pair of the skeleton on a trained run's detections on training pictures, and adds them to the run's
pairwise.json; until then the decoder has a default for all.
"""

from __future__ import annotations

import argparse
import sys

from pose.errors import UserError, user_facing
from pose.options import add_config_or_run, add_device, add_settings, add_weights, user_path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.pairwise_stats",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_or_run(parser)
    parser.add_argument(
        "-o", "--output", type=user_path, metavar="OUT", help="default with -c: the run's own file"
    )
    add_weights(parser)
    parser.add_argument(
        "--pictures", type=int, default=2000, metavar="N", help="training pictures to fit on (default 2000)"
    )
    add_device(parser)
    add_settings(parser)
    options = parser.parse_intermixed_args(arguments)
    if options.config and options.output is None:
        parser.error("--config needs -o OUT")
    if options.output is not None and options.output.is_dir():
        raise UserError(f"-o {options.output} is a folder; give a file in it")
    if options.pictures < 1:
        raise UserError(f"--pictures {options.pictures}: expected 1 or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    from pose.tools.pair_statistics import write  # with torch

    return write(options)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
