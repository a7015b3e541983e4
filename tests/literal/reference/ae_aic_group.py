"""Test-time procedure of JakeRenn's associative-embedding entry to AI Challenger, restated literally: picture
-> maps -> grouped people, loop by loop.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017),
as released in Pytorch-Multi-Person-Pose-Estimation.  Its suppression of neighbours is a compiled file without
source; the behaviour is what that file does.

Where the description leaves room:
- the threshold plays no part within `nms`; candidates are what is above it afterwards, compared in float32.
- a map smaller than the window has no window, so nothing is suppressed.
- "best so far" starts at 0, and tag distances are computed in float64.
- a coordinate is (cell / grid) * size, in this order, plus the integer offset, truncated.
- the greyscale pictures on which the original fails are not treated here: pictures are (H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image

# head top, neck, shoulders, hips, then arms and legs, each from the inner joint outwards
ORDER = (12, 13, 0, 3, 6, 9, 1, 2, 4, 5, 7, 8, 10, 11)
FLIP = (3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8, 12, 13)
SIZES = {"single": (512,), "multi": (512, 640)}
GRID = 64
Person = dict[int, tuple[int, int, float]]  # joint -> x, y (cells), score
Forward = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def nms(score: np.ndarray, size: int = 5) -> np.ndarray:
    """score (K, h, w) -> the same after a window of size x size cells went over every map in raster order and
    set all but its maximum to 0, in place."""
    score = score.copy()
    for channel in score:
        for y in range(channel.shape[0] - size + 1):
            for x in range(channel.shape[1] - size + 1):
                window = channel[y : y + size, x : x + size]
                highest = max(-99.0, window.max())
                window[window != highest] = 0
    return score


def group(
    score: np.ndarray,
    tags: np.ndarray,
    order: Sequence[int] = ORDER,
    threshold: float = 0.3,
    size: int = 5,
    tag_threshold: float = 0.5,
    min_taken: int = 3,
) -> list[Person]:
    """score (K, h, w) float32, tags (K, h, w, T) float32 -> people in the order in which they are found."""
    peaks = nms(score, size)
    candidates = {k: [(int(y), int(x)) for y, x in zip(*np.where(peaks[k] > threshold))] for k in order}
    used: set[tuple[int, int, int]] = set()
    limit = tag_threshold * np.sqrt(tags.shape[-1])
    people: list[Person] = []
    while True:
        unused = [(k, y, x) for k in order for y, x in candidates[k] if (k, y, x) not in used]
        if not unused:
            return people
        seed = unused[0]
        used.add(seed)
        person: Person = {seed[0]: (seed[2], seed[1], float(peaks[seed]))}
        own = tags[seed].astype(np.float64)
        taken = 0
        for k in order:
            if k == seed[0]:
                continue
            best = 0.0
            for y, x in candidates[k]:
                if (k, y, x) in used:
                    continue
                distance = np.sqrt(np.sum((tags[k, y, x].astype(np.float64) - own) ** 2))
                if distance < limit and peaks[k, y, x] > best:
                    best = float(peaks[k, y, x])
                    person[k] = (x, y, best)  # the one before it is not given back
                    used.add((k, y, x))
                    taken += 1
        if taken >= min_taken:
            people.append(person)


def coordinate(cell: int, grid: int, size: int) -> int:
    """A cell of `grid` cells -> a pixel of a picture with `size` pixels along this side."""
    return int(cell / grid * size + (size // grid) // 2)


def canvas(picture: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (side, side, 3) uint8, antialiased, whatever the aspect."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


def fused_maps(
    picture: np.ndarray,
    forward: Forward,
    sizes: Sequence[int] = SIZES["multi"],
    grid: int = GRID,
    flip: Sequence[int] = FLIP,
) -> tuple[np.ndarray, np.ndarray]:
    """`forward`: (side, side, 3) uint8 -> score and embedding (K, h, w) of the last stack.  -> score
    (K, grid, grid), tags (K, grid, grid, 2 * sizes)."""
    scores: list[np.ndarray] = []
    embeddings: list[np.ndarray] = []
    for side in sizes:
        image = canvas(picture, side)
        for mirrored in (False, True):
            maps = forward(np.ascontiguousarray(image[:, ::-1]) if mirrored else image)
            if mirrored:
                maps = (maps[0][list(flip)][:, :, ::-1], maps[1][list(flip)][:, :, ::-1])
            for kind, found in zip(maps, (scores, embeddings)):
                small = [cv2.resize(np.ascontiguousarray(one), (grid, grid)) for one in kind]
                found.append(np.stack(small))
    return np.mean(scores, axis=0), np.stack(embeddings, axis=-1)


def people_of(
    picture: np.ndarray,
    forward: Forward,
    sizes: Sequence[int] = SIZES["multi"],
    grid: int = GRID,
    flip: Sequence[int] = FLIP,
    order: Sequence[int] = ORDER,
) -> list[np.ndarray]:
    """picture (H, W, 3) uint8 RGB -> people (K, 3) x, y in whole pixels and 1, or 0 0 0 where not found."""
    height, width = picture.shape[:2]
    score, tags = fused_maps(picture, forward, sizes, grid, flip)
    people = []
    for person in group(score, tags, order):
        keypoints = np.zeros((len(order), 3), np.int64)
        for k, (x, y, _) in person.items():
            keypoints[k] = (coordinate(x, grid, width), coordinate(y, grid, height), 1)
        people.append(keypoints)
    return people
