"""How MMPose 1.x tests its one network of associative embedding on an image, restated literally: the canvas,
the mirrored pass, the grouping and the way back.  One scale; MMPose 1.x has no more for it.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017);
MMPose 1.x, BottomupResize (expand, multiples of 64), AssociativeEmbeddingHead and the codec of that name with
decode_center_shift 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.literal.reference import higherhrnet_group

FACTOR = 64


class Canvas(NamedTuple):
    size: tuple[int, int]  # height, width
    matrix: np.ndarray  # (2, 3) pixel of the image -> pixel of the canvas
    center: np.ndarray  # (2,) float32 x, y of the place in the image that lies in the middle of the canvas
    scale: np.ndarray  # (2,) float32 width and height of the canvas in pixels of the image


def canvas(size: tuple[int, int], side: int) -> Canvas:
    """size: height and width of an image; side: of the square input."""
    height, width = size
    aspect = width / height
    least = math.ceil(side / FACTOR) * FACTOR
    filled = max(least, least * aspect), max(least, least / aspect)
    padded = math.ceil(filled[0] / FACTOR) * FACTOR, math.ceil(filled[1] / FACTOR) * FACTOR
    center = np.array([width / 2, height / 2], np.float32)
    scale = np.array([width * padded[0] / filled[0], height * padded[1] / filled[1]], np.float32)
    ratio = padded[0] / float(scale[0])
    x, y = (float(one) for one in center)
    matrix = np.array([[ratio, 0, padded[0] / 2 - ratio * x], [0, ratio, padded[1] / 2 - ratio * y]])
    return Canvas((padded[1], padded[0]), matrix, center, scale)


def people_of(
    plain: Tensor, mirrored: Tensor, size: tuple[int, int], side: int, flip: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """plain, mirrored (1, 2 K, h, w): heatmaps, then tags, of the canvas and of its mirror image, as the
    network gives them; flip (K,): the keypoint on the other side -> people (N, K, 3) with x and y in pixels
    of the image and the heat, in the order of their start, and scores (N,).  Keypoints without heat, which
    MMPose fills in anyhow, are zeros."""
    laid = canvas(size, side)
    kinds = len(flip)
    back = mirrored.flip(-1)
    both = [
        torch.nn.functional.interpolate(maps, size=laid.size, mode="bilinear", align_corners=False)
        for maps in (plain[:, :kinds], back[:, :kinds][:, list(flip)])
    ]
    heat = ((both[0] + both[1]) / 2)[0].numpy()
    tags = [
        torch.nn.functional.interpolate(maps, size=laid.size, mode="bilinear", align_corners=False)[0].numpy()
        for maps in (plain[:, kinds:], back[:, kinds:][:, list(flip)])
    ]
    people, scores = higherhrnet_group.group(heat, np.stack(tags, 3), limit="late_cut", move="inner")
    found = people[..., :3].copy()
    height, width = laid.size
    share = found[..., :2] / [width, height]
    found[..., :2] = share * laid.scale + laid.center - 0.5 * laid.scale
    found[found[..., 2] <= 0] = 0
    return found, scores
