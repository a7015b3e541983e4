"""Picture files -> people: any number of workers, models and processes, any kind of file, any failure."""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pose.data.images import SetImage
from pose.errors import UserError
from pose.predict.images import Outcome, predict_images, replicas
from pose.predict.settings import TestSettings
from pose.structures import People
from tests.dot_people import DotNetwork, assert_same_people, dot_model, dots, write_set

SIZES = [
    (120, 160),
    (160, 120),
    (120, 160),
    (101, 203),
    (160, 160),
    (97, 64),
    (120, 160),
    (161, 120),
    (90, 90),
]
SETTINGS = TestSettings(batch_size=2, resize="short_side", flip=False)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_set(tmp_path_factory.mktemp("pictures"), SIZES)


def predicted(
    paths: Sequence[Path], models: int = 1, settings: TestSettings = SETTINGS, **more: Any
) -> Outcome:
    model = dot_model(size=128)
    copies = [model, *(copy.deepcopy(model) for _ in range(models - 1))]
    return predict_images(copies, numbered(paths), settings, **{"workers": 0, "progress": False, **more})


def numbered(paths: Sequence[Path]) -> list[SetImage]:
    return [SetImage(i, path) for i, path in enumerate(paths)]


def assert_same(one: dict[int, People], other: dict[int, People]) -> None:
    assert one.keys() == other.keys()
    for index in one:
        np.testing.assert_allclose(one[index].keypoints, other[index].keypoints, atol=1e-4)
        np.testing.assert_allclose(one[index].scores, other[index].scores, atol=1e-6)


def test_every_picture_gets_its_own_people(paths):
    outcome = predicted(paths)
    assert sorted(outcome.people) == list(range(len(paths)))
    assert outcome.unreadable == {}
    assert outcome.timing.images == len(paths)
    for i, size in enumerate(SIZES):
        assert_same_people(outcome.people[i], dots(size, 1 + i % 3, seed=i)[1])


@pytest.mark.parametrize(
    "more",
    [
        {"workers": 1},
        {"workers": 2},
        {"models": 2},
        {"models": 3, "workers": 2},
        {"settings": SETTINGS.model_copy(update={"batch_size": 1})},
        {"settings": SETTINGS.model_copy(update={"batch_size": 64}), "models": 2},
    ],
    ids=str,
)
def test_workers_models_and_batches_change_nothing(paths, more):
    outcome = predicted(paths, **more)
    assert_same(outcome.people, predicted(paths).people)
    assert outcome.timing.images == len(paths)


@pytest.mark.parametrize("world_size", [2, 3, 12])
def test_the_shares_of_the_processes_make_the_whole(paths, world_size):
    shares = [predicted(paths, share=(rank, world_size)).people for rank in range(world_size)]
    merged = {index: people for share in shares for index, people in share.items()}
    assert sum(map(len, shares)) == len(paths)
    assert_same(merged, predicted(paths).people)


def test_no_pictures_are_no_people():
    outcome = predicted([])
    assert (outcome.people, outcome.unreadable) == ({}, {})


def test_predicting_draws_nothing_from_the_global_generator(paths):
    """Or training would depend on how often it is validated."""
    state = torch.get_rng_state()
    predicted(paths, workers=1)
    assert torch.equal(torch.get_rng_state(), state)


# ---- pictures that cannot be read ----


@pytest.fixture
def damaged(paths, tmp_path) -> list[Path]:
    """Numbers 3 and 7 cannot be read."""
    text = tmp_path / "text.png"
    text.write_text("no picture")
    return [*paths[:3], text, *paths[4:7], tmp_path / "absent.jpg", *paths[8:]]


@pytest.mark.parametrize(("workers", "models"), [(0, 1), (2, 1), (0, 2), (2, 2)])
def test_unreadable_pictures_are_counted_and_named(paths, damaged, workers, models, caplog):
    with caplog.at_level(logging.WARNING):
        outcome = predicted(damaged, models, workers=workers)
    assert sorted(outcome.unreadable) == [3, 7]
    assert "text.png" in outcome.unreadable[3] and "absent.jpg" in outcome.unreadable[7]
    assert all(name in caplog.text for name in ("text.png", "absent.jpg"))
    expected = predicted(paths).people
    assert_same(outcome.people, {i: people for i, people in expected.items() if i not in (3, 7)})


def test_unreadable_pictures_keep_their_place_in_a_share(damaged):
    outcome = predicted(damaged, share=(1, 2))  # 1, 3, 5, 7
    assert sorted(outcome.unreadable) == [3, 7]
    assert sorted(outcome.people) == [1, 5]


@pytest.mark.parametrize(("workers", "models"), [(0, 1), (2, 1), (0, 2), (2, 2)])
def test_strict_stops_at_an_unreadable_picture(damaged, workers, models):
    with pytest.raises(UserError, match=r"(text.png|absent.jpg).*data.strict=false"):
        predicted(damaged, models, workers=workers, strict=True)


@pytest.mark.parametrize(("workers", "models"), [(0, 1), (2, 1), (0, 2)])
def test_pictures_smaller_than_a_cell_are_skipped_like_unreadable_ones(
    paths, tmp_path, workers, models, caplog
):
    """The network has cells of 4 pixels; 4 x 4 is the smallest picture on which there is one."""
    tiny = []
    for width, height in [(3, 9), (50, 3), (1, 1), (4, 4)]:
        tiny.append(tmp_path / f"{width}x{height}.png")
        cv2.imwrite(str(tiny[-1]), np.zeros((height, width, 3), np.uint8))
    mixed = [*paths[:2], *tiny[:2], *paths[2:5], *tiny[2:]]
    with caplog.at_level(logging.WARNING):
        outcome = predicted(mixed, models, workers=workers)
    assert sorted(outcome.unreadable) == [2, 3, 7] and len(outcome.people) == 6
    assert outcome.unreadable[2] == (
        f"{tiny[0]} is 3 x 9 pixels, smaller than one cell of the network (4): nobody can be found on it"
    )
    assert "50x3.png is 50 x 3 pixels" in caplog.text
    expected = predicted(paths[:5]).people
    assert_same({i: outcome.people[j] for i, j in enumerate([0, 1, 4, 5, 6])}, expected)
    with pytest.raises(UserError, match="smaller than one cell .* data.strict=false"):
        predicted(mixed, models, workers=workers, strict=True)


def test_the_largest_cell_of_the_network_counts(paths, tmp_path):
    network = DotNetwork()
    network.strides = (4, 16, 4)
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((40, 15, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "enough.png"), np.zeros((40, 16, 3), np.uint8))
    files = [tmp_path / "small.png", tmp_path / "enough.png"]
    outcome = predict_images(
        [dot_model(network, size=128)], numbered(files), SETTINGS, workers=0, progress=False
    )
    assert [*outcome.unreadable] == [0] and [*outcome.people] == [1]


def test_the_pad_value_surrounds_a_picture(paths):
    """In colours of the picture, before they become what the network takes."""
    seen = []

    class Watching(DotNetwork):
        def forward(self, x: torch.Tensor) -> Any:
            seen.append(x)
            return super().forward(x)

    for color in ((0, 0, 0), (10, 0, 255)):
        model = dot_model(Watching(), size=128)
        model.input = model.input.model_copy(update={"pad_value": color})
        letterbox = TestSettings(batch_size=2, flip=False, single=(1.0, 0.5))
        predict_images([model], numbered(paths[:1]), letterbox, workers=0, progress=False)
        for canvas in seen:  # of 160 x 120 pixels
            for row in (0, -1):
                expected = torch.tensor(color)[:, None] / 255
                torch.testing.assert_close(canvas[0, :, row], expected.expand(3, canvas.shape[-1]))
        seen.clear()


# ---- failures inside ----


class Failing(DotNetwork):
    def forward(self, x: torch.Tensor) -> Any:
        raise ZeroDivisionError("network")


def failing_decoder(*_: Any) -> Any:
    raise ZeroDivisionError("decoder")


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("where", ["network", "decoder"])
def test_an_error_surfaces_and_leaves_no_thread(paths, where, models):
    """In the last of the models: with two, one goes on working meanwhile."""
    bad = dot_model(Failing() if where == "network" else None, size=128)
    if where == "decoder":
        bad.head.decode = failing_decoder  # type: ignore
    good = [dot_model(size=128)][: models - 1]
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError, match=where):
        predict_images([*good, bad], numbered([*paths] * 3), SETTINGS, workers=0, progress=False)
    assert threading.active_count() == threads


def test_a_killed_worker_is_explained(paths, monkeypatch):
    parent = os.getpid()

    def killed(*_: Any, **__: Any) -> Any:
        assert os.getpid() != parent
        os._exit(9)  # as the kernel does when memory runs out

    monkeypatch.setattr("pose.predict.images.read_of_size", killed)
    with pytest.raises(UserError, match="data.workers"):
        predicted(paths, workers=1)


def test_a_model_is_copied_to_other_devices_only():
    model = dot_model()
    own, other = replicas(model, [torch.device("cpu"), torch.device("meta")])
    assert own is model
    assert next(other.parameters()).device.type == "meta"
    assert next(model.parameters()).device.type == "cpu"


# ---- kinds of files ----


def save_as(kind: str, image: np.ndarray, folder: Path) -> Path:
    path = folder / f"{kind}.{'jpg' if kind in ('jpeg', 'cmyk', 'exif') else 'png'}"
    picture = Image.fromarray(image)
    if kind == "alpha":
        picture.putalpha(255)
        picture.save(path)
    elif kind == "sixteen_bit":
        cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 257)
    elif kind == "palette":
        picture.quantize(256).save(path)
    elif kind == "cmyk":
        picture.convert("CMYK").save(path, quality=98)
    elif kind == "exif":  # stored turned by 90 degrees, with the remark how to turn it back
        tags = Image.Exif()
        tags[0x0112] = 6
        picture.transpose(Image.Transpose.ROTATE_90).save(path, quality=98, exif=tags)
    else:
        picture.save(path, quality=98)
    return path


@pytest.mark.parametrize("kind", ["png", "jpeg", "alpha", "sixteen_bit", "cmyk", "exif"])
def test_people_are_found_in_every_kind_of_picture(kind, tmp_path):
    image, expected = dots((120, 160), 2)
    path = save_as(kind, image, tmp_path)
    outcome = predicted([path], settings=TestSettings(), orientation="exif")
    assert_same_people(outcome.people[0], expected, tolerance=1.0)


def test_a_grey_picture_is_read(tmp_path):
    image, _ = dots((120, 160), 1)
    Image.fromarray(image).convert("L").save(tmp_path / "grey.png")
    Image.fromarray(image).convert("1").save(tmp_path / "bits.png")
    assert len(predicted([tmp_path / "grey.png", tmp_path / "bits.png"]).people) == 2


def test_annotated_pictures_are_taken_as_they_are_stored(tmp_path):
    """COCO's annotations refer to the stored pixels, whatever the EXIF remark says."""
    image, expected = dots((120, 160), 1)
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "remark.jpg", quality=98, exif=tags)
    outcome = predicted([tmp_path / "remark.jpg"], orientation="stored")
    assert_same_people(outcome.people[0], expected, tolerance=1.0)
