"""What every head offers: settings, buffers, and layers of its own where the method has some."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pose.errors import UserError
from pose.geometry import LayoutLike, as_layout
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, FieldSpec, People


class Head(nn.Module, ABC):
    """One grouping method: which fields it needs, how their targets are drawn, how they are supervised, read
    out and decoded to people."""

    fields: dict[str, FieldSpec]
    """What the network must produce, in channel order."""

    layout: LayoutLike
    """Where the network's cells lie."""

    def layers(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module | None:
        """The layers between features (B, channels[i], H / strides[i], W / strides[i]), fine to coarse, and
        the stages of fields, where the method has some of its own; they have `strides`, those of the stages.
        None: those of the config's `predictor:`."""
        return None

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

    def target_fields(self, targets: Any) -> Fields:
        """The targets of one stride as maps that can be looked at beside the `readout`, in its units.

        Each of `fields` by its name, without nan and 0 where nothing is asked for; `mask` (B, 1, h, w), 0
        where nothing counts; and for a field that is asked for at some cells only NAME_known (B, C, h, w)
        bool, with as many maps as the field has or a divisor of them.  For images, not for training."""
        maps = {name: getattr(targets, name).float() for name in self.fields if hasattr(targets, name)}
        return {**maps, "mask": targets.mask.float()}

    def combined(self, stages: Sequence[Fields]) -> Fields:
        """The raw maps that `readout` is made of, float32: of each resolution the last stage; a field with
        several resolutions is brought to the finest one (bilinear) and averaged."""
        levels = last_of_each_size(stages)
        size = next(iter(levels[-1].values())).shape[-2:]
        combined = {}
        for name in self.fields:
            maps = [to_size(level[name].float(), size, self.layout) for level in levels if name in level]
            combined[name] = maps[0] if len(maps) == 1 else torch.stack(maps).mean(0)
        return combined

    @torch.no_grad()
    def readout_each(self, stages: Sequence[Fields]) -> list[Fields]:
        """What `readout` would give for each stage if it were the only one; a stage may lack fields."""
        return [self._readout_one(stage) for stage in stages]

    def _readout_one(self, stage: Fields) -> Fields:
        some = next(iter(stage.values()))
        absent = {
            name: some.new_zeros(some.shape[0], spec.channels, *some.shape[-2:])
            for name, spec in self.fields.items()
            if name not in stage
        }
        read = self.readout([{**absent, **stage}])
        return {name: read[name] for name in self.fields if name in stage}

    def prepare(self, samples: Iterable[np.ndarray]) -> None:
        """Works out what the method must know of a data set before a new run, into persistent buffers.

        samples: keypoints (P, K, 3) of images as training shows them, in pixels of the input; only looked at
        where they are needed."""

    @property
    def prepared(self) -> bool:
        """Whether `prepare` has been called for these buffers; True where there is nothing to prepare."""
        return True

    def restore(self, folder: Path) -> str:
        """Takes what a run folder has beside its weights in place of the buffers; the text that it read."""
        return ""

    def constants(self) -> str:
        """What `prepare` worked out, as text for an exported file; "" where there is nothing."""
        return ""

    def use_constants(self, text: str, source: Path | str) -> None:
        """Takes what `constants` gave; `source` is named in errors.  Raises `UserError`."""

    @property
    def channels(self) -> dict[str, int]:
        return {name: spec.channels for name, spec in self.fields.items()}

    def warnings(self, terms: dict[str, float]) -> list[str]:
        """Sentences for the log when the loss terms of a stretch of training look like a known failure."""
        return []


def last_of_each_size(stages: Sequence[Fields]) -> list[Fields]:
    """Of the stages with one resolution the last one with all that one of them has, coarse to fine as they
    come."""
    levels: dict[int, Fields] = {}
    for stage in stages:
        rows = int(next(iter(stage.values())).shape[-2])
        levels[rows] = {**levels.pop(rows, {}), **stage}
    return [levels[rows] for rows in sorted(levels)]


def to_size(maps: Tensor, size: torch.Size, layout: LayoutLike) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear."""
    if maps.shape[-2:] == size:
        return maps
    corners = as_layout(layout).cells == "corners"
    return F.interpolate(maps, size, mode="bilinear", align_corners=corners)


def build_decoder(
    settings: Any,
    skeleton: Skeleton,
    layout: LayoutLike,
    head: str,
    fields: Sequence[str],
    **more: Any,
) -> Any:
    """The decoder of `settings`, if the fields that it needs are those of the head.  Each of `more` goes to a
    decoder whose constructor takes it."""
    missing = [name for name in DECODERS[settings.name].component.needs if name not in fields]
    if missing:
        raise UserError(
            f"head.decoder: {settings.name!r} groups by {', '.join(missing)}, but the head {head!r} has "
            f"{', '.join(fields)}; leave head.decoder.name out, or choose a decoder of this head"
        )
    takes = inspect.signature(DECODERS[settings.name].component).parameters
    taken = {name: value for name, value in more.items() if name in takes}
    return DECODERS.build(settings, skeleton, layout, **taken)
