"""Fields beside the image that the network saw: the one painter of the trainer's panels, of visualize, of
browse and of the web page.

Everything is given in pixels of the network's input, and enlarged here together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from torch import Tensor

from pose import geometry
from pose.draw.fields import field_panels
from pose.draw.people import Style, draw_people
from pose.draw.sheets import Panel, panel_sheet
from pose.draw.view import hatched
from pose.heads.base import Head
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, FieldSpec, People

SAME = 0.15  # of a person's extent: a found person who is nearer is shown in the annotated one's colour

Zoom = float | tuple[float, float]  # pixels that are shown for each pixel of the input, of x and y
Seen = tuple[Mapping[str, Tensor], People]  # fields of one image, without the batch, and people


class Painter:
    """Shows fields as a head describes them, `Head.fields`."""

    def __init__(self, fields: Mapping[str, FieldSpec], skeleton: Skeleton) -> None:
        self.drawn = {name: spec.drawn for name, spec in fields.items()}
        self.skeleton = skeleton

    def panels(
        self,
        image: np.ndarray,
        fields: Mapping[str, Tensor],
        people: People | None = None,
        *,
        truth: People | None = None,
        numbers: Sequence[int] | None = None,
        zoom: Zoom = 1.0,
        each: bool = False,
    ) -> list[Panel]:
        """image (H, W, 3) uint8 RGB, the network's input or a part of it -> panels `zoom` times as large, as
        `field_panels` describes them, which takes the other arguments; people and truth in pixels of
        `image`."""
        return field_panels(
            enlarged(image, zoom),
            fields,
            self.drawn,
            self.skeleton,
            people=None if people is None else moved(people, zoom),
            truth=None if truth is None else moved(truth, zoom),
            numbers=numbers,
            zoom=float(np.sqrt(np.prod(_xy(zoom)))),
            each=each,
        )

    def sheet(
        self,
        image: np.ndarray,
        prediction: Seen,
        target: Seen | None = None,
        *,
        stages: Sequence[Mapping[str, Tensor]] = (),
        zoom: Zoom = 1.0,
        each: bool = False,
        style: Style | None = None,
    ) -> np.ndarray:
        """The image with its people and the panels of its fields, side by side; targets above.

        prediction, target: as `panels` takes fields and people; who is below the score of the style is left
        out.  stages: of a network, each read out by itself."""
        shown, truth, rows = enlarged(image, zoom), target[1] if target else None, []
        if target:
            drawn = draw_people(shown, moved(target[1], zoom), self.skeleton, style)
            if "mask" in target[0]:
                drawn = hatched(drawn, target[0]["mask"].float().cpu().numpy()[0])
            first = Panel("people", drawn, f"{len(target[1])} annotated")
            panels = self.panels(image, target[0], truth, zoom=zoom, each=each)
            rows.append([first, *_marked(panels, "target")])
        fields, everybody = prediction
        people = everybody.above(style.min_score) if style else everybody
        numbers = _like(people, truth) if truth is not None else range(len(people))
        drawn = draw_people(shown, moved(people, zoom), self.skeleton, style, numbers)
        panels = self.panels(image, fields, people, truth=truth, numbers=numbers, zoom=zoom, each=each)
        faint = len(everybody) - len(people)
        told = f" ({faint} more below {style.min_score:g})" if faint and style else ""
        found = Panel("people", drawn, f"{len(people)} found{told}")
        rows.append([found, *(_marked(panels, "predicted") if target else panels)])
        for i, stage in enumerate(stages):
            panels = self.panels(image, stage, zoom=zoom, each=each)
            rows.append(_marked(panels, f"stage {i + 1} of {len(stages)}, one scale, not mirrored:"))
        return panel_sheet(rows)


def enlarged(image: np.ndarray, zoom: Zoom) -> np.ndarray:
    """image (h, w, 3) `zoom` times as large; cubic, and averaged over areas where it gets smaller."""
    (x, y), (height, width) = _xy(zoom), image.shape[:2]
    size = (max(1, round(width * x)), max(1, round(height * y)))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if max(x, y) > 1 else cv2.INTER_AREA)


def moved(people: People, zoom: Zoom) -> People:
    """People of an image -> of the one that `enlarged` makes of it.

    Pixels are squares round their coordinates, which is how OpenCV enlarges and how images are warped to the
    input, whatever `input.pixel_center` the network's own cells go by."""
    keypoints = people.keypoints.copy()
    keypoints[..., :2] = geometry.apply(geometry.resize(_xy(zoom)), keypoints[..., :2])
    keypoints[keypoints[..., 2] <= 0] = 0
    return People(keypoints, people.scores)


def _xy(zoom: Zoom) -> tuple[float, float]:
    return zoom if isinstance(zoom, tuple) else (zoom, zoom)


# ------------------------------------------------------------------------------------------ what is shown


def true_people(keypoints: np.ndarray) -> People:
    """keypoints (P, K, 3) with v = 0, 1, 2 -> the labelled people, what is hidden half as certain."""
    labelled = keypoints[(keypoints[..., 2] > 0).any(1)].astype(np.float32)
    labelled[..., 2] /= 2
    return People(labelled, np.ones(len(labelled), np.float32))


def of_first(fields: Fields) -> Fields:
    """Returns the fields of the first image of a batch."""
    return {name: maps[0] for name, maps in fields.items()}


def target_of(head: Head, batch: Batch, stride: int) -> tuple[Fields, People]:
    """What the annotations of a batch's first image ask for on the grid of a stride."""
    fields = of_first(head.target_fields(head.targets(batch, stride)))
    return fields, true_people(batch.keypoints[0].cpu().numpy())


def as_bytes(images: Tensor) -> np.ndarray:
    """The first of images (B, 3, H, W) in [0, 1], as (H, W, 3) uint8."""
    return (255 * images[0]).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def _like(people: People, truth: People) -> list[int]:
    """Numbers of the people: that of the nearest annotated one, where it is near, so that both have one
    colour; others count on."""
    numbers: list[int] = []
    free = list(range(len(truth)))
    for person in people.keypoints:
        away = {i: _apart(person, truth.keypoints[i]) for i in free}
        nearest = min(away, key=lambda i: away[i], default=None)
        if nearest is not None and away[nearest] < SAME:
            free.remove(nearest)
            numbers.append(nearest)
        else:
            numbers.append(len(truth) + sum(number >= len(truth) for number in numbers))
    return numbers


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Median distance of the keypoints that both have, in extents of the other."""
    there = (one[:, 2] > 0) & (other[:, 2] > 0)
    if not there.any():
        return np.inf
    known = other[other[:, 2] > 0, :2]
    extent = max(float(np.linalg.norm(np.ptp(known, axis=0))), 1.0)
    return float(np.median(np.linalg.norm(one[there, :2] - other[there, :2], axis=1))) / extent


def _marked(panels: Sequence[Panel], mark: str) -> list[Panel]:
    return [Panel(one.name, one.picture, f"{mark} {one.caption}") for one in panels]
