"""Pictures -> people: letterbox at each scale, mirror, fuse, decode, map back.  Written once for every
head."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from pose import geometry
from pose.config import PresetSettings
from pose.errors import UserError
from pose.evaluate.squash import squash, whole_pixels
from pose.model import PoseModel, resolve_precision
from pose.structures import Fields, FieldSpec, InputSettings, People

Mode = Literal["single", "multi"]

LONGEST = 8  # short_side: the longer side of a canvas at scale 1, in larger numbers of `input_size`
LARGEST_SOURCE = 32000  # pixels; OpenCV 4 warps no picture of 32767 and more
WAITING = 8  # batches' worth of pictures that may wait for others of their canvas size


class TestSettings(PresetSettings):
    """How pictures are tested.  The defaults are pose-ae-train's."""

    __test__ = False  # not a test case, whatever its name says to pytest
    section: ClassVar = "test"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "ae_aic": {
            "input_size": (512, 512), "resize": "squash", "antialias": True, "flip": True, "single": (1.0,),
            "multi": (1.0, 1.25), "grid_stride": None, "interpolation": "bilinear", "stack_within": 0.5,
            "outlier_heat": None, "rounding": "ae_aic",
        },
    }  # fmt: skip

    preset: Literal["default", "ae_aic"] = "default"
    """Values for the keys that are not given: default, or those of JakeRenn's associative-embedding entry to
    AI Challenger."""
    input_size: tuple[int, int] | None = None
    """Height and width of the canvas at scale 1; null = the training input size."""
    resize: Literal["letterbox", "short_side", "long_side", "squash", "original"] = "letterbox"
    """letterbox: the picture inside a canvas of `input_size`.  short_side, long_side: that side is brought
    to the smaller / larger number of `input_size`, the canvas keeps the picture's aspect.  squash: the
    picture is stretched to `input_size`, whatever its aspect.  original: the picture as it is, shrunk only
    where it has more pixels than `input_size`."""
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
    """Arithmetic of the network; auto = bf16 on GPUs that have it, else fp32."""
    person_threshold: float = 0.0
    """People with a lower score are left out of AI Challenger lists and of its score, which does not rank;
    COCO's AP ranks and takes all."""

    @field_validator("input_size", "single", "multi")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and min(value) <= 0:
            raise ValueError(f"expected numbers above 0, got {min(value):g}")
        return value

    @model_validator(mode="after")
    def _only_squashed(self) -> TestSettings:
        for key, off in (("antialias", False), ("rounding", "none")):
            if self.resize != "squash" and getattr(self, key) != off:
                raise ValueError(
                    f"{key} is known for resize: squash only, not for {self.resize}; "
                    f"set {key}: {str(off).lower()}"
                )
        return self


class Prepared(NamedTuple):
    """One picture, ready for the network."""

    position: int  # in the caller's list
    canvases: list[Tensor]  # (3, H, W) uint8 RGB, one per scale
    matrix: np.ndarray  # (2, 3) picture -> the first canvas
    size: tuple[int, int]  # of the picture


class Geometry(NamedTuple):
    """Where one picture lies in the canvases of all scales."""

    sizes: list[tuple[int, int]]
    matrices: list[np.ndarray]


def lay_out(
    size: tuple[int, int],
    scales: Sequence[float],
    settings: TestSettings,
    input: InputSettings,
    multiple: int,
) -> Geometry:
    """Canvas sizes (multiples of `multiple`) and matrices for a picture of `size`.

    The canvas of scale s is the canvas of scale 1, stretched: whole maps correspond, whatever the
    rounding.  A very long picture is shrunk below its `short_side`, or its canvas would fill the memory."""
    height, width = settings.input_size or input.size
    center = input.pixel_center
    if settings.resize in ("letterbox", "squash"):
        base = (geometry.round_up(height, multiple), geometry.round_up(width, multiple))
        ratios = np.array([base[1] / size[1], base[0] / size[0]])  # x, y
        ratios = ratios.min().repeat(2) if settings.resize == "letterbox" else ratios
    else:
        ratio = {
            "short_side": min(height, width) / min(size),
            "long_side": max(height, width) / max(size),
            "original": min(1.0, math.sqrt(height * width / (size[0] * size[1]))),
        }[settings.resize]
        ratio = min(ratio, LONGEST * max(height, width) / max(size))
        content = [max(1.0, round(side * ratio, 6)) for side in size]
        base = (geometry.round_up(content[0], multiple), geometry.round_up(content[1], multiple))
        ratios = np.array([ratio, ratio])
    middle = np.array([base[1], base[0]]) / 2 - center
    shift = middle - ratios * (np.array([size[1], size[0]]) / 2 - center)
    if settings.resize == "original" and ratios[0] == 1:
        shift = np.floor(shift)  # pixels stay what they are
    matrix = np.array([[ratios[0], 0.0, shift[0]], [0.0, ratios[1], shift[1]]])
    sizes, matrices = [], []
    for scale in scales:
        # whole pixels first: 704.0000000000001 must not become a multiple more (and so does pose-ae-train)
        wanted = [max(1, int(round(side * scale, 6))) for side in base]
        canvas = (geometry.round_up(wanted[0], multiple), geometry.round_up(wanted[1], multiple))
        stretch = geometry.resize((canvas[1] / base[1], canvas[0] / base[0]), center)
        sizes.append(canvas)
        matrices.append(geometry.compose(matrix, stretch))
    return Geometry(sizes, matrices)


def prepare(
    image: np.ndarray,
    index: int,
    scales: Sequence[float],
    settings: TestSettings,
    input: InputSettings,
    multiple: int,
) -> Prepared:
    """image (H, W, 3) uint8 RGB -> canvases at every scale, each warped from the picture itself."""
    own_size = (image.shape[0], image.shape[1])
    laid_out = lay_out(own_size, scales, settings, input, multiple)
    if settings.antialias:
        drawn = [squash(image, size) for size in laid_out.sizes]
    else:
        source, shrink = _within_limits(image, input.pixel_center)
        drawn = [
            geometry.warp(source, geometry.compose(shrink, matrix), size, border=input.pad_value)
            for size, matrix in zip(*laid_out, strict=True)
        ]
    canvases = [torch.from_numpy(canvas).permute(2, 0, 1) for canvas in drawn]
    return Prepared(index, canvases, laid_out.matrices[0], own_size)


def _within_limits(image: np.ndarray, pixel_center: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture that can be warped, and the matrix (2, 3) from its pixels to those of `image`."""
    height, width = image.shape[:2]
    ratio = LARGEST_SOURCE / max(height, width)
    if ratio >= 1:
        return image, np.eye(2, 3)
    small = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    back = geometry.resize((width / small[0], height / small[1]), pixel_center)
    return cv2.resize(image, small, interpolation=cv2.INTER_AREA), back


def unflip(maps: Tensor, spec: FieldSpec) -> Tensor:
    """The field (B, C, h, w) of mirrored pictures, as it would lie over the pictures themselves."""
    perm, sign = _flip_tensors(spec, maps.device)
    return maps.flip(-1).index_select(1, perm) * sign


@lru_cache(maxsize=64)
def _flip_tensors(spec: FieldSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Copied to the device once: each copy would wait for it."""
    with torch.inference_mode(False):
        perm = torch.tensor(spec.flip_perm, device=device)
        return perm, torch.tensor(spec.flip_sign, device=device).view(-1, 1, 1)


@dataclass
class Timing:
    """Seconds spent by the caller's thread, and by the decoding thread beside it."""

    wait: float = 0.0
    forward: float = 0.0
    decode: float = 0.0
    images: int = 0


@dataclass
class BatchPredictor:
    """A model with its test settings, on one device.  Use `predictor(image)` for one picture, `predict` for
    many."""

    model: PoseModel
    settings: TestSettings
    mode: Mode = "single"
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        self.model.eval()
        self.device = self.model.device
        self.precision = resolve_precision(self.settings.precision, self.device)
        every = self.settings.grid_stride or 1
        if self.model.size_multiple % every:
            raise UserError(
                f"test.grid_stride={every} does not divide the canvases, whose sides are multiples of "
                f"{self.model.size_multiple} for this network"
            )

    @property
    def scales(self) -> tuple[float, ...]:
        return self.settings.single if self.mode == "single" else self.settings.multi

    def prepare(self, image: np.ndarray, index: int = 0) -> Prepared:
        return prepare(image, index, self.scales, self.settings, self.model.input, self.model.size_multiple)

    def __call__(self, image: np.ndarray) -> People:
        """image (H, W, 3) uint8 RGB -> its people, in pixels of the picture."""
        return next(self.predict([self.prepare(image)]))[1]

    def predict(self, prepared: Iterable[Prepared]) -> Iterator[tuple[int, People]]:
        """(index, people) for every picture, grouped into batches of one canvas size; not in order.

        Decoding of a batch overlaps with the forward of the next one."""
        with ThreadPoolExecutor(1) as decoder:
            pending: deque[Future[list[tuple[int, People]]]] = deque()
            for batch in self._batches(prepared):
                start = time.perf_counter()
                fields, stride = self.fields([item.canvases for item in batch])
                self.timing.forward += time.perf_counter() - start
                pending.append(decoder.submit(self.decode, fields, stride, batch))
                while len(pending) > 1:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()

    def _batches(self, prepared: Iterable[Prepared]) -> Iterator[list[Prepared]]:
        """Full batches; partial ones at the end, or while pictures of many sizes wait: each holds memory, and
        from a worker also an open file per canvas."""
        buckets: dict[tuple[torch.Size, ...], list[Prepared]] = {}
        start = time.perf_counter()
        for item in prepared:
            self.timing.wait += time.perf_counter() - start
            shape = tuple(canvas.shape for canvas in item.canvases)
            bucket = buckets.setdefault(shape, [])
            bucket.append(item)
            if len(bucket) == self.settings.batch_size:
                yield buckets.pop(shape)
            elif sum(map(len, buckets.values())) >= WAITING * self.settings.batch_size:
                yield buckets.pop(max(buckets, key=lambda key: len(buckets[key])))
            start = time.perf_counter()
        yield from buckets.values()

    @torch.inference_mode()
    def fields(self, canvases: Sequence[Sequence[Tensor]]) -> tuple[Fields, int]:
        """Fused fields of a batch (outer: pictures, inner: scales) on the grid of the first scale, and its
        stride.

        Fields with `fuse="mean"` are (B, C, h, w), with `fuse="stack"` (B, T, C, h, w)."""
        specs = self.model.head.fields
        sums: Fields = {}
        stacks: dict[str, list[Tensor]] = {name: [] for name in specs}
        grid: tuple[int, int] | None = None
        stride = 1
        kept = torch.ones(1, device=self.device)  # (B, 1, 1, 1) 0: the stacked passes were outliers
        nearest = min(abs(scale - 1) for scale in self.scales)
        for s, scale in enumerate(self.scales):
            images = torch.stack([one[s] for one in canvases]).to(self.device, non_blocking=True)
            # pixels of the first canvas, which the people are read in, per pixel of this one
            unit = math.sqrt(canvases[0][0][0].numel() / images[0, 0].numel())
            passes = self._passes(images, unit)
            first = next(iter(passes.values()))[0]
            if grid is None:
                stride = self.settings.grid_stride or images.shape[-2] // first.shape[-2]
                grid = (images.shape[-2] // stride, images.shape[-1] // stride)
            weight = self._inlier(passes)
            stacked = abs(scale - 1) < self.settings.stack_within or abs(scale - 1) == nearest
            for name, spec in specs.items():
                maps = [resample(one, grid, self.settings.interpolation) for one in passes[name]]
                if spec.fuse == "stack":
                    stacks[name] += maps if stacked else []
                else:
                    total = torch.where(weight > 0, torch.stack(maps).sum(0), 0)
                    sums[name] = sums[name] + total if name in sums else total
            if stacked:
                kept = kept * weight
        count = len(self.scales) * (2 if self.settings.flip else 1)
        fused = {name: total / count * kept for name, total in sums.items()}
        fused |= {name: torch.stack(maps, 1) for name, maps in stacks.items() if maps}
        return fused, stride

    def _passes(self, images: Tensor, unit: float) -> dict[str, list[Tensor]]:
        """Every field of every pass at one scale, the mirrored pass brought back, lengths times `unit`."""
        specs = self.model.head.fields
        batch = len(images)
        stacked = torch.cat([images, images.flip(-1)]) if self.settings.flip else images
        fields = self.model.read(stacked, self.precision)
        passes = {}
        for name, spec in specs.items():
            maps = fields[name] * unit if spec.in_pixels else fields[name]
            passes[name] = [maps[:batch]]
            if self.settings.flip:
                passes[name].append(unflip(maps[batch:], spec))
        return passes

    def _inlier(self, passes: dict[str, list[Tensor]]) -> Tensor:
        """(B, 1, 1, 1) 1, or 0 for pictures whose summed heat is beyond `outlier_heat`."""
        some = next(iter(passes.values()))
        if self.settings.outlier_heat is None or "heatmap" not in passes:
            return torch.ones(len(some[0]), 1, 1, 1, device=some[0].device)
        heat = torch.stack(passes["heatmap"]).sum(0).amax((1, 2, 3), keepdim=True)
        return (heat <= self.settings.outlier_heat).float()

    @torch.inference_mode()
    def decode(self, fields: Fields, stride: int, batch: Sequence[Prepared]) -> list[tuple[int, People]]:
        """(index, people) of every picture of a batch, in pixels of the picture; fields, stride: of
        `fields`."""
        start = time.perf_counter()
        people = self.model.head.decode(fields, stride)
        height, width = next(iter(fields.values())).shape[-2:]
        results = [
            (item.position, self._back(one, item, stride, (height, width)))
            for item, one in zip(batch, people, strict=True)
        ]
        self.timing.decode += time.perf_counter() - start
        self.timing.images += len(batch)
        return results

    def _back(self, people: People, item: Prepared, stride: int, grid: tuple[int, int]) -> People:
        """People in pixels of the first canvas -> in pixels of the picture."""
        if self.settings.rounding == "ae_aic":
            return whole_pixels(people, stride, grid, item.size, self.model.input.pixel_center)
        return map_back(people, item.matrix)


def resample(maps: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Bilinear or bicubic, without antialiasing (as cv2.resize)."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size, mode=mode, align_corners=False)


def map_back(people: People, matrix: np.ndarray) -> People:
    """People in canvas pixels -> people in pixels of the picture (`matrix`: picture -> canvas)."""
    keypoints = people.keypoints.copy()
    keypoints[..., :2] = geometry.apply(geometry.invert(matrix), keypoints[..., :2])
    keypoints[keypoints[..., 2] <= 0] = 0
    return People(keypoints, people.scores)
