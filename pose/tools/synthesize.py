"""Draw the embedded data set: little articulated people with COCO keypoint annotations.

    python -m pose.tools.synthesize --root data/synthetic --train 2000 --val 200

Enough to train and score a small network without a download.  The same settings give the same files, byte
for byte, whatever the number of processes.  A folder that already holds exactly this data set is left as it
is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pose.data.synthetic import SyntheticConfig, ensure
from pose.errors import user_facing


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    default = SyntheticConfig()
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.synthesize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--root", type=Path, default=Path("data/synthetic"), help="folder to write (default data/synthetic)"
    )
    parser.add_argument(
        "--train",
        type=int,
        default=default.train,
        metavar="N",
        help=f"pictures to train on (default {default.train})",
    )
    parser.add_argument(
        "--val",
        type=int,
        default=default.val,
        metavar="N",
        help=f"pictures to validate on (default {default.val})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=default.seed,
        metavar="S",
        help=f"another seed: other pictures (default {default.seed})",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=default.size,
        metavar="PX",
        help=f"long side of a picture (default {default.size})",
    )
    parser.add_argument(
        "--max-people",
        type=int,
        default=default.max_people,
        metavar="N",
        help=f"most people in one picture (default {default.max_people})",
    )
    parser.add_argument("--processes", type=int, default=None, metavar="N", help="default: one per core")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw, then say what lies where."""
    args = parse(argv)
    cfg = SyntheticConfig(args.train, args.val, args.seed, args.size, args.max_people)
    state = "drawn" if ensure(args.root, cfg, args.processes) else "already there"
    print(f"{args.root}: {state}, {cfg.train} train and {cfg.val} val pictures")
    for split in ("train", "val"):
        print(f"  {args.root / split}  {args.root / 'annotations' / f'person_keypoints_{split}.json'}")


if __name__ == "__main__":
    sys.exit(user_facing(main)())
