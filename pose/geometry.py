"""The one pixel convention: every change of coordinate frame in the project goes through this file.

Integer coordinates are pixel *centres*: an image of width W covers [-0.5, W - 0.5].  Cell i of a stride-s
grid has its centre at (i + 0.5) * s - 0.5 pixels, which is what `cv2.resize`, `cv2.warpAffine` with the
matrices made here and `interpolate(align_corners=False)` do, and it mirrors onto itself.

`pixel_center` is the position of a pixel's centre relative to its integer coordinate in the continuous frame
in which images are scaled and mirrored: 0.5 is the convention above.  Networks trained elsewhere with integer
coordinates on the pixel *corner* (pose-ae-train: x' = s * x, mirror x' = W - x) carry 0.0 in their config,
so that their published weights give their published keypoints.

Points are (..., 2) arrays or tensors, x first.  Sizes are (height, width).  Matrices are (2, 3) float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import cv2
import numpy as np

PIXEL_CENTER = 0.5
LARGEST_SOURCE = 32000  # pixels; OpenCV 4 warps no image of 32767 and more
Array = TypeVar("Array", bound=Any)  # np.ndarray or torch.Tensor: the arithmetic is the same


@dataclass(frozen=True)
class Layout:
    """Where the cells of a network's maps lie in its input: the origin of cell 0, the pitch from cell to
    cell, and how far a mirrored image is moved before it goes through the network.

    cells "centers": origin stride / 2 - pixel_center, pitch stride; "first_pixel": origin 0, pitch stride
    (DEKR, OpenPifPaf); "corners": origin 0, and the last cell at the last pixel, so that the pitch is
    (S - 1) / (G - 1) for G cells over S pixels (Huang et al.: Unbiased Data Processing, 2020).
    mirror_shift: pixels to the right, none or stride - 1 (DEKR)."""

    pixel_center: float = PIXEL_CENTER
    cells: Literal["centers", "first_pixel", "corners"] = "centers"
    mirror_shift: Literal["none", "stride"] = "none"

    def shift(self, stride: int) -> int:
        """Pixels by which the mirrored image is moved to the right."""
        return stride - 1 if self.mirror_shift == "stride" else 0

    def pitch(self, stride: int, cells: int) -> float:
        """Pixels between the centres of neighbouring cells, of which there are so many along the axis."""
        return (cells * stride - 1) / max(cells - 1, 1) if self.cells == "corners" else float(stride)


LayoutLike: TypeAlias = Layout | float  # a number: the pixel_center of "centers"


def as_layout(layout: LayoutLike) -> Layout:
    return layout if isinstance(layout, Layout) else Layout(layout)


def to_grid(
    points: Array, stride: int, layout: LayoutLike = PIXEL_CENTER, size: tuple[int, int] | None = None
) -> Array:
    """Pixels -> continuous cell coordinates (cell centres are integers); size (h, w) of the grid, which the
    layout "corners" needs."""
    layout = as_layout(layout)
    if layout.cells == "centers":
        return (points + layout.pixel_center) / stride - 0.5
    return _divided(points, layout, stride, size, inverse=False)


def to_pixels(
    cells: Array, stride: int, layout: LayoutLike = PIXEL_CENTER, size: tuple[int, int] | None = None
) -> Array:
    """Continuous cell coordinates -> pixels; the inverse of `to_grid`."""
    layout = as_layout(layout)
    if layout.cells == "centers":
        return (cells + 0.5) * stride - layout.pixel_center
    return _divided(cells, layout, stride, size, inverse=True)


def _divided(
    points: Array, layout: Layout, stride: int, size: tuple[int, int] | None, *, inverse: bool
) -> Array:
    """points over the pitch of each axis, or times it."""
    if size is None:
        raise ValueError(f"the layout {layout.cells!r} needs the size of the grid")
    across, down = (layout.pitch(stride, cells) for cells in (size[1], size[0]))
    if inverse:
        across, down = 1 / across, 1 / down
    stack = np.stack if isinstance(points, np.ndarray) else _torch_stack
    return stack((points[..., 0] / across, points[..., 1] / down), -1)  # type: ignore[return-value, operator]


def _torch_stack(parts: Sequence[Any], axis: int) -> Any:
    import torch

    return torch.stack(tuple(parts), axis)


def mirror_x(x: Array, width: int, pixel_center: float = PIXEL_CENTER) -> Array:
    """x in an image of `width` pixels -> x in the mirrored image."""
    return width - 2 * pixel_center - x  # type: ignore[return-value]


def round_up(size: float, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `size`."""
    return -(-math.ceil(round(size, 6)) // multiple) * multiple  # 1600 * 2.2 is 3520.0000000000005


def compose(*matrices: np.ndarray) -> np.ndarray:
    """Affine matrices applied from left to right: compose(a, b) maps x to b(a(x))."""
    result = np.eye(3)
    for matrix in matrices:
        result = np.vstack([matrix, [0, 0, 1]]) @ result
    return result[:2]


def invert(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (..., 2); the dtype of floating points is kept."""
    points = np.asarray(points)
    dtype = points.dtype if np.issubdtype(points.dtype, np.floating) else np.float64
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(dtype)


def resize(scale_xy: tuple[float, float], pixel_center: float = PIXEL_CENTER) -> np.ndarray:
    """The matrix that stretches a picture by (x, y) factors."""
    sx, sy = scale_xy
    shift = pixel_center
    return np.array([[sx, 0.0, sx * shift - shift], [0.0, sy, sy * shift - shift]])


def affine(
    *,
    size: tuple[int, int],
    output_size: tuple[int, int],
    side: float,
    rotation: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    flip: bool = False,
    pixel_center: float = PIXEL_CENTER,
) -> np.ndarray:
    """Image -> network input: the square of `side` image pixels around the image centre (moved by `shift`
    image pixels), turned by `rotation` degrees, fills the shorter output side; the output is then mirrored
    if `flip`.

    `rotation` is counter-clockwise as seen on the screen.
    """
    height, width = size
    out_height, out_width = output_size
    center = np.array([width / 2 + shift[0], height / 2 + shift[1]]) - pixel_center
    out_center = np.array([out_width / 2, out_height / 2]) - pixel_center
    scale = min(output_size) / side
    angle = math.radians(rotation)
    turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = np.hstack([turn, (out_center - turn @ center)[:, None]])
    return compose(matrix, mirror_matrix(out_width, pixel_center)) if flip else matrix


def mirror_matrix(width: int, pixel_center: float = PIXEL_CENTER) -> np.ndarray:
    return np.array([[-1.0, 0.0, width - 2 * pixel_center], [0.0, 1.0, 0.0]])


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    output_size: tuple[int, int],
    border: Sequence[int] = (0, 0, 0),
    nearest: bool = False,
) -> np.ndarray:
    """`image` (H, W) or (H, W, 3) drawn through `matrix` (image -> output); bilinear unless `nearest`."""
    height, width = output_size
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, (width, height), flags=flags, borderValue=tuple(border))
