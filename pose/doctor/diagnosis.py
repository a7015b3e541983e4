"""What pose.tools.doctor looks at, and what it found there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pose.annotations.categories import CHOOSE
from pose.data.images import Orientation
from pose.doctor.bounds import Bounds
from pose.doctor.checks import Fault
from pose.doctor.content import Content
from pose.skeleton import Skeleton


@dataclass(frozen=True)
class Source:
    """One file of annotations and its pictures."""

    label: str  # "train", "val", ...
    annotations: Path
    images: Path | None  # None: no picture is looked at
    skeleton: Skeleton | None
    partial: bool = False
    flip: bool = True  # images are mirrored
    category: str | None = None
    choose: str = CHOOSE
    orientation: Orientation = "auto"


@dataclass(frozen=True)
class Diagnosis:
    """What was found in one file."""

    source: Source
    content: Content
    faults: list[Fault]
    bounds: Bounds | None

    @property
    def ill(self) -> bool:
        return any(fault.level != "note" for fault in self.faults)
