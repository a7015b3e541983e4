"""pose.model: from pictures to loss terms, for any backbone that makes the head's fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pose.backbones.hourglass import HourglassSettings
from pose.config import read_yaml
from pose.data.augment import AugmentSettings, unchanged_color
from pose.errors import UserError
from pose.heads.tags import TagsHead, TagsSettings
from pose.model import PoseModel, TrainStep, build_model, resolve_precision
from pose.registry import HEADS
from pose.skeleton import Skeleton, from_dict
from pose.structures import Batch, Fields, InputSettings
from tests.batches import noise, part_of

SKELETON = from_dict(read_yaml(Path(__file__).parents[2] / "configs" / "_skeletons" / "coco17.yaml"))


class Strided(nn.Module):
    """One convolution per stage, at strides of its own."""

    size_multiple = 8

    def __init__(self, channels: dict[str, int], strides: tuple[int, ...] = (8, 4)) -> None:
        super().__init__()
        self.strides, self.channels = strides, channels
        self.stages = nn.ModuleList(nn.Conv2d(3, sum(channels.values()), s, stride=s) for s in strides)

    def forward(self, x: Tensor) -> list[Fields]:
        sizes = list(self.channels.values())
        return [dict(zip(self.channels, stage(x).split(sizes, 1), strict=True)) for stage in self.stages]


def model(head: Any = None, skeleton: Skeleton = SKELETON, **more: Any) -> PoseModel:
    torch.manual_seed(0)
    built = HEADS.build(head or TagsSettings(), skeleton)
    return PoseModel(Strided(built.channels), built, InputSettings(size=(64, 96), **more))


def batch(seed: int = 0, people: int = 3, skeleton: Skeleton = SKELETON) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    strong = (0.1, 1.2, -0.1, 0.8)
    return noise(generator, 2, people, (64, 96), kinds=len(skeleton), masked=0.2, color=strong)


@pytest.mark.parametrize("head", HEADS.names())
def test_terms_are_scalars_to_gather_and_the_loss_is_their_sum(head: str) -> None:
    terms = TrainStep(model(HEADS[head].config()), augment=AugmentSettings())(batch())
    assert all(
        term.shape == (1,) and term.dtype == torch.float32 and term.isfinite() for term in terms.values()
    )
    weighted = [v for name, v in terms.items() if name != "loss" and not name.startswith("stat/")]
    assert weighted
    torch.testing.assert_close(terms["loss"], torch.stack(weighted).sum(0))
    assert terms["loss"].requires_grad
    assert not any(v.requires_grad for name, v in terms.items() if name.startswith("stat/"))


@pytest.mark.parametrize("head", HEADS.names())
def test_every_stage_is_supervised_on_its_own_grid(head: str) -> None:
    step = TrainStep(model(HEADS[head].config()))
    step(batch())["loss"].backward()
    for name, value in step.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all() and value.grad.abs().sum() > 0, name


def test_the_terms_are_those_of_the_head() -> None:
    one = model()
    given = batch()
    stages = one(given.image)
    targets = [one.head.targets(given, stride) for stride in (8, 4)]
    expected = one.head.loss(stages, targets)
    terms = TrainStep(one)(given)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value.reshape(1))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_loss_is_float32_whatever_the_network_computes_in(precision: str) -> None:
    one = model()
    exact = TrainStep(one, augment=AugmentSettings())(batch())
    terms = TrainStep(one, precision=precision, augment=AugmentSettings())(batch())
    for name, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.05, atol=1e-3)


def test_the_identity_of_colours_changes_nothing() -> None:
    one = model()
    same = batch()._replace(color=torch.tensor([unchanged_color()] * 2))
    plain = TrainStep(one)(same)
    for augment in (AugmentSettings(), AugmentSettings(hue=0, saturation=(1, 1))):
        for name, value in TrainStep(one, augment=augment)(same).items():
            torch.testing.assert_close(value, plain[name])
    assert TrainStep(one)(batch())["loss"] == plain["loss"]
    assert TrainStep(one, augment=AugmentSettings())(batch())["loss"] != plain["loss"]


def test_the_batch_is_left_as_it_was() -> None:
    given = batch()
    before = [value.clone() for value in given]
    TrainStep(model(), augment=AugmentSettings())(given)["loss"].backward()
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def test_a_batch_is_the_mean_of_its_pictures() -> None:
    step = TrainStep(model(), augment=AugmentSettings())
    given = batch()
    whole = step(given)
    parts = [step(part_of(given, slice(b, b + 1))) for b in range(2)]
    for name in ("heatmap", "pull", "push", "loss"):
        torch.testing.assert_close(whole[name], torch.stack([part[name] for part in parts]).mean(0))


def test_pictures_reach_the_network_as_it_wants_them() -> None:
    given = batch().image
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    expected = (given.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(model(mean=mean, std=std).normalize(given), expected)
    torch.testing.assert_close(model(mean=mean, std=std).normalize(given.float() / 255), expected)
    torch.testing.assert_close(
        model(mean=mean, std=std, channel_order="bgr").normalize(given), expected.flip(1)
    )
    assert "mean" not in model().state_dict()  # a setting, not a weight


def test_a_head_has_no_weights_but_what_it_knows_of_a_data_set() -> None:
    """Its layers, where it has some, belong to the model; its buffers are what `prepare` fills."""
    for name in HEADS.names():
        head = HEADS.build(HEADS[name].config(), SKELETON)
        assert not list(head.parameters())
        assert head.prepared == (not head.state_dict())
        people = np.random.default_rng(0).uniform(0, 64, (5, len(SKELETON), 3))
        head.prepare([people])
        assert head.prepared and (head.constants() == "") == (not head.state_dict())


@pytest.mark.parametrize(
    ("size", "fits"), [((64, 128), True), ((64, 100), False), ((65, 64), False), ((32, 64), False)]
)
def test_an_input_that_does_not_go_through_is_refused(size: tuple[int, int], fits: bool) -> None:
    small = HourglassSettings(stacks=1, width=4, growth=2, stem_width=2)

    def build() -> PoseModel:
        return build_model(small, TagsSettings(), SKELETON, InputSettings(size=size))

    if fits:
        assert build()(torch.zeros(1, 3, *size))[-1]["heatmap"].shape == (1, 17, 16, 32)
        return
    with pytest.raises(UserError, match=r"input\.size: .* must be multiples of 64, such as \[\d+, \d+\]"):
        build()


@pytest.mark.parametrize("values", [{"size": (0, 64)}, {"size": (64, -64)}, {"std": (1.0, 0.0, 1.0)}])
def test_input_settings_are_positive(values: Any) -> None:
    with pytest.raises(ValueError, match="expected positive numbers"):
        InputSettings(**values)


def test_precision_is_resolved_once() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == "fp32"
    assert resolve_precision("bf16", cpu) == "bf16"


def test_another_skeleton_needs_no_code() -> None:
    names = ("tail", "left_paw", "right_paw")
    animal = Skeleton("animal", names, (("tail", "left_paw"), ("tail", "right_paw")))
    for name in HEADS.names():
        terms = TrainStep(model(HEADS[name].config(), animal))(batch(skeleton=animal))
        assert terms["loss"].isfinite()
    head = TagsHead(TagsSettings(tag_dim=2), animal)
    assert head.channels == {"heatmap": 3, "tag": 6}
    assert head.fields["tag"].flip_perm == (0, 1, 4, 5, 2, 3)
