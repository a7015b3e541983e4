"""Training samples as the network sees them: after warp and colour, with keypoints, loss mask and targets.

    python -m pose.tools.browse --config configs/synthetic/ae_small.yaml
    python -m pose.tools.browse -c quickstart -n 12 -o look --from 4400
    python -m pose.tools.browse --config configs/coco/paf_vgg19.yaml -n 48 data.augment.rotation=0

Writes FOLDER/samples.png, a contact sheet, and FOLDER/samples.html, a page that needs no other file: for
each sample the picture with its annotations, the sample, and the targets at every stride of the network.
Position p is sample p of the training: where batches have 32, step t (from 0) takes 32 t to 32 t + 31; whole
pictures (data.augment.crop=whole) come sorted by shape within 32 batches, in the order that is shown here.
"""

from __future__ import annotations

import argparse
import sys

from pose.errors import UserError, user_facing
from pose.options import add_config_or_run, add_settings, user_path

NUMBER = 24  # samples


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.browse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_or_run(parser)
    parser.add_argument("-n", "--number", type=int, default=NUMBER, help=f"samples (default {NUMBER})")
    parser.add_argument(
        "--from", dest="start", type=int, default=0, metavar="POSITION", help="the first sample (default 0)"
    )
    parser.add_argument("--seed", type=int, help="of the training (default: the config's train.seed)")
    parser.add_argument(
        "-o",
        "--output",
        type=user_path,
        metavar="FOLDER",
        help="default: the run folder, or samples/ for a config",
    )
    add_settings(parser)
    options = parser.parse_intermixed_args(arguments)
    if options.number < 1:
        raise UserError(f"-n {options.number}: expected 1 sample or more")
    if options.start < 0:
        raise UserError(f"--from {options.start}: expected a position, 0 or more")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed {options.seed}: expected 0 or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    from pose.tools.sample_sheets import browse  # with torch

    return browse(options)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
