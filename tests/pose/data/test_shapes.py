"""Whole pictures in batches of like shapes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pose import geometry
from pose.data.augment import AugmentSettings
from pose.data.loader import TrainStream, train_loader
from pose.data.mixture import training_data
from pose.data.settings import DataSettings, SetSettings
from pose.data.shapes import WINDOW, ShapedBatchSampler
from pose.data.warps import draw_whole_affine, whole_factor
from pose.skeleton import Skeleton
from pose.structures import InputSettings

SIZES = [(480, 640), (640, 480), (427, 640), (333, 500), (640, 640), (200, 640), (1200, 1600)]
WHOLE = AugmentSettings(crop="whole", rotation=0.0)


class Sizes:
    """A data set as far as batches need it."""

    augment = WHOLE

    def drawn_size(self, index: int, position: int) -> tuple[float, float]:
        rng = np.random.default_rng([0, position])
        factor = whole_factor(rng, self.augment, SIZES[index], (864, 864))
        return SIZES[index][0] * factor, SIZES[index][1] * factor


def sampler(batch_size: int, **more: Any) -> Iterator[Any]:
    return iter(ShapedBatchSampler(TrainStream(range(len(SIZES))), batch_size, dataset=Sizes(), **more))


def test_every_position_comes_once_and_its_picture_fits() -> None:
    stream, seen = TrainStream(range(len(SIZES))), []
    for batch in islice(sampler(4), 2 * WINDOW):
        assert len({canvas for _, _, canvas in batch}) == 1
        for index, position, canvas in batch:
            assert index == stream[position]
            height, width = Sizes().drawn_size(index, position)
            assert height <= canvas[0] + 1e-3 and width <= canvas[1] + 1e-3
            assert canvas[0] % 64 == canvas[1] % 64 == 0
            seen.append(position)
    assert sorted(seen) == list(range(2 * WINDOW * 4))


def test_shapes_in_a_batch_are_alike() -> None:
    """Less than a third of the canvases is border; unsorted, more than 40 percent would be."""

    def border(batches: list[Any]) -> float:
        used = sum(np.prod(Sizes().drawn_size(i, p)) for batch in batches for i, p, _ in batch)
        return 1 - used / sum(np.prod(canvas) for batch in batches for _, _, canvas in batch)

    batches = list(islice(sampler(8), WINDOW))
    flat = sorted((one for batch in batches for one in batch), key=lambda one: one[1])
    unsorted = []
    for i in range(0, len(flat), 8):
        most = np.max([Sizes().drawn_size(index, p) for index, p, _ in flat[i : i + 8]], 0)
        canvas = tuple(geometry.round_up(int(np.ceil(side)), 64) for side in most)
        unsorted.append([(index, p, canvas) for index, p, _ in flat[i : i + 8]])
    assert border(batches) < 0.33 < 0.4 < border(unsorted)


def test_shapes_come_in_random_order() -> None:
    sizes = [Sizes().drawn_size(*batch[0][:2]) for batch in islice(sampler(1), WINDOW)]
    aspects = [round(height / width, 9) for height, width in sizes]
    assert aspects != sorted(aspects) and aspects != sorted(aspects, reverse=True)


def test_a_picture_that_shrinks_to_nothing_has_a_canvas() -> None:
    class Dot(Sizes):
        def drawn_size(self, index: int, position: int) -> tuple[float, float]:
            return 1e-7, 200.0

    ((_, _, canvas),) = next(iter(ShapedBatchSampler(TrainStream([0]), 1, dataset=Dot())))
    assert canvas == (64, 256)


def test_processes_share_batches_and_any_step_is_reached() -> None:
    whole = list(islice(sampler(6), 40))
    parts = [list(islice(sampler(3, rank=rank, world_size=2), 40)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts)] == whole
    assert list(islice(sampler(6, start_step=35), 5)) == whole[35:]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_whole_picture_lies_in_the_middle_of_its_canvas(flip: float) -> None:
    settings = AugmentSettings(crop="whole", rotation=0.0, flip=flip)
    matrix, mirrored = draw_whole_affine(np.random.default_rng(0), settings, 1.1, (300, 400), (384, 512))
    corners = geometry.apply(matrix, np.array([[-0.5, -0.5], [399.5, 299.5]]))
    low, high = np.sort(corners, 0)
    np.testing.assert_allclose(low, [(512 - 440) / 2 - 0.5, (384 - 330) / 2 - 0.5])
    np.testing.assert_allclose(high - low, [440, 330])
    assert mirrored == bool(flip) == (np.linalg.det(matrix[:, :2]) < 0)


def test_large_pictures_are_shrunk_to_the_limit() -> None:
    factor = whole_factor(np.random.default_rng(0), WHOLE, (1200, 1600), (864, 864))
    assert 1200 * 1600 * factor**2 == pytest.approx(864**2)
    small = [whole_factor(np.random.default_rng(i), WHOLE, (100, 100), (864, 864)) for i in range(200)]
    assert 0.85 <= min(small) < 0.87 and 1.13 < max(small) <= 1.15


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_pictures(tmp_path: Path, workers: int) -> None:
    """The bright spot of each picture is where its keypoint says, whatever the canvas."""
    images, annotations = [], []
    for i, (height, width) in enumerate([(60, 100), (100, 60), (64, 96), (90, 50)] * 3):
        x, y = 10 + 3 * i, 12 + 2 * i
        picture = np.zeros((height, width, 3), np.uint8)
        cv2.circle(picture, (x, y), 4, (255, 255, 255), -1)
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
        images.append({"id": i + 1, "file_name": f"{i}.png", "width": width, "height": height})
        annotations.append(
            {"id": i + 1, "image_id": i + 1, "category_id": 1, "area": 50.0, "bbox": [0, 0, 9, 9],
             "keypoints": [x, y, 2]}
        )  # fmt: skip
    import json

    category = {"id": 1, "name": "spot", "keypoints": ["spot"]}
    (tmp_path / "a.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    own = SetSettings(annotations="a.json", images=".")
    augment = AugmentSettings(crop="whole", whole_multiple=16, rotation=0.0)
    settings = DataSettings(root=str(tmp_path), train=own, val=own, augment=augment, cache=False)
    dataset, stream = training_data(settings, InputSettings(size=(128, 128)), Skeleton("spot", ("spot",)))
    assert len({dataset.drawn_size(0, position) for position in range(9)}) == 9
    loader = train_loader(dataset, stream, 3, workers=workers)
    shapes = set()
    for batch, unreadable in islice(loader, 12):
        assert not unreadable
        shapes.add(tuple(batch.image.shape[2:]))
        assert batch.loss_mask.shape[1:] == batch.image.shape[2:]
        for image, keypoints in zip(batch.image, batch.keypoints):
            spot = (image[0] > 127).nonzero().float().mean(0)
            torch.testing.assert_close(spot.flip(0), keypoints[0, 0, :2], atol=0.75, rtol=0)
    assert len(shapes) > 2
