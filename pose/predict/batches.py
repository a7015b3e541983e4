"""Pictures -> people: letterbox at each scale, mirror, fuse, decode, map back.  Written once for every
head."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pose.errors import UserError
from pose.model import PoseModel, resolve_precision
from pose.predict.canvas import Prepared, fused_on, map_back, prepare, whole_pixels
from pose.predict.fuse import resample, unflip
from pose.predict.settings import Mode, TestSettings
from pose.structures import Fields, People

WAITING = 8  # batches' worth of pictures that may wait for others of their canvas size


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
        """Fused fields of a batch (outer: pictures, inner: scales) on the grid of the first scale, or of that
        to which maps are projected, and its stride.

        Fields with `fuse="mean"` are (B, C, h, w), with `fuse="stack"` (B, T, C, h, w)."""
        specs = self.model.head.fields
        sums: Fields = {}
        stacks: dict[str, list[Tensor]] = {name: [] for name in specs}
        grid: tuple[int, int] | None = None
        stride = 1
        canvas = canvases[0][fused_on(self.scales, self.settings)]
        if self.settings.project:
            grid = (canvas.shape[-2], canvas.shape[-1])
        kept = torch.ones(1, device=self.device)  # (B, 1, 1, 1) 0: the stacked passes were outliers
        nearest = min(abs(scale - 1) for scale in self.scales)
        for s, scale in enumerate(self.scales):
            images = torch.stack([one[s] for one in canvases]).to(self.device, non_blocking=True)
            # pixels of the canvas which the people are read in, per pixel of this one
            unit = math.sqrt(canvas[0].numel() / images[0, 0].numel())
            passes = self._passes(images, unit)
            first = max((one[0][-1] for one in passes.values()), key=lambda maps: maps.shape[-2])
            if grid is None:
                stride = self.settings.grid_stride or images.shape[-2] // first.shape[-2]
                grid = (images.shape[-2] // stride, images.shape[-1] // stride)
            weight = self._inlier(passes)
            stacked = abs(scale - 1) < self.settings.stack_within or abs(scale - 1) == nearest
            for name, spec in specs.items():
                maps = [self._mean(levels, grid) for levels in passes[name]]
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
        # decoders read map by map, also those of a network that computes channels last
        return {name: maps.contiguous() for name, maps in fused.items()}, stride

    def _mean(self, levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """The levels of a field, each brought to the grid."""
        mode, corners = self.settings.interpolation, self.settings.align_corners
        corners = self.model.input.cells == "corners" if corners is None else corners
        maps = [resample(one, grid, mode, corners=corners) for one in levels]
        return maps[0] if len(maps) == 1 else torch.stack(maps).mean(0)

    def _passes(self, images: Tensor, unit: float) -> dict[str, list[list[Tensor]]]:
        """Every field of every pass at one scale, by its levels (one, unless `level_mean` is "grid"), the
        mirrored pass brought back, lengths times `unit`."""
        specs = self.model.head.fields
        batch = len(images)
        stacked = torch.cat([images, self._mirrored(images)]) if self.settings.flip else images
        levels = self.model.read_levels(stacked, self.precision, self.settings.level_mean)
        passes: dict[str, list[list[Tensor]]] = {}
        for name, spec in specs.items():
            found = [
                level[name] * unit if spec.in_pixels else level[name] for level in levels if name in level
            ]
            passes[name] = [[maps[:batch] for maps in found]]
            if self.settings.flip:
                passes[name].append([unflip(maps[batch:], spec) for maps in found])
        return passes

    def _mirrored(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), moved to the right where the network's cells want it."""
        mirrored = images.flip(-1)
        if self.model.input.mirror_shift == "none":
            return mirrored
        shift = self.model.input.layout.shift(self.model.strides[-1])
        return F.pad(mirrored[..., : mirrored.shape[-1] - shift], (shift, 0))

    def _inlier(self, passes: dict[str, list[list[Tensor]]]) -> Tensor:
        """(B, 1, 1, 1) 1, or 0 for pictures whose summed heat is beyond `outlier_heat`."""
        some = next(iter(passes.values()))[0][0]
        if self.settings.outlier_heat is None or "heatmap" not in passes:
            return torch.ones(len(some), 1, 1, 1, device=some.device)
        finest = torch.stack([levels[-1] for levels in passes["heatmap"]])
        return (finest.sum(0).amax((1, 2, 3), keepdim=True) <= self.settings.outlier_heat).float()

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
        """People in pixels of the canvas that they were found on -> in pixels of the picture."""
        if self.settings.rounding == "ae_aic":
            return whole_pixels(people, stride, grid, item.size, self.model.input.pixel_center)
        return map_back(people, item.matrix)
