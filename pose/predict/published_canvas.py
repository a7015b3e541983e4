"""Canvases of published associative-embedding systems, for their weights: sides are multiples of 64, and the
canvas of scale 1 depends on the smallest scale that is tested with it (but for mmpose1).

higherhrnet: HigherHRNet-Human-Pose-Estimation; mmpose: MMPose 0.x, which rounds the image's centre to an
even pixel; mmpose1: MMPose 1.x, which does not round it, and lays out scale 1 whatever else is tested
(canvases of other scales, which it does not have for associative embedding, are that one stretched);
mmpose_udp: MMPose 0.x with Huang et al., "The Devil Is in the Details: Delving into Unbiased Data Processing
for Human Pose Estimation" (2020): the image fills the canvas from corner pixel to corner pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from pose.errors import UserError

PublishedResize = Literal["higherhrnet", "mmpose", "mmpose1", "mmpose_udp"]
PUBLISHED: tuple[str, ...] = get_args(PublishedResize)
MULTIPLE = 64  # pixels
LONGEST = 8  # the longer side of the canvas at scale 1, in sides of the square input


def _up(side: float, rule: str) -> int:
    """The multiple of 64 that the published code rounds to: HigherHRNet's ignores less than a pixel more."""
    if rule == "higherhrnet":
        return int((side + MULTIPLE - 1) // MULTIPLE * MULTIPLE)
    return math.ceil(side / MULTIPLE) * MULTIPLE


def canvas_sizes(
    size: tuple[int, int], scales: Sequence[float], side: int, multiple: int, rule: str
) -> list[tuple[int, int]]:
    """Height and width of the canvas of every scale for an image of `size`; `side` of the square input.

    An image so long that its canvas would fill the memory gets a smaller one.  Raises `UserError` for scales
    whose canvases the network, of `multiple`, does not take."""
    smallest = 1.0 if rule == "mmpose1" else min(scales)
    short, long = min(size), max(size)
    shorter = _up(smallest * side, rule)
    longest = LONGEST * side * smallest
    if shorter * long > longest * short:
        shorter = max(MULTIPLE, int(longest * short / long) // MULTIPLE * MULTIPLE)
    # MMPose 1.x divides by width / height: where that is rounded, a multiple of 64 may become a bit more
    longer_side = (
        shorter / (short / long) if rule == "mmpose1" and size[0] > size[1] else shorter / short * long
    )
    longer = min(_up(longer_side, rule), max(MULTIPLE, _up(longest, rule)))
    sizes = []
    for scale in scales:
        a, b = int(shorter * scale / smallest), int(longer * scale / smallest)
        if a % multiple or b % multiple:
            raise UserError(
                f"test: at scale {scale:g} beside {smallest:g} the canvas is {a} x {b}, and this network "
                f"takes sides that are multiples of {multiple}; give scales whose quotients are whole numbers"
            )
        sizes.append((a, b) if size[0] <= size[1] else (b, a))
    return sizes


def canvas_matrix(
    size: tuple[int, int], canvas: tuple[int, int], smallest: tuple[int, int], rule: str
) -> np.ndarray:
    """(2, 3) image -> canvas; `smallest` canvas of those that are tested."""
    height, width = canvas
    if rule == "mmpose_udp":
        across, down = np.array(spans(size, smallest), np.float32).astype(np.float64)  # as rounded there
        matrix = [[(width - 1) / across, 0.0, 0.0], [0.0, (height - 1) / down, 0.0]]
        return np.array(matrix, np.float32).astype(np.float64)  # and there
    ratio = height / size[0] if size[0] <= size[1] else width / size[1]
    x, y = center(size, rule)
    return np.array([[ratio, 0.0, width / 2 - ratio * x], [0.0, ratio, height / 2 - ratio * y]])


def way_back(
    size: tuple[int, int], canvas: tuple[int, int], of_scale_1: tuple[int, int], rule: str
) -> np.ndarray:
    """(2, 3) image -> `canvas`, as people are brought back from there; not the way there under UDP, which
    goes there by the smallest canvas and back by that of scale 1."""
    return canvas_matrix(size, canvas, of_scale_1, rule)


def center(size: tuple[int, int], rule: str) -> tuple[float, float]:
    """x, y of the place that comes to lie in the middle of the canvas."""
    if rule == "mmpose1":
        return size[1] / 2, size[0] / 2
    if rule == "higherhrnet":
        return int(size[1] / 2 + 0.5), int(size[0] / 2 + 0.5)
    return round(size[1] / 2), round(size[0] / 2)  # half to even


def spans(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[float, float]:
    """Pixels of the image, across and down, between the outermost pixels of the canvas."""
    height, width = canvas
    if size[0] <= size[1]:
        down = max(size[0] - 1, 1)
        return (width - 1) / (height - 1) * down, down
    across = max(size[1] - 1, 1)
    return across, (height - 1) / (width - 1) * across
