"""Associative embedding (Newell, Huang, Deng: Associative Embedding, NIPS 2017): one heatmap and one tag map
per keypoint; keypoints of one person carry close tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from pose.config import Counts, Settings, component_settings
from pose.decoders.tag_groups import TagGroupsSettings
from pose.geometry import PIXEL_CENTER, LayoutLike
from pose.heads.base import Head, build_decoder
from pose.losses import OverStages, masked_mse, over_stages, tag_loss
from pose.registry import DECODERS, HEADS
from pose.skeleton import Skeleton
from pose.structures import Batch, Fields, FieldSpec, People
from pose.targets.heatmaps import cells, draw_heatmaps, flat_index, grid_mask

if TYPE_CHECKING:
    DecoderSettings: TypeAlias = Any
else:
    DecoderSettings = component_settings(DECODERS, default="tag_groups")


class TagsSettings(Settings):
    """The defaults are pose-ae-train's."""

    name: Literal["tags"] = "tags"
    tag_dim: int = Field(1, ge=1)
    """Numbers per keypoint by which people are told apart."""
    sigma: float = Field(2.0, gt=0)
    """Width of the target Gaussian in cells."""
    center: Literal["cell", "subpixel"] = "cell"
    """Centre of the target Gaussian: the keypoint's cell, or the keypoint itself."""
    combine: Literal["max"] = "max"
    """How the Gaussians of several people make one heatmap."""
    heatmap_weight: float = Field(1.0, ge=0)
    """Weight of the heatmaps' squared error."""
    foreground_weight: float = Field(0.0, ge=0)
    """Squared errors count 1 + this times the target: above 0, a short training leaves the all-zero map
    sooner."""
    pull_weight: float = Field(1e-3, ge=0)
    """Weight of the term that draws one person's tags together."""
    push_weight: float = Field(1e-3, ge=0)
    """Weight of the term that drives different people's mean tags apart."""
    push: Literal["exp", "hinge"] = "exp"
    """exp(-d^2), as published, or max(0, 1 - d), which still pushes where all tags have collapsed."""
    tag_strides: tuple[int, ...] | None = Field(None, min_length=1)
    """Strides of the network's levels that have tags; null = all.  HigherHRNet has them at 4 only."""
    over_stages: OverStages = "mean"
    """How the losses of the network's stages count: their mean, or their sum as in HigherHRNet."""
    decoder: Annotated[DecoderSettings, Counts.AFTER_TRAINING] = TagGroupsSettings()


class TagTargets(NamedTuple):
    """All on the grid of one stride."""

    heatmap: Tensor  # (B, K, h, w)
    mask: Tensor  # (B, 1, h, w)
    cell_index: Tensor  # (B, P, K) int64, flat cell of each keypoint
    visible: Tensor  # (B, P, K) bool, labelled and on the grid
    labelled: Tensor  # (B, K) bool, False for keypoints that the image's data set never labels


def _mean(terms: Sequence[Tensor], how: OverStages) -> Tensor:
    """(B,) for each stage -> their mean over images, and mean or sum over stages."""
    every = torch.stack([*terms])
    return every.mean() if how == "mean" else every.mean(1).sum()


@HEADS.register("tags", TagsSettings)
class TagsHead(Head):
    def __init__(self, cfg: TagsSettings, skeleton: Skeleton, layout: LayoutLike = PIXEL_CENTER) -> None:
        super().__init__()
        self.cfg = cfg
        self.skeleton = skeleton
        self.layout = layout
        num_keypoints, dim = len(skeleton), cfg.tag_dim
        tag_perm = tuple(k * dim + d for k in skeleton.flip_index for d in range(dim))
        self.fields = {
            "heatmap": FieldSpec(num_keypoints, skeleton.flip_index, (1.0,) * num_keypoints, drawn="heat"),
            # tags are comparable only within one pass over the image, so passes stay side by side
            "tag": FieldSpec(
                num_keypoints * dim,
                tag_perm,
                (1.0,) * num_keypoints * dim,
                "stack",
                strides=cfg.tag_strides,
                drawn="value",
            ),
        }
        self.decoder = build_decoder(cfg.decoder, skeleton, layout, cfg.name, [*self.fields])

    def targets(self, batch: Batch, stride: int) -> TagTargets:
        height, width = (side // stride for side in batch.loss_mask.shape[-2:])
        position, cell, visible = cells(batch.keypoints, stride, (height, width), self.layout)
        heatmap = draw_heatmaps(
            position, cell, visible, (height, width), self.cfg.sigma, subpixel=self.cfg.center == "subpixel"
        )
        mask = grid_mask(batch.loss_mask, stride)
        return TagTargets(heatmap, mask, flat_index(cell, width), visible, batch.labelled)

    def loss(self, stages: Sequence[Fields], targets: Sequence[TagTargets]) -> dict[str, Tensor]:
        """heatmap, pull and push: means or sums over stages, means over images; `stat/collapse` is how close
        push is to its value when everybody has the same tag (1 = collapsed), over images with several
        people."""
        heatmap, pull, push = [], [], []
        for fields, target in zip(stages, targets, strict=True):
            with torch.autocast(fields["heatmap"].device.type, enabled=False):
                heatmap.append(self._heatmap_loss(fields["heatmap"], target))
                if "tag" in fields:
                    tags = fields["tag"].unflatten(1, (-1, self.cfg.tag_dim))
                    one = tag_loss(tags, target.cell_index, target.visible, self.cfg.push)
                    pull.append(one[0])
                    push.append(one[1])
        several = (targets[-1].visible.any(2).sum(1) > 1).float()
        collapse = (push[-1].detach() * several).sum() / (0.5 * several.sum()).clamp(min=0.5)
        how = self.cfg.over_stages
        return {
            "heatmap": self.cfg.heatmap_weight * over_stages(heatmap, how),
            "pull": self.cfg.pull_weight * _mean(pull, how),
            "push": self.cfg.push_weight * _mean(push, how),
            "stat/collapse": collapse,
        }

    def _heatmap_loss(self, heatmap: Tensor, target: TagTargets) -> Tensor:
        return masked_mse(
            heatmap.float(), target.heatmap, target.mask, self.cfg.foreground_weight, labelled=target.labelled
        )

    def readout(self, stages: Sequence[Fields]) -> Fields:
        return self.combined(stages)

    def target_fields(self, targets: TagTargets) -> Fields:
        """A keypoint's tag is the number of its person, from 0, at its cell alone."""
        batch, kinds, height, width = targets.heatmap.shape
        tag = targets.heatmap.new_zeros(batch, kinds, self.cfg.tag_dim, height * width)
        known = torch.zeros(batch, kinds, height * width, dtype=torch.bool, device=tag.device)
        b, p, k = targets.visible.nonzero(as_tuple=True)
        cell = targets.cell_index[b, p, k]
        tag[b, k, :, cell] = p.to(tag.dtype)[:, None]
        known[b, k, cell] = True
        return {
            "heatmap": targets.heatmap,
            "tag": tag.flatten(1, 2).unflatten(2, (height, width)),
            "tag_known": known.unflatten(2, (height, width)),
            "mask": targets.mask,
        }

    def decode(self, fields: Fields, stride: int) -> list[People]:
        """heatmap (B, K, h, w), tag (B, T, K * D, h, w)."""
        tag = fields["tag"].unflatten(2, (-1, self.cfg.tag_dim))  # (B, T, K, D, h, w)
        return self.decoder(heatmap=fields["heatmap"], tag=tag.transpose(1, 2).flatten(2, 3), stride=stride)

    def warnings(self, terms: dict[str, float]) -> list[str]:
        if terms.get("stat/collapse", 0.0) < 0.9:
            return []
        return [
            "all people have nearly the same tag (push stays at its collapsed value), so they cannot be told "
            "apart; try head.push=hinge, or a larger head.push_weight against head.pull_weight"
        ]
