"""Picture files -> arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pose.errors import UserError


class UnreadableImage(UserError):
    """A picture that is missing, damaged or not the one that was annotated."""


def read_image(path: Path, *, orientation: Literal["exif", "stored"] = "exif") -> np.ndarray:
    """(height, width, 3) uint8 RGB.  "exif" turns a photo upright as viewers do; "stored" leaves the pixels
    as they lie in the file, which is what COCO's annotations refer to.

    Raises `UnreadableImage`."""
    try:
        raw = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise UnreadableImage(f"no picture {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnreadableImage(f"cannot read the picture {path}: {error}") from None
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if orientation == "stored" else 0)
    try:
        image = cv2.imdecode(raw, flags) if raw.size and not _cut_off(raw) else None
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableImage(f"{path} is damaged or no picture ({raw.size} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _cut_off(raw: np.ndarray) -> bool:
    """A JPEG without an end marker after its last scan: some versions of OpenCV decode it to a half-grey
    picture without a word."""
    if raw[:2].tobytes() != b"\xff\xd8":
        return False
    text = raw.tobytes()
    return text.rfind(b"\xff\xd9") < text.rfind(b"\xff\xda")
