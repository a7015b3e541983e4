"""Pictures of every kind look as viewers show them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pose.images import UnreadableImage, as_rgb, exif_turn, header_size, read_image, turned

RNG = np.random.default_rng(0)
SCENE = cv2.resize(RNG.integers(0, 255, (6, 8, 3), np.uint8), (64, 48))
GREY = np.repeat(SCENE[..., :1], 3, axis=2)
CLEAR = np.zeros((48, 64), np.uint8)
CLEAR[10:20, 10:20], CLEAR[30:40, 10:20] = 255, 128
UPRIGHT = np.ascontiguousarray(np.rot90(SCENE, -1))


def over_white() -> np.ndarray:
    """SCENE with the alpha CLEAR, pixel by pixel."""
    expected = np.empty_like(SCENE)
    for y in range(48):
        for x in range(64):
            a = CLEAR[y, x] / 255
            expected[y, x] = np.round(a * SCENE[y, x] + (1 - a) * 255)
    return expected


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 6  # turn by 90 degrees clockwise
    return exif


def write(kind: str, file: Path) -> np.ndarray:
    """Writes a picture of this kind; returns what a viewer shows."""
    image = Image.fromarray(SCENE)
    if kind == "grey":
        Image.fromarray(SCENE[..., 0]).save(file)
        return GREY
    if kind == "grey16":
        cv2.imwrite(str(file), SCENE[..., 0].astype(np.uint16) * 257)
        return GREY
    if kind == "color16":
        cv2.imwrite(str(file), SCENE[..., ::-1].astype(np.uint16) * 257)
        return SCENE
    if kind == "alpha":
        Image.fromarray(np.dstack([SCENE, CLEAR])).save(file)
        return over_white()
    if kind == "alpha16":
        deep = np.dstack([SCENE[..., ::-1], CLEAR]).astype(np.uint16) * 257
        cv2.imwrite(str(file), deep)
        return over_white()
    if kind == "palette":
        image.quantize(16).save(file)
        return np.asarray(image.quantize(16).convert("RGB"))
    if kind == "cmyk":
        image.convert("CMYK").save(file, quality=98)
        return SCENE
    if kind == "turned":
        image.save(file, exif=rotated(), quality=98, subsampling=0)
        return UPRIGHT
    Image.fromarray(SCENE[:1, :1]).save(file)
    return SCENE[:1, :1]


KINDS = {
    "grey": "png", "grey16": "png", "color16": "tif", "alpha": "png", "alpha16": "png", "palette": "png",
    "cmyk": "jpg", "turned": "jpg", "tiny": "png",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_any_kind_is_read_as_viewers_show_it(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{KINDS[kind]}"
    expected = write(kind, file)
    image = read_image(file)
    assert image.dtype == np.uint8 and image.shape == expected.shape
    np.testing.assert_allclose(image.astype(int), expected, atol=6 if KINDS[kind] == "jpg" else 1)


@pytest.mark.parametrize("kind", ["grey", "grey16", "alpha", "palette", "cmyk", "turned", "tiny"])
def test_pil_pictures_are_the_same_as_their_files(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{KINDS[kind]}"
    write(kind, file)
    with Image.open(file) as picture:
        np.testing.assert_allclose(as_rgb(picture).astype(int), read_image(file), atol=2)


def test_stored_pixels_stay_as_they_lie_in_the_file(tmp_path: Path) -> None:
    write("turned", tmp_path / "a.jpg")
    stored = read_image(tmp_path / "a.jpg", orientation="stored")
    np.testing.assert_allclose(stored.astype(int), SCENE, atol=6)
    write("alpha", tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", orientation="stored"), SCENE)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (SCENE, SCENE),
        (SCENE[..., 0], GREY),
        (SCENE[..., :1], GREY),
        (SCENE.astype(np.uint16) * 257, SCENE),
        (np.dstack([SCENE, CLEAR]), over_white()),
    ],
    ids=["rgb", "grey", "grey with an axis", "16 bit", "rgba"],
)
def test_arrays_of_any_kind_become_rgb(array: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(as_rgb(array).astype(int), expected, atol=1)


@pytest.mark.parametrize(
    "array",
    [SCENE / 255, SCENE[..., :2], SCENE[:0], np.zeros(5, np.uint8), SCENE.astype(bool), "text", None],
    ids=["floats", "two channels", "empty", "flat", "bool", "text", "nothing"],
)
def test_other_arrays_are_refused_with_a_sentence(array: object) -> None:
    with pytest.raises(UnreadableImage, match="a picture must be an array"):
        as_rgb(array)


def test_an_image_that_would_fill_the_memory_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.png"
    Image.new("1", (14_000, 14_000)).save(small)  # 24 KB; 0.6 GB in memory
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableImage, match="has more than 178 megapixels"):
        read_image(small)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_every_turn_of_every_format_is_shown_or_left(tmp_path: Path, suffix: str, turn: int) -> None:
    """Stored pixels as they lie in the file, with the size that the header tells; or as viewers show them."""
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:20, :30], stored[20:, :30], stored[:20, 30:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    tag = Image.Exif()
    tag[0x112] = turn
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(file, exif=tag, quality=95)
    shown = turned(stored, turn)
    for orientation, expected in (("stored", stored), ("exif", shown)):
        seen = read_image(file, orientation=orientation)  # type: ignore[arg-type]
        assert seen.shape == expected.shape and abs(seen.astype(int) - expected).mean() < 5
    assert header_size(file) == (40, 60) and exif_turn(file) == turn
