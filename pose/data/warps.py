"""Random geometry: what is cut out of an image, how it is turned, moved and mirrored.

The ranges are those of pose-ae-train (Newell, Huang, Deng: Associative Embedding, 2017); HigherHRNet's are
`scale: [0.75, 1.5]`, `scale_of: short`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from pose import geometry
from pose.config import Settings

PERSON_HEIGHT = 0.6  # of the input's side: what the box of the chosen person becomes at `person_scale` 1
PERSON_KEYPOINTS = 5  # labelled ones that a person must have to be chosen, and
PERSON_AREA = 32.0**2  # its area in pixels of the image


def check_range(value: tuple[float, float], *, above_zero: bool = False) -> tuple[float, float]:
    """For validators: two factors, the smaller first, none negative (nor 0)."""
    low, high = value
    if not 0 <= low <= high or (above_zero and low == 0):
        raise ValueError(f"expected the smaller factor first, both positive, got [{low}, {high}]")
    return value


class WarpSettings(Settings):
    """Ranges of the random geometry of a training image."""

    crop: Literal["image", "person", "whole"] = "image"
    """What is cut out: image = a square round the middle of the image, by `scale`, `scale_of`, `shift`;
    person = one round a person drawn at random, by `person_scale`, `person_shift` (Cao et al., 2017), and as
    for image where nobody has 5 labelled keypoints and 1024 pixels of area; whole = the whole image at
    `whole_scale` times its own size, in batches of like shapes (DeeperCut)."""
    scale: tuple[float, float] = (0.75, 1.25)
    """Smallest and largest factor on the side of the square that is cut out: above 1 shrinks the image."""
    scale_of: Literal["long", "short"] = "long"
    """Factor 1 is a square of the image's long side (all is seen) or of its short side (HigherHRNet)."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest turn in degrees, either way."""
    shift: Annotated[float, Field(ge=0)] = 0.2
    """Largest move of the square per axis, either way, as a fraction of its side."""
    person_scale: tuple[float, float] = (0.5, 1.1)
    """Smallest and largest factor on 0.6 of the input's shorter side, which the height of the person's box
    becomes: above 1 enlarges the image."""
    person_shift: Annotated[float, Field(ge=0)] = 40.0
    """Largest distance of the person from the middle of the input per axis, in pixels of the input."""
    whole_scale: tuple[float, float] = (0.85, 1.15)
    """Smallest and largest factor on the size of a whole image; one that would have more pixels than
    `input.size` is made that large."""
    whole_multiple: Annotated[int, Field(ge=1)] = 64
    """The sides of a batch of whole images are rounded up to multiples of this: the larger, the fewer
    shapes there are, and the wider the borders."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of mirroring."""

    @field_validator("scale", "person_scale", "whole_scale")
    @classmethod
    def _check_scale(cls, value: tuple[float, float]) -> tuple[float, float]:
        return check_range(value, above_zero=True)


def draw_affine(
    rng: np.random.Generator,
    settings: WarpSettings,
    size: tuple[int, int],
    output_size: tuple[int, int],
    pixel_center: float = geometry.PIXEL_CENTER,
) -> tuple[np.ndarray, bool]:
    """A random matrix (2, 3) from an image of `size` to an input of `output_size` (both height, width), and
    whether it mirrors.

    The five numbers are drawn whatever the settings are, so that switching one change off leaves the others
    as they were."""
    side = (max(size) if settings.scale_of == "long" else min(size)) * rng.uniform(*settings.scale)
    rotation = rng.uniform(-settings.rotation, settings.rotation)
    dx, dy = rng.uniform(-settings.shift, settings.shift, 2) * side
    flip = bool(rng.random() < settings.flip)
    matrix = geometry.affine(
        size=size, output_size=output_size, side=side, rotation=rotation, shift=(dx, dy), flip=flip,
        pixel_center=pixel_center,
    )  # fmt: skip
    return matrix, flip


def draw_person_affine(
    rng: np.random.Generator,
    settings: WarpSettings,
    boxes: np.ndarray,
    size: tuple[int, int],
    output_size: tuple[int, int],
    pixel_center: float = geometry.PIXEL_CENTER,
) -> tuple[np.ndarray, bool]:
    """As `draw_affine`, for a crop round one of the people with `boxes` (N, 4) x, y, width, height; N > 0.

    The person is scaled, turned about the middle of its box, put near the middle of the input, and then
    mirrored, as Cao, Simon, Wei, Sheikh: Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields
    (CVPR 2017) trained."""
    x, y, width, height = boxes[rng.integers(len(boxes))].tolist()
    # a box without a height would enlarge the image without an end
    side = max(height, 1.0) / (PERSON_HEIGHT * rng.uniform(*settings.person_scale))
    rotation = rng.uniform(-settings.rotation, settings.rotation)
    dx, dy = rng.uniform(-settings.person_shift, settings.person_shift, 2)
    flip = bool(rng.random() < settings.flip)
    middle = (x + width / 2 - size[1] / 2, y + height / 2 - size[0] / 2)
    centered = geometry.affine(
        size=size, output_size=output_size, side=side, rotation=rotation, shift=middle,
        pixel_center=pixel_center,
    )  # fmt: skip
    moved = geometry.affine(
        size=output_size, output_size=output_size, side=min(output_size), shift=(dx, dy), flip=flip,
        pixel_center=pixel_center,
    )  # fmt: skip
    return geometry.compose(centered, moved), flip


def whole_factor(
    rng: np.random.Generator, settings: WarpSettings, size: tuple[int, int], limit: tuple[int, int]
) -> float:
    """By what a whole image of `size` (height, width) is enlarged: to at most the area of `limit`, and to
    twice its longer side, as the others of the batch get a canvas as long."""
    most = min(float(np.sqrt(limit[0] * limit[1] / (size[0] * size[1]))), 2 * max(limit) / max(size))
    return min(rng.uniform(*settings.whole_scale), most)


def draw_whole_affine(
    rng: np.random.Generator,
    settings: WarpSettings,
    factor: float,
    size: tuple[int, int],
    output_size: tuple[int, int],
    pixel_center: float = geometry.PIXEL_CENTER,
) -> tuple[np.ndarray, bool]:
    """As `draw_affine`, for an image enlarged by `factor` in the middle of a canvas that holds it."""
    side = min(output_size) / factor
    rotation = rng.uniform(-settings.rotation, settings.rotation)
    flip = bool(rng.random() < settings.flip)
    matrix = geometry.affine(
        size=size, output_size=output_size, side=side, rotation=rotation, flip=flip, pixel_center=pixel_center
    )
    return matrix, flip
