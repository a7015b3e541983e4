"""What a network sees in pictures: the people it finds, its heatmaps, part affinity fields, tags or offsets.

    python -m pose.tools.visualize -c quickstart -n 4                    pictures of the validation set
    python -m pose.tools.visualize -c NAME PICTURE... [-m single|multi] [--keypoints] [--stages]

Writes FOLDER/STEM-fields.png for each picture (by default to exp/NAME/): the picture with its people, and one
panel for each field.  A picture of the run's validation or training set, or of --annotations, gets two rows:
what its annotations ask for, with what does not count hatched, and below it what the network answers.
--keypoints adds a panel for every keypoint and limb, --stages the maps of every stage of the network, at one
scale and unmirrored.  `test.*`, `head.decoder.*` and where the data lie may be set as for pose.test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pose.errors import user_facing
from pose.options import add_device, add_mode, add_run, add_weights, user_path
from pose.structures import WORTH_SEEING


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run(parser)
    add_mode(parser)
    parser.add_argument("-n", type=int, metavar="N", help="N pictures of the validation set, always the same")
    parser.add_argument(
        "--ids", nargs="+", default=[], metavar="ID", help="of pictures of the validation set"
    )
    parser.add_argument(
        "--annotations", type=user_path, metavar="FILE", help="COCO annotations of the pictures, by file name"
    )
    parser.add_argument("--keypoints", action="store_true", help="also a panel for every keypoint and limb")
    parser.add_argument("--stages", action="store_true", help="also the maps of every stage of the network")
    parser.add_argument(
        "--max-side", type=int, default=1600, metavar="PIXELS", help="of a panel (default 1600)"
    )
    parser.add_argument("-o", "--output", type=user_path, metavar="FOLDER", help="default: the run folder")
    add_weights(parser)
    parser.add_argument(
        "--score-threshold", "--min-score", dest="min_score", type=float, default=WORTH_SEEING, metavar="T",
        help=f"people with a lower score are left out (default {WORTH_SEEING:g}; 0: all)",
    )  # fmt: skip
    add_device(parser, "cpu")
    parser.add_argument(
        "pictures", nargs="*", metavar="PICTURE", help="picture files, and settings as key.sub=value"
    )
    options = parser.parse_intermixed_args(arguments)
    given = [*options.pictures, *options.ids]
    options.settings = [text for text in given if "=" in text and not Path(text).exists()]
    options.files = [Path(text) for text in options.pictures if text not in options.settings]
    options.ids = [text for text in options.ids if text not in options.settings]
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    from pose.tools.field_sheets import visualize  # with torch

    return visualize(options)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
