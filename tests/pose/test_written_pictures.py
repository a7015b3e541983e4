"""Pictures in files have the colours that they have in memory, whatever the memory looks like."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pose.errors import UserError
from pose.files import encode_picture
from tests.image_files import decode_rgb

KINDS = ["jpg", "jpeg", "png", "webp"]
COLORS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250), "orange": (250, 130, 10)}


def stripes() -> np.ndarray:
    """(24, 64, 3) uint8: a stripe of 16 pixels for each of COLORS."""
    return np.repeat(np.repeat(np.array([list(COLORS.values())], np.uint8), 16, axis=1), 24, axis=0)


def opened(content: bytes) -> np.ndarray:
    """By another library than the one that wrote it: its mistakes would cancel out."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def assert_alike(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    inside = [i for i in range(expected.shape[1]) if 4 <= i % 16 < 12]  # JPEG blurs colours at their edges
    np.testing.assert_allclose(found[:, inside].astype(int), expected[:, inside].astype(int), atol=14)


@pytest.mark.parametrize("kind", KINDS)
def test_red_stays_red_and_blue_stays_blue(kind: str) -> None:
    assert_alike(opened(encode_picture(stripes(), kind, 95)), stripes())


def test_png_keeps_every_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    np.testing.assert_array_equal(opened(encode_picture(picture, "png")), picture)


VIEWS = {
    "a part": np.pad(stripes(), ((5, 7), (16, 32), (0, 0)))[5:-7, 16:-32],
    "every other row": np.repeat(stripes(), 2, axis=0)[::2],
    "upside down": stripes()[::-1][::-1],
    "rows backwards": stripes()[::-1],
    "mirrored": stripes()[:, ::-1],
    "blue first": np.ascontiguousarray(stripes()[..., ::-1])[..., ::-1],
    "channels first": np.ascontiguousarray(stripes().transpose(2, 0, 1)).transpose(1, 2, 0),
    "columns first": np.asfortranarray(stripes()),
}


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("name", list(VIEWS))
def test_a_view_of_another_array_is_written_as_it_looks(name: str, kind: str) -> None:
    view = VIEWS[name]
    before = view.copy()
    assert_alike(opened(encode_picture(view, kind, 95)), np.ascontiguousarray(view))
    np.testing.assert_array_equal(view, before)


def test_a_picture_that_nobody_may_write_to_is_written_to_a_file() -> None:
    picture = stripes()
    picture.flags.writeable = False
    assert_alike(opened(encode_picture(picture, "png")), picture)


@pytest.mark.parametrize("shape", [(24, 64), (24, 64, 1)])
def test_a_grey_picture_is_grey_or_refused(shape: tuple[int, ...]) -> None:
    """It is none that may be given: OpenCV 5 takes it, OpenCV 4 does not."""
    grey = stripes()[..., 1].reshape(shape)
    try:
        content = encode_picture(grey, "png")
    except UserError:
        return
    np.testing.assert_array_equal(opened(content), np.repeat(grey.reshape(24, 64, 1), 3, axis=2))


def test_the_longest_side_of_a_jpeg_is_written() -> None:
    wide = np.zeros((1, 65500, 3), np.uint8)
    assert decode_rgb(encode_picture(wide, "jpg")).shape == wide.shape
