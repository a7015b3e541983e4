"""Any network goes with any head: every pair learns a few pictures and finds their people again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pose.decoders.multicut import MulticutSettings
from pose.model import PoseModel, TrainStep
from pose.predict.batches import BatchPredictor
from pose.predict.settings import TestSettings
from pose.registry import HEADS
from pose.structures import Batch, InputSettings
from tests.batches import batch_of
from tests.dot_people import SKELETON, dots
from tests.small_networks import networks, pairs, small_model

NETWORKS = networks()

torch.set_num_threads(1)  # sums depend on the number of threads

SIZE = (96, 96)
HEAD: dict[str, dict[str, Any]] = {
    "tags": {"sigma": 1.0, "center": "subpixel", "foreground_weight": 9.0},
    "paf": {"foreground_weight": 9.0, "paf_weight": 0.3},
    "pairwise": {"radius": 8.0, "foreground_weight": 9.0, "decoder": MulticutSettings(nms_radius=1.0)},
}


def pair(network: str, head: str) -> PoseModel:
    shape = InputSettings(size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)
    settings = HEADS[head].config(**HEAD.get(head, {}))
    model: PoseModel = small_model(NETWORKS[network], settings, SKELETON, shape)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):  # the published first weights need more than a few steps
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model


def lesson() -> tuple[list[np.ndarray], list[np.ndarray], Batch]:
    """Four pictures with one or two people each, their people (N, K, 3), and the batch of them."""
    drawn = [dots(SIZE, 1 + seed % 2, seed=seed) for seed in range(4)]
    keypoints = torch.zeros(4, 2, len(SKELETON), 3)
    for i, (_, people) in enumerate(drawn):
        keypoints[i, : len(people)] = torch.from_numpy(people)
        keypoints[i, : len(people), :, 2] = 2
    images = [image for image, _ in drawn]
    return (
        images,
        [people for _, people in drawn],
        batch_of(keypoints, SIZE, image=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("network", "head"), pairs(HEADS.names()))
def test_every_network_learns_with_every_head(network: str, head: str) -> None:
    model = pair(network, head)
    images, truth, batch = lesson()
    model.head.prepare([*batch.keypoints.numpy()])  # as pose.train does
    step = TrainStep(model).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    # the statistics of batch normalization lag behind weights that learn so fast
    normalized = any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    for step_number in range(320 if normalized else 150):
        if step_number == 200:
            optimizer.param_groups[0]["lr"] = 3e-4
        terms = step(batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.5 * losses[10]
    predictor = BatchPredictor(model, TestSettings(flip=False))
    found = [
        np.linalg.norm(people.keypoints[..., :2] - person[:, :2], axis=2) < 8
        for people, expected in zip(map(predictor, images), truth, strict=True)
        for person in expected
    ]
    assert len(found) == 6  # each with the three keypoints of everybody in the picture
    assert sum(near.sum(1).max() >= 2 for near in found) >= (5 if model.predictor is None else 4)
