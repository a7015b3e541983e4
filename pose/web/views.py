"""What the web page shows: one look of the network at a picture, drawn as often as the controls move."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from pose import geometry
from pose.draw.people import Style, draw_people
from pose.images import UnreadableImage
from pose.media.records import openpose
from pose.panels import Painter
from pose.predict.canvas import Prepared, map_back
from pose.predictor import Predictor
from pose.structures import People
from pose.web.limits import Limits, open_picture

LARGEST, SMALLEST = 1600, 640  # pixels of the long side of what a page shows


@dataclass(frozen=True)
class Seen:
    """A picture and its people: all that is kept of a visitor until the next picture."""

    file: Path
    size: tuple[int, int]  # height, width of the picture
    shown: np.ndarray  # (h, w, 3) uint8 RGB, the picture at the size of the page
    people: People  # in pixels of the picture
    seconds: float  # in the network and the decoder


class Viewer:
    """Looks at one picture at a time, whoever asks."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor = predictor
        self.limits = limits
        self.painter = Painter(predictor.batches.model.head.fields, predictor.skeleton)
        self._busy = threading.Lock()

    def field_names(self) -> list[str]:
        """Of the fields that `see` may draw, which depend on the head."""
        empty = np.zeros((64, 64, 3), np.uint8)
        prepared = self.predictor.batches.prepare(empty)
        fields, stride = self.predictor.batches.fields([prepared.canvases])
        nobody = People.none(len(self.predictor.skeleton))
        seen = Seen(Path(), (64, 64), empty, nobody, 0.0)
        return list(self._panels({name: maps[0] for name, maps in fields.items()}, stride, prepared, seen))

    def see(self, file: Path) -> tuple[Seen, dict[str, np.ndarray]]:
        """-> what is kept, and a picture (h, w, 3) of each of the network's fields, of the size of `shown`.

        Raises `UnreadableImage` for what `limits` do not allow and for what is no picture."""
        with self._busy:
            try:
                return self._see(file)
            except (MemoryError, torch.OutOfMemoryError):
                raise UnreadableImage(
                    f"{file.name} needs more memory than there is; make it smaller"
                ) from None

    def _see(self, file: Path) -> tuple[Seen, dict[str, np.ndarray]]:
        image = open_picture(file, self.limits)
        size = (image.shape[0], image.shape[1])
        batches = self.predictor.batches
        prepared = batches.prepare(image)
        start = time.perf_counter()
        fields, stride = batches.fields([prepared.canvases])
        people = batches.decode(fields, stride, [prepared])[0][1]
        seconds = time.perf_counter() - start
        shown = page_sized(image)
        seen = Seen(file, size, shown, people, seconds)
        own = {name: maps[0] for name, maps in fields.items()}
        return seen, self._panels(own, stride, prepared, seen)

    def _panels(
        self, fields: Mapping[str, Tensor], stride: int, prepared: Prepared, seen: Seen
    ) -> dict[str, np.ndarray]:
        """The fields over what the network saw of the picture, at the size of the page."""
        rows, columns = cells_of(prepared, stride)
        own = {name: maps[..., rows, columns] for name, maps in fields.items()}
        top, left = rows.start * stride, columns.start * stride
        canvas = prepared.canvases[0].permute(1, 2, 0).numpy()
        canvas = canvas[top : rows.stop * stride, left : columns.stop * stride]
        zoom = np.diag(self._to_page(seen)[:, :2]) / np.diag(prepared.matrix[:, :2])  # x, y
        to_cut = geometry.compose(prepared.matrix, np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]))
        people = map_back(seen.people.above(), geometry.invert(to_cut))
        x, y = zoom.tolist()
        return {panel.name: panel.picture for panel in self.painter.panels(canvas, own, people, zoom=(x, y))}

    def draw(self, seen: Seen, style: Style) -> np.ndarray:
        """The people on the picture at the size of the page."""
        people = map_back(seen.people, geometry.invert(self._to_page(seen)))
        return draw_people(seen.shown, people, self.predictor.skeleton, style)

    def draw_whole(self, seen: Seen, style: Style) -> np.ndarray:
        """The people on the picture at its own size, which is read once more: a page keeps little memory."""
        return self.predictor.draw(open_picture(seen.file, self.limits), seen.people, style)

    def record(self, seen: Seen, style: Style) -> dict[str, Any]:
        """The people who are shown, as OpenPose writes them, and what the numbers mean."""
        height, width = seen.size
        skeleton = self.predictor.skeleton
        shown = visible(seen.people, style)
        return {
            **openpose(People(seen.people.keypoints[shown], seen.people.scores[shown])),
            "picture": seen.file.name,
            "width": width,
            "height": height,
            "run": self.predictor.experiment.folder.name,
            "least_score": style.min_score,
            "keypoint_names": list(skeleton.keypoints),
            "limbs": [list(limb) for limb in skeleton.limbs],
        }

    def _to_page(self, seen: Seen) -> np.ndarray:
        """The matrix (2, 3) from pixels of the picture to pixels of `shown`."""
        (height, width), (rows, columns) = seen.size, seen.shown.shape[:2]
        return geometry.resize((columns / width, rows / height))


def cells_of(prepared: Prepared, stride: int) -> tuple[slice, slice]:
    """Rows and columns of a field's cells that the picture fills; the rest of the canvas is padding."""
    height, width = prepared.size
    low, high = geometry.apply(prepared.matrix, np.array([[0.0, 0.0], [width, height]])) / stride
    grid = np.array(prepared.canvases[0].shape[:0:-1]) // stride  # x, y
    first = low.round().clip(0, grid - 1).astype(int)
    last = np.clip(high.round(), first + 1, grid).astype(int)
    return slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))


def page_sized(image: np.ndarray) -> np.ndarray:
    """image (H, W, 3) whose long side has SMALLEST to LARGEST pixels; small ones grow by whole numbers."""
    height, width = image.shape[:2]
    long = max(height, width)
    if long > LARGEST:
        sides = (max(1, round(width * LARGEST / long)), max(1, round(height * LARGEST / long)))
        return cv2.resize(image, sides, interpolation=cv2.INTER_AREA)
    zoom = min(math.ceil(SMALLEST / long), LARGEST // long)
    if zoom <= 1:
        return image
    return cv2.resize(image, (width * zoom, height * zoom), interpolation=cv2.INTER_CUBIC)


def visible(people: People, style: Style) -> np.ndarray:
    """(N,) bool: who is drawn, with at least one keypoint."""
    drawn = people.keypoints[..., 2] > style.min_keypoint
    return (people.scores >= style.min_score) & drawn.any(1)


def summary(seen: Seen, style: Style) -> str:
    """One line: who was found, and how long it took."""
    height, width = seen.size
    total = len(seen.people)
    shown = int(visible(seen.people, style).sum())
    people = "Nobody found" if not total else "1 person" if shown == 1 else f"{shown} people"
    hidden = f" ({total - shown} more below the scores)" if total > shown else ""
    return f"{people}{hidden} · {1000 * seen.seconds:.0f} ms · {width} × {height} pixels"
