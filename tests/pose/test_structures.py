"""Input settings: named normalisations; people: those worth seeing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from pose import config
from pose.errors import UserError
from pose.experiment import load_config
from pose.model import PoseModel
from pose.structures import InputSettings, People
from tests.dot_people import DotNetwork

BASE = "published/pose_ae.yaml"  # gives none of mean, std, channel_order


def normalized(pixel: tuple[int, int, int], **settings: Any) -> torch.Tensor:
    """What the network gets for a pixel R, G, B."""
    model = PoseModel(DotNetwork(), nn.Identity(), InputSettings(**settings))  # type: ignore[arg-type]
    image = torch.tensor(pixel, dtype=torch.uint8).view(1, 3, 1, 1)
    as_bytes, as_floats = model.normalize(image), model.normalize(image.float() / 255)
    torch.testing.assert_close(as_bytes, as_floats)
    return as_bytes.flatten()


def test_pure_red_under_each_name() -> None:
    """The first channel is blue / 256 - 0.5 for CMU's networks, red for torchvision's."""
    red = (255, 0, 0)
    torch.testing.assert_close(
        normalized(red, normalization="bgr_256"), torch.tensor([-0.5, -0.5, 255 / 256 - 0.5])
    )
    expected = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(normalized(red, normalization="imagenet"), expected)
    assert expected[0].item() == pytest.approx(2.2489, abs=5e-5)
    torch.testing.assert_close(normalized(red), torch.tensor([1.0, 0.0, 0.0]))
    bytes_less_mean = torch.tensor([255 - 123.68, -116.779, -103.939])  # pose-tensorflow: 131.32, ...
    torch.testing.assert_close(
        normalized(red, normalization="imagenet_255"), bytes_less_mean, atol=1e-4, rtol=0
    )


def test_every_byte_of_bgr_256_is_its_256th_part() -> None:
    for value in range(256):
        blue, green, red = normalized((value, 128, 255 - value), normalization="bgr_256").tolist()
        assert green == pytest.approx(0, abs=1e-7)
        assert red == pytest.approx(value / 256 - 0.5, abs=2e-7)
        assert blue == pytest.approx((255 - value) / 256 - 0.5, abs=2e-7)


@pytest.mark.parametrize("name", ["imagenet", "imagenet_255", "bgr_256"])
def test_a_named_normalization_survives_being_written(name: str, tmp_path: Path) -> None:
    loaded = load_config(BASE, [f"input.normalization={name}", "input.pad_value=[124, 116, 104]"])
    assert loaded.input.std != (1.0, 1.0, 1.0) and loaded.input.pad_value == (124, 116, 104)
    assert loaded.input.channel_order == ("bgr" if name == "bgr_256" else "rgb")
    (tmp_path / "config.yaml").write_text(config.to_yaml(loaded))
    again = load_config(tmp_path / "config.yaml")
    assert again == loaded and again.input.mean == loaded.input.mean


@pytest.mark.parametrize(
    "setting", ["mean=[0.5, 0.5, 0.5]", "std=[1.0, 1.0, 1.0]", "channel_order=bgr"], ids=lambda s: s[:4]
)
def test_other_values_beside_a_name_are_refused(setting: str) -> None:
    key = setting.partition("=")[0]
    sentence = f"input: normalization 'imagenet' has {key} .*, but {key} .* is given; leave {key} out or set"
    with pytest.raises(UserError, match=sentence) as error:
        load_config(BASE, ["input.normalization=imagenet", f"input.{setting}"])
    assert len(str(error.value).splitlines()) == 3  # the title, the file, the sentence
    given = getattr(load_config(BASE, [f"input.{setting}"]).input, key)
    assert list(given) == list(getattr(InputSettings(normalization="custom", **{key: given}), key))


def test_own_values_equal_to_those_of_the_name_are_fine() -> None:
    named = InputSettings(normalization="imagenet")
    assert (
        InputSettings(normalization="imagenet", mean=named.mean, std=named.std, channel_order="rgb") == named
    )
    assert InputSettings().mean == (0.0, 0.0, 0.0)  # the default is nobody's but its own


@pytest.mark.parametrize("wrong", [{"pad_value": (0, 0, 256)}, {"pad_value": (-1, 0, 0)},
                                   {"pad_value": (0.5, 0, 0)}, {"normalization": "vgg"}])  # fmt: skip
def test_impossible_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InputSettings(**wrong)


def test_people_above_a_score_have_it_and_a_keypoint() -> None:
    keypoints = np.ones((3, 2, 3), np.float32)
    keypoints[1, :, 2] = 0
    people = People(keypoints, np.array([0.9, 0.8, 0.1], np.float32))
    chosen = people.above(0.1)
    np.testing.assert_array_equal(chosen.scores, people.scores[[0, 2]])
    np.testing.assert_array_equal(chosen.keypoints, keypoints[[0, 2]])
    assert len(people.above()) == 1 and len(People.none(2).above()) == 0
    assert repr(people) == "<People: 3 of 2 keypoints, scores [0.90, 0.80, 0.10]>"
    assert len(repr(People(np.ones((500, 17, 3)), np.ones(500)))) < 200
