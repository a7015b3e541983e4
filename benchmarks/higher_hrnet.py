"""Processor time of HigherHRNet-W32 at 512 pixels on one core: the literal network and losses against ours.

    python -m benchmarks.higher_hrnet [--smallest]

Both have the same weights and see the same images, in turns; before the clock starts, their outputs and their
losses are compared.  The literal step is given its target maps, ours draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.timing import Row, compare, one_thread, print_rows
from pose.config import read_yaml
from pose.engine.optim import build_optimizer
from pose.engine.optimizers.adam import AdamSettings
from pose.experiment import load_config
from pose.model import PoseModel, TrainStep
from pose.published.mmpose import our_name
from pose.structures import Batch
from tests.batches import batch_of
from tests.literal.reference import pose_ae_training as losses
from tests.literal.reference.higher_hrnet_network import HigherHRNet

CONFIG = "coco/higherhrnet_w32.yaml"
SKELETON = Path(__file__).parents[1] / "configs" / "_skeletons" / "coco17.yaml"


class Pair(NamedTuple):
    """The same network twice."""

    literal: HigherHRNet
    ours: PoseModel


def networks(width: int, side: int) -> Pair:
    config = load_config(
        CONFIG,
        [
            f"backbone.width={width}",
            "backbone.pretrained=null",
            "backbone.init=kaiming",
            f"input.size=[{side}, {side}]",
        ],
    )
    torch.manual_seed(0)
    ours = config.build_model()
    literal = HigherHRNet(width)
    state = ours.state_dict()
    names = {name: our_name(name, hourglass=False, higher=True) for name in literal.state_dict()}
    assert {*names.values()} <= {*state}
    literal.load_state_dict({name: state[own] for name, own in names.items()})
    return Pair(literal, ours)


def scene(side: int, images: int, people: int) -> Batch:
    """Noise with people whose keypoints lie anywhere; a fifth of them is missing."""
    generator = torch.Generator().manual_seed(0)
    kinds = len(read_yaml(SKELETON)["keypoints"])
    keypoints = torch.rand(images, people, kinds, 3, generator=generator) * (side - 1)
    keypoints[..., 2] = 2 * (torch.rand(images, people, kinds, generator=generator) < 0.8)
    return batch_of(
        keypoints,
        (side, side),
        image=torch.randint(0, 256, (images, 3, side, side), generator=generator, dtype=torch.uint8),
        areas=torch.full((images, people), side**2 / 9),
    )


def literal_loss(pair: Pair, batch: Batch) -> Callable[[], Tensor]:
    """Heatmaps at 1/4 and 1/2, tags at 1/4; everything that the published data workers prepare is ready."""
    model = pair.ours
    coarse, fine = (model.head.targets(batch, stride) for stride in (4, 2))
    kinds, size = coarse.heatmap.shape[1], coarse.heatmap.shape[-1]
    index = coarse.cell_index + torch.arange(kinds) * size * size
    people = torch.stack([index, coarse.visible.long()], -1)

    def loss() -> Tensor:
        first, second = pair.literal(model.normalize(batch.image))
        heat = losses.heatmap_loss(first[:, :kinds], coarse.heatmap, coarse.mask[:, 0])
        heat = heat + losses.heatmap_loss(second, fine.heatmap, fine.mask[:, 0])
        pull, push = losses.tag_loss(first[:, kinds:], people)
        return (heat + losses.PULL_WEIGHT * pull + losses.PUSH_WEIGHT * push).mean()

    return loss


def forward_row(width: int, side: int, runs: int) -> Row:
    pair = networks(width, side)
    pair.literal.eval(), pair.ours.eval()
    images = scene(side, 1, 1).image
    with torch.inference_mode():
        for stage, maps in zip(pair.ours(images), pair.literal(pair.ours.normalize(images)), strict=True):
            atol = 1e-4 * float(maps.abs().max())
            torch.testing.assert_close(torch.cat([*stage.values()], 1), maps, rtol=0, atol=atol)
        return compare(
            f"HigherHRNet-W{width}, {side} pixels, forward of 1 image",
            lambda: pair.literal(pair.ours.normalize(images)),
            lambda: pair.ours(images),
            literal_runs=runs,
            runs=runs,
        )


def step_row(width: int, side: int, images: int, runs: int) -> Row:
    pair = networks(width, side)
    batch = scene(side, images, people=5)
    loss, step = literal_loss(pair, batch), TrainStep(pair.ours)
    pair.literal.train(), pair.ours.train()
    torch.testing.assert_close(step(batch)["loss"][0], loss(), rtol=1e-3, atol=1e-6)
    adam = torch.optim.Adam(pair.literal.parameters(), 1e-3)
    own = build_optimizer(pair.ours.named_parameters(), AdamSettings(lr=1e-3))

    def literal() -> None:
        adam.zero_grad()
        loss().backward()
        adam.step()

    def ours() -> None:
        own.zero_grad()
        step(batch)["loss"].backward()
        own.step()

    what = f"HigherHRNet-W{width}, {side} pixels, step of {images} images"
    return compare(what, literal, ours, literal_runs=runs, runs=runs)


def rows(smallest: bool = False) -> list[Row]:
    """Medians on one thread."""
    with one_thread():
        if smallest:
            return [forward_row(4, 64, runs=1), step_row(4, 64, 2, runs=1)]
        return [forward_row(32, 512, runs=9), step_row(32, 512, 2, runs=5)]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.higher_hrnet", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
