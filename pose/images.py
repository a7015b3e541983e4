"""Image files -> arrays, of any kind of image; what Pillow and OpenCV cannot be trusted with is refused."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from pose.archives import is_file, open_file, read_bytes
from pose.errors import UserError

LARGEST_IMAGE = 178  # megapixels: beyond twice its MAX_IMAGE_PIXELS Pillow raises DecompressionBombError
HEADER_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # Pillow's, of damaged files
TOO_LARGE = f"has more than {LARGEST_IMAGE} megapixels"
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # of half as many pixels
UNREAD = {".heic", ".heif", ".hif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".psd", ".pdf", ".svg"}
JPEG = b"\xff\xd8"  # its first bytes
TIFF = (b"II*\0", b"MM\0*")
TAIL = 4096  # bytes in which a JPEG's end marker is looked for first
EXIF_ORIENTATION = 0x0112

logger = logging.getLogger("pose")


class UnreadableImage(UserError):
    """A picture that is missing, damaged or not the one that was annotated."""


def read_image(path: Path, *, orientation: Literal["exif", "stored"] = "exif") -> np.ndarray:
    """(height, width, 3) uint8 RGB of any kind of picture: grey, 16 bit, CMYK, with a palette.  "exif" shows
    it as viewers do, photos upright and what is transparent white; "stored" leaves the pixels as they lie in
    the file, which is what COCO's annotations refer to.

    Raises `UnreadableImage`, and `UserError` for a damaged archive."""
    try:
        if not is_file(path) and os.path.exists(path):
            raise UnreadableImage(f"{path} is no regular file")
        raw = read_bytes(path)
    except FileNotFoundError:
        raise UnreadableImage(f"no image {path}") from None
    except UserError:  # also of an archive that is damaged as a whole
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UnreadableImage(f"cannot read the image {path}: {error}") from None
    if _too_large(raw):
        raise UnreadableImage(f"{path} {TOO_LARGE}; make it smaller")
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if orientation == "stored" else 0)
    try:
        image = cv2.imdecode(raw, flags) if raw.size and not _cut_off(raw) else None
    except cv2.error:
        image = None
    if image is None:
        kind = unread_kind(raw[:16].tobytes())
        if kind:
            raise UnreadableImage(f"{path} is {kind}, which is not read; convert it to JPEG or PNG")
        raise UnreadableImage(f"{path} is corrupt or no image ({raw.size} bytes)")
    if orientation == "exif" and raw[:2].tobytes() != JPEG:
        image = _without_alpha(raw, image)
    if orientation == "stored" and raw[:4].tobytes() in TIFF:  # OpenCV turns it whatever the flag says
        turn = exif_turn(path)
        image = turned(image, {6: 8, 8: 6}.get(turn, turn))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def unread_kind(start: bytes) -> str:
    """What a file that begins so is, of the kinds that people take for images; "" for any other."""
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"heif", b"mif1", b"msf1", b"hevc", b"heim", b"heis"):
        return "a HEIC photo"
    known = {b"%PDF": "a PDF", b"8BPS": "a Photoshop file", b"<svg": "an SVG drawing"}
    return next((kind for magic, kind in known.items() if start.startswith(magic)), "")


def tell_unread(files: Iterable[Path], folder: Path) -> None:
    """A warning about a folder's files that people take for images, of kinds that are not read."""
    unread = [file for file in files if file.suffix.lower() in UNREAD]
    if unread:
        kinds = ", ".join(sorted({file.suffix.lower() for file in unread}))
        logger.warning(
            "%s: %d file(s) of kinds that are not read (%s; first: %s) are left out; convert them to JPEG",
            folder, len(unread), kinds, unread[0].name,
        )  # fmt: skip


def header_size(path: Path) -> tuple[int, int] | None:
    """Height and width as the pixels are stored, from the first bytes; None for what is no image."""
    if not is_file(path):
        return None
    try:
        with open_file(path) as file, Image.open(file) as image:
            return stored_size(image)
    except HEADER_ERRORS:
        return None


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an open image as its pixels lie in the file."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # some versions of Pillow tell its size as shown
        width, height = image.tag_v2.get(256, width), image.tag_v2.get(257, height)
    return height, width


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an open image, 1 (upright) where there is none that is valid."""
    found = image.getexif().get(EXIF_ORIENTATION, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def exif_turn(path: Path) -> int:
    try:
        with open_file(path) as file, Image.open(file) as image:
            return orientation_of(image)
    except HEADER_ERRORS:
        return 1


def turns_sides(turn: int) -> bool:
    """Whether an EXIF orientation exchanges width and height."""
    return turn in (5, 6, 7, 8)


def turned(image: np.ndarray, turn: int) -> np.ndarray:
    """image (H, W, 3) as stored -> as viewers show it."""
    if turns_sides(turn):
        image = image.transpose(1, 0, 2)
    flip_x, flip_y = turn in (2, 3, 6, 7), turn in (3, 4, 7, 8)
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def as_rgb(picture: Any) -> np.ndarray:
    """(height, width, 3) uint8 RGB of a picture in memory: an array (H, W), (H, W, 1), (H, W, 3) RGB or
    (H, W, 4) RGBA of uint8 or uint16, or a PIL picture, which is turned upright.

    Raises `UnreadableImage` for anything else."""
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        if upright.mode == "I":  # 16 bit of grey, with Pillow below 11
            upright = Image.fromarray(np.asarray(upright).clip(0, 65535).astype(np.uint16))
        deep = upright.mode.startswith("I;16")
        clear = "transparency" in upright.info or upright.mode in ("RGBA", "LA", "PA", "La", "RGBa")
        picture = np.asarray(upright if deep else upright.convert("RGBA" if clear else "RGB"))
    array = np.asarray(picture)
    channels = array.shape[2:] or (1,)
    fits = array.ndim in (2, 3) and channels in ((1,), (3,), (4,)) and 0 not in array.shape
    if not fits or array.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage(
            f"a picture must be an array (H, W), (H, W, 3) RGB or (H, W, 4) of uint8 or uint16, not "
            f"{array.dtype} of shape {array.shape}"
        )
    array = array.reshape(*array.shape[:2], -1)
    if channels == (4,):
        return _over_white(array[..., :3], array[..., 3])
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    return np.repeat(array, 3, axis=2) if channels == (1,) else array


def _without_alpha(raw: np.ndarray, image: np.ndarray) -> np.ndarray:
    """image (H, W, 3) as it was decoded from the bytes `raw`, over white where it is transparent."""
    whole = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
    # sides that changed places: turned upright, which the whole one is not
    if whole is None or whole.ndim != 3 or whole.shape[2] != 4 or whole.shape[:2] != image.shape[:2]:
        return image
    return _over_white(whole[..., :3], whole[..., 3])


def _over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """color (H, W, 3) and alpha (H, W), both uint8 or uint16 -> (H, W, 3) uint8."""
    top = float(np.iinfo(color.dtype).max)
    weight = alpha[..., None].astype(np.float32) / top
    return (color * (weight * (255 / top)) + 255 * (1 - weight)).round().astype(np.uint8)


def _too_large(raw: np.ndarray) -> bool:
    """Whether an image's header says that it is: a file of 100 KB may hold a gigapixel."""
    try:
        with Image.open(io.BytesIO(raw.tobytes())):
            return False
    except Image.DecompressionBombError:
        return True
    except HEADER_ERRORS:  # corrupt, or of a kind that only OpenCV reads
        return False


def _cut_off(raw: np.ndarray) -> bool:
    """A JPEG without an end marker after its last scan: some versions of OpenCV decode it to a half-grey
    picture without a word."""
    if raw[:2].tobytes() != JPEG:
        return False
    text = raw.tobytes()
    return text.rfind(b"\xff\xd9") < text.rfind(b"\xff\xda")


def jpeg_ends(file: BinaryIO) -> bool:
    """Whether a JPEG has an end marker after its last scan, without decoding it; some have other data behind
    it, so all of the file is searched where the tail has none."""
    size = file.seek(0, os.SEEK_END)
    for start in dict.fromkeys((max(size - TAIL, 0), 0)):
        file.seek(start)
        tail = file.read()
        if tail.rfind(b"\xff\xd9") > tail.rfind(b"\xff\xda"):
            return True
    return False
