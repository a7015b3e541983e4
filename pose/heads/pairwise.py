"""DeeperCut (Insafutdinov, Pishchulin, Andres, Andriluka, Schiele: DeeperCut, ECCV 2016): for every kind of
keypoint a score map, a refinement of the location within the cell, and at each of its cells the offsets to
all other keypoints of the same person."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from pose.config import Counts, FilePath, Settings, component_settings
from pose.decoders import pairwise_statistics
from pose.decoders.multicut import MulticutSettings
from pose.decoders.pairwise_statistics import NUM_FEATURES, PairModel, PairwiseStatistics
from pose.errors import UserError
from pose.geometry import PIXEL_CENTER, LayoutLike
from pose.heads.base import Head, build_decoder
from pose.losses import OverStages, gather_cells, masked_huber, over_stages
from pose.registry import DECODERS, HEADS
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, FieldSpec, People
from pose.targets.discs import Discs, discs, draw_discs
from pose.targets.heatmaps import grid_mask

if TYPE_CHECKING:
    DecoderSettings: TypeAlias = Any
else:
    DecoderSettings = component_settings(DECODERS, default="multicut")


FILE = "pairwise.json"  # in a run folder
TABLES = ("offset_mean", "offset_std", "pair_models")  # buffers


class PairwiseSettings(Settings):
    """The defaults are pose-tensorflow's for COCO."""

    name: Literal["pairwise"] = "pairwise"
    radius: float = Field(17.0, gt=0, le=512)
    """Cells whose centre is so near to a keypoint, in pixels of the input, are the ones that find it."""
    locref_std: float = Field(7.2801, gt=0)
    """Pixels that one unit of the location refinement stands for."""
    statistics: Annotated[FilePath | None, Counts.ONLY_AT_START] = None
    """JSON of pose.tools.pairwise_stats: means and deviations of the offsets, by which they are normalised,
    and the decoder's models of them.  null: `pose.train` works out means and deviations from the training
    set.  A run keeps them with its weights."""
    heatmap_weight: float = Field(1.0, ge=0)
    """Weight of the score maps' cross entropy."""
    foreground_weight: float = Field(0.0, ge=0)
    """The cross entropy of cells near a keypoint counts 1 + this: above 0, a short training leaves the
    all-zero maps sooner."""
    locref_weight: float = Field(0.05, ge=0)
    """Weight of the location refinement's Huber loss."""
    pairwise_weight: float = Field(0.05, ge=0)
    """Weight of the pairwise offsets' Huber loss."""
    over_stages: OverStages = "sum"
    """How the losses of the network's stages count: their sum or their mean."""
    decoder: Annotated[DecoderSettings, Counts.AFTER_TRAINING] = MulticutSettings()


class PairwiseTargets(NamedTuple):
    """All on the grid of one stride, lengths in pixels of the input; offsets exist at the discs' cells."""

    heatmap: Tensor  # (B, K, h, w) 0 or 1
    mask: Tensor  # (B, 1, h, w)
    labelled: Tensor  # (B, K) bool, False for keypoints that the image's data set never labels
    discs: Discs
    position: Tensor  # (B, P, K, 2)
    visible: Tensor  # (B, P, K) bool, labelled


@HEADS.register("pairwise", PairwiseSettings)
class PairwiseHead(Head):
    """What it knows of a data set, `PairwiseStatistics`, lies in three persistent buffers; before `prepare`,
    offsets have mean 0 and deviation 1."""

    others: Tensor
    offset_mean: Tensor  # (K, K, 2) float64, pixels: position of b minus position of a
    offset_std: Tensor  # (K, K, 2) float64, pixels
    pair_models: Tensor  # (K, K, 26) float64: low, high, weights of logistic models; 1 where there is one

    def __init__(self, cfg: PairwiseSettings, skeleton: Skeleton, layout: LayoutLike = PIXEL_CENTER) -> None:
        super().__init__()
        self.cfg = cfg
        self.skeleton = skeleton
        self.layout = layout
        count = len(skeleton)
        if count < 2:
            raise UserError(f"head.name: 'pairwise' needs two keypoints, and {skeleton.name!r} has {count}")
        others = torch.tensor([[b for b in range(count) if b != a] for a in range(count)], dtype=torch.long)
        self.register_buffer("others", others.view(count, -1), persistent=False)
        known = PairwiseStatistics.neutral(skeleton)
        if cfg.statistics:
            known = pairwise_statistics.read(cfg.statistics, skeleton)
        for name, table in tables(known).items():
            self.register_buffer(name, torch.tensor(table))
        self.fields = {
            "heatmap": FieldSpec(count, skeleton.flip_index, (1.0,) * count, drawn="heat"),
            "locref": locref_spec(skeleton),
            "pairwise": pairwise_spec(skeleton),
        }
        self._made = tables(known), self._make_decoder(known if cfg.statistics else None)

    @property
    def statistics(self) -> PairwiseStatistics:
        """What the buffers hold."""
        mean, std, models = self._tables().values()
        there = zip(*models[..., -1].nonzero(), strict=True)
        split = (NUM_FEATURES, 2 * NUM_FEATURES)
        found = {(int(a), int(b)): PairModel(*np.split(models[a, b, :-1], split)) for a, b in there}
        return PairwiseStatistics(self.skeleton.keypoints, mean, std, found)

    def use_statistics(self, statistics: PairwiseStatistics | None) -> None:
        """Normalise and decode by these, in the order of the head's skeleton; None: by none."""
        for name, table in tables(statistics or PairwiseStatistics.neutral(self.skeleton)).items():
            getattr(self, name).copy_(torch.tensor(table))

    def _tables(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name).detach().cpu().numpy() for name in TABLES}

    @property
    def decoder(self) -> Any:
        """By the buffers as they are now: weights may have been loaded since."""
        now = self._tables()
        if not _same(now, self._made[0]):
            decoder = self._make_decoder(self.statistics if self.prepared else None)
            self._made = {name: table.copy() for name, table in now.items()}, decoder
        return self._made[1]

    def _make_decoder(self, statistics: PairwiseStatistics | None) -> Any:
        return build_decoder(
            self.cfg.decoder, self.skeleton, self.layout, self.cfg.name, [*self.fields],
            statistics=statistics,
        )  # fmt: skip

    def prepare(self, samples: Iterable[np.ndarray]) -> None:
        """Means and deviations of the offsets, where the settings name no file of them."""
        if self.cfg.statistics is None:
            self.use_statistics(pairwise_statistics.gather([*samples], self.skeleton))

    @property
    def prepared(self) -> bool:
        return not _same(self._tables(), tables(PairwiseStatistics.neutral(self.skeleton)))

    def restore(self, folder: Path) -> str:
        """The run's pairwise.json: of runs before their weights held the statistics, or what
        pose.tools.pairwise_stats added since."""
        file = folder / FILE
        if not file.is_file():
            return ""
        self.use_statistics(pairwise_statistics.read(file, self.skeleton))
        return file.read_text(encoding="utf-8")

    def constants(self) -> str:
        return json.dumps(pairwise_statistics.to_json(self.statistics)) if self.prepared else ""

    def use_constants(self, text: str, source: Path | str) -> None:
        self.use_statistics(pairwise_statistics.parse(text, self.skeleton, source) if text else None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        """Weights of before 0.9 lack the statistics, which `restore` then reads."""
        for name in TABLES:
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *more)

    def _of_others(self, table: Tensor) -> Tensor:
        """(K, K, 2) float64 -> (K, K - 1, 2) float32, without those to a keypoint itself."""
        return table.gather(1, self.others[..., None].expand(-1, -1, 2)).float()

    def targets(self, batch: Batch, stride: int) -> PairwiseTargets:
        size = (batch.loss_mask.shape[-2] // stride, batch.loss_mask.shape[-1] // stride)
        found = discs(batch.keypoints, self.cfg.radius, stride, size, self.layout)
        return PairwiseTargets(
            draw_discs(found, size), grid_mask(batch.loss_mask, stride), batch.labelled, found,
            batch.keypoints[..., :2], batch.keypoints[..., 2] > 0,
        )  # fmt: skip

    def loss(self, stages: Sequence[Fields], targets: Sequence[PairwiseTargets]) -> dict[str, Tensor]:
        """heatmap: cross entropies, summed over the stages; locref and pairwise: Huber losses at the cells of
        the keypoints' discs."""
        terms: dict[str, list[Tensor]] = {"heatmap": [], "locref": [], "pairwise": []}
        for fields, target in zip(stages, targets, strict=True):
            with torch.autocast(target.heatmap.device.type, enabled=False):
                for name, one in (
                    ("heatmap", self._heatmap_loss), ("locref", self._locref_loss),
                    ("pairwise", self._pairwise_loss),
                ):  # fmt: skip
                    if name in fields:
                        terms[name].append(one(fields[name].float(), target))
        weights = (self.cfg.heatmap_weight, self.cfg.locref_weight, self.cfg.pairwise_weight)
        return {
            name: weight * over_stages(values, self.cfg.over_stages)
            for (name, values), weight in zip(terms.items(), weights, strict=True)
        }

    def _heatmap_loss(self, logits: Tensor, target: PairwiseTargets) -> Tensor:
        """The mean counts masked cells too, like that of the other heads."""
        weight = target.mask * (1 + self.cfg.foreground_weight * target.heatmap)
        each = F.binary_cross_entropy_with_logits(logits, target.heatmap, weight, reduction="none")
        return (each.sum((2, 3)) * target.labelled).sum() / each.numel()

    def _locref_loss(self, maps: Tensor, target: PairwiseTargets) -> Tensor:
        """maps (B, 2 K, h, w)."""
        owned = target.discs.owned[..., None]
        offset = (target.position[:, :, :, None] - target.discs.center) / self.cfg.locref_std
        found = gather_cells(maps.unflatten(1, (-1, 2)), target.discs.cell)
        return masked_huber(found, offset, owned.expand_as(found))

    def _pairwise_loss(self, maps: Tensor, target: PairwiseTargets) -> Tensor:
        """maps (B, 2 K (K - 1), h, w).  Gathered at the discs' cells: a dense target would be as large as the
        network's output."""
        count = len(self.skeleton)
        found = gather_cells(maps.unflatten(1, (count, -1)), target.discs.cell)
        found = found.unflatten(4, (-1, 2))  # (B, P, K, R, K - 1, 2)
        there = target.position[:, :, self.others][:, :, :, None]  # (B, P, K, 1, K - 1, 2)
        offset = there - target.discs.center[..., None, :]
        mean, std = self._of_others(self.offset_mean), self._of_others(self.offset_std)
        offset = (offset - mean[:, None]) / std[:, None]
        counts = target.discs.owned[..., None] & target.visible[:, :, self.others][:, :, :, None]
        return masked_huber(found, offset, counts[..., None].expand_as(found))

    def readout(self, stages: Sequence[Fields]) -> Fields:
        """Probabilities, and offsets in pixels from the centre of the cell."""
        last = self.combined(stages)
        mean, std = self._of_others(self.offset_mean), self._of_others(self.offset_std)
        pairwise = last["pairwise"].unflatten(1, mean.shape)
        scaled = pairwise * std[..., None, None] + mean[..., None, None]
        return {
            "heatmap": last["heatmap"].sigmoid(),
            "locref": last["locref"] * self.cfg.locref_std,
            "pairwise": scaled.flatten(1, 3),
        }

    def target_fields(self, targets: PairwiseTargets) -> Fields:
        """Offsets in pixels at the discs' cells; those to keypoints that are not labelled are not known."""
        batch, kinds, height, width = targets.heatmap.shape
        size, partners = (height, width), kinds - 1
        locref = targets.heatmap.new_zeros(batch, kinds, height * width, 2)
        pairwise = locref.new_zeros(batch, kinds, height * width, partners, 2)
        found = torch.zeros(batch, kinds, height * width, dtype=torch.bool, device=locref.device)
        known = torch.zeros(batch, kinds, height * width, partners, dtype=torch.bool, device=locref.device)
        b, p, k, r = targets.discs.owned.nonzero(as_tuple=True)
        cell, center = targets.discs.cell[b, p, k, r], targets.discs.center[b, p, k, r]
        locref[b, k, cell] = targets.position[b, p, k] - center
        found[b, k, cell] = True
        there = (b[:, None], p[:, None], self.others[k])
        seen = targets.visible[there]
        # not a product: an unlabelled keypoint may hold any number
        pairwise[b, k, cell] = (targets.position[there] - center[:, None]).where(seen[..., None], 0)
        known[b, k, cell] = seen
        return {
            "heatmap": targets.heatmap,
            "locref": locref.transpose(2, 3).flatten(1, 2).unflatten(2, size),
            "locref_known": found.unflatten(2, size),
            "pairwise": pairwise.permute(0, 1, 3, 4, 2).flatten(1, 3).unflatten(2, size),
            "pairwise_known": known.transpose(2, 3).flatten(1, 2).unflatten(2, size),
            "mask": targets.mask,
        }

    def decode(self, fields: Fields, stride: int) -> list[People]:
        """heatmap (B, K, h, w), locref (B, 2 K, h, w), pairwise (B, 2 K (K - 1), h, w)."""
        return self.decoder(**{name: fields[name] for name in self.fields}, stride=stride)


def tables(statistics: PairwiseStatistics) -> dict[str, np.ndarray]:
    """What the buffers hold."""
    count = len(statistics.keypoints)
    models = np.zeros((count, count, 3 * NUM_FEATURES + 2))
    for pair, model in statistics.models.items():
        models[pair] = np.concatenate((model.low, model.high, model.weights, [1]))
    return dict(zip(TABLES, (statistics.mean, statistics.std, models), strict=True))


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(table, other[name]) for name, table in one.items())


def pair_id(a: int, b: int, count: int) -> int:
    """Of the ordered pair (a, b): its channels are 2 id and 2 id + 1."""
    return (count - 1) * a + b - (a < b)


def locref_spec(skeleton: Skeleton) -> FieldSpec:
    perm = tuple(2 * k + axis for k in skeleton.flip_index for axis in (0, 1))
    return FieldSpec(len(perm), perm, (-1.0, 1.0) * len(skeleton), in_pixels=True, drawn="offsets")


def pairwise_spec(skeleton: Skeleton) -> FieldSpec:
    """Mirroring turns x round, and the pair (a, b) into that of their mirror partners."""
    flip, count = skeleton.flip_index, len(skeleton)
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]  # in the order of their ids
    perm = tuple(2 * pair_id(flip[a], flip[b], count) + axis for a, b in pairs for axis in (0, 1))
    sign = (-1.0, 1.0) * len(pairs)
    return FieldSpec(len(perm), perm, sign, in_pixels=True, drawn="offsets_to_others")
