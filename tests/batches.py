"""Batches made by hand, for tests and benchmarks of what stands behind the loader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pose.data.augment import unchanged_color
from pose.structures import Batch


def batch_of(
    keypoints: Tensor | np.ndarray,
    size: tuple[int, int],
    *,
    image: Tensor | None = None,
    loss_mask: Tensor | None = None,
    areas: Tensor | None = None,
    color: Sequence[float] | None = None,
    first_id: int = 0,
) -> Batch:
    """keypoints (B, P, K, 3) in pixels of inputs of `size` (height, width) -> a batch on their device.

    By default the images are black, all of them counts in the loss, areas are 1 and colours stay as they
    are; every keypoint is one that the data set labels.  Image ids count from `first_id`."""
    truth = torch.as_tensor(keypoints)
    count, device = len(truth), truth.device
    return Batch(
        image=torch.zeros(count, 3, *size, dtype=torch.uint8, device=device) if image is None else image,
        loss_mask=torch.ones(count, *size, dtype=torch.bool, device=device)
        if loss_mask is None
        else loss_mask,
        keypoints=truth,
        areas=torch.ones(truth.shape[:2], device=device) if areas is None else areas,
        color=torch.tensor(color or unchanged_color(), device=device).repeat(count, 1),
        image_id=torch.arange(count, device=device) + first_id,
        labelled=torch.ones(count, truth.shape[2], dtype=torch.bool, device=device),
    )


def noise(
    generator: torch.Generator,
    count: int,
    people: int,
    size: tuple[int, int],
    *,
    kinds: int = 17,
    masked: float = 0.1,
    color: Sequence[float] | None = None,
    first_id: int = 0,
) -> Batch:
    """`count` images of noise with `people` anywhere, keypoints of `kinds` kinds with any visibility; the
    share `masked` of the pixels does not count in the loss."""
    height, width = size
    xy = torch.rand(count, people, kinds, 2, generator=generator) * torch.tensor([width, height])
    v = torch.randint(0, 3, (count, people, kinds, 1), generator=generator)
    return batch_of(
        torch.cat([xy, v], -1),
        size,
        image=torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8),
        loss_mask=torch.rand(count, *size, generator=generator) > masked,
        areas=torch.rand(count, people, generator=generator) * 1000,
        color=color,
        first_id=first_id,
    )


def part_of(batch: Batch, which: slice) -> Batch:
    """The images `which` of a batch."""
    return Batch(*(value[which] for value in batch))
