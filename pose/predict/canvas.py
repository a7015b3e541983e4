"""A picture's place in the network's canvases: letterboxed, squashed or as it is, at every scale; and people
brought back from there to the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pose import geometry
from pose.predict.published_canvas import PUBLISHED, canvas_matrix, canvas_sizes, way_back
from pose.predict.settings import TestSettings
from pose.structures import InputSettings, People

LONGEST = 8  # short_side: the longer side of a canvas at scale 1, in larger numbers of `input_size`
LARGEST_SOURCE = geometry.LARGEST_SOURCE


class Prepared(NamedTuple):
    """One picture, ready for the network."""

    position: int  # in the caller's list
    canvases: list[Tensor]  # (3, H, W) uint8 RGB, one per scale
    matrix: np.ndarray  # (2, 3) picture -> the canvas in whose pixels people are found, see `fused_on`
    size: tuple[int, int]  # of the picture


class Geometry(NamedTuple):
    """Where one picture lies in the canvases of all scales."""

    sizes: list[tuple[int, int]]
    matrices: list[np.ndarray]


def lay_out(
    size: tuple[int, int],
    scales: Sequence[float],
    settings: TestSettings,
    input: InputSettings,
    multiple: int,
) -> Geometry:
    """Canvas sizes (multiples of `multiple`) and matrices for a picture of `size`.

    The canvas of scale s is the canvas of scale 1, stretched: whole maps correspond, whatever the
    rounding.  A very long picture is shrunk below its `short_side`, or its canvas would fill the memory."""
    height, width = settings.input_size or input.size
    if settings.resize in PUBLISHED:
        sizes = canvas_sizes(size, scales, min(height, width), multiple, settings.resize)
        smallest = min(sizes)
        return Geometry(sizes, [canvas_matrix(size, one, smallest, settings.resize) for one in sizes])
    center = input.pixel_center
    if settings.resize in ("letterbox", "squash"):
        base = (geometry.round_up(height, multiple), geometry.round_up(width, multiple))
        ratios = np.array([base[1] / size[1], base[0] / size[0]])  # x, y
        ratios = ratios.min().repeat(2) if settings.resize == "letterbox" else ratios
    else:
        ratio = {
            "short_side": min(height, width) / min(size),
            "long_side": max(height, width) / max(size),
            "original": min(1.0, math.sqrt(height * width / (size[0] * size[1]))),
        }[settings.resize]
        ratio = min(ratio, LONGEST * max(height, width) / max(size))
        content = [max(1.0, round(side * ratio, 6)) for side in size]
        base = (geometry.round_up(content[0], multiple), geometry.round_up(content[1], multiple))
        ratios = np.array([ratio, ratio])
    middle = np.array([base[1], base[0]]) / 2 - center
    shift = middle - ratios * (np.array([size[1], size[0]]) / 2 - center)
    if settings.resize == "original" and ratios[0] == 1:
        shift = np.floor(shift)  # pixels stay what they are
    matrix = np.array([[ratios[0], 0.0, shift[0]], [0.0, ratios[1], shift[1]]])
    sizes, matrices = [], []
    for scale in scales:
        # whole pixels first: 704.0000000000001 must not become a multiple more (and so does pose-ae-train)
        wanted = [max(1, int(round(side * scale, 6))) for side in base]
        canvas = (geometry.round_up(wanted[0], multiple), geometry.round_up(wanted[1], multiple))
        stretch = geometry.resize((canvas[1] / base[1], canvas[0] / base[0]), center)
        sizes.append(canvas)
        matrices.append(geometry.compose(matrix, stretch))
    return Geometry(sizes, matrices)


def prepare(
    image: np.ndarray,
    index: int,
    scales: Sequence[float],
    settings: TestSettings,
    input: InputSettings,
    multiple: int,
) -> Prepared:
    """image (H, W, 3) uint8 RGB -> canvases at every scale, each warped from the picture itself."""
    own_size = (image.shape[0], image.shape[1])
    laid_out = lay_out(own_size, scales, settings, input, multiple)
    if settings.antialias:
        drawn = [squash(image, size) for size in laid_out.sizes]
    else:
        source, shrink = _within_limits(image, input.pixel_center)
        drawn = [
            geometry.warp(source, geometry.compose(shrink, matrix), size, border=input.pad_value)
            for size, matrix in zip(*laid_out, strict=True)
        ]
    canvases = [torch.from_numpy(canvas).permute(2, 0, 1) for canvas in drawn]
    place = fused_on(scales, settings)
    matrix = laid_out.matrices[place]
    if settings.resize in PUBLISHED:
        of_scale_1 = laid_out.sizes[nearest_to_1(scales)]
        matrix = way_back(own_size, laid_out.sizes[place], of_scale_1, settings.resize)
    return Prepared(index, canvases, matrix, own_size)


def nearest_to_1(scales: Sequence[float]) -> int:
    """Index of that scale."""
    return int(np.abs(np.array(scales) - 1).argmin())


def fused_on(scales: Sequence[float], settings: TestSettings) -> int:
    """Index of the scale on whose canvas the maps of all are fused: the first, or 1 where they are projected
    to it."""
    return nearest_to_1(scales) if settings.project else 0


def _within_limits(image: np.ndarray, pixel_center: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture that can be warped, and the matrix (2, 3) from its pixels to those of `image`."""
    height, width = image.shape[:2]
    ratio = LARGEST_SOURCE / max(height, width)
    if ratio >= 1:
        return image, np.eye(2, 3)
    small = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    back = geometry.resize((width / small[0], height / small[1]), pixel_center)
    return cv2.resize(image, small, interpolation=cv2.INTER_AREA), back


def map_back(people: People, matrix: np.ndarray) -> People:
    """People in canvas pixels -> people in pixels of the picture (`matrix`: picture -> canvas)."""
    keypoints = people.keypoints.copy()
    keypoints[..., :2] = geometry.apply(geometry.invert(matrix), keypoints[..., :2])
    keypoints[keypoints[..., 2] <= 0] = 0
    return People(keypoints, people.scores)


# What JakeRenn's associative-embedding entry to AI Challenger 2017 does: pictures are stretched to the size
# of the network's input, and people lie at whole pixels, computed from their cells.


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
