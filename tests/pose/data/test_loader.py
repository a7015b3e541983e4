"""The training stream, its batches, and what happens when loading goes wrong."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pose.data import loader as module
from pose.data.dataset import Item, KeypointDataset
from pose.data.loader import (
    Loaded,
    ShardedBatchSampler,
    TrainLoader,
    TrainStream,
    collate,
    default_workers,
    train_loader,
)
from pose.data.mixture import Training, training_data
from pose.data.settings import DataSettings, SetSettings
from pose.errors import UserError
from pose.skeleton import Skeleton
from pose.structures import InputSettings, Sample
from tests.archives import sharded, zipped

SKELETON = Skeleton("two", ("left_hand", "right_hand"))
INPUT = InputSettings(size=(32, 48))
PICTURES, WITH_PEOPLE = 9, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine small pictures, six with one to three people."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(PICTURES):
        cv2.imwrite(str(folder / f"{i}.jpg"), rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
        images.append({"id": 100 + i, "file_name": f"{i}.jpg", "height": 40, "width": 50})
        for p in range(i % 3 + 1 if i < WITH_PEOPLE else 0):
            points = [10 + p, 12, 2, 30, 20 + p, 1]
            annotations.append({"id": 10 * i + p, "image_id": 100 + i, "category_id": 1, "keypoints": points,
                                "area": 50.0, "bbox": [10, 12, 20, 9]})  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(SKELETON.keypoints)}
    data = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(data))
    return folder


def open_data(folder: Path, images: str = ".", **more: Any) -> Training:
    files = SetSettings(annotations="people.json", images=images)
    settings = DataSettings(root=str(folder), train=files, val=files, **more)
    return training_data(settings, INPUT, SKELETON, seed=5)


def batches(folder: Path, count: int, batch_size: int, images: str = ".", **more: Any) -> list[Sample]:
    dataset, stream = open_data(folder, images, negatives=0.5)
    more = {"workers": 0, **more}
    return [loaded.batch for loaded in islice(train_loader(dataset, stream, batch_size, **more), count)]


def same(a: Sequence[Sample], b: Sequence[Sample]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    )


# -------------------------------------------------------------------------------------------------- stream


def test_a_pass_has_every_image_once_in_an_order_of_its_own() -> None:
    stream = TrainStream(range(50), seed=1)
    passes = [[stream[e * 50 + i] for i in range(50)] for e in range(3)]
    assert all(sorted(p) == list(range(50)) for p in passes)
    assert passes[0] != passes[1] != passes[2] != passes[0]
    assert [TrainStream(range(50), seed=2)[i] for i in range(50)] != passes[0]
    assert TrainStream(range(50), seed=1)[120] == stream[120]  # reached without what came before


@pytest.mark.parametrize("share, expected", [(0.0, 0), (0.25, 10), (0.33, 13), (5.0, 100)])
def test_the_share_of_negatives(share: float, expected: int) -> None:
    stream = TrainStream(range(40), range(1000, 1100), share=share)
    drawn = []
    for e in range(4):
        values = [stream[e * len(stream) + i] for i in range(len(stream))]
        assert len(set(values)) == len(values) == 40 + expected
        drawn.append({v for v in values if v >= 1000})
        assert len(drawn[-1]) == expected
    if 0 < expected < 100:
        assert drawn[0] != drawn[1]


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(UserError, match="no image with people"):
        TrainStream([], range(5), share=1.0)


def test_processes_share_the_global_batches() -> None:
    stream = TrainStream(range(30))

    def take(**more: Any) -> list[list[tuple[int, int]]]:
        return list(islice(ShardedBatchSampler(stream, **more), 12))

    one = take(batch_size=8)
    halves = [take(batch_size=4, rank=r, world_size=2) for r in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == one
    assert [p for batch in one for _, p in batch] == list(range(96))
    assert take(batch_size=8, start_step=5)[:7] == one[5:]


# ------------------------------------------------------------------------------------------------- batches


def test_samples_do_not_depend_on_who_prepares_them(folder: Path) -> None:
    alone = batches(folder, 5, 4)
    assert same(batches(folder, 5, 4, workers=2), alone)
    assert same(batches(folder, 3, 4, start_step=2), alone[2:])
    assert same(batches(folder, 2, 4, start_step=3, workers=1), alone[3:])
    halves = [batches(folder, 5, 2, rank=r, world_size=2) for r in range(2)]
    for whole, first, second in zip(alone, *halves, strict=True):
        for name in ("image", "loss_mask", "color", "image_id"):
            joined = torch.cat([getattr(first, name), getattr(second, name)])
            assert torch.equal(joined, getattr(whole, name))


@pytest.mark.slow
def test_workers_can_be_spawned(folder: Path) -> None:
    assert same(batches(folder, 2, 3, workers=1, context="spawn"), batches(folder, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"workers": 2, "context": "fork"}, {"workers": 2, "context": "spawn"}])
def test_samples_do_not_depend_on_where_the_images_lie(
    folder: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    shutil.copytree(folder, tmp_path / "data")
    zipped(folder, tmp_path / "data" / "a.zip", "train2017", 8)
    sharded(folder, tmp_path / "data" / "shards", 3, "x/y")
    alone = batches(folder, 7, 3)
    for images in ("a.zip", "shards", "shards/"):
        assert same(batches(tmp_path / "data", 7, 3, images, **how), alone)


def test_the_global_generators_are_left_alone(folder: Path) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    batches(folder, 2, 2, workers=1)
    assert (torch.rand(1), np.random.rand()) == expected


def test_collating_pads_people_to_the_largest_count(folder: Path) -> None:
    dataset, _ = open_data(folder)
    items = [dataset[i, i] for i in (0, 2, 8)]  # 1, 3 and no people
    batch, unreadable = collate(items)
    assert unreadable == ()
    assert batch.keypoints.shape == (3, 3, 2, 3) and batch.areas.shape == (3, 3)
    for row, item in enumerate(items):
        people = len(item.sample.areas)
        assert torch.equal(batch.keypoints[row, :people], item.sample.keypoints)
        assert torch.equal(batch.areas[row, :people], item.sample.areas)
        assert not batch.keypoints[row, people:].any() and not batch.areas[row, people:].any()
        assert torch.equal(batch.image[row], item.sample.image)
        assert torch.equal(batch.loss_mask[row], item.sample.loss_mask)
    assert batch.image.is_contiguous() and batch.image.shape == (3, 3, 32, 48)
    assert batch.image_id.tolist() == [100, 102, 108]
    nobody = collate([dataset[8, 0]] * 2).batch
    assert nobody.keypoints.shape == (2, 1, 2, 3) and not nobody.keypoints.any()


def test_collating_takes_contiguous_images_too(folder: Path) -> None:
    dataset, _ = open_data(folder)
    item = dataset[0, 0]
    copied = Item(item.sample._replace(image=item.sample.image.contiguous()), None)
    assert torch.equal(collate([copied]).batch.image, collate([item]).batch.image)


def test_what_goes_to_a_worker_is_small(folder: Path) -> None:
    dataset, _ = open_data(folder)
    assert len(pickle.dumps((dataset, collate, module.prepare_worker))) < 5000


def test_default_workers_are_shared_by_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert default_workers() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert default_workers() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "12")
    assert default_workers() == 0


# -------------------------------------------------------------------------------------- what can go wrong


class Broken:
    """A picture that is cut off, for the time of a test."""

    def __init__(self, path: Path) -> None:
        self.path, self.raw = path, path.read_bytes()

    def __enter__(self) -> None:
        self.path.write_bytes(self.raw[:200])

    def __exit__(self, *_: Any) -> None:
        self.path.write_bytes(self.raw)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named_once_and_counted(
    folder: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    dataset, stream = open_data(folder)
    loader = train_loader(dataset, stream, WITH_PEOPLE, workers=workers)
    with Broken(folder / "3.jpg"):
        first, second = islice(loader, 2)
    assert "3.jpg" in first.unreadable[0] and len(second.unreadable) == 1
    assert sum(loader.unreadable.values()) == 2 and caplog.text.count("left out of training") == 1
    row = first.batch.image_id.tolist().index(103)
    assert not first.batch.loss_mask[row].any() and not first.batch.keypoints[row].any()
    assert first.batch.keypoints[..., 2].any()


@pytest.mark.parametrize("workers", [0, 1])
def test_strict_stops_at_an_unreadable_picture(folder: Path, workers: int) -> None:
    dataset, stream = open_data(folder, strict=True)
    with Broken(folder / "3.jpg"), pytest.raises(UserError, match="3.jpg is corrupt") as error:
        next(iter(train_loader(dataset, stream, WITH_PEOPLE, workers=workers)))
    assert "\n" not in str(error.value)


def test_mostly_unreadable_pictures_stop_the_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset, stream = open_data(folder)
    assert isinstance(dataset, KeypointDataset)
    dataset.images = folder / "elsewhere"
    with pytest.raises(UserError, match="20 of the first 20 .* check data.root"):
        list(train_loader(dataset, stream, 5, workers=0))


def test_many_unreadable_pictures_are_only_counted(caplog: pytest.LogCaptureFixture) -> None:
    dataset = [([f"picture {i}"] if i % 3 == 0 else []) for i in range(90)]
    batch = Sample(*[torch.zeros(1)] * len(Sample._fields))
    loader = TrainLoader([Loaded(batch, unreadable) for unreadable in dataset])  # type: ignore
    with caplog.at_level(logging.WARNING):
        results = list(loader)
    assert len(loader.unreadable) == 30 and caplog.text.count("left out of training") == 10
    assert "further ones are only counted" in caplog.text
    assert all(isinstance(loaded.unreadable, tuple) for loaded in results)


INTERRUPTED = """
import faulthandler, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background ignore it
sys.path.insert(0, {tests!r})
import test_loader as t
if __name__ == "__main__":
    dataset, stream = t.open_data(Path({folder!r}))
    faulthandler.dump_traceback_later(45, exit=True)  # a process that hangs says where
    for i, loaded in enumerate(t.train_loader(dataset, stream, 4, workers=2)):
        if i == 2:
            print("ready", flush=True)
        time.sleep(0.02)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_an_interrupt_prints_no_worker_tracebacks(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED.format(tests=str(Path(__file__).parent), folder=str(folder)))
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    os.killpg(process.pid, signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 30, errors
    assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt")  # the main one
    assert "Process" not in errors
