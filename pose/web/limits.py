"""What the web page takes: pictures of bearable size, judged before they are decoded."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pose.errors import UserError
from pose.images import UnreadableImage, read_image

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # as Pillow names them
KNOWN = "JPEG, PNG, WebP, GIF, BMP or TIFF"
MEGABYTE = 2**20  # as browsers count
MOST_MEGAPIXELS = 178  # twice Image.MAX_IMAGE_PIXELS: beyond this Pillow does not even tell the size


@dataclass(frozen=True)
class Limits:
    """Of one picture."""

    megapixels: float = 50.0
    megabytes: float = 20.0

    def __post_init__(self) -> None:
        for name, value in (("megapixels", self.megapixels), ("megabytes", self.megabytes)):
            if not 0 < value < float("inf"):
                raise UserError(f"--max-{name} is {value:g}; expected a number above 0")
        if self.megapixels > MOST_MEGAPIXELS:
            raise UserError(f"--max-megapixels is {self.megapixels:g}; {MOST_MEGAPIXELS} is the most")

    @property
    def bytes(self) -> int:
        return int(self.megabytes * MEGABYTE)


def open_picture(path: Path, limits: Limits) -> np.ndarray:
    """An uploaded file -> (H, W, 3) uint8 RGB, upright.

    Raises `UnreadableImage` for a file of another kind, a damaged one, and one beyond the limits, which is
    not decoded: a few kilobytes can unfold to gigabytes.  Its text names the file without its folder."""
    width, height = picture_size(path, limits)
    if width * height > limits.megapixels * 1e6:
        raise _too_many_pixels(path, limits, f"{width} x {height} pixels")
    try:
        return read_image(path)
    except UnreadableImage:  # its text names the folder
        raise UnreadableImage(f"{path.name} is damaged: it cannot be decoded; save it again") from None
    except MemoryError:
        raise UnreadableImage(f"{path.name} needs more memory than there is; make it smaller") from None


def picture_size(path: Path, limits: Limits) -> tuple[int, int]:
    """Width and height by the file's header.  Raises `UnreadableImage`."""
    try:
        size = os.path.getsize(path)
        if size > limits.bytes:
            raise UnreadableImage(
                f"{path.name} has {size / MEGABYTE:.1f} MB; at most {limits.megabytes:g} MB are taken"
            )
        Image.init()  # all readers, or it does not know the names of some
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own limit, which is another one
            with Image.open(path, formats=KINDS) as picture:
                return picture.size
    except UnreadableImage:
        raise
    except Image.DecompressionBombError:
        raise _too_many_pixels(path, limits, "far too many pixels") from None
    except FileNotFoundError:
        raise UnreadableImage(f"{path.name} is no longer here; upload it again") from None
    except Exception:  # Pillow's readers raise many kinds of errors where a header makes no sense
        raise UnreadableImage(f"{path.name} is no picture ({KNOWN}) that can be read") from None


def _too_many_pixels(path: Path, limits: Limits, what: str) -> UnreadableImage:
    return UnreadableImage(
        f"{path.name} has {what}; at most {limits.megapixels:g} megapixels are taken, so make it smaller"
    )
