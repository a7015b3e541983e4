"""The `test:` section: how pictures are tested."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pose.config import PresetSettings
from pose.model import LevelMean
from pose.registry import METRICS

Mode = Literal["single", "multi"]


class TestSettings(PresetSettings):
    """How pictures are tested.  The defaults are pose-ae-train's."""

    __test__ = False  # not a test case, whatever its name says to pytest
    preset_folder: ClassVar[str] = "test"

    preset: Literal["default", "ae_aic"] = "default"
    """Values for the keys that are not given: default, or those of JakeRenn's associative-embedding entry to
    AI Challenger."""
    input_size: tuple[int, int] | None = None
    """Height and width of the canvas at scale 1; null = the training input size."""
    resize: Literal[
        "letterbox", "short_side", "long_side", "squash", "original",
        "higherhrnet", "mmpose", "mmpose1", "mmpose_udp",
    ] = "letterbox"  # fmt: skip
    """letterbox: the picture inside a canvas of `input_size`.  short_side, long_side: that side is brought
    to the smaller / larger number of `input_size`, the canvas keeps the picture's aspect.  squash: the
    picture is stretched to `input_size`, whatever its aspect.  original: the picture as it is, shrunk only
    where it has more pixels than `input_size`.  higherhrnet, mmpose, mmpose1, mmpose_udp: as in those
    systems (MMPose 0.x, 1.x and 0.x with UDP), for their weights (the shorter side is brought to
    `input_size`, in steps of 64 at the smallest scale, in MMPose 1.x at scale 1)."""
    antialias: bool = False
    """Pixels are averaged where the picture is shrunk, as Pillow's BILINEAR does; only with squash."""
    flip: bool = True
    """Each pass is repeated on the mirrored picture."""
    single: tuple[float, ...] = Field((1.0,), min_length=1)
    """Scales of `-m single`; the maps are fused on the grid of the first."""
    multi: tuple[float, ...] = Field((2.0, 1.0, 0.5), min_length=1)
    """Scales of `-m multi`."""
    grid_stride: int | None = Field(None, ge=1)
    """Pixels of the first scale's canvas per cell of the grid on which maps are fused and people are found;
    null = as the network gives them, 1 = full resolution (slow: 8 x 8 times the cells of stride 8)."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How maps are brought to that grid."""
    align_corners: bool | None = None
    """Whether that goes from the centre of the first cell to that of the last, as in torch's `interpolate`;
    null = as the cells lie (input.cells: corners)."""
    project: bool = False
    """Maps are fused, and people found, at every pixel of the canvas of scale 1, which must be among the
    scales (PROJECT2IMAGE of HigherHRNet); not with grid_stride."""
    level_mean: LevelMean = "finest"
    """Where fields exist at several strides.  finest: all are brought to the network's finest grid and
    averaged there, then to that on which passes are fused.  grid: each is brought to that grid first (MMPose,
    project).  several: those that exist at one stride only are brought there directly (MMPose without).  An
    exported network has the first."""
    stack_within: float = Field(0.5, gt=0)
    """Stacked fields (tags) come from scales that differ from 1 by less than this."""
    outlier_heat: float | None = None
    """A scale is left out for a picture where the heat summed over its passes exceeds this (10 in
    pose-ae-train)."""
    rounding: Literal["none", "ae_aic"] = "none"
    """ae_aic: people lie at the whole pixel that the entry of the preset ae_aic computes from a keypoint's
    cell; only with squash."""
    batch_size: int = Field(8, ge=1)
    """Pictures of one canvas size per forward."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network; auto = bf16 on GPUs that have it, and on CPUs that have it (AVX512_BF16 or
    AMX) where it is measurably quicker for this network and hardly changes its fields; else fp32."""
    metric: str = "auto"
    """The metric that chooses best.pt and is shown first; auto = the one made for the annotation file
    (CrowdPose's, COCO-WholeBody's, AI Challenger's by OKS), else COCO's."""
    person_threshold: float = 0.0
    """People with a lower score are left out of AI Challenger lists and of its score, which does not rank;
    COCO's AP ranks and takes all."""

    @field_validator("input_size", "single", "multi")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and min(value) <= 0:
            raise ValueError(f"expected numbers above 0, got {min(value):g}")
        return value

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        if value != "auto" and value not in METRICS.names():
            raise ValueError(METRICS.unknown(value, ["auto", *METRICS.names()]))
        return value

    @model_validator(mode="after")
    def _projected(self) -> TestSettings:
        if self.project and self.grid_stride is not None:
            raise ValueError("project has a grid of its own; leave grid_stride out, or set project: false")
        for key in ("single", "multi"):
            if self.project and 1.0 not in getattr(self, key):
                raise ValueError(f"project fuses on the canvas of scale 1, which is not among {key}; add it")
        return self

    @model_validator(mode="after")
    def _only_squashed(self) -> TestSettings:
        for key, off in (("antialias", False), ("rounding", "none")):
            if self.resize != "squash" and getattr(self, key) != off:
                raise ValueError(
                    f"{key} is known for resize: squash only, not for {self.resize}; "
                    f"set {key}: {str(off).lower()}"
                )
        return self
