"""The grouping loss of associative embedding (Newell, Huang, Deng: Associative Embedding, NIPS 2017, section
3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def tag_loss(tags: Tensor, index: Tensor, visible: Tensor, push: str = "exp") -> tuple[Tensor, Tensor]:
    """Pull the tags of one person together and push the means of different people apart.

    tags (B, K, D, h, w); index (B, P, K) int64 flat y * w + x; visible (B, P, K) bool.  Returns pull and
    push, each (B,) float32 (float64 for float64 tags):

        pull = mean over people of the mean over their keypoints of |tag - m_i|^2
        push = 0.5 * mean over ordered pairs i != j of exp(-|m_i - m_j|^2), or of max(0, 1 - |m_i - m_j|)
        (hinge)

    m_i is the mean tag of person i, and |.|^2 the mean over the D tag dimensions, so that thresholds and
    weights keep their meaning at any D.  Nobody: both 0.  One person: push 0.  Fixed shapes, no host sync."""
    tags = tags if tags.dtype == torch.float64 else tags.float()  # exp and means of close tags need float32
    batch, num_people, num_keypoints = index.shape
    dim = tags.shape[2]
    where = index.transpose(1, 2)[:, :, None].expand(-1, -1, dim, -1)  # (B, K, D, P)
    found = tags.flatten(3).gather(3, where).permute(0, 3, 1, 2)  # (B, P, K, D)

    seen = visible.to(found.dtype)
    count = seen.sum(2).clamp(min=1)  # (B, P) keypoints per person
    person = visible.any(2).to(found.dtype)  # (B, P)
    people = person.sum(1)  # (B,)
    mean = (found * seen[..., None]).sum(2) / count[..., None]  # (B, P, D)

    spread = ((found - mean[:, :, None]) ** 2).mean(3) * seen  # (B, P, K)
    pull = (spread.sum(2) / count).sum(1) / people.clamp(min=1)

    distance2 = ((mean[:, :, None] - mean[:, None, :]) ** 2).mean(3)  # (B, P, P)
    different = ~torch.eye(num_people, dtype=torch.bool, device=tags.device)
    pair = person[:, :, None] * person[:, None, :] * different
    if push == "exp":
        closeness = torch.exp(-distance2)
    else:
        # the square root has no gradient at 0: the clamp keeps it finite where two means coincide
        closeness = (1 - distance2.clamp(min=1e-12).sqrt()).clamp(min=0)
    pairs = (people * (people - 1)).clamp(min=1)
    return pull, 0.5 * (closeness * pair).sum((1, 2)) / pairs
