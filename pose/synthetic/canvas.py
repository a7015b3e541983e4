"""What drawn people are painted on: pixels, and whose each of them is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from pose.synthetic.figures import Color

SUBPIXEL = 4  # bits of cv2's fixed-point drawing coordinates


class Canvas:
    """image (H, W, 3) uint8, painted in place, and owner (H, W) int32: what is on top at each pixel."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = np.ascontiguousarray(image)
        self.owner: np.ndarray = np.zeros(image.shape[:2], np.int32)

    def fill(self, outline: np.ndarray, color: Color, owner: int) -> None:
        """Fill a convex outline (n, 2), without shading."""
        points = np.rint(outline * (1 << SUBPIXEL)).astype(np.int32)
        cv2.fillConvexPoly(self.image, points, color, cv2.LINE_AA, SUBPIXEL)
        cv2.fillConvexPoly(self.owner, points, owner, cv2.LINE_8, SUBPIXEL)

    def hull(
        self, centers: np.ndarray, radii: Sequence[float], color: Color, owner: int, rim: float = 0.62
    ) -> None:
        """The shaded hull of discs (n, 2): a dark rim, the colour, a light core (lit from the viewer)."""
        for shrink, shade in ((1.0, rim), (0.82, 1.0), (0.42, 1.14)):
            if shade > 1 and max(radii) * shrink < 1.5:
                return
            self.fill(hull(centers, np.asarray(radii) * shrink), shaded(color, shade), owner)

    def capsule(
        self,
        start: np.ndarray,
        end: np.ndarray,
        start_radius: float,
        end_radius: float,
        color: Color,
        owner: int,
    ) -> None:
        """A shaded limb between two points (2,)."""
        self.hull(np.stack([start, end]), (start_radius, end_radius), color, owner)

    def dot(self, center: np.ndarray, radius: float, color: Color) -> None:
        """A small flat disc, which leaves the owner as it is."""
        x, y = np.rint(center * (1 << SUBPIXEL)).astype(int).tolist()
        radius = max(int(round(radius * (1 << SUBPIXEL))), 1)
        cv2.circle(self.image, (x, y), radius, color, -1, cv2.LINE_AA, SUBPIXEL)


_CIRCLE = np.stack([np.cos(a := np.arange(16) * math.pi / 8), np.sin(a)], 1)


def hull(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Outline (n, 2) of the convex hull of discs: centers (m, 2), radii (m,)."""
    points = (centers[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2).astype(np.float32)
    return cv2.convexHull(points)[:, 0]


def shaded(color: Color, shade: float) -> Color:
    return (min(color[0] * shade, 255), min(color[1] * shade, 255), min(color[2] * shade, 255))
