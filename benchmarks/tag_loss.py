"""Time of the tag loss on one core: the literal loops of pose-ae-train against `tag_loss`.

    python -m benchmarks.tag_loss [--smallest]

Batch 8, 17 maps of 128 x 128 cells, pull and push, forward and backward.  What is left of our time goes into
filling the gradient of the whole tag maps, which is zero but for the keypoints' cells, with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import Row, compare, one_thread, print_rows
from pose.losses import tag_loss
from tests.literal.reference import pose_ae_training as literal

BATCH, KEYPOINTS, SIZE = 8, 17, 128


def scene(people: int, dim: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """tags (B, K, D, h, w), index and visible (B, P, K); a fifth of the keypoints is missing."""
    generator = torch.Generator().manual_seed(seed)
    tags = torch.randn(BATCH, KEYPOINTS, dim, SIZE, SIZE, generator=generator)
    index = torch.randint(0, SIZE * SIZE, (BATCH, people, KEYPOINTS), generator=generator)
    return tags, index, torch.rand(index.shape, generator=generator) < 0.8


def row(people: int, dim: int, push: str, literal_runs: int, runs: int) -> Row:
    tags, index, visible = scene(people, dim)
    channels_last = (
        tags.permute(0, 1, 3, 4, 2).contiguous().requires_grad_()
    )  # as the literal version wants it
    flat = index + torch.arange(KEYPOINTS) * SIZE * SIZE
    references = torch.stack([flat, visible.long()], -1)
    tags.requires_grad_()

    def by_loops() -> None:
        channels_last.grad = None
        pull, pushed = literal.tag_loss(channels_last, references, push)
        (pull.mean() + pushed.mean()).backward()

    def ours() -> None:
        tags.grad = None
        pull, pushed = tag_loss(tags, index, visible, push)
        (pull.mean() + pushed.mean()).backward()

    by_loops()
    ours()
    assert tags.grad is not None and channels_last.grad is not None
    torch.testing.assert_close(tags.grad, channels_last.grad.permute(0, 1, 4, 2, 3), rtol=1e-4, atol=1e-6)
    what = f"tag loss, {push}, {people} people, {dim} number(s) per keypoint"
    return compare(what, by_loops, ours, literal_runs=literal_runs, runs=runs)


def rows(smallest: bool = False) -> list[Row]:
    """Per batch, medians on one thread."""
    with one_thread():
        if smallest:
            return [row(1, 1, "exp", literal_runs=1, runs=1)]
        cases = [(10, 1, "exp"), (10, 1, "hinge"), (10, 4, "exp"), (30, 1, "exp")]
        return [row(*case, literal_runs=5, runs=31) for case in cases]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.tag_loss", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
