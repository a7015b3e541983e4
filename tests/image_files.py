"""Reads image files with OpenCV, independently of the project's own reader."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def read_rgb(path: Path | str) -> np.ndarray:
    """-> (H, W, 3) uint8 RGB."""
    return decode_rgb(Path(path).read_bytes())


def decode_rgb(content: bytes) -> np.ndarray:
    """Bytes of an image file -> (H, W, 3) uint8 RGB."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "no image that OpenCV reads"
    return image[..., ::-1]
