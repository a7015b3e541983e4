"""The test preset ae_aic: stretched and antialiased pictures, tags of every pass, whole pixels; and how a
preset of the test section works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pose import geometry
from pose.backbones.hourglass_swish import HourglassSwish, HourglassSwishSettings
from pose.decoders.seed_tags import SeedTagsSettings
from pose.errors import UserError
from pose.experiment import load_config
from pose.heads.tags import TagsHead, TagsSettings
from pose.model import PoseModel
from pose.predict.batches import BatchPredictor
from pose.predict.canvas import prepare, squash, whole_pixels
from pose.predict.settings import TestSettings
from pose.structures import Fields, InputSettings, People
from tests.dot_people import dot_model, dots
from tests.literal.reference import ae_aic_group as literal

AE_AIC = load_config("published/ae_aic.yaml")


# ---- pictures ----


def checkerboard(side: int) -> np.ndarray:
    board = np.indices((side, side)).sum(0) % 2 * 255
    return np.repeat(board[..., None], 3, axis=2).astype(np.uint8)


def test_only_antialiasing_averages_where_a_picture_shrinks():
    """A checkerboard of pixels at a third of its size: sampled it stays one, averaged it is grey."""
    settings: dict[str, Any] = {"resize": "squash", "input_size": (16, 16)}
    shape = InputSettings(size=(16, 16))
    board = checkerboard(48)
    sampled = prepare(board, 0, (1.0,), TestSettings(**settings), shape, 16).canvases[0]
    assert torch.equal(sampled.permute(1, 2, 0), torch.from_numpy(checkerboard(16)))
    averaged = prepare(board, 0, (1.0,), TestSettings(**settings, antialias=True), shape, 16).canvases[0]
    # 127.5 +- 255 / 162 within, where no border cuts the filter
    assert set(averaged[:, 1:-1, 1:-1].flatten().tolist()) == {126, 129}


@pytest.mark.parametrize("size", [(480, 640), (333, 211), (1, 9), (40, 2000)])
def test_a_picture_is_stretched_at_every_scale_from_itself(size):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    item = prepare(image, 3, (1.0, 1.25), AE_AIC.test, AE_AIC.input, 128)
    assert item.position == 3 and item.size == size
    for canvas, side in zip(item.canvases, (512, 640), strict=True):
        np.testing.assert_array_equal(canvas.permute(1, 2, 0), literal.canvas(image, side))
    corner = geometry.apply(item.matrix, np.array([[size[1], size[0]]], np.float64))
    np.testing.assert_allclose(corner, [[512, 512]])
    assert squash(image, (8, 24)).shape == (8, 24, 3)


def test_red_comes_in_first_with_the_entrys_own_mean():
    with torch.device("meta"):
        backbone = nn.Conv2d(1, 1, 1)
    model = PoseModel(backbone, TagsHead(AE_AIC.head, AE_AIC.skeleton, 0.0), AE_AIC.input)
    red = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    red[:, 0] = 255
    expected = [(1 - 0.4798) / 0.2558, -0.4517 / 0.2481, -0.4220 / 0.2468]
    assert_close(model.normalize(red)[0, :, 0, 0], torch.tensor(expected), atol=1e-5, rtol=0)


# ---- coordinates ----


@pytest.mark.parametrize(("height", "expected"), [(480, 78), (720, 117), (1080, 176)])
def test_the_offset_of_half_a_cell_is_cut_off_to_whole_pixels(height, expected):
    """Row 10 of 64; with an exact offset 480 and 720 rows would give 78 and 118, 1080 rows 177."""
    keypoints = np.array([[[4.0, 10.5 * 8, 0.9], [0, 0, 0]]], np.float32)
    people = People(keypoints, np.ones(1, np.float32))
    found = whole_pixels(people, 8, (64, 64), (height, 64), pixel_center=0.0).keypoints
    assert found[0].tolist() == [[0, expected, pytest.approx(0.9)], [0, 0, 0]]
    assert keypoints[0, 0, 1] == 84  # what was handed in stays


@pytest.mark.parametrize("center", [0.0, 0.5])
def test_every_cell_has_the_entrys_pixel_on_pictures_of_every_size(center):
    cells = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1).reshape(1, -1, 2)
    xy = geometry.to_pixels(cells.astype(np.float32), 8, center)
    people = People(np.concatenate([xy, np.ones((1, 64 * 64, 1), np.float32)], 2), np.ones(1, np.float32))
    for size in [(480, 640), (427, 333), (63, 64), (1, 12000), (1080, 1920), (65, 129), (3457, 5184)]:
        found = whole_pixels(people, 8, (64, 64), size, center).keypoints[0]
        for (x, y), (ours_x, ours_y, _) in zip(cells[0], found.tolist(), strict=True):
            assert ours_x == literal.coordinate(int(x), 64, size[1]) < size[1]
            assert ours_y == literal.coordinate(int(y), 64, size[0]) < size[0]


def test_where_in_its_cell_a_keypoint_lies_plays_no_part():
    rng = np.random.default_rng(1)
    cells = rng.integers(0, 64, (5, 7, 2))
    results = []
    for within in (np.full(cells.shape, 0.5), rng.uniform(0.01, 0.99, cells.shape)):
        keypoints = np.concatenate([(cells + within) * 8, np.ones((5, 7, 1))], 2).astype(np.float32)
        people = People(keypoints, np.ones(5, np.float32))
        results.append(whole_pixels(people, 8, (64, 64), (500, 333), 0.0).keypoints)
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("size", [(300, 400), (331, 203)])
def test_rounded_people_lie_near_their_dots(size):
    model = dot_model(size=512)
    settings = TestSettings(preset="ae_aic")
    for seed in range(3):
        image, expected = dots(size, 1, seed)
        people = BatchPredictor(model, settings, "single")(image)
        found = people.keypoints[0]
        assert (found == found.round()).all(1)[found[:, 2] == 1].all() and (found[:, :2] % 1 == 0).all()
        assert np.abs(found[:, :2] - expected[0, :, :2]).max() < 1 + max(size) / 128


# ---- a mirror-equivariant network ----


class Symmetric(nn.Module):
    """Random fields, made mirror-equivariant by averaging over a picture and its mirror image."""

    def __init__(self, head: TagsHead) -> None:
        super().__init__()
        cfg = HourglassSwishSettings(stacks=1, width=8, growth=2, depth=1, stem_width=4)
        self.net, self.specs = HourglassSwish(cfg, head.channels), head.fields
        self.size_multiple, self.strides = self.net.size_multiple, self.net.strides

    def forward(self, x: Tensor) -> list[Fields]:
        plain, mirrored = self.net(x)[-1], self.net(x.flip(-1))[-1]
        return [
            {
                name: maps + mirrored[name].flip(-1)[:, list(self.specs[name].flip_perm)]
                for name, maps in plain.items()
            }
        ]


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_tags_of_left_and_right_change_places_in_the_mirrored_passes(mode: Any):
    """Of an equivariant network the two passes of each scale are the same, tags too; unpermuted, they would
    not be."""
    torch.manual_seed(0)
    skeleton = AE_AIC.skeleton
    head = TagsHead(TagsSettings(tag_dim=2, decoder=SeedTagsSettings()), skeleton, 0.0)
    settings = AE_AIC.test.model_copy(update={"input_size": (64, 96)})
    predictor = BatchPredictor(PoseModel(Symmetric(head), head, AE_AIC.input), settings, mode)
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    fields, stride = predictor.fields([predictor.prepare(image).canvases])
    tags = fields["tag"][0]  # (T, K * D, h, w)
    assert stride == 8 and tags.shape == ((2 if mode == "single" else 4), 28, 8, 12)
    for plain, mirrored in zip(tags[::2], tags[1::2], strict=True):
        assert_close(mirrored, plain, atol=1e-5, rtol=1e-4)
    assert (tags[0] - tags[0, list(head.fields["tag"].flip_perm)]).abs().max() > 0.01
    if mode == "multi":
        assert (tags[0] - tags[2]).abs().max() > 1e-3


def test_people_beside_the_grid_are_brought_to_its_border():
    """Those of decoders that look between the cells."""
    outside = np.array([[[-30, -1, 1], [511.9, 600, 1]]], np.float32)
    found = whole_pixels(People(outside, np.ones(1, np.float32)), 8, (64, 64), (128, 640), 0.0)
    assert found.keypoints[0].tolist() == [[5, 1, 1], [63 * 10 + 5, 63 * 2 + 1, 1]]


# ---- settings ----


def test_the_preset_is_what_was_published():
    test = AE_AIC.test
    assert (test.resize, test.input_size) == ("squash", (512, 512))
    assert test.antialias and test.rounding == "ae_aic"
    assert test.flip and [round(512 * scale) for scale in test.multi] == [512, 640] and test.single == (1.0,)
    order = [AE_AIC.skeleton.keypoints.index(name) for name in AE_AIC.head.decoder.order]
    assert tuple(order) == literal.ORDER and AE_AIC.skeleton.flip_index == literal.FLIP


def test_a_preset_replaces_what_the_base_says_of_its_keys_and_no_others():
    plain = load_config("coco/ae_hourglass.yaml", ["test.batch_size=3", "head.tag_dim=2"])
    other = load_config(
        "coco/ae_hourglass.yaml", ["test.batch_size=3", "head.tag_dim=2", "test.preset=ae_aic"]
    )
    assert plain.test.multi == (2.0, 1.0, 0.5) and other.test.multi == (1.0, 1.25)
    assert other.test.batch_size == 3 and other.head == plain.head and other.backbone == plain.backbone
    back = load_config("published/ae_aic.yaml", ["test.preset=default"])
    assert back.test == TestSettings()
    # the values of other components' presets are no concern of the test section
    paf = load_config("coco/paf_vgg19.yaml", ["test.preset=ae_aic", "test.flip=false"])
    assert paf.test.resize == "squash" and not paf.test.flip
    assert paf.head == load_config("coco/paf_vgg19.yaml").head


@pytest.mark.parametrize("resize", ["letterbox", "short_side", "long_side"])
@pytest.mark.parametrize(("key", "value"), [("antialias", "true"), ("rounding", "ae_aic")])
def test_what_only_squashed_pictures_have_is_told(resize, key, value):
    with pytest.raises(UserError, match=f"test: {key} is known for resize: squash only, not for {resize}"):
        load_config("coco/ae_hourglass.yaml", [f"test.resize={resize}", f"test.{key}={value}"])
