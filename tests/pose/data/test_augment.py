"""Random colours, and the settings of all that is random about a training image."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pose.data import augment
from pose.data.augment import (
    AugmentSettings,
    DeviceAugment,
    PixelChange,
    draw_color,
    no_augmentation,
    told_color,
    unchanged_color,
)


def rng(position: int = 0) -> np.random.Generator:
    return np.random.default_rng([3, position])


def test_without_augmentation_colors_stay() -> None:
    np.testing.assert_array_equal(
        draw_color(rng(), no_augmentation()), np.array(unchanged_color(), np.float32)
    )
    assert DeviceAugment(no_augmentation()).changes == []


@pytest.mark.parametrize("wrong", [{"scale": (1.5, 0.75)}, {"scale": (0.0, 1.0)}, {"contrast": (-1.0, 1.0)},
                                   {"person_scale": (0.0, 1.0)}, {"person_scale": (1.1, 0.5)},
                                   {"person_shift": -1.0}, {"flip": 1.5}, {"hue": -0.1}])  # fmt: skip
def test_impossible_ranges_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings(**wrong)


# ------------------------------------------------------------------------------------------------- colours


ALL = DeviceAugment(AugmentSettings())
BRIGHTNESS = DeviceAugment(AugmentSettings(hue=0, saturation=(1, 1)))


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
    result = ALL(images, torch.from_numpy(color))
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("change", [ALL, BRIGHTNESS])
def test_identity_color_changes_nothing(change: DeviceAugment) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    color = torch.tensor([unchanged_color()] * 2)
    torch.testing.assert_close(change(images, color), images, atol=1e-6, rtol=0)


def test_without_hue_and_saturation_only_hue_and_saturation_are_left_out() -> None:
    images = pictures()
    color = torch.tensor([[0.0, 1.0, 0.2, 1.4], [0, 1, -0.3, 0.5], [0, 1, 0, 1], [0, 1, 0.1, 0.9]])
    changed = color * torch.tensor([1.0, 2, 1, 1]) + torch.tensor([0.1, 0, 0, 0])
    assert torch.equal(BRIGHTNESS(images, changed), BRIGHTNESS(images, color))
    torch.testing.assert_close(BRIGHTNESS(images, color), ALL(images, color), atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", [ALL, BRIGHTNESS])
@pytest.mark.parametrize("size", [(9, 8), (33, 17), (64, 64), (5, 1)])
def test_an_image_has_the_same_colors_bit_by_bit_whatever_is_beside_it(
    change: DeviceAugment, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, in any part of a batch, in parts of any size, by any number of threads, and as on a GPU."""
    images = torch.from_numpy(rng().integers(0, 256, (5, 3, *size), np.uint8))
    color = torch.from_numpy(np.stack([draw_color(rng(i), AugmentSettings()) for i in range(5)]))
    before = images.clone()
    expected = change(images, color)
    assert torch.equal(images, before)
    plain = images.float() / 255
    for columns, one in change.changes:
        plain = one(plain, color[:, columns])
    assert torch.equal(plain, expected)
    assert torch.equal(change(images.float() / 255, color), expected)
    for pixels in (1, 7, 100, 1 << 16):
        monkeypatch.setattr(augment, "PIXELS_AT_ONCE", pixels)
        for parts in ([1] * 5, [2, 2, 1], [4, 1], [5]):
            pieces = [change(*part) for part in zip(images.split(parts), color.split(parts), strict=True)]
            assert torch.equal(torch.cat(pieces), expected)
    monkeypatch.setattr(augment, "PIXELS_AT_ONCE", 100)
    for threads in (2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(change(images, color), expected)
    monkeypatch.undo()
    transposed = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(change(transposed, color), expected)


def test_strong_colors_stay_within_the_rounding_of_float32() -> None:
    """Of images of 8 bits, in which channels are often alike, and of every turn of the hue."""
    images = torch.from_numpy(rng().integers(0, 256, (32, 3, 16, 16)).astype(np.float32) / 255)
    images[:8, 1:] = images[:8, :1] + torch.from_numpy(rng(1).normal(0, 1e-4, (8, 2, 16, 16))).float()
    images.clamp_(0, 1)
    color = torch.from_numpy(rng(2).uniform((-1, 0, -0.3, 0.5), (1, 2, 0.3, 1.5), (32, 4)).astype(np.float32))
    exact = ALL(images.double(), color)
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(ALL(images, color).numpy(), exact.numpy(), atol=2e-6, rtol=0)
    np.testing.assert_allclose(
        exact[:, :, :2].numpy(),
        np.stack([literal_jitter(images[i, :, :2].double().numpy(), color[i].numpy()) for i in range(32)]),
        atol=1e-9, rtol=0,
    )  # fmt: skip


@pytest.mark.parametrize("change", [ALL, BRIGHTNESS])
def test_colors_are_compiled_in_one_piece(change: DeviceAugment) -> None:
    images, color = pictures(), torch.tensor([[0.1, 1.2, 0.1, 0.9]] * 4)
    compiled = torch.compile(change, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images, color), change(images, color))


def test_a_change_that_looks_about_is_given_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted(Inverted):
        pointwise = False

        def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            return images.roll(1, 2)

    monkeypatch.setattr(augment, "CHANGES", (Shifted,))
    monkeypatch.setattr(augment, "PIXELS_AT_ONCE", 8)
    images = pictures()
    assert torch.equal(DeviceAugment(AugmentSettings())(images, torch.zeros(4, 1)), images.roll(1, 2))


def test_a_full_turn_of_hue_is_none() -> None:
    images = pictures(1)
    turned = ALL(images, torch.tensor([[1.0, 1, 0, 1]]))
    torch.testing.assert_close(turned, images, atol=2e-6, rtol=0)


# ------------------------------------------------------------------------------------------------ a new one


class Inverted(PixelChange):
    """Black and white change places where a number is above `hue`."""

    pointwise = True
    unchanged = (0.0,)
    wanted = True

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        return (rng.random(),)

    def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return torch.where(numbers[:, :, None, None] > self.settings.hue, 1 - images, images)

    def told(self, numbers: tuple[float, ...]) -> str:
        return f"inverted {numbers[0]:.1f}"


def test_a_new_change_is_one_class_and_leaves_the_numbers_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, images = AugmentSettings(), pictures(2)
    before = draw_color(rng(), settings)
    monkeypatch.setattr(augment, "CHANGES", (*augment.CHANGES, Inverted))
    color = draw_color(rng(), settings)
    assert color.shape == (5,) and np.array_equal(color[:4], before)
    assert unchanged_color() == (0, 1, 0, 1, 0)
    numbers = torch.from_numpy(np.stack([color] * 2))
    numbers[:, 4] = torch.tensor([0.1, 0.9])
    plain, changed = ALL(images, numbers[:, :4]), DeviceAugment(settings)(images, numbers)
    assert torch.equal(changed[0], plain[0]) and torch.equal(changed[1], 1 - plain[1])
    assert told_color(settings, numbers[1].numpy()).endswith(", inverted 0.9")


def test_a_step_with_changes_has_no_weights_of_its_own() -> None:
    assert dict(ALL.state_dict()) == {} and not [*ALL.parameters()] and not [*ALL.buffers()]
