"""What JakeRenn's associative-embedding entry to AI Challenger 2017 does to pictures and coordinates:
pictures are stretched to the size of the network's input, and people lie at whole pixels, computed from their
cells."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pose import geometry
from pose.structures import People


def squash(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """image (H, W, 3) uint8 -> (*size, 3) uint8 as Pillow's BILINEAR stretches it, which averages over all
    pixels when it shrinks."""
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def whole_pixels(
    people: People, stride: int, grid: tuple[int, int], size: tuple[int, int], pixel_center: float
) -> People:
    """People in pixels of the squashed picture -> people at whole pixels of the picture of `size`: of cell y
    on a grid of h rows, int(y / h * H + (H // h) // 2), and alike for x.

    The offset is about half a cell, but for what its two divisions cut off.  Where in its cell a keypoint
    lies plays no part."""
    keypoints = people.keypoints.copy()
    cells = geometry.to_grid(keypoints[..., :2].astype(np.float64), stride, pixel_center)
    # the centre of a cell is a whole number, its border half a cell away
    shape, sides = np.array(grid[::-1]), np.array(size[::-1])
    cells = (cells + 0.5).astype(np.int64).clip(0, shape - 1)
    keypoints[..., :2] = cells * sides // shape + sides // shape // 2
    keypoints[keypoints[..., 2] <= 0] = 0
    return People(keypoints, people.scores)
