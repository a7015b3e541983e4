"""Random colours, and the settings of all that is random about a training image."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pose.data.augment import IDENTITY_COLOR, AugmentSettings, color_jitter, draw_color, no_augmentation


def rng(position: int = 0) -> np.random.Generator:
    return np.random.default_rng([3, position])


def test_without_augmentation_colors_stay() -> None:
    np.testing.assert_array_equal(draw_color(rng(), no_augmentation()), np.array(IDENTITY_COLOR, np.float32))
    assert not no_augmentation().needs_color


@pytest.mark.parametrize("wrong", [{"scale": (1.5, 0.75)}, {"scale": (0.0, 1.0)}, {"contrast": (-1.0, 1.0)},
                                   {"person_scale": (0.0, 1.0)}, {"person_scale": (1.1, 0.5)},
                                   {"person_shift": -1.0}, {"flip": 1.5}, {"hue": -0.1}])  # fmt: skip
def test_impossible_ranges_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings(**wrong)


# ------------------------------------------------------------------------------------------------- colours


def literal_jitter(image: np.ndarray, color: np.ndarray) -> np.ndarray:
    """image (3, H, W), one pixel at a time."""
    hue, saturation, brightness, contrast = color.tolist()
    result = np.empty_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            h, s, v = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
            pixel = colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), v)
            bright = [channel + brightness for channel in pixel]
            grey = sum(bright) / 3
            result[:, y, x] = [min(max((c - grey) * contrast + grey, 0), 1) for c in bright]
    return result


def pictures(batch: int = 4) -> torch.Tensor:
    images = rng().random((batch, 3, 9, 8)).astype(np.float32)
    images[:, :, 0, 0], images[:, :, 0, 1], images[:, :, 0, 2] = 0, 1, 0.5  # black, white, grey
    images[:, :, 1, :3] = np.eye(3)  # pure colours
    images[:, :2, 2, 0] = images[:, 1:, 2, 1] = 0.7  # two channels alike
    return torch.from_numpy(images)


def test_colors_equal_a_pixel_by_pixel_loop() -> None:
    images = pictures(6)
    color = np.stack([draw_color(rng(i), AugmentSettings()) for i in range(6)])
    expected = np.stack([literal_jitter(images[i].double().numpy(), color[i]) for i in range(6)])
    result = color_jitter(images, torch.from_numpy(color))
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("hsv", [True, False])
def test_identity_color_changes_nothing(hsv: bool) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    color = torch.tensor([IDENTITY_COLOR] * 2)
    torch.testing.assert_close(color_jitter(images, color, hsv=hsv), images, atol=1e-6, rtol=0)


def test_without_hsv_only_hue_and_saturation_are_left_out() -> None:
    images = pictures()
    color = torch.tensor([[0.0, 1.0, 0.2, 1.4], [0, 1, -0.3, 0.5], [0, 1, 0, 1], [0, 1, 0.1, 0.9]])
    changed = color * torch.tensor([1.0, 2, 1, 1]) + torch.tensor([0.1, 0, 0, 0])
    assert torch.equal(color_jitter(images, changed, hsv=False), color_jitter(images, color, hsv=False))
    torch.testing.assert_close(
        color_jitter(images, color, hsv=False), color_jitter(images, color), atol=1e-6, rtol=0
    )


def test_batched_colors_equal_single_ones_and_leave_the_input() -> None:
    images = pictures()
    color = torch.from_numpy(np.stack([draw_color(rng(i), AugmentSettings()) for i in range(4)]))
    before = images.clone()
    batched = color_jitter(images, color)
    assert torch.equal(images, before)
    for i in range(4):
        assert torch.equal(batched[i : i + 1], color_jitter(images[i : i + 1], color[i : i + 1]))


def test_a_full_turn_of_hue_is_none() -> None:
    images = pictures(1)
    turned = color_jitter(images, torch.tensor([[1.0, 1, 0, 1]]))
    torch.testing.assert_close(turned, images, atol=2e-6, rtol=0)
