"""People of a whole set, shared among processes."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from pose.data.images import SetImage
from pose.predict import predict_set as module
from pose.predict.images import Outcome
from pose.predict.settings import TestSettings
from pose.structures import People
from tests.dot_people import dot_model, write_set

SIZES = [(120, 160), (160, 120), (140, 140), (101, 203), (120, 160), (97, 128), (120, 160)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[SetImage]:
    paths = write_set(tmp_path_factory.mktemp("set"), SIZES, category=5)
    return [SetImage(10 * (i + 1), path) for i, path in enumerate(paths)]


def predict(images: Any, share: tuple[int, int] = (0, 1), gather: Any = None, **more: Any):
    return module.predict_set(
        [dot_model(size=160)],
        images,
        TestSettings(batch_size=4),
        gather=gather or (lambda value: [value]),
        share=share,
        mode="single",
        workers=0,
        progress=False,
        **more,
    )


def together(images: Any, world_size: int) -> list[tuple[dict[int, People], Outcome]]:
    """What each of `world_size` processes ends with; threads stand for them."""
    barrier, handed = threading.Barrier(world_size), [None] * world_size
    ends: list[Any] = [None] * world_size

    def process(rank: int) -> None:
        def gather(value: Any) -> list[Any]:
            handed[rank] = value
            barrier.wait(60)
            return list(handed)

        ends[rank] = predict(images, (rank, world_size), gather)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


@pytest.mark.parametrize("world_size", [2, 9])
def test_every_process_ends_with_the_people_of_all(images, world_size):
    alone, _ = predict(images)
    assert list(alone) == [image.id for image in images]
    for people, _ in together(images, world_size):
        assert list(people) == list(alone)
        for image_id, one in people.items():
            np.testing.assert_allclose(one.keypoints, alone[image_id].keypoints, atol=1e-4)


def test_unreadable_pictures_of_all_processes_are_known_to_each(images, tmp_path):
    some = [*images[:2], SetImage(30, tmp_path / "gone.png"), *images[3:]]
    for people, outcome in together(some, 2):
        assert 30 not in people and len(people) == len(images) - 1
        assert [*outcome.unreadable] == [2]
        assert "gone.png" in outcome.unreadable[2]


def test_a_lost_picture_is_noticed(images):
    with pytest.raises(AssertionError, match="7 pictures, but people of 4"):
        predict(images, (0, 2), lambda value: [value])


def test_a_picture_predicted_twice_is_noticed(images):
    with pytest.raises(AssertionError, match="out of 14"):
        predict(images, gather=lambda value: [value, value])
