"""People on a data set's pictures, with the work shared among processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pose.data.images import Orientation, SetImage
from pose.errors import UserError
from pose.model import PoseModel
from pose.predict.images import Outcome, predict_images
from pose.predict.settings import Mode, TestSettings
from pose.structures import People

Gather = Callable[[Any], list[Any]]


def predict_set(
    models: Sequence[PoseModel],
    images: Sequence[SetImage],
    settings: TestSettings,
    *,
    gather: Gather,
    share: tuple[int, int],
    mode: Mode,
    workers: int,
    strict: bool = False,
    orientation: Orientation = "stored",
    timeout: float = 0.0,
    progress: bool = True,
) -> tuple[dict[int, People], Outcome]:
    """People by image id from all processes (each does its share), and this process's outcome."""
    outcome = predict_images(
        models,
        images,
        settings,
        mode=mode,
        workers=workers,
        strict=strict,
        orientation=orientation,
        share=share,
        timeout=timeout,
        progress=progress,
    )
    parts = gather((outcome.people, outcome.unreadable))
    merged = {index: people for part, _ in parts for index, people in part.items()}
    bad = {index: text for _, part in parts for index, text in part.items()}
    shared = sum(len(part) + len(texts) for part, texts in parts)
    if shared != len(images) or len(merged) + len(bad) != len(images):
        raise AssertionError(
            f"{len(images)} pictures, but people of {len(merged)} and {len(bad)} unreadable ones "
            f"out of {shared} that were read"
        )
    if images and len(bad) == len(images):
        raise UserError(f"none of the {len(images)} images can be used (first: {bad[min(bad)]})")
    outcome.unreadable = bad
    return {images[index].id: merged[index] for index in sorted(merged)}, outcome
