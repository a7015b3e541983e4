"""Peaks -> people by their limbs: the decoder of part affinity fields.

Cao, Simon, Wei and Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017.
Each limb has a field of vectors that point from its first keypoint to its second.  A pair of peaks is a
candidate for a limb if the field along the line between them points the same way; of the candidates of a limb
the best are taken, each peak once; people are put together limb by limb.

On an accelerator the peaks and the integrals of all pairs are computed in fixed shapes, and one table comes
to the host; on a CPU only the pairs that there are.  Both give the same people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pose import geometry
from pose.config import PresetSettings
from pose.decoders.limb_assembly import (
    Candidates,
    Row,
    best_links,
    join_as_published,
    join_consistently,
    join_near_ones,
)
from pose.decoders.limb_scores import LARGEST, Grid, limb_scores, limb_scores_on_host
from pose.decoders.patch_tops import patch_top, patch_top_on_host
from pose.decoders.peaks import Window, find_peaks, list_peaks
from pose.decoders.subpixel import dark_on_host, subpixel_offset
from pose.errors import UserError
from pose.geometry import PIXEL_CENTER, LayoutLike
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People

Subpixel = Literal["none", "quarter", "dark", "patch"]
Assembly = Literal["consistent", "s1", "s1_old"]
PersonScore = Literal[
    "constant", "mean", "total", "total_times_parts", "total_times_annotated", "heat", "heat_and_limbs"
]

SAMPLES_AT_ONCE = 1 << 24  # of the fields on an accelerator: 128 MiB per intermediate table


class PafGroupsSettings(PresetSettings):
    """How peaks are found, joined by limbs and put together to people."""

    preset_folder: ClassVar[str] = "paf_groups"
    former_presets: ClassVar[Mapping[str, str]] = {"cmu": "cmu_demo"}

    name: Literal["paf_groups"] = "paf_groups"
    preset: Literal["default", "s1", "s1_old", "cmu_demo", "cmu_matlab"] = "default"
    """Values for the keys that are not given: ours, those of rtpose (PyTorch), of its evaluation of 2017-18,
    or of CMU's original: cmu_matlab are the rules of its evaluation in MATLAB; cmu_demo has its peaks and
    limbs with the thresholds of its demos, which drop people of few keypoints or low scores (fewer than 4
    keypoints or below 0.4, in place of 3 and 0.2), and lets limbs from shoulder to ear do all but start a
    person.  All but the first two are meant for maps enlarged to the size of the image.  Two things are not
    repeated: rtpose's oversight of a conflict on the very first peak, and the half pixel that rtpose's and
    CMU's evaluations add to what they write, for maps drawn about the labels lie that much too far there."""
    detection_threshold: float = Field(0.1, ge=0)
    """A peak counts if its heat is above this."""
    window: Window = "first"
    """A peak is the highest of its 3 x 3 cells (square: all of equal ones, first: the first of them), is not
    below any of its 4 neighbours (cross), or is higher than all 4 (strict)."""
    min_distance: float = Field(0.0, ge=0)
    """A peak so near, in input pixels, to one of its kind before it (in `peak_order`) that stays is left out,
    even if it is the higher one; 0: none is."""
    peak_order: Literal["rows", "columns"] = "rows"
    """Peaks of a kind are taken row by row, or column by column as MATLAB does: this decides which of two
    near ones stays, and which of equal candidates for a limb comes first."""
    subpixel: Subpixel = "dark"
    """Position of a peak: the centre of its cell, a quarter towards the larger neighbour, DARK's Newton step,
    or the highest pixel of the 5 x 5 cells around, enlarged to input pixels by cubic interpolation; that one
    also gives the heat of the peak."""
    max_peaks: int = Field(60, gt=0)
    """Peaks per kind of keypoint and image, the highest ones."""
    samples: int = Field(10, ge=2)
    """Points along the line between two peaks at which the field is read, in the nearest cell."""
    include_end: bool = True
    """The last point is the second peak itself, not one step before it."""
    sample_threshold: float = Field(0.05, ge=0)
    """A point passes if the field along the line is above this there."""
    min_pass: float = Field(0.6, ge=0, lt=1)
    """Two peaks may be joined if more than this share of the points pass."""
    mean_over: Literal["all", "passing"] = "all"
    """The score of a limb is the mean of the field along the line over these points."""
    length_prior: bool = True
    """Limbs longer than half the height of the input lose score: half / length - 1 is added.  In any case a
    limb counts only if its score is above 0."""
    assembly: Assembly = "consistent"
    """consistent: a peak belongs to one person, and a limb that would give a person a second keypoint of one
    kind is ignored.  s1: such a limb gives its second peak to the person that has the first one, where it
    takes the place of the one before, and people may share peaks (rtpose).  s1_old: and a limb that fits
    three or more people starts another one."""
    starting_limbs: Literal["all", "tree", "all_but_last"] = "all"
    """Limbs that may start a person: all, those that join keypoints that the limbs before them in the
    skeleton's limb_order do not join, or all but the last of that order."""
    other_limbs: Literal["join", "fill"] = "join"
    """What limbs that may not start a person do: join as all others do; or only give their peaks to people
    who have one of the two and nothing in the place of the other, which adds neither to their score nor to
    the keypoints that are counted (CMU's limbs from shoulder to ear).  fill: only with the assemblies s1 and
    s1_old."""
    singles: bool = True
    """A peak that no limb joined is a person, too.  Only with the consistent assembly."""
    reach: float = Field(1.25, ge=0)
    """People without a common kind of keypoint are one person if the gap between them is at most so many
    times the extent of the larger one: a person who is partly hidden comes in pieces that no limb joins.  0:
    they stay apart.  Only with the consistent assembly."""
    min_keypoints: int = Field(1, ge=1)
    """People with fewer keypoints are dropped (s1, s1_old: into whom fewer were put, those that fill a place
    not counted)."""
    min_score: float = Field(0.0, ge=0)
    """People are dropped whose heat and limb scores, added up and divided by the number of keypoints, are
    below this."""
    person_score: PersonScore = "heat_and_limbs"
    """What ranks people: constant 1; total = heat of the peaks + scores of the limbs; mean = total / number
    of keypoints; total_times_parts = total * number of keypoints; total_times_annotated = total * number of
    those that annotations have, so without a neck made of the shoulders; heat = heat of the peaks / all kinds
    of keypoints; heat_and_limbs = total / number of all keypoints and limbs of the skeleton."""


class Joints(NamedTuple):
    """The peaks of one image on the host.  They are ordered by kind and then row by row (or column by column,
    see `peak_order`), and their numbers count from 0 over all kinds."""

    kind: np.ndarray  # (M,) int64
    position: np.ndarray  # (M, 2) float32, in cells, x first
    heat: np.ndarray  # (M,) float32


@DECODERS.register("paf_groups", PafGroupsSettings)
class PafGroups:
    """Decodes a batch.  Cells with heat that is not finite are no peaks, and a line through cells with such a
    field joins nothing."""

    needs = ("heatmap", "paf")

    def __init__(
        self, settings: PafGroupsSettings, skeleton: Skeleton, layout: LayoutLike = PIXEL_CENTER
    ) -> None:
        if not skeleton.limbs:
            raise UserError(
                f"the decoder 'paf_groups' needs limbs, and the skeleton {skeleton.name!r} has none; list "
                f"pairs of keypoints under data.skeleton.limbs, or choose another decoder"
            )
        self.settings = settings
        self.skeleton = skeleton
        self.layout = layout
        self.limbs = np.array(skeleton.limb_index).T  # (2, L)
        order = skeleton.limb_order_index
        self.rank = np.argsort(order)  # of each limb in the order in which people are put together
        every = [True] * len(order)
        no_last = [limb != order[-1] for limb in range(len(order))]
        starts = {"all": every, "tree": skeleton.tree_limbs, "all_but_last": no_last}
        self.starts: Sequence[bool] = starts[settings.starting_limbs]
        self.annotated = list(skeleton.annotated_index)

    @torch.no_grad()
    def __call__(self, heatmap: Tensor, paf: Tensor, stride: int) -> list[People]:
        """heatmap (B, K, h, w) without background; paf (B, 2 L, h, w), of limb l the channels 2 l (x) and
        2 l + 1 (y); stride in input pixels per cell -> the people of every image, highest score first,
        keypoints in input pixels."""
        self._check(heatmap, paf)
        if not heatmap.numel():
            return [People.none(len(self.skeleton)) for _ in heatmap]
        heat, on_cpu, size = (
            heatmap.float(),
            heatmap.device.type == "cpu",
            (heatmap.shape[2], heatmap.shape[3]),
        )
        if not (on_cpu and _in_range(heat)):
            heat = torch.nan_to_num(heat, nan=0.0, posinf=0.0, neginf=0.0).clamp_(-LARGEST, LARGEST)
        heat = heat.contiguous()
        found = self.on_host(heat, paf, stride) if on_cpu else self.on_device(heat, paf, stride)
        return [self.people(joints, candidates, stride, size) for joints, candidates in found]

    def _check(self, heatmap: Tensor, paf: Tensor) -> None:
        kinds, limbs = len(self.skeleton), len(self.skeleton.limbs)
        expected = (heatmap.shape[0], 2 * limbs, *heatmap.shape[2:])
        if heatmap.ndim != 4 or heatmap.shape[1] != kinds or tuple(paf.shape) != expected:
            raise ValueError(
                f"expected heatmap (B, {kinds}, h, w) and paf (B, {2 * limbs}, h, w), "
                f"got {tuple(heatmap.shape)} and {tuple(paf.shape)}"
            )

    # ---- peaks and candidates ----

    def on_host(self, heat: Tensor, paf: Tensor, stride: int) -> Iterator[tuple[Joints, Candidates]]:
        """heat (B, K, h, w) finite, on a CPU: the peaks and pairs that there are, image by image."""
        settings, (images, kinds, height, width) = self.settings, heat.shape
        channel, index = list_peaks(heat, settings.max_peaks, settings.detection_threshold, settings.window)
        if settings.peak_order == "columns":
            order = np.lexsort((by_columns(index, height, width), channel))
            channel, index = channel[order], index[order]
        position, value = self.refine_on_host(heat, channel, index, stride)
        ends = channel.searchsorted(np.arange(images + 1) * kinds).tolist()
        kind = channel % kinds
        for fields, *part in zip(paf, ends, ends[1:], strict=False):
            own = slice(*part)
            joints = Joints(kind[own], position[own], value[own])
            if settings.min_distance:
                keep = apart(joints, settings.min_distance / stride)
                joints = Joints(*(array[keep] for array in joints))
            yield joints, self.candidates(fields.float(), joints, stride)

    def candidates(self, fields: Tensor, joints: Joints, stride: int) -> Candidates:
        """The pairs of peaks that may be limbs; fields (2 L, h, w) of one image."""
        limb, a, b = all_pairs(joints.kind, len(self.skeleton), self.limbs)
        grid = Grid(fields.reshape(-1), fields.shape[1], fields.shape[2], stride)
        across = joints.position.T.copy()
        start, end = across.take(a, 1), across.take(b, 1)
        score = limb_scores_on_host(grid, limb * (2 * fields[0].numel()), start, end, self.settings)
        kept = score.nonzero()[0]
        return Candidates(limb[kept], a[kept], b[kept], score[kept])

    def on_device(self, heat: Tensor, paf: Tensor, stride: int) -> Iterator[tuple[Joints, Candidates]]:
        """The same on an accelerator: one table for the batch comes to the host."""
        kinds, limbs = len(self.skeleton), self.limbs.shape[1]
        most = min(self.settings.max_peaks, heat[0, 0].numel())
        tables = self.tables(heat, paf, stride).cpu().numpy()
        for table in tables:
            peaks = table[: kinds * most * 5].reshape(5, kinds, most)
            score = table[kinds * most * 5 :].reshape(limbs, most, most)
            yield self._picked(peaks, score, stride, (heat.shape[2], heat.shape[3]))

    def tables(self, heat: Tensor, paf: Tensor, stride: int) -> Tensor:
        """(B, 5 * K * M + L * M * M) float32: of every place for a peak whether there is one, its cell, x, y
        and heat; of every pair of places the score of the limb.  Fixed shapes: nothing is copied to the
        host."""
        settings = self.settings
        peaks = find_peaks(
            heat, settings.max_peaks, threshold=settings.detection_threshold, window=settings.window
        )
        images, kinds, _ = peaks.cell.shape
        channel = torch.arange(images * kinds, device=heat.device).view(images, kinds, 1)
        channel = channel.expand_as(peaks.cell)
        position, value = self.refine(heat, channel, peaks.cell, stride)
        there = peaks.heat > 0
        columns = (there, peaks.cell, *position.unbind(-1), value)
        table = torch.stack([column.float() for column in columns], 1).flatten(1)
        pairs = 2 * settings.samples * self.limbs.shape[1] * peaks.cell.shape[2] ** 2
        step = max(1, SAMPLES_AT_ONCE // pairs)
        parts = [slice(i, i + step) for i in range(0, images, step)]
        scores = [self._all_scores(there[part], position[part], paf[part], stride) for part in parts]
        return torch.cat((table, torch.cat(scores).flatten(1)), 1)

    def _all_scores(self, there: Tensor, position: Tensor, paf: Tensor, stride: int) -> Tensor:
        """there (B, K, M) bool; position (B, K, M, 2) in cells; paf (B, 2 L, h, w) -> (B, L, M, M), 0 where a
        peak is not there or the two cannot be joined."""
        a, b = self.limbs.tolist()
        images, limbs = len(paf), len(a)
        start = torch.stack([position[:, kind] for kind in a], 1).movedim(-1, 0)[..., None]
        end = torch.stack([position[:, kind] for kind in b], 1).movedim(-1, 0)[..., None, :]
        base = torch.arange(images * limbs, device=paf.device).view(images, limbs, 1, 1)
        grid = Grid(paf.float().reshape(-1), paf.shape[2], paf.shape[3], stride)
        score = limb_scores(grid, base * (2 * paf[0, 0].numel()), start, end, self.settings)
        both = torch.stack([there[:, kind] for kind in a], 1)[..., None]
        both = both & torch.stack([there[:, kind] for kind in b], 1)[:, :, None]
        return score.where(both, 0)

    def _picked(
        self, peaks: np.ndarray, score: np.ndarray, stride: int, size: tuple[int, int]
    ) -> tuple[Joints, Candidates]:
        """peaks (5, K, M) and score (L, M, M) of one image as `tables` gives them; size of its maps."""
        there, cell, x, y, heat = peaks
        kind, place = there.nonzero()
        cells = cell[kind, place]
        if self.settings.peak_order == "columns":
            cells = by_columns(cells, *size)
        order = np.lexsort((cells, kind))
        kind, place = kind[order], place[order]
        number = np.zeros(there.shape, np.int64)
        number[kind, place] = np.arange(len(kind))
        limb, i, j = score.nonzero()
        a, b = number[self.limbs[0, limb], i], number[self.limbs[1, limb], j]
        order = np.lexsort((b, a, limb))
        candidates = Candidates(limb[order], a[order], b[order], score[limb, i, j][order])
        joints = Joints(kind, np.stack((x, y), -1)[kind, place], heat[kind, place])
        if self.settings.min_distance:
            return without_near_ones(joints, candidates, self.settings.min_distance / stride)
        return joints, candidates

    def refine(self, heat: Tensor, channel: Tensor, index: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Cells of maps `channel` = b * K + k -> (..., 2) float32 x and y in cells, and the heat (...)."""
        method, width = self.settings.subpixel, heat.shape[-1]
        cell = torch.stack((index % width, index.div(width, rounding_mode="floor")), -1).float()
        if method == "patch":
            offset, value = patch_top(heat, channel, index, stride)
        else:
            offset = subpixel_offset(heat, channel, index, method)
            value = torch.take(heat, channel * heat[0, 0].numel() + index)
        return cell + offset, value

    def refine_on_host(
        self, heat: Tensor, channel: np.ndarray, index: np.ndarray, stride: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`refine` of peaks (P,) on a CPU."""
        method, width = self.settings.subpixel, heat.shape[-1]
        if method == "patch":
            offset, value = patch_top_on_host(heat.numpy(), channel, index, stride)
        else:
            if method == "dark":
                offset = dark_on_host(heat.numpy(), channel, index)
            else:
                where = torch.from_numpy(channel), torch.from_numpy(index)
                offset = subpixel_offset(heat, *where, method).numpy()
            value = heat.numpy().reshape(-1).take(channel * heat[0, 0].numel() + index)
        return np.stack((index % width, index // width), -1).astype(np.float32) + offset, value

    # ---- people ----

    def people(
        self, joints: Joints, candidates: Candidates, stride: int, size: tuple[int, int] | None = None
    ) -> People:
        """The people of one image, in pixels of the grid's input; size: height and width of its maps."""
        rows = [row for row in self._rows(joints, candidates, stride) if self._stays(row)]
        if not rows:
            return People.none(len(self.skeleton))
        scores = np.array([self._score(row, joints.heat) for row in rows], np.float32)
        order = np.argsort(-scores, kind="stable")
        peaks = np.array([row.peaks for row in rows])[order]
        found = peaks >= 0
        keypoints = np.zeros((*peaks.shape, 3), np.float32)
        cells = joints.position[peaks[found]].astype(np.float64)
        keypoints[found, :2] = geometry.to_pixels(cells, stride, self.layout, size)
        keypoints[found, 2] = joints.heat[peaks[found]].clip(0, 1)
        return People(keypoints, scores[order])

    def _rows(self, joints: Joints, candidates: Candidates, stride: int) -> list[Row]:
        links = best_links(candidates, self.rank)
        heat = joints.heat.tolist()
        ends = self.skeleton.limb_index
        if self.settings.assembly != "consistent":
            many_start, fill = self.settings.assembly == "s1_old", self.settings.other_limbs == "fill"
            return join_as_published(links, heat, ends, self.starts, len(self.skeleton), many_start, fill)
        kinds = joints.kind.tolist() if self.settings.singles else []
        rows = join_consistently(links, heat, ends, self.starts, len(self.skeleton), kinds)
        if self.settings.reach:
            rows = join_near_ones(rows, joints.position * stride, self.settings.reach)
        return rows

    def _stays(self, row: Row) -> bool:
        return row.parts >= self.settings.min_keypoints and row.total / row.parts >= self.settings.min_score

    def _score(self, row: Row, heat: np.ndarray) -> float:
        kinds, limbs = len(self.skeleton), len(self.starts)
        match self.settings.person_score:
            case "constant":
                return 1.0
            case "mean":
                return row.total / row.parts
            case "total":
                return row.total
            case "total_times_parts":
                return row.total * row.parts
            case "total_times_annotated":
                return row.total * sum(row.peaks[kind] >= 0 for kind in self.annotated)
            case "heat":
                return float(heat[[peak for peak in row.peaks if peak >= 0]].sum()) / kinds
            case "heat_and_limbs":
                return row.total / (kinds + limbs)


# ---- peaks and pairs ----


def _in_range(heat: Tensor) -> bool:
    """Whether all heat is finite and needs no cut, on a CPU."""
    every = heat.numpy()
    return bool(every.min() >= -LARGEST and every.max() <= LARGEST)  # neither is true of nan


def by_columns(cell: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cells y * w + x -> x * h + y, by which they are ordered column by column."""
    y, x = np.divmod(cell, width)
    at: np.ndarray = x * height + y
    return at


def apart(joints: Joints, distance: float) -> np.ndarray:
    """(M,) bool: the peaks without those that are within `distance` cells of an earlier one of their kind
    that stays."""
    keep = np.ones(len(joints.kind), bool)
    for i, end in enumerate(joints.kind.searchsorted(joints.kind, "right").tolist()):
        if keep[i]:
            away = joints.position[i + 1 : end] - joints.position[i]
            keep[i + 1 : end] &= (away * away).sum(1) > distance * distance
    return keep


def without_near_ones(joints: Joints, candidates: Candidates, distance: float) -> tuple[Joints, Candidates]:
    """Without the peaks that `apart` leaves out, and their pairs."""
    keep = apart(joints, distance)
    number = np.cumsum(keep) - 1
    both = keep[candidates.a] & keep[candidates.b]
    limb, a, b, score = (array[both] for array in candidates)
    return Joints(*(array[keep] for array in joints)), Candidates(limb, number[a], number[b], score)


def all_pairs(kind: np.ndarray, kinds: int, limbs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinds of peaks (M,), ascending, and limbs (2, L) -> limb, a and b (N,) of all pairs of peaks between
    which a limb could be."""
    counts = np.bincount(kind, minlength=kinds)
    (first_a, first_b), (count_a, count_b) = (np.cumsum(counts) - counts)[limbs], counts[limbs]
    number = count_a * count_b
    limb = np.repeat(np.arange(len(number)), number)
    within = np.arange(len(limb)) - (np.cumsum(number) - number)[limb]
    a, b = np.divmod(within, count_b[limb])
    return limb, a + first_a[limb], b + first_b[limb]
