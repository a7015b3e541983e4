"""What every head offers.  A head has no weights, only settings and buffers."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pose.errors import UserError
from pose.pairwise_statistics import PairwiseStatistics
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, FieldSpec, People


class Head(nn.Module, ABC):
    """One grouping method: which fields it needs, how their targets are drawn, how they are supervised, read
    out and decoded to people."""

    fields: dict[str, FieldSpec]
    """What the network must produce, in channel order."""

    @abstractmethod
    def targets(self, batch: Batch, stride: int) -> Any:
        """Targets on the grid of `stride`, on the batch's device, for the whole batch at once."""

    @abstractmethod
    def loss(self, stages: Sequence[Fields], targets: Sequence[Any]) -> dict[str, Tensor]:
        """Weighted scalar terms by name, summed by the trainer; `targets[s]` belongs to `stages[s]`."""

    @abstractmethod
    def readout(self, stages: Sequence[Fields]) -> Fields:
        """The fields to decode, in float32 and physical units: chooses the stage, applies sigmoids."""

    @abstractmethod
    def decode(self, fields: Fields, stride: int) -> list[People]:
        """Fused fields -> the people of every image, keypoints in pixels of the grid's input.

        A field with `fuse="mean"` is (B, C, h, w); one with `fuse="stack"` is (B, T, C, h, w)."""

    @property
    def channels(self) -> dict[str, int]:
        return {name: spec.channels for name, spec in self.fields.items()}

    def warnings(self, terms: dict[str, float]) -> list[str]:
        """Sentences for the log when the loss terms of a stretch of training look like a known failure."""
        return []


def build_decoder(
    settings: Any,
    skeleton: Skeleton,
    pixel_center: float,
    head: str,
    fields: Sequence[str],
    statistics: PairwiseStatistics | None = None,
) -> Any:
    """The decoder of `settings`, if the fields that it needs are those of the head.  `statistics` go to a
    decoder whose constructor takes them."""
    missing = [name for name in DECODERS[settings.name].component.needs if name not in fields]
    if missing:
        raise UserError(
            f"head.decoder: {settings.name!r} groups by {', '.join(missing)}, but the head {head!r} has "
            f"{', '.join(fields)}; leave head.decoder.name out, or choose a decoder of this head"
        )
    takes = inspect.signature(DECODERS[settings.name].component).parameters
    more = {"statistics": statistics} if "statistics" in takes else {}
    return DECODERS.build(settings, skeleton, pixel_center, **more)
