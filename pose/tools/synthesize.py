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

from pose.errors import user_facing
from pose.options import user_path
from pose.synthetic.dataset import SyntheticConfig, ensure


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    default = SyntheticConfig()
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.synthesize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def number(flag: str, usual: int, letter: str, what: str) -> None:
        parser.add_argument(flag, type=int, default=usual, metavar=letter, help=f"{what} (default {usual})")

    parser.add_argument(
        "--root",
        type=user_path,
        default=Path("data/synthetic"),
        help="folder to write (default data/synthetic)",
    )
    number("--train", default.train, "N", "pictures to train on")
    number("--val", default.val, "N", "pictures to validate on")
    number("--seed", default.seed, "S", "another seed: other pictures")
    number("--size", default.size, "PX", "long side of a picture")
    number("--max-people", default.max_people, "N", "most people in one picture")
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
