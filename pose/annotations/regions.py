"""Segmentations and boxes of annotations -> run-length encodings of what is not trained on."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pose.annotations.numbers import LARGEST, is_number

MOST_TURNS = 64  # height and width of the image: what goes back and forth more often is no outline
LONGEST_OUTLINE = 1e6  # pixels; drawing one takes 0.1 GB
TOGETHER = 8192  # segmentations checked together, few enough for the processor's cache
AT_ONCE = 256  # polygons drawn together
LONGEST_DIGITS = 12  # of a run length: 2 ** 60 pixels
BOX_TO_AREA = 0.53  # a person's share of its box, where a file gives no area; CrowdPose's figure


def merged(regions: list[dict[str, Any]]) -> bytes:
    """The run lengths of their union."""
    if len(regions) == 1:
        return regions[0]["counts"]
    return coco_mask.merge(regions)["counts"] if regions else b""


def region(segmentation: Any, box: np.ndarray, size: tuple[int, int]) -> dict[str, Any] | None:
    """The run-length encoding of a segmentation, or of the box (4,) x, y, width, height where that cannot be
    used; None where neither can.  size: height and width of the image."""
    height, width = size
    if isinstance(segmentation, dict):
        runs = _runs(segmentation, size)
        if runs is not None:
            return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    if isinstance(segmentation, list):
        polygons = _polygons(segmentation, size)
        if polygons:
            drawn = coco_mask.frPyObjects(polygons, height, width)
            return drawn[0] if len(drawn) == 1 else coco_mask.merge(drawn)
    if not usable_box(box):
        return None
    x, y, w, h = box.tolist()
    x0, y0 = min(max(x, 0.0), width), min(max(y, 0.0), height)
    x1, y1 = min(max(x + w, x0), width), min(max(y + h, y0), height)
    return coco_mask.frPyObjects(np.array([[x0, y0, x1 - x0, y1 - y0]], np.float64), height, width)[0]


def regions(
    segmentations: Sequence[Any], boxes: np.ndarray, sizes: np.ndarray
) -> list[dict[str, Any] | None]:
    """`region` of N annotations: boxes (N, 4) x, y, width, height; sizes (N, 2) height and width of their
    images.  Polygons, which nearly all are, are checked and drawn together."""
    found: list[dict[str, Any] | None] = [None] * len(segmentations)
    listed = [
        i
        for i, one in enumerate(segmentations)
        if type(one) is list and one and all(type(points) is array for points in one)
    ]
    for first in range(0, len(listed), TOGETHER):
        some = listed[first : first + TOGETHER]
        drawn = _drawn([segmentations[i] for i in some], sizes[some])
        for i, parts in zip(some, drawn, strict=True):
            if parts:
                found[i] = parts[0] if len(parts) == 1 else coco_mask.merge(parts)
    for i, one in enumerate(found):
        if one is None:
            height, width = sizes[i].tolist()
            found[i] = region(segmentations[i], boxes[i], (height, width))
    return found


def _drawn(segmentations: Sequence[list[array[Any]]], sizes: np.ndarray) -> list[list[dict[str, Any]]]:
    """The encodings of each one's usable polygons; none where they might have too many pixels of edges."""
    polygons = list(chain.from_iterable(segmentations))
    owner = np.repeat(np.arange(len(segmentations)), [*map(len, segmentations)])
    length = np.array([*map(len, polygons)])
    whole = np.flatnonzero((length >= 6) & (length % 2 == 0))
    if not len(whole):
        return [[] for _ in segmentations]
    owner, corners = owner[whole], length[whole] // 2
    given = (polygons[i] for i in whole.tolist())
    values = b"".join([one if one.typecode == "d" else array("d", one) for one in given])
    points = np.frombuffer(values, np.float64).reshape(-1, 2)
    start = np.cumsum(corners) - corners
    finite = np.logical_and.reduceat((np.abs(points.ravel()) < LARGEST), 2 * start)
    points = np.minimum(points.clip(min=0), np.repeat(sizes[owner][:, ::-1], corners, axis=0))
    edges = np.maximum(*np.abs(np.diff(points.T, append=points[-1:].T)))
    edges[start[1:] - 1] = 0  # from one polygon to the next
    with np.errstate(invalid="ignore"):
        outline = np.bincount(owner[finite], np.add.reduceat(edges, start)[finite], len(segmentations))
    # `_polygons` adds the edges up in another order and says what becomes of outlines as long as this
    short = outline < 0.999 * np.minimum(MOST_TURNS * sizes.sum(1), LONGEST_OUTLINE)
    found: list[list[dict[str, Any]]] = [[] for _ in segmentations]
    usable = np.flatnonzero(finite & short[owner])
    usable = usable[np.lexsort(sizes[owner[usable]].T)]  # by size, else in order
    of_size = sizes[owner[usable]]
    bounds = np.flatnonzero((of_size[1:] != of_size[:-1]).any(1)) + 1
    for alike in np.split(usable, bounds) if len(usable) else []:
        height, width = sizes[owner[alike[0]]].tolist()
        for first in range(0, len(alike), AT_ONCE):
            part = alike[first : first + AT_ONCE].tolist()
            outlines = [points[start[i] : start[i] + corners[i]].ravel() for i in part]
            for i, one in zip(part, coco_mask.frPyObjects(outlines, height, width), strict=True):
                found[owner[i]].append(one)
    return found


def usable_mask(segmentation: Any, size: tuple[int, int]) -> bool:
    """Whether `region` takes the segmentation and not the box."""
    if isinstance(segmentation, dict):
        return _runs(segmentation, size) is not None
    return isinstance(segmentation, list) and bool(_polygons(segmentation, size))


def usable_box(boxes: np.ndarray) -> np.ndarray:
    """boxes (..., 4) x, y, width, height -> (...) bool: whether `region` can take each."""
    return (np.abs(boxes) < LARGEST).all(-1) & (boxes[..., 2:] > 0).all(-1)


def _polygons(segmentation: list[Any], size: tuple[int, int]) -> list[np.ndarray]:
    """Those that can be drawn, none where they have too many pixels of edges: the C library draws each."""
    found = [p for p in (_polygon(points, size) for points in segmentation) if p is not None]
    outline = sum(float(np.abs(np.diff(p.reshape(-1, 2), axis=0)).max(1).sum()) for p in found)
    return found if outline <= min(MOST_TURNS * sum(size), LONGEST_OUTLINE) else []


def _polygon(points: Any, size: tuple[int, int]) -> np.ndarray | None:
    """x0, y0, x1, y1, ... inside the image: the C library draws every pixel of an edge, however far out."""
    if not isinstance(points, list | array) or len(points) < 6 or len(points) % 2:
        return None
    if isinstance(points, list) and not all(is_number(value) for value in points):
        return None
    given = np.array(points, np.float64)
    if not (np.abs(given) < LARGEST).all():
        return None
    return np.minimum(given.clip(min=0), np.array([size[1], size[0]] * (len(given) // 2)))


def _runs(rle: Mapping[str, Any], size: tuple[int, int]) -> list[int] | np.ndarray | None:
    """The run lengths of an encoding, checked: the C library trusts them and would write past the image."""
    counts = rle.get("counts")
    if rle.get("size") != list(size):
        return None
    runs = _decode_counts(counts) if isinstance(counts, str) else counts
    if isinstance(runs, array) and runs.typecode in "hi":
        packed = np.frombuffer(runs, runs.typecode)
        usable = len(packed) and packed.min() >= 0 and packed.sum(dtype=np.int64) == size[0] * size[1]
        return packed if usable else None
    if not isinstance(runs, list):
        return None
    if set(map(type, runs)) == {int}:  # nearly always
        if min(runs) < 0:
            return None
    elif not all(isinstance(run, int) and run >= 0 for run in runs):
        return None
    return runs if sum(runs) == size[0] * size[1] else None


def _decode_counts(text: str) -> list[int] | None:
    """COCO's compressed text -> run lengths: digits of base 32 from 48 on, the lowest first, 32 = more
    follow; from the fourth run on, a number is the difference to the run two before it."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if shift > 5 * LONGEST_DIGITS:
            return None
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if shift == 0 else None
