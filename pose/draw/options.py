"""How people are drawn, as options of a command."""

from __future__ import annotations

import argparse
import math

from pose.draw.people import Style
from pose.errors import UserError


def add_style(parser: argparse.ArgumentParser, *, min_score: float) -> None:
    """--score-threshold, --keypoint-threshold, --color, --line-width, --names, --labels, --no-fade."""
    group = parser.add_argument_group("drawing")
    group.add_argument(
        "--score-threshold", type=float, default=min_score, metavar="T",
        help=f"people with a lower score are left out (default {min_score:g}; 0: all)",
    )  # fmt: skip
    group.add_argument(
        "--keypoint-threshold", type=float, default=0.05, metavar="T",
        help="keypoints with a lower score are not drawn (default 0.05)",
    )  # fmt: skip
    group.add_argument(
        "--color", choices=["person", "side"], default="person",
        help="a colour for each person (default), or for left, right and middle",
    )  # fmt: skip
    group.add_argument(
        "--line-width", type=float, default=1.0, metavar="X", help="times the width that suits each person"
    )
    group.add_argument("--names", action="store_true", help="write the names of the keypoints")
    group.add_argument("--labels", action="store_true", help="write each person's number and score")
    group.add_argument(
        "--no-fade", action="store_true", help="draw uncertain keypoints as opaque as the others"
    )


def style_of(options: argparse.Namespace) -> Style:
    """What the options of `add_style` ask for."""
    if not 0 < options.line_width < math.inf:
        raise UserError(f"--line-width {options.line_width:g}: expected a number above 0")
    for name in ("score_threshold", "keypoint_threshold"):
        if math.isnan(getattr(options, name)):
            raise UserError(f"--{name.replace('_', '-')} nan: expected a number")
    return Style(
        color=options.color,
        width=options.line_width,
        fade=not options.no_fade,
        names=options.names,
        labels=options.labels,
        min_score=options.score_threshold,
        min_keypoint=options.keypoint_threshold,
    )
