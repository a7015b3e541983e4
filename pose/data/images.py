"""Image files -> arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from pose.annotations.image_files import (
    HEADER_ERRORS,
    TOO_LARGE,
    header_size,
    locate,
    unread_kind,
    where_instead,
)
from pose.errors import UserError
from pose.files import is_regular

JPEG = b"\xff\xd8"  # its first bytes
TAIL = 4096  # bytes in which a JPEG's end marker is looked for first
EXIF_ORIENTATION = 0x0112
Orientation = Literal["auto", "stored", "exif"]


class UnreadableImage(UserError):
    """A picture that is missing, damaged or not the one that was annotated."""


def read_image(path: Path, *, orientation: Literal["exif", "stored"] = "exif") -> np.ndarray:
    """(height, width, 3) uint8 RGB of any kind of picture: grey, 16 bit, CMYK, with a palette.  "exif" shows
    it as viewers do, photos upright and what is transparent white; "stored" leaves the pixels as they lie in
    the file, which is what COCO's annotations refer to.

    Raises `UnreadableImage`."""
    try:
        if not is_regular(path) and os.path.exists(path):
            raise UnreadableImage(f"{path} is no regular file")
        raw = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise UnreadableImage(f"no image {path}") from None
    except UnreadableImage:
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
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


class SetImage(NamedTuple):
    """An image of a set: its id, its file, and the height and width that its annotations are for, if
    known."""

    id: int
    path: Path
    size: tuple[int, int] | None = None


def read_annotated(
    folder: Path, name: str, size: tuple[int, int] | None, orientation: Orientation = "auto"
) -> np.ndarray:
    """The image that annotations call `name`, (height, width, 3) uint8 RGB, of the `size` (height, width)
    that they are for (None: not known).  "auto" leaves the pixels as they are stored, unless the size fits
    only with the turn that EXIF asks for.

    Raises `UnreadableImage`, also for an image of another size: its keypoints would lie elsewhere."""
    path = locate(folder, name)
    try:
        return read_of_size(path, size, orientation)
    except UnreadableImage as error:
        if is_regular(path):
            raise
        raise UnreadableImage(f"{error}{where_instead(folder, name)}") from None


def read_of_size(path: Path, size: tuple[int, int] | None, orientation: Orientation = "auto") -> np.ndarray:
    """As `read_annotated`, of a file that has been located."""
    image = read_image(path, orientation="exif" if orientation == "exif" else "stored")
    if size is None or image.shape[:2] == size:
        return image
    advice = ""
    if orientation != "exif" and image.shape[:2] == size[::-1]:
        turn = exif_turn(path)
        if turns_sides(turn) and orientation == "auto":
            return turned(image, turn)
        advice = "; its EXIF turn would make it fit: data.orientation=auto" if turns_sides(turn) else ""
    raise UnreadableImage(
        f"{path} is {image.shape[1]} x {image.shape[0]} pixels, its annotations are for {size[1]} x {size[0]}"
        f"{advice}"
    )


def wrong_size(image: SetImage, orientation: Orientation) -> str:
    """Why an image cannot be of the size that its annotations are for, from its first bytes; "" where it
    can."""
    stored = header_size(image.path)
    if stored is None or image.size is None:
        return ""
    shown = stored[::-1] if turns_sides(exif_turn(image.path)) else stored
    if image.size in {"stored": (stored,), "exif": (shown,), "auto": (stored, shown)}[orientation]:
        return ""
    said = image.size
    return f"{image.path} is {stored[1]} x {stored[0]} pixels, its annotations are for {said[1]} x {said[0]}"


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an open image, 1 (upright) where there is none that is valid."""
    found = image.getexif().get(EXIF_ORIENTATION, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def exif_turn(path: Path) -> int:
    try:
        with Image.open(path) as image:
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
