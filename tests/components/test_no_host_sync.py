"""A training step never waits for a GPU: on fake CUDA tensors no operation brings a value to the host
or copies one from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pose.data.augment import AugmentSettings
from pose.experiment import load_config
from pose.model import TrainStep
from tests.batches import batch_of

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique")


class Watch(TorchDispatchMode):
    """Names of the operations that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        before, after = (
            {leaf.device.type for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}
            for values in ((args, kwargs), out)
        )
        copied = before and after and before != after
        if copied or any(name in str(func) for name in WAITS):
            self.waits.append(f"{func} {sorted(before)} -> {sorted(after)}")
        return out


HOURGLASS = ["coco/ae_hourglass.yaml", "backbone.stacks=2", "backbone.width=8", "backbone.growth=4"]
VGG19 = ["coco/paf_vgg19.yaml", "backbone.stages=2", "backbone.trunk_width=4", "data.skeleton=coco17"]


RESNET = [
    *HOURGLASS[:1], "backbone={name: resnet, blocks: [1, 1, 2, 1], width: 8}", "head={name: pairwise}"
]  # fmt: skip


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize(
    "settings",
    [
        HOURGLASS,
        RESNET,
        [*HOURGLASS, "head.center=subpixel", "head.push=hinge", "head.tag_dim=2"],
        VGG19,
        [*VGG19, "head.preset=s1", "head.foreground_weight=3"],
        [*VGG19, "head.preset=cmu", "head.reduction=sum_over_2n"],
    ],
)
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_targets_forward_and_loss_never_wait(settings: list[str]):
    config = load_config(settings[0], [*settings[1:], "input.size=[128,128]"])
    with FakeTensorMode():
        with torch.device("cuda"):
            model = config.build_model()
        batch = batch_of(torch.empty(2, 5, 17, 3, device="cuda"), (128, 128))
        with Watch() as watch:
            terms = TrainStep(model, precision="bf16", augment=AugmentSettings())(batch)
        assert terms["loss"].device.type == "cuda"
        assert watch.waits == []
        with Watch() as watch:  # the watch sees what it looks for
            torch.tensor([1.0, 2.0]).to("cuda")
        assert watch.waits
