"""One person per image: every keypoint where its map is highest."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pose import geometry
from pose.config import Settings
from pose.decoders.peaks import clean
from pose.decoders.subpixel import Subpixel, subpixel_offset
from pose.registry import DECODERS
from pose.skeleton import Skeleton
from pose.structures import People


class SinglePersonSettings(Settings):
    """How the place within a cell is found."""

    name: Literal["single_person"] = "single_person"
    subpixel: Subpixel = "quarter"
    """Position within the cell where the head does not refine it: its centre, a quarter towards the larger
    neighbour (inner_quarter: as in MMPose 1.x, not near the border), or a Newton step, DARK's or that of
    MMPose's UDP."""


@DECODERS.register("single_person", SinglePersonSettings)
class SinglePerson:
    """Decodes a batch: exactly one person per image, with every keypoint; those whose map has nothing above 0
    have the score 0.  Its score is the mean of the keypoints'."""

    needs = ("heatmap",)

    def __init__(
        self,
        settings: SinglePersonSettings,
        skeleton: Skeleton,
        layout: geometry.LayoutLike = geometry.PIXEL_CENTER,
    ) -> None:
        self.settings = settings
        self.num_keypoints = len(skeleton)
        self.layout = layout

    @torch.no_grad()
    def __call__(
        self, heatmap: Tensor, stride: int, locref: Tensor | None = None, **other: object
    ) -> list[People]:
        """heatmap (B, K, h, w); locref (B, 2 K, h, w), from the centre of a cell to the keypoint, x first, in
        input pixels; other fields are not looked at; stride in input pixels per cell -> one person for every
        image, keypoints in input pixels.  Of equal cells the first in row-major order counts."""
        kinds = self.num_keypoints
        if heatmap.ndim != 4 or heatmap.shape[1] != kinds or not heatmap.shape[2:].numel():
            raise ValueError(f"expected heatmap (B, {kinds}, h, w), got {tuple(heatmap.shape)}")
        if locref is not None and locref.shape != (len(heatmap), 2 * kinds, *heatmap.shape[2:]):
            raise ValueError(f"expected locref (B, {2 * kinds}, h, w), got {tuple(locref.shape)}")
        return [one_person(row) for row in self._table(heatmap, stride, locref).cpu().numpy()]

    def _table(self, heatmap: Tensor, stride: int, locref: Tensor | None) -> Tensor:
        """(B, K, 3) float64: x, y and heat.  Nothing is copied to the host."""
        heat = clean(heatmap)
        images, kinds, height, width = heat.shape
        flat = heat.flatten(2)
        value = flat.amax(2, keepdim=True)
        # of equal ones the first, which argmax does not promise
        backwards = torch.arange(flat.shape[2] - 1, -1, -1, device=heat.device)
        cell = flat.shape[2] - 1 - torch.where(flat == value, backwards, -1).amax(2)
        place = torch.stack((cell % width, cell.div(width, rounding_mode="floor")), 2).double()
        if locref is None:
            channel = torch.arange(images * kinds, device=heat.device).view(images, kinds)
            place = place + subpixel_offset(heat, channel, cell, self.settings.subpixel)
            place = geometry.to_pixels(place, stride, self.layout, (height, width))
        else:
            fields = locref.float().reshape(images, kinds, 2, height * width)
            offset = fields.gather(3, cell[..., None, None].expand(-1, -1, 2, 1))[..., 0]
            offset = torch.nan_to_num(offset, nan=0.0, posinf=0.0, neginf=0.0)
            place = geometry.to_pixels(place, stride, self.layout, (height, width)) + offset
        return torch.cat((place, value.double()), 2)


def one_person(row: np.ndarray) -> People:
    """(K, 3) x, y and heat."""
    keypoints = row.astype(np.float32)
    keypoints[:, 2] = keypoints[:, 2].clip(0, 1)
    return People(keypoints[None], keypoints[None, :, 2].mean(1))
