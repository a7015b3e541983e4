"""Peaks -> people by their tags: the decoder of associative embedding.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017),
as released in pose-ae-train; the rules of HigherHRNet (Cheng et al., "HigherHRNet: Scale-Aware
Representation Learning for Bottom-Up Human Pose Estimation", CVPR 2020) and of MMPose 0.x and 1.x are
presets.  The maps stay on their device: one small table of peaks comes to the host, where people are grouped,
and one table of the keypoints still missing goes back and returns filled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from pose import geometry
from pose.config import PresetSettings
from pose.decoders import munkres
from pose.decoders.keypoint_order import order_index
from pose.decoders.peaks import Peaks, clean, find_peaks, gaussian_blur
from pose.decoders.subpixel import Subpixel
from pose.decoders.tag_search import best_cells, positions
from pose.geometry import PIXEL_CENTER, LayoutLike
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People

NO_PERSON = 1e10  # the cost of a candidate that no person takes, where the matcher needs a square matrix
MMPOSE1_WEIGHT = 100.0  # of a whole step of tags against heat


class TagGroupsSettings(PresetSettings):
    """How peaks are found, grouped and completed; the defaults are those of pose-ae-train."""

    preset_folder: ClassVar[str] = "tag_groups"

    name: Literal["tag_groups"] = "tag_groups"
    preset: Literal["default", "higherhrnet", "mmpose", "mmpose1"] = "default"
    """Values for the keys that are not given: ours, HigherHRNet's or those of MMPose 0.x or 1.x.
    HigherHRNet's option IGNORE_TOO_MUCH is `overflow: skip`, MMPose's ignore_too_much `overflow: cut` and its
    use_udp `subpixel: udp`.  All go through COCO's keypoints in the order of the skeleton; of other sets see
    `order`."""
    detection_threshold: float = Field(0.1, ge=0)
    """A peak counts if its heat is above this."""
    tag_threshold: float = Field(1.0, gt=0)
    """A peak joins a person if its tag is nearer than this to the person's mean tag."""
    distance: Literal["rms", "l2"] = "rms"
    """Between tags: the root mean square of the differences over the tag's dimensions, or the root of their
    sum."""
    max_people: int = Field(30, gt=0)
    """Once an image has so many people, `overflow` decides."""
    overflow: Literal["skip", "first", "all", "cut", "late_cut"] = "skip"
    """skip: the kinds of keypoints not looked at yet are not grouped.  first: their peaks join the first
    max_people at most, all: any person, and others still start people.  cut: as first, but only the first
    max_people are people in the end.  late_cut: as all, and only the first max_people are people in the
    end."""
    merge_equal_starts: bool = False
    """A peak that would start a person, with exactly the same first component of its tag as the peak that
    started another one, is that other person's instead: it takes the place of his keypoint of its kind, and
    his mean tag starts anew from it."""
    max_peaks: int = Field(30, gt=0)
    """Peaks per kind of keypoint and image, the highest ones."""
    nms_size: int = Field(3, gt=0)
    """A peak is the highest in a window of so many cells squared (odd)."""
    subpixel: Subpixel = "quarter"
    """Position within the cell: its centre, a quarter towards the larger neighbour (inner_quarter: as in
    MMPose 1.x, not near the border and not between equal neighbours), DARK's Newton step, or that of MMPose's
    UDP, which may leave the cell; a keypoint that `refine` fills then moves a quarter."""
    dark_blur: int = Field(0, ge=0)
    """Size in cells (odd) of the Gaussian that smooths the map before DARK's step; 0: none."""
    matcher: Literal["scipy", "munkres"] = "scipy"
    """Solver of the assignment; munkres breaks ties between equal costs as the package munkres 1.1.4 does,
    and with it the published systems."""
    refine: bool | Literal["as_released", "mmpose1"] = True
    """Look for each person's missing keypoints where the heat is high and the tag fits.  as_released: with
    the slip of pose-ae-train, which takes the number of keypoints K for the height of the map: from row K - 1
    on the quarter step of a keypoint filled in compares the cell above with row K - 1, not with the cell
    below.  mmpose1: where the heat is highest among the cells whose tag fits best, and at the upper left
    corner of that cell (MMPose 1.x adds its half cell to the other keypoints alone); where the heat is 0 or
    less the keypoint stays missing, which MMPose 1.x takes with that score."""
    order: tuple[str, ...] = ()
    """Names of all keypoints in the order in which they are grouped; empty = the skeleton's grouping_order.
    Where there are not 17 keypoints, MMPose takes them in their own order, and HigherHRNet by numbers in the
    order of COCO's: 1 to 7, 12, 13, 8 to 11, 14."""
    clip: float | None = Field(1.0, gt=0)
    """Heat is cut at this before anything else."""
    min_score: float = Field(0.0, ge=0)
    """People with a lower score (mean heat over all keypoints, missing ones as 0) are dropped."""

    @field_validator("nms_size", "dark_blur")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value and value % 2 == 0:
            raise ValueError(f"expected an odd number, got {value}")
        return value


class Candidates(NamedTuple):
    """The peaks of one image on the host, highest first; unused places have heat 0."""

    heat: np.ndarray  # (K, M) float64
    cells: np.ndarray  # (K, M, 2) float64, x and y, sub-pixel
    tags: np.ndarray  # (K, M, D) float64
    counts: list[int]  # K
    placed_tags: np.ndarray  # (K, M, D) float64, in the cells to which the sub-pixel step led


class Groups(NamedTuple):
    """The people of one image, highest score first; a missing keypoint has heat 0."""

    # x and y in cells, whole numbers at the centres of cells; 0 for a missing keypoint, with `subpixel: udp`
    # where its step leads from cell 0
    cells: np.ndarray  # (N, K, 2) float64
    heat: np.ndarray  # (N, K) float64
    scores: np.ndarray  # (N,) float32, mean heat over all keypoints
    mean_tags: np.ndarray  # (N, D) float64


@DECODERS.register("tag_groups", TagGroupsSettings)
class TagGroups:
    """Decodes a batch.  Cells with NaN heat are no peaks and their tags are never read; peaks with a tag that
    is not finite are left out."""

    needs = ("heatmap", "tag")

    def __init__(
        self, settings: TagGroupsSettings, skeleton: Skeleton, layout: LayoutLike = PIXEL_CENTER
    ) -> None:
        self.settings = settings
        self.order = order_index(settings.order, skeleton)
        self.layout = layout

    @torch.no_grad()
    def __call__(self, heatmap: Tensor, tag: Tensor, stride: int) -> list[People]:
        """heatmap (B, K, h, w); tag (B, K, D, h, w), D = tag dimension x passes; stride in input pixels per
        cell -> the people of every image, highest score first, keypoints in input pixels."""
        size = (heatmap.shape[2], heatmap.shape[3])
        return [self._people(group, stride, size) for group in self.groups(heatmap, tag)]

    @torch.no_grad()
    def groups(self, heatmap: Tensor, tag: Tensor) -> list[Groups]:
        """heatmap (B, K, h, w); tag (B, K, D, h, w) -> the people of every image in cells of the map."""
        _check(heatmap, tag, len(self.order))
        if not heatmap.numel():
            kinds = len(self.order)
            none = Groups(
                np.zeros((0, kinds, 2)), np.zeros((0, kinds)), np.zeros(0, np.float32), np.zeros((0, 1))
            )
            return [none for _ in heatmap]
        heat = clean(heatmap, self.settings.clip)
        sharp = heat
        if self.settings.subpixel == "dark" and self.settings.dark_blur:
            sharp = gaussian_blur(heat, self.settings.dark_blur)
        groups = [self._group(candidates) for candidates in self._candidates(heat, sharp, tag)]
        if self.settings.refine:
            self._fill(groups, heat, sharp, tag)
        return groups

    def _candidates(self, heat: Tensor, sharp: Tensor, tag: Tensor) -> Iterator[Candidates]:
        peaks = find_peaks(
            heat, self.settings.max_peaks, self.settings.nms_size, self.settings.detection_threshold
        )
        udp = self.settings.subpixel == "udp"
        if udp:  # one place more, in cell 0, for the keypoints that a person lacks
            peaks = Peaks(F.pad(peaks.heat, (0, 1)), F.pad(peaks.cell, (0, 1)))
        images, kinds, _ = peaks.cell.shape
        channel = torch.arange(images * kinds, device=heat.device).view(images, kinds, 1)
        cells = positions(sharp, channel, peaks.cell, self.settings.subpixel)
        columns = [peaks.heat.double()[..., None], cells, _tags_at(tag, peaks.cell)]
        if udp:
            columns.append(_tags_at(tag, _nearest_cell(cells, heat.shape[2], heat.shape[3])))
        table = torch.cat(columns, 3).cpu().numpy()  # the one copy to the host
        dims = tag.shape[2]
        valid = (table[..., 0] > 0) & np.isfinite(table[..., : 3 + dims]).all(3)
        for rows, keep in zip(table, valid, strict=True):
            if (keep[:, 1:] > keep[:, :-1]).any():  # a peak that is left out leaves no gap
                first = np.argsort(~keep, axis=1, kind="stable")
                rows = np.take_along_axis(rows, first[..., None], 1)
            tags = placed = rows[..., 3 : 3 + dims]
            if udp:
                placed = rows[..., 3 + dims :]
                placed = np.where(np.isfinite(placed).all(2, keepdims=True), placed, tags)
            yield Candidates(rows[..., 0], rows[..., 1:3], tags, keep.sum(1).tolist(), placed)

    def _group(self, candidates: Candidates) -> Groups:
        chosen = group_by_tag(candidates, self.order, self.settings)
        found, kinds = chosen >= 0, np.arange(chosen.shape[1])
        heat = np.where(found, candidates.heat[kinds, chosen], 0)
        scores = heat.mean(axis=1).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= self.settings.min_score]
        chosen, found, heat = chosen[order], found[order], heat[order]
        cells = candidates.cells[kinds, chosen]  # -1, for none, is the last place
        if self.settings.subpixel != "udp":
            cells = np.where(found[..., None], cells, 0)
        tags = np.where(found[..., None], candidates.placed_tags[kinds, chosen], 0)
        return Groups(cells, heat, scores[order], tags.sum(axis=1) / found.sum(axis=1)[:, None])

    def _fill(self, groups: list[Groups], heat: Tensor, sharp: Tensor, tag: Tensor) -> None:
        """Each missing keypoint goes where heat - weight * round(Euclidean distance of the tag to the
        person's mean tag) is highest, if the heat there is positive.  Written into `groups`."""
        missing = [np.nonzero(group.heat == 0) for group in groups]
        image = np.repeat(np.arange(len(groups)), [len(person) for person, _ in missing])
        if not len(image):
            return
        kind = np.concatenate([kinds for _, kinds in missing])
        mean = np.concatenate([g.mean_tags[person] for g, (person, _) in zip(groups, missing, strict=True)])
        channel = image * heat.shape[1] + kind
        method: Subpixel = "quarter" if self.settings.subpixel == "udp" else self.settings.subpixel
        of_mmpose1 = self.settings.refine == "mmpose1"
        if of_mmpose1:
            method = "none"
        weight = MMPOSE1_WEIGHT if of_mmpose1 else 1.0
        last_row = heat.shape[1] - 1 if self.settings.refine == "as_released" else None
        table = best_cells(heat, sharp, tag, channel, mean, method, last_row, weight)
        if of_mmpose1:
            table[:, :2] -= 0.5
        ends = np.cumsum([len(person) for person, _ in missing])[:-1]
        for group, where, rows in zip(groups, missing, np.split(table, ends), strict=True):
            taken = rows[:, 2] > 0
            person, kinds = where[0][taken], where[1][taken]
            group.cells[person, kinds], group.heat[person, kinds] = rows[taken, :2], rows[taken, 2]

    def _people(self, group: Groups, stride: int, size: tuple[int, int]) -> People:
        keypoints = np.zeros((*group.heat.shape, 3), np.float32)
        found = group.heat > 0
        keypoints[found, :2] = geometry.to_pixels(group.cells[found], stride, self.layout, size)
        keypoints[..., 2] = group.heat.clip(0, 1)
        return People(keypoints, group.scores)


def _check(heatmap: Tensor, tag: Tensor, kinds: int) -> None:
    expected = (*heatmap.shape[:2], tag.shape[2] if tag.ndim == 5 else "D", *heatmap.shape[2:])
    if heatmap.ndim != 4 or heatmap.shape[1] != kinds or tuple(tag.shape) != expected or not tag.shape[2]:
        raise ValueError(
            f"expected heatmap (B, {kinds}, h, w) and tag (B, {kinds}, D, h, w), "
            f"got {tuple(heatmap.shape)} and {tuple(tag.shape)}"
        )


def _tags_at(tag: Tensor, index: Tensor) -> Tensor:
    """tag (B, K, D, h, w), cells (B, K, M) -> (B, K, M, D) float64."""
    at = index[:, :, None].expand(-1, -1, tag.shape[2], -1)
    return tag.flatten(3).gather(3, at).transpose(2, 3).double()


def _nearest_cell(cells: Tensor, height: int, width: int) -> Tensor:
    """x and y in cells (..., 2), cut off to whole numbers and to the map -> cells (...) int64."""
    x, y = cells.trunc().unbind(-1)
    return y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()


# ---- grouping ----


def group_by_tag(candidates: Candidates, order: tuple[int, ...], settings: TagGroupsSettings) -> np.ndarray:
    """-> (N, K) int64: which candidate of each kind belongs to each person, -1 for none; people in the order
    in which they were started."""
    kinds, most, dims = candidates.tags.shape
    skip = settings.overflow == "skip"
    # the kind that reaches the limit may go beyond it
    capacity = settings.max_people + most if skip else sum(candidates.counts)
    chosen = np.full((capacity, kinds), -1)
    total = np.zeros((capacity, dims))  # of the tags so far
    number = np.zeros(capacity)  # of keypoints so far
    starts: dict[float, int] = {}  # person by the first component of the first tag
    people, counted = 0, np.arange(most)
    for kind in order:
        if skip and people >= settings.max_people:
            break
        count = candidates.counts[kind]
        if not count:
            continue
        tags = candidates.tags[kind, :count]
        known = people if settings.overflow in ("all", "late_cut") else min(people, settings.max_people)
        if known:
            mean = total[:known] / number[:known, None]
            person = _match(tags, candidates.heat[kind, :count], mean, settings)
        else:
            person = np.full(count, -1)
        if settings.merge_equal_starts:
            people = _merge(tags, person, starts, total, number)
            chosen[person, kind] = counted[:count]  # of several the last one
            continue
        new = (person < 0).nonzero()[0]
        if len(new):
            person[new] = counted[: len(new)] + people
            people += len(new)
        chosen[person, kind] = counted[:count]
        total[person] += tags
        number[person] += 1
    return chosen[: min(people, settings.max_people) if settings.overflow in ("cut", "late_cut") else people]


def _merge(
    tags: np.ndarray, person: np.ndarray, starts: dict[float, int], total: np.ndarray, number: np.ndarray
) -> int:
    """Candidates of one kind, tags (M, D) and `person` (M,), one by one -> the number of people.  Those
    without a person start one, or start the one anew who has the same first component; all arguments but
    `tags` are brought up to date."""
    for i, (tag, owner) in enumerate(zip(tags, person.tolist(), strict=True)):
        if owner < 0:
            owner = person[i] = starts.setdefault(float(tag[0]), len(starts))
            total[owner], number[owner] = 0, 0
        total[owner] += tag
        number[owner] += 1
    return len(starts)


def _match(tags: np.ndarray, heat: np.ndarray, mean: np.ndarray, settings: TagGroupsSettings) -> np.ndarray:
    """tags (M, D) and heat (M,) of candidates; mean (N, D) tags of people -> (M,) int64, the person that gets
    each candidate, -1 for none.

    The tag decides in whole steps, among equal ones the heat: the cost is round(distance) * 100 - heat.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and training decodes nothing at first

    squares = mean.T[:, None] - tags.T[:, :, None]  # (D, M, N)
    squares *= squares
    distance = squares[0]
    for other in squares[1:]:
        distance += other
    if settings.distance == "rms":
        distance /= len(squares)
    np.sqrt(distance, out=distance)
    cost = np.rint(distance)
    cost *= 100
    cost -= heat[:, None]
    rows, columns = _munkres(cost) if settings.matcher == "munkres" else linear_sum_assignment(cost)
    near = distance[rows, columns] < settings.tag_threshold
    person = np.full(len(tags), -1)
    person[rows[near]] = columns[near]
    return person


def _munkres(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = cost.shape
    if rows > columns:
        cost = np.pad(cost, ((0, 0), (0, rows - columns)), constant_values=NO_PERSON)
    column = munkres.assign(cost)
    row = np.flatnonzero(column < columns)
    return row, column[row]
