"""The literal restatement of the AI Challenger entry, against what is known of the original."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.literal.reference import ae_aic_group as group
from tests.literal.reference import ae_aic_network as network

K = 14


def maps(*peaks: tuple[int, int, int, float, float], size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(joint, y, x, score, tag) each -> score (14, size, size), tags (14, size, size, 4)."""
    score, tags = np.zeros((K, size, size), np.float32), np.zeros((K, size, size, 4), np.float32)
    for k, y, x, value, tag in peaks:
        score[k, y, x], tags[k, y, x] = value, tag
    return score, tags


# ---- network ----


def test_the_published_number_of_weights_and_their_names() -> None:
    with torch.device("meta"):
        net = network.HG()
    assert sum(p.numel() for p in net.parameters()) == network.PARAMETERS
    keys = network.published_checkpoint(net)["state_dict"]
    for key, shape in {
        "module.stage_base.0.conv1.0.conv.weight": (64, 3, 7, 7),
        "module.stage_base.0.conv6.0.conv.bias": (256,),
        "module.hg.0.hg.0.3.0.conv.weight": (768, 768, 3, 3),
        "module.hg.2.hg.0.1.0.conv.weight": (768, 640, 3, 3),
        "module.hg.2.hg.3.1.0.conv.weight": (384, 256, 3, 3),
        "module.hg.1.hg.3.2.0.conv.weight": (256, 384, 3, 3),
        "module.fc1.2.0.conv.weight": (256, 256, 3, 3),
        "module.fc2.2.0.conv.weight": (256, 256, 1, 1),
        "module.score.2.0.conv.weight": (14, 256, 1, 1),
        "module.embedding.0.0.conv.weight": (14, 256, 1, 1),
        "module.fc_.1.0.conv.weight": (256, 256, 1, 1),
        "module.score_.1.0.conv.weight": (256, 28, 1, 1),
    }.items():
        assert tuple(keys[key].shape) == shape, key
    assert "module.fc_.2.0.conv.weight" not in keys and "module.hg.0.hg.1.3.0.conv.weight" not in keys


def test_the_output_has_a_stride_of_8_at_every_stack() -> None:
    net = network.HG(f=8, num_stacks=2, growth=4)
    for score, embedding in net(torch.rand(1, 3, 128, 256)):
        assert score.shape == embedding.shape == (1, K, 16, 32)


def test_scores_are_not_squeezed_into_0_to_1() -> None:
    net = network.HG(f=8, num_stacks=1, growth=4, depth=1)
    with torch.no_grad():
        net.score[0][0].conv.bias.fill_(5)  # type: ignore[index, union-attr]
        assert net(torch.rand(1, 3, 16, 16))[0][0].mean() > 4


# ---- suppression ----


def test_survivors_of_a_row_and_of_its_mirror_image() -> None:
    row = np.zeros((1, 5, 9), np.float32)
    row[0, 0, [0, 4, 8]] = 0.7, 0.6, 0.5
    assert [int(x) for x in np.where(group.nms(row)[0, 0] > 0.3)[0]] == [0, 8]
    mirrored = group.nms(row[:, :, ::-1])[0, 0]
    assert [int(x) for x in np.where(mirrored > 0.3)[0]] == [8]


def test_equal_maxima_of_a_window_all_stay() -> None:
    score = np.full((1, 6, 6), 0.5, np.float32)
    np.testing.assert_array_equal(group.nms(score), score)
    score[0, 0, 0] = 0.6
    assert (group.nms(score) > 0).sum() == 1 + 36 - 25  # only the first window holds it


# ---- grouping ----


def whole(y: int, x: int, tag: float, score: float = 0.5) -> list[tuple[int, int, int, float, float]]:
    return [(k, y, x, score, tag) for k in range(K)]


def test_two_people_apart_by_their_tags() -> None:
    people = group.group(*maps(*whole(10, 10, 0.0), *whole(30, 40, 5.0)))
    assert [person[3] for person in people] == [(10, 10, 0.5), (40, 30, 0.5)]
    assert all(len(person) == K for person in people)


def test_three_others_make_a_person_and_replaced_ones_count() -> None:
    four = [(k, 10, 10, 0.5, 0.0) for k in (12, 13, 0, 3)]
    assert len(group.group(*maps(*four))) == 1
    assert group.group(*maps(*four[:3])) == []
    rising = [(12, 10, 10, 0.5, 0.0), *[(0, y, 10, 0.3 + y / 100, 0.0) for y in (10, 20, 30)]]
    (person,) = group.group(*maps(*rising))
    assert person[0][:2] == (10, 30) and len(person) == 2


def test_the_tag_distance_is_the_euclidean_one_over_all_passes() -> None:
    near = [(12, 10, 10, 0.5, 0.0), *[(k, 10, 10, 0.5, 0.49) for k in (13, 0, 3)]]
    assert len(group.group(*maps(*near))) == 1  # 0.98 of 1
    assert len(group.group(*maps(near[0], *[(*peak[:4], 0.5) for peak in near[1:]]))) == 0


def test_nobody_on_empty_maps() -> None:
    assert group.group(*maps()) == []


# ---- picture to people ----


@pytest.mark.parametrize(("size", "expected"), [(480, 78), (720, 117), (1080, 176)])
def test_coordinates_of_cell_10(size: int, expected: int) -> None:
    assert group.coordinate(10, 64, size) == expected


def test_pillow_averages_when_it_shrinks() -> None:
    board = (np.indices((1536, 1536)).sum(0) % 2 * 255).astype(np.uint8)
    small = group.canvas(np.repeat(board[..., None], 3, 2), 512)
    assert small.shape == (512, 512, 3) and set(small[1:-1, 1:-1].ravel().tolist()) == {126, 129}


@pytest.mark.parametrize("sizes", [(512,), (512, 640)])
def test_a_mirror_equivariant_network_finds_whom_it_sees(sizes: tuple[int, ...]) -> None:
    """The network marks all joints of a right-handed person at one bright place; left and right joints have
    different tags, so that unpermuted mirrored tags would tear people apart."""
    rows, columns = np.mgrid[:480, :600]
    picture = np.zeros((480, 600, 3), np.uint8)
    picture[(abs(rows - 100) < 30) & (abs(columns - 150) < 30)] = 255

    def forward(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        side = len(image) // 8
        blob = image[..., 0].reshape(side, 8, side, 8).mean((1, 3)) / 255
        tags = np.where(np.isin(np.arange(K), (0, 1, 2, 6, 7, 8)), -0.3, 0.3)
        if blob[:, : side // 2].sum() < blob[:, side // 2 :].sum():  # mirrored, so right is left
            tags = tags[list(group.FLIP)]
        score = np.repeat(blob[None], K, 0).astype(np.float32)
        return score, (np.ones_like(score) * tags[:, None, None]).astype(np.float32)

    score, tags = group.fused_maps(picture, forward, sizes)
    assert score.shape == (K, 64, 64) and tags.shape == (K, 64, 64, 2 * len(sizes))
    assert np.ptp(tags, axis=-1).max() < 1e-6
    people = group.people_of(picture, forward, sizes)
    assert len(people) >= 1 and (people[0][:, 2] == 1).sum() >= 4
    found = people[0][people[0][:, 2] == 1]
    assert np.abs(found[:, 0] - 150).max() < 45 and np.abs(found[:, 1] - 100).max() < 45
