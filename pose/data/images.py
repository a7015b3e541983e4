"""The images of a set, as their annotations mean them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pose.annotations.image_files import locate, where_instead
from pose.archives import is_file
from pose.images import UnreadableImage, exif_turn, header_size, read_image, turned, turns_sides

Orientation = Literal["auto", "stored", "exif"]


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
        if is_file(path):
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
