"""Heads, drawn people for them, and what a perfect network would answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.config import read_yaml
from pose.decoders.tag_groups import TagGroupsSettings
from pose.heads.base import Head
from pose.heads.paf import PafHead, PafSettings
from pose.heads.pairwise import PairwiseHead
from pose.heads.tags import TagsSettings
from pose.registry import HEADS
from pose.skeleton import Skeleton, from_dict
from pose.structures import Batch, Fields, People
from tests.batches import batch_of

SKELETONS = Path(__file__).parents[1] / "configs" / "_skeletons"
SKELETON, COCO18, AIC14 = (
    from_dict(read_yaml(SKELETONS / f"{name}.yaml")) for name in ("coco17", "coco18", "aic14")
)
K = len(SKELETON)
STRIDE, HEIGHT, WIDTH = 4, 128, 192
TAG_STEP = 5.0  # between people


def head(name: str) -> Head:
    built: Head = HEADS.build(HEADS[name].config(), SKELETON)
    return built


def precise_tags(**more: Any) -> Head:
    settings = TagsSettings(center="subpixel", decoder=TagGroupsSettings(subpixel="dark"), **more)
    built: Head = HEADS.build(settings, SKELETON)
    return built


def paf_head(skeleton: Skeleton = SKELETON, **more: Any) -> PafHead:
    built: PafHead = HEADS.build(PafSettings(**more), skeleton)
    return built


def on_canvas(keypoints: Tensor, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Batch:
    return batch_of(keypoints, size)


def drawn_people(seed: int = 0, batch: int = 2) -> Tensor:
    """(B, 3, K, 3): people side by side, the same keypoint of two people well apart; some not labelled, but
    the others joined by limbs."""
    rng = np.random.default_rng(seed)
    middle = np.stack([np.array([36, 96, 156]), np.full(3, 64)], -1)
    xy = middle[:, None] + rng.uniform((-18, -54), (18, 54), (batch, 3, K, 2))
    v = np.full((batch, 3, K, 1), 2)
    for labelled in v.reshape(-1, K):
        for k in rng.permutation(K)[:5]:
            labelled[k] = 0
            labelled[k] = 0 if joined(labelled) else 2
    return torch.from_numpy(np.concatenate([xy, v], -1).astype(np.float32))


def joined(labelled: np.ndarray) -> bool:
    """Whether limbs join all labelled keypoints."""
    group = np.where(labelled > 0, np.arange(K), -1)
    for _ in range(K):
        for a, b in SKELETON.limb_index:
            if group[a] >= 0 and group[b] >= 0:
                group[[a, b]] = max(group[a], group[b])
    return len({number for number in group if number >= 0}) == 1


def field_of(head: Head, name: str, targets: Any) -> Tensor:
    """What a perfect network would answer."""
    if isinstance(head, PairwiseHead):
        return perfect_offsets(head, name, targets)
    if hasattr(targets, name):
        maps: Tensor = getattr(targets, name)
        return maps
    if name == "tag":
        return person_tags(targets, head.channels["tag"] // K)
    pytest.skip(f"no perfect answer is known for the field {name!r}")


def of_others(head: PairwiseHead, table: Tensor) -> Tensor:
    """(K, K, 2) -> (K, K - 1, 2) float32, without the diagonal."""
    return table.float()[torch.arange(len(head.others))[:, None], head.others]


def perfect_offsets(head: PairwiseHead, name: str, targets: Any) -> Tensor:
    """The network's maps: logits, and normalised offsets at the cells that belong to a keypoint."""
    if name == "heatmap":
        return 20 * targets.heatmap - 10
    found, maps = targets.discs, torch.zeros(*targets.heatmap.shape[:2], 1, *targets.heatmap.shape[-2:])
    b, p, k, r = found.owned.nonzero(as_tuple=True)
    cell, center = found.cell[b, p, k, r], found.center[b, p, k, r]
    if name == "locref":
        values = (targets.position[b, p, k] - center) / head.cfg.locref_std
    else:
        others = head.others[k]  # (n, K - 1)
        offset = targets.position[b[:, None], p[:, None], others] - center[:, None]
        seen = targets.visible[b[:, None], p[:, None], others][..., None]
        values = (
            (offset - of_others(head, head.offset_mean)[k]) / of_others(head, head.offset_std)[k] * seen
        ).flatten(1)
    flat = maps.expand(-1, -1, values.shape[1], -1, -1).flatten(3).clone()
    flat[b, k, :, cell] = values
    return flat.flatten(1, 2).unflatten(2, targets.heatmap.shape[-2:])


def person_tags(targets: Any, dim: int) -> Tensor:
    """(B, K * D, h, w): every cell carries the number of the person whose keypoint is nearest."""
    height, width = targets.heatmap.shape[-2:]
    index, visible = targets.cell_index.transpose(1, 2), targets.visible.transpose(1, 2)  # (B, K, P)
    y, x = torch.arange(height)[:, None, None], torch.arange(width)[:, None]
    away = (index.div(width, rounding_mode="floor")[:, :, None, None] - y) ** 2
    away = away + (index.remainder(width)[:, :, None, None] - x) ** 2  # (B, K, h, w, P)
    if not index.shape[2]:
        return torch.zeros(len(index), K * dim, height, width)
    away = away.masked_fill(~visible[:, :, None, None], 1 << 40)
    return (TAG_STEP * away.argmin(-1).float()).repeat_interleave(dim, 1)


def perfect(head: Head, batch: Batch) -> Fields:
    targets = head.targets(batch, STRIDE)
    return {name: field_of(head, name, targets) for name in head.fields}


def decoded(head: Head, fields: Fields, stride: int = STRIDE) -> list[People]:
    read = head.readout([fields])
    for name, spec in head.fields.items():
        if spec.fuse == "stack":
            read[name] = read[name][:, None]
    return head.decode(read, stride)


def answers(one: Head, batch: int = 2) -> Fields:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(batch, channels, HEIGHT // 4, WIDTH // 4, generator=generator).requires_grad_()
        for name, channels in one.channels.items()
    }
