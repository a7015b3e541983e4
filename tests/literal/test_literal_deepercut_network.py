"""The literal restatement of DeeperCut's network itself: sizes, counts, and SAME padding by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.literal.reference import deepercut_network as literal

UNITS, WIDTH = (2, 2, 3, 2), 4


def test_the_published_network_has_its_number_of_parameters() -> None:
    """42 500 160 as torchvision's ResNet-101 without its classifier, and the predictions for 17 keypoints."""
    shapes = literal.variable_shapes(17)
    counts = {n: math.prod(s) for n, s in shapes.items() if not n.rpartition("/")[2].startswith("moving_")}
    assert sum(c for n, c in counts.items() if n.startswith("resnet")) == literal.TRUNK_101
    pose = sum(c for n, c in counts.items() if n.startswith("pose"))
    assert pose == 9 * 2048 * (17 + 34 + 544) + 17 + 34 + 544 + 9 * 1024 * 17 + 17
    assert shapes["resnet_v1_101/block4/unit_1/bottleneck_v1/shortcut/weights"] == (1, 1, 1024, 2048)
    assert shapes["pose/pairwise_pred/block4/weights"] == (3, 3, 544, 2048)
    assert len(literal.published_checkpoint({n: np.zeros(0) for n in shapes})) == 104 * 5 + 8 + 104 * 3 + 9


@pytest.mark.parametrize(
    ("size", "block", "heads"), [((97, 100), (7, 7), (14, 14)), ((64, 33), (4, 3), (8, 6))]
)
def test_sizes_of_the_maps(size: tuple[int, int], block: tuple[int, int], heads: tuple[int, int]) -> None:
    values = literal.random_variables(literal.variable_shapes(2, units=UNITS, width=WIDTH))
    image = torch.randn(1, 3, *size)
    points = literal.resnet_v1(values, image, 101, UNITS)
    assert points["block3/unit_1"].shape[2:] == points["block4/unit_2"].shape[2:] == block
    made = literal.pose_net(values, image, units=UNITS, intermediate_unit=2)
    counts = {"part_pred": 2, "locref_pred": 4, "pairwise_pred": 4, "intermediate_supervision": 2}
    assert {name: tuple(maps.shape) for name, maps in made.items()} == {
        name: (1, count, *heads) for name, count in counts.items()
    }
    assert all(maps.std() > 0.1 for maps in made.values())


def test_same_padding_by_hand() -> None:
    assert [literal.same_padding(n, 3, 2) for n in (8, 7, 2, 1)] == [(0, 1), (1, 1), (0, 1), (1, 1)]
    x = torch.arange(8.0).expand(1, 1, 8, 8)
    assert literal.max_pool_same(x)[0, 0, 0].tolist() == [2, 4, 6, 7]
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, :, 0, 0] = [1, 10, 100]
    v = {"up/weights": kernel, "up/biases": np.zeros(1, np.float32)}
    made = literal.conv2d_transpose_same(v, "up", torch.tensor([[[[2.0, 3.0]]]]))
    assert made[0, 0].tolist() == [[2, 20, 203, 30], [0, 0, 0, 0]]
