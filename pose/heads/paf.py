"""Part affinity fields (Cao, Simon, Wei, Sheikh: Realtime Multi-Person 2D Pose Estimation using Part Affinity
Fields, CVPR 2017): one heatmap per keypoint and one for the background, and for every limb a field of unit
vectors along it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from pose.config import Counts, PresetSettings, component_settings
from pose.decoders.paf_groups import PafGroupsSettings
from pose.errors import UserError
from pose.geometry import PIXEL_CENTER, LayoutLike
from pose.heads.base import Head, build_decoder
from pose.losses import OverStages, Reduction, masked_mse, over_stages
from pose.registry import DECODERS, HEADS
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, FieldSpec, People
from pose.targets.heatmaps import Combine, cells, draw_heatmaps, grid_mask
from pose.targets.pafs import Edge, Extent, Overlap, Rounding, draw_pafs

if TYPE_CHECKING:
    DecoderSettings: TypeAlias = Any
else:
    DecoderSettings = component_settings(DECODERS, default="paf_groups")


class PafSettings(PresetSettings):
    """How targets are drawn and weighed."""

    preset_folder: ClassVar[str] = "paf"

    name: Literal["paf"] = "paf"
    preset: Literal["default", "s1", "cmu"] = "default"
    """Targets in the one pixel convention; or those of rtpose (PyTorch), or of CMU's original (but for
    keypoints within half a pixel of the image's border)."""
    sigma: float = Field(0.875, gt=0)
    """Width of the target Gaussian in cells: 7 pixels at stride 8."""
    cutoff: float = Field(4.6052, gt=0)
    """The Gaussian is 0 where its exponent d^2 / (2 sigma^2) is larger."""
    combine: Combine = "max"
    """How the Gaussians of several people make one heatmap: the paper's maximum, or summed and cut at 1."""
    background: bool = True
    """A last heatmap: 1 minus the largest of the others.  It is trained and never decoded."""
    overlap: Overlap = "average"
    """Where the same limb of two people crosses: the mean of both vectors, or the last person's."""
    limb_width: float = Field(1.0, gt=0)
    """A cell belongs to a limb if it is nearer to its line than so many cells."""
    limb_edge: Edge = "open"
    """Whether cells exactly at that distance belong to it."""
    extent: Extent = "segment"
    """End of a limb along its line: limb_width beyond its keypoints, or the box of both widened by a cell."""
    box_rounding: Rounding = "half_even"
    """Of the box's sides: as Python rounds, or as C does."""
    paf_grid: Literal["centered", "corner"] = "centered"
    """Where the fields' cells are: as those of the heatmaps, or cell i at pixel i * stride."""
    heatmap_weight: float = Field(1.0, ge=0)
    """Weight of the heatmaps' squared error."""
    paf_weight: float = Field(1.0, ge=0)
    """Weight of the fields' squared error."""
    foreground_weight: float = Field(0.0, ge=0)
    """Squared errors on keypoints (times the target) and limbs count 1 + this: above 0, a short training
    leaves the all-zero maps sooner."""
    reduction: Reduction = "mean"
    """Squared errors are averaged over all cells; or summed and halved per image, as in Caffe.  With the
    sum a learning rate is channels * cells / 2 times smaller."""
    over_stages: OverStages = "sum"
    """How the losses of the network's stages count: their sum, as published, or their mean."""
    decoder: Annotated[DecoderSettings, Counts.AFTER_TRAINING] = PafGroupsSettings()


class PafTargets(NamedTuple):
    """All on the grid of one stride."""

    heatmap: Tensor  # (B, K or K + 1, h, w)
    paf: Tensor  # (B, 2 L, h, w)
    mask: Tensor  # (B, 1, h, w)
    on_limb: Tensor  # (B, L, h, w) integers, above 0 where a limb lies
    labelled: Tensor  # (B, K or K + 1) bool, False for keypoints that the image's data set never labels; the
    # background is known only where all are
    limb_labelled: Tensor  # (B, 2 L) bool, of both its ends


@HEADS.register("paf", PafSettings)
class PafHead(Head):
    limb_ends: Tensor  # (2 L,) the kinds at which limbs start, then those at which they end

    def __init__(self, cfg: PafSettings, skeleton: Skeleton, layout: LayoutLike = PIXEL_CENTER) -> None:
        super().__init__()
        if not skeleton.limbs:
            raise UserError(
                f"the head 'paf' needs limbs, and the skeleton {skeleton.name!r} has none"
                f"{f' ({skeleton.no_limbs})' if skeleton.no_limbs else ''}; list pairs of keypoints "
                "(data.skeleton={base: annotations, limbs: [[NAME, NAME], ...]}), or choose another head"
            )
        self.cfg = cfg
        self.skeleton = skeleton
        self.layout = layout
        ends = torch.tensor(skeleton.limb_index)
        self.register_buffer("limb_ends", ends.t().flatten(), persistent=False)
        num_keypoints, extra = len(skeleton), int(cfg.background)
        heat_perm = (*skeleton.flip_index, *range(num_keypoints, num_keypoints + extra))
        self.fields = {
            "paf": paf_spec(skeleton),
            "heatmap": FieldSpec(
                num_keypoints + extra, heat_perm, (1.0,) * (num_keypoints + extra), drawn="heat"
            ),
        }
        self.decoder = build_decoder(cfg.decoder, skeleton, layout, cfg.name, [*self.fields])

    def targets(self, batch: Batch, stride: int) -> PafTargets:
        size = (batch.loss_mask.shape[-2] // stride, batch.loss_mask.shape[-1] // stride)
        position, cell, valid = cells(batch.keypoints, stride, size, self.layout)
        heatmap = draw_heatmaps(
            position, cell, valid, size, self.cfg.sigma, subpixel=True,
            combine=self.cfg.combine, cutoff=self.cfg.cutoff, background=self.cfg.background,
        )  # fmt: skip
        ends = position if self.cfg.paf_grid == "centered" else batch.keypoints[..., :2] / stride
        limbs = len(self.skeleton.limbs)
        ends, there = ends.index_select(2, self.limb_ends), valid.index_select(2, self.limb_ends)
        paf, on_limb = draw_pafs(
            ends[:, :, :limbs],
            ends[:, :, limbs:],
            there[:, :, :limbs] & there[:, :, limbs:],
            size,
            limb_width=self.cfg.limb_width,
            edge=self.cfg.limb_edge,
            extent=self.cfg.extent,
            rounding=self.cfg.box_rounding,
            overlap=self.cfg.overlap,
        )
        labelled = batch.labelled
        both = labelled.index_select(1, self.limb_ends).view(-1, 2, limbs).all(1)
        if self.cfg.background:
            labelled = torch.cat((labelled, labelled.all(1, keepdim=True)), 1)
        mask = grid_mask(batch.loss_mask, stride)
        return PafTargets(
            heatmap, paf, mask, on_limb, labelled, both[:, :, None].expand(-1, -1, 2).flatten(1)
        )

    def loss(self, stages: Sequence[Fields], targets: Sequence[PafTargets]) -> dict[str, Tensor]:
        """paf and heatmap: masked squared errors, summed over the stages (as published: the published
        learning rates are for the sum) or averaged."""
        terms: dict[str, list[Tensor]] = {"paf": [], "heatmap": []}
        for fields, target in zip(stages, targets, strict=True):
            with torch.autocast(target.paf.device.type, enabled=False):
                if "paf" in fields:
                    on_limb = self._on_limb(target)
                    terms["paf"].append(
                        self._error(fields["paf"], target.paf, target.mask, on_limb, target.limb_labelled)
                    )
                if "heatmap" in fields:
                    foreground = self._foreground(target.heatmap)
                    terms["heatmap"].append(
                        self._error(
                            fields["heatmap"], target.heatmap, target.mask, foreground, target.labelled
                        )
                    )
        return {
            name: weight * over_stages(terms[name], self.cfg.over_stages)
            for name, weight in (("paf", self.cfg.paf_weight), ("heatmap", self.cfg.heatmap_weight))
        }

    def _on_limb(self, target: PafTargets) -> Tensor | None:
        return (target.on_limb > 0).repeat_interleave(2, 1) if self.cfg.foreground_weight else None

    def _foreground(self, heatmap: Tensor) -> Tensor | None:
        """Of the background map it is what the keypoints take away."""
        if not (self.cfg.foreground_weight and self.cfg.background):
            return None
        return torch.cat((heatmap[:, :-1], 1 - heatmap[:, -1:]), 1)

    def _error(
        self, maps: Tensor, target: Tensor, mask: Tensor, foreground: Tensor | None, labelled: Tensor
    ) -> Tensor:
        return masked_mse(
            maps.float(), target, mask, self.cfg.foreground_weight,
            foreground=foreground, labelled=labelled, reduction=self.cfg.reduction,
        )  # fmt: skip

    def readout(self, stages: Sequence[Fields]) -> Fields:
        return self.combined(stages)

    def decode(self, fields: Fields, stride: int) -> list[People]:
        """heatmap (B, K or K + 1, h, w), paf (B, 2 L, h, w)."""
        heatmap = fields["heatmap"][:, : len(self.skeleton)]
        return self.decoder(heatmap=heatmap, paf=fields["paf"], stride=stride)


def paf_spec(skeleton: Skeleton) -> FieldSpec:
    """Mirroring turns x round; a limb whose mirror image is listed the other way round also turns as a whole,
    so that its y is negated instead."""
    perm = tuple(2 * limb + axis for limb, _ in skeleton.limb_flip for axis in (0, 1))
    sign = tuple(s for _, turned in skeleton.limb_flip for s in ((1.0, -1.0) if turned else (-1.0, 1.0)))
    return FieldSpec(len(perm), perm, sign, drawn="vectors")
