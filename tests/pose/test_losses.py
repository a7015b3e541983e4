"""pose.losses: the batched tag loss is the literal double loop of pose-ae-train, value and gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.losses import gather_cells, masked_huber, masked_mse, tag_loss
from tests.literal.reference import deepercut_targets as deepercut
from tests.literal.reference import pose_ae_training as literal

B, K, H, W = 3, 5, 6, 7
Scene = tuple[Tensor, Tensor, Tensor]


def scene(people: int, dim: int = 1, seed: int = 0, kind: str = "any") -> Scene:
    """tags (B, K, D, h, w) float64, index and visible (B, P, K)."""
    generator = torch.Generator().manual_seed(seed)
    tags = torch.randn(B, K, dim, H, W, dtype=torch.float64, generator=generator)
    index = torch.randint(0, H * W, (B, people, K), generator=generator)
    visible = torch.rand(B, people, K, generator=generator) < 0.6
    if kind == "single keypoints":
        visible = torch.arange(K).eq(torch.randint(0, K, (B, people, 1), generator=generator))
    if kind == "duplicates" and people:
        index[:, 1:], visible[:, 1:] = index[:, :1], visible[:, :1]
    if kind == "one picture empty":
        visible[1] = False
    return tags, index, visible


def by_loops(tags: Tensor, index: Tensor, visible: Tensor, push: str) -> tuple[Tensor, Tensor]:
    flat = index + torch.arange(K) * H * W
    return literal.tag_loss(tags.permute(0, 1, 3, 4, 2), torch.stack([flat, visible.long()], -1), push)


def gradient(loss: Callable[..., tuple[Tensor, Tensor]], one: Scene, push: str) -> Tensor:
    tags = one[0].clone().requires_grad_()
    pull, pushed = loss(tags, *one[1:], push)
    weights = torch.arange(1.0, B + 1, dtype=torch.float64)
    ((pull * weights).sum() + 3 * (pushed * weights).sum()).backward()
    assert tags.grad is not None
    return tags.grad


@pytest.mark.parametrize("kind", ["any", "single keypoints", "duplicates", "one picture empty"])
@pytest.mark.parametrize("people", [0, 1, 2, 30])
@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_pose_ae_train(push: str, dim: int, people: int, kind: str) -> None:
    one = scene(people, dim, kind=kind)
    # the square root of hinge is cut off at 1e-12, so equal means count 1 - 1e-6
    near = 2e-6 if push == "hinge" else 1e-12
    for ours, theirs in zip(tag_loss(*one, push), by_loops(*one, push), strict=True):
        torch.testing.assert_close(ours, theirs, atol=near, rtol=0)
    torch.testing.assert_close(
        gradient(tag_loss, one, push), gradient(by_loops, one, push), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("push", ["exp", "hinge"])
@pytest.mark.parametrize("dim", [1, 3])
def test_gradients_are_those_of_the_values(push: str, dim: int) -> None:
    tags, index, visible = scene(4, dim, seed=3)
    assert torch.autograd.gradcheck(lambda t: tag_loss(t, index, visible, push), tags.requires_grad_())


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_symmetries(push: str) -> None:
    tags, index, visible = scene(6, 2, seed=1)
    value = tag_loss(tags, index, visible, push)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    padding = torch.zeros(B, 3, K)
    same = [
        tag_loss(tags, index[:, order], visible[:, order], push),  # the order of people
        tag_loss(tags + 7, index, visible, push),  # only differences matter
        tag_loss(tags.flip(1), index.flip(2), visible.flip(2), push),  # the order of keypoints
        tag_loss(tags.repeat(1, 1, 2, 1, 1), index, visible, push),  # a repeated dimension
        tag_loss(tags, torch.cat([index, padding.long()], 1), torch.cat([visible, padding.bool()], 1), push),
        tuple(  # a batch is its pictures
            torch.cat(one)
            for one in zip(
                *(tag_loss(tags[b : b + 1], index[b : b + 1], visible[b : b + 1], push) for b in range(B))
            )
        ),
    ]
    for other in same:
        torch.testing.assert_close(other, value, atol=1e-9, rtol=1e-9)


def test_what_the_terms_mean() -> None:
    index = torch.tensor([[[0, 1], [2, 3]]])
    visible = torch.ones(1, 2, 2, dtype=torch.bool)

    def at(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, 2, 2).repeat(1, 2, 1, 1, 1)

    pull, push = tag_loss(at(5, 5, 5, 5), index, visible)  # collapsed
    assert (pull.item(), push.item()) == (0, 0.5)
    pull, push = tag_loss(at(0, 0, 100, 100), index, visible)  # ideal
    assert (pull.item(), push.item()) == (0, 0)
    assert tag_loss(at(0, 0, 100, 100), index, visible, "hinge")[1].item() == 0
    pull, _ = tag_loss(at(0, 2, 100, 104), index, visible)
    assert pull.item() == pytest.approx((1 + 4) / 2)
    _, push = tag_loss(at(0, 0, 0.25, 0.25), index, visible, "hinge")
    assert push.item() == pytest.approx(0.5 * 0.75)


def test_equal_means_give_a_finite_gradient() -> None:
    one = scene(3, 2, kind="duplicates")
    zeros = torch.zeros_like(one[0])
    for push in ("exp", "hinge"):
        assert gradient(tag_loss, (zeros, *one[1:]), push).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_is_only_that_of_the_tags(dtype: torch.dtype) -> None:
    tags, index, visible = scene(5, 2)
    rough = tags.to(dtype)
    expected = tag_loss(rough.double(), index, visible)
    for one, other in zip(tag_loss(rough, index, visible), expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_nothing_waits_for_the_device(push: str) -> None:
    """Without values there are no values to wait for; and one graph holds the whole computation."""
    tags, index, visible = scene(4, 2)
    pull, pushed = tag_loss(tags.to("meta"), index.to("meta"), visible.to("meta"), push)
    assert pull.shape == pushed.shape == (B,)
    compiled = torch.compile(tag_loss, fullgraph=True, backend="eager", dynamic=False)
    torch.testing.assert_close(compiled(tags, index, visible, push), tag_loss(tags, index, visible, push))


# ------------------------------------------------------------------------------------------------- heatmaps


def maps(seed: int, channels: int = K) -> Tensor:
    return torch.rand(B, channels, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_heatmap_loss_of_pose_ae_train() -> None:
    prediction, target, mask = maps(0), maps(1), (maps(2, 1) > 0.4).double()
    expected = literal.heatmap_loss(prediction, target, mask[:, 0]).mean()
    torch.testing.assert_close(masked_mse(prediction, target, mask), expected)


def test_what_is_masked_teaches_nothing() -> None:
    prediction, target, mask = maps(0).requires_grad_(), maps(1), (maps(2, 1) > 0.4).double()
    masked_mse(prediction, target, mask).backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad != 0, mask.bool().expand(-1, K, -1, -1))
    assert masked_mse(prediction, target, torch.zeros_like(mask)) == 0
    assert masked_mse(target, target, mask) == 0


def test_a_batch_is_the_mean_of_its_pictures() -> None:
    prediction, target, mask = maps(0), maps(1), (maps(2, 1) > 0.4).double()
    single = [masked_mse(prediction[b : b + 1], target[b : b + 1], mask[b : b + 1]) for b in range(B)]
    torch.testing.assert_close(masked_mse(prediction, target, mask), torch.stack(single).mean())


def test_foreground_may_weigh_more() -> None:
    prediction, target, mask = maps(0), maps(1), (maps(2, 1) > 0.4).double()
    expected = ((prediction - target) ** 2 * mask * (1 + 3 * target)).mean()
    torch.testing.assert_close(masked_mse(prediction, target, mask, 3.0), expected)
    assert masked_mse(prediction, target, mask, 0.0) == masked_mse(prediction, target, mask)


def test_gathering_reads_each_keypoints_own_cells() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, 6, generator=generator)
    index = torch.randint(0, 30, (2, 2, 3, 7), generator=generator)
    found = gather_cells(maps, index)
    assert found.shape == (2, 2, 3, 7, 4)
    for b, p, k, r in np.ndindex(2, 2, 3, 7):
        row, column = divmod(int(index[b, p, k, r]), 6)
        assert torch.equal(found[b, p, k, r], maps[b, k, :, row, column])


def test_huber_is_the_literal_one_for_each_image() -> None:
    generator = torch.Generator().manual_seed(1)
    prediction, target = (
        3 * torch.randn(4, 3, 5, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    counts = torch.rand(4, 3, 5, generator=generator) > 0.4
    counts[3] = False  # an image without any
    target[~counts] = torch.nan  # never looked at
    each = [
        deepercut.huber(prediction[b].numpy(), target[b].nan_to_num().numpy(), counts[b].numpy())
        for b in range(4)
    ]
    result = masked_huber(prediction.requires_grad_(), target, counts)
    torch.testing.assert_close(result.item(), float(np.mean(each)))
    result.backward()
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()
    assert not prediction.grad[~counts].any() and prediction.grad[counts].all()
