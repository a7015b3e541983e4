"""Pictures -> people: layout, fusing over scales and mirroring, batching, against what was drawn."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.testing import assert_close

from pose import geometry
from pose.errors import UserError
from pose.heads.base import Head
from pose.model import PoseModel
from pose.predict.batches import WAITING, BatchPredictor
from pose.predict.canvas import Prepared, lay_out, map_back, prepare
from pose.predict.settings import TestSettings
from pose.structures import Fields, FieldSpec, InputSettings, People
from tests.dot_people import SKELETON, STRIDE, DotNetwork, assert_same_people, dot_model, dots
from tests.literal.reference import pose_ae_testing as literal

SIZES = [(240, 320), (320, 240), (203, 311), (97, 64), (640, 480), (1, 1), (3, 5), (1, 2000), (2000, 1)]
RESIZES = ["letterbox", "short_side", "long_side", "squash", "original"]
SCALES = (2.0, 1.0, 0.5, 0.75)


def laid_out(
    size: tuple[int, int], resize: Any = "letterbox", scales: tuple[float, ...] = SCALES, **more: Any
):
    settings = TestSettings(resize=resize)
    return lay_out(size, scales, settings, InputSettings(size=(256, 256), **more), 32)


# ---- layout ----


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", SIZES)
def test_canvases_are_multiples_hold_the_picture_and_stay_affordable(size, resize):
    sizes, matrices = laid_out(size, resize)
    corners = np.array([[-0.5, -0.5], [size[1] - 0.5, size[0] - 0.5]])
    for canvas, matrix in zip(sizes, matrices, strict=True):
        assert all(side % 32 == 0 and side > 0 for side in canvas)
        placed = geometry.apply(matrix, corners) + 0.5
        assert (placed > -1e-6).all() and (placed < np.array(canvas[::-1]) + 1e-6).all()
        assert canvas[0] * canvas[1] <= (2 * 256) ** 2 * 8


@pytest.mark.parametrize("pixel_center", [0.5, 0.0])
@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", SIZES)
def test_a_point_lies_at_the_same_relative_place_of_every_canvas(size, resize, pixel_center):
    sizes, matrices = laid_out(size, resize, pixel_center=pixel_center)
    points = np.array([[0.0, 0.0], [size[1] - 1, 0], [size[1] / 3, size[0] * 0.7]])
    places = [
        (geometry.apply(matrix, points) + pixel_center) / np.array(canvas[::-1])
        for canvas, matrix in zip(sizes, matrices, strict=True)
    ]
    for place in places[1:]:
        np.testing.assert_allclose(place, places[0], atol=1e-9)


def test_letterbox_fills_one_side_and_centres_the_other():
    (canvas,), (matrix,) = laid_out((240, 320), scales=(1.0,))
    assert canvas == (256, 256)
    corners = geometry.apply(matrix, np.array([[-0.5, -0.5], [319.5, 239.5]])) + 0.5
    np.testing.assert_allclose(corners, [[0, 32], [256, 224]], atol=1e-9)


def test_the_canvas_is_rounded_up_to_the_networks_multiple():
    settings = TestSettings(input_size=(100, 130))
    sizes, _ = lay_out((50, 50), (1.0, 0.5), settings, InputSettings(), 64)
    assert sizes == [(128, 192), (64, 128)]


@pytest.mark.parametrize(("resize", "content"), [("short_side", (256, 512)), ("long_side", (128, 256))])
def test_a_side_is_brought_to_the_wanted_length(resize, content):
    (canvas,), (matrix,) = laid_out((200, 400), resize, scales=(1.0,))
    assert canvas == content
    np.testing.assert_allclose(np.diag(matrix[:, :2]), content[0] / 200)


@pytest.mark.parametrize(
    ("size", "canvas", "ratio"),
    [
        ((200, 250), (224, 256), 1.0),
        ((1, 1), (32, 32), 1.0),
        ((512, 512), (256, 256), 0.5),
        ((1024, 256), (512, 128), 0.5),
    ],
)
def test_pictures_may_be_tested_as_they_are(size, canvas, ratio):
    """In the middle of a canvas; shrunk only where they have more pixels than the input."""
    (found,), (matrix,) = laid_out(size, "original", scales=(1.0,))
    assert found == canvas
    np.testing.assert_allclose(matrix[:, :2], ratio * np.eye(2))


@pytest.mark.parametrize("size", [(5, 7), (33, 64), (8, 8)])
def test_an_original_picture_keeps_its_pixels(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    settings = TestSettings(resize="original")
    item = prepare(image, 0, (1.0,), settings, InputSettings(size=(256, 256)), 32)
    x, y = item.matrix[:, 2].astype(int)
    there = item.canvases[0].permute(1, 2, 0).numpy()[y : y + size[0], x : x + size[1]]
    np.testing.assert_array_equal(there, image)


def test_a_scale_that_is_off_by_rounding_costs_no_further_multiple():
    settings = TestSettings()
    for scale in np.arange(0.1, 3.0, 0.1):  # 1.1 * 640 = 704.0000000000001
        sizes, _ = lay_out((9, 9), (float(scale),), settings, InputSettings(size=(640, 640)), 64)
        assert sizes[0][0] == math.ceil(round(640 * scale, 6) / 64) * 64


@pytest.mark.parametrize("size", [(480, 640), (333, 500), (640, 427), (1, 2000)])
def test_pixel_centre_0_is_the_published_geometry(size):
    scales = (1.0, 2.0, 0.5, 1.25, 0.8, 1.251, 0.33)
    settings = TestSettings()
    sizes, matrices = lay_out(size, scales, settings, InputSettings(pixel_center=0.0), 64)
    for scale, canvas, matrix in zip(scales, sizes, matrices, strict=True):
        side = literal.scale_side(scale)
        expected = literal.get_transform((size[1] / 2, size[0] / 2), max(size) / 200, side)
        assert canvas == (side, side)
        np.testing.assert_allclose(matrix, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("key", ["single", "multi", "input_size"])
def test_scales_and_sizes_must_be_positive(key):
    with pytest.raises(ValidationError, match="above 0"):
        TestSettings.model_validate({key: (1, 0) if key == "input_size" else (1.0, -0.5)})


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 2000), (2000, 1), (2, 33000)])
def test_odd_pictures_are_prepared_and_predicted(size, resize):
    predictor = BatchPredictor(dot_model(size=64), TestSettings(resize=resize, flip=False))
    image = np.full((*size, 3), 200, np.uint8)
    item = predictor.prepare(image, 7)
    assert item.position == 7
    assert item.canvases[0].dtype == torch.uint8
    if max(size) < 10:
        assert item.canvases[0].amax() > 190
    assert np.isfinite(predictor(image).keypoints).all()


def test_a_picture_beyond_opencvs_limit_is_warped_as_any_other(monkeypatch):
    image, _ = dots((150, 400), 1)
    arguments = (0, (1.0, 0.5), TestSettings(), InputSettings(size=(64, 64)), 32)
    usual = prepare(image, *arguments)
    monkeypatch.setattr("pose.predict.canvas.LARGEST_SOURCE", 200)
    limited = prepare(image, *arguments)
    np.testing.assert_array_equal(limited.matrix, usual.matrix)
    for one, other in zip(limited.canvases, usual.canvases, strict=True):
        assert one.shape == other.shape
        assert (one.int() - other.int()).abs().max() < 25  # smoothed, in the same place


# ---- people come back where they were drawn ----

CASES = [
    ("single", {"flip": False}),
    ("single", {}),
    ("multi", {}),
    ("multi", {"flip": False}),
    ("multi", {"multi": (0.5, 1.0, 1.5)}),
    ("single", {"resize": "short_side"}),
    ("multi", {"resize": "short_side"}),
    ("multi", {"resize": "long_side"}),
    ("single", {"resize": "squash"}),
    ("multi", {"resize": "squash"}),
    ("multi", {"resize": "squash", "antialias": True, "input_size": (400, 600)}),
    ("single", {"input_size": (400, 600)}),
    ("multi", {"input_size": (400, 600), "multi": (1.0, 0.7)}),
    ("multi", {"grid_stride": 2, "interpolation": "bicubic"}),
    ("multi", {"grid_stride": 1, "interpolation": "bicubic", "input_size": (400, 400), "multi": (1.0, 0.8)}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "settings"), CASES)
@pytest.mark.parametrize("size", [(300, 400), (331, 203), (257, 255)])
def test_people_come_back_at_their_dots(size, mode, settings):
    predictor = BatchPredictor(dot_model(size=512), TestSettings(**settings), mode)
    # maps that are enlarged for fusing have bent peaks, hence less exact ones
    tolerance = 0.05 if mode == "single" else 0.5
    for number in (1, 3):
        image, expected = dots(size, number, seed=number)
        assert_same_people(predictor(image), expected, tolerance)


@pytest.mark.slow
def test_there_is_no_bias_to_any_side():
    """A shift of half a pixel or cell anywhere would move everybody the same way."""
    for mode in ("single", "multi"):
        predictor = BatchPredictor(dot_model(size=512), TestSettings(), mode)
        errors = []
        for seed in range(12):
            image, expected = dots((231, 320), 1, seed)
            errors.append(predictor(image).keypoints[0, :, :2] - expected[0, :, :2])
        assert np.abs(np.mean(errors, axis=(0, 1))).max() < 0.08


def test_nobody_is_found_in_an_empty_picture():
    people = BatchPredictor(dot_model(), TestSettings())(np.zeros((50, 70, 3), np.uint8))
    assert len(people) == 0
    assert people.keypoints.shape == (0, 3, 3)


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_published_settings_give_the_published_people(mode):
    """Against the literal restatement of pose-ae-train, on the same maps."""
    model = dot_model(pixel_center=0.0, subpixel="quarter", size=512)
    network = DotNetwork()
    image, _ = dots((301, 480), 3)

    def forward(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            fields = network(torch.from_numpy(square).permute(2, 0, 1)[None])[0]
        return fields["heatmap"][0].numpy(), fields["tag"][0].numpy()

    published = literal.multiperson(
        image, forward, mode, order=SKELETON.grouping_index, flip_index=SKELETON.flip_index, matcher="scipy"
    )
    model.backbone.size_multiple = 64  # type: ignore[assignment]
    people = BatchPredictor(model, TestSettings(outlier_heat=10.0), mode)(image)
    assert len(people) == len(published) == 3
    expected = sorted(published, key=lambda person: -person["score"])
    np.testing.assert_allclose(people.keypoints, [p["keypoints"] for p in expected], atol=1e-3)
    np.testing.assert_allclose(people.scores, [p["score"] for p in expected], atol=1e-5)


# ---- fusing ----


class Scripted(nn.Module):
    """Fields from a function of the canvases (B, 3, H, W)."""

    size_multiple = 32

    def __init__(self, fields: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.fields = fields

    def forward(self, x: Tensor) -> list[Fields]:
        return [self.fields(x)]


def scripted(heat: Any, tag: Any = 0.0) -> PoseModel:
    """heat, tag: numbers or functions of the canvases, constant over the maps."""

    def constant(x: Tensor, value: Any) -> Tensor:
        value = torch.as_tensor(value(x) if callable(value) else value, dtype=torch.float32)
        shape = (len(x), 3, x.shape[2] // STRIDE, x.shape[3] // STRIDE)
        return value.view(-1, 1, 1, 1).expand(shape) if value.ndim < 2 else value.expand(shape)

    return dot_model(Scripted(lambda x: {"heatmap": constant(x, heat), "tag": constant(x, tag)}))


def fused(model: PoseModel, settings: TestSettings, mode: Any = "multi", pictures: Any = None) -> Fields:
    predictor = BatchPredictor(model, settings, mode)
    pictures = [np.zeros((256, 256, 3), np.uint8)] if pictures is None else pictures
    fields, stride = predictor.fields([predictor.prepare(picture).canvases for picture in pictures])
    assert stride == STRIDE
    return fields


def test_the_mirrored_pass_of_an_equivariant_network_changes_nothing():
    image, _ = dots((256, 256), 3)
    plain = fused(dot_model(), TestSettings(flip=False), "multi", [image])
    both = fused(dot_model(), TestSettings(flip=True), "multi", [image])
    assert_close(both["heatmap"], plain["heatmap"], atol=1e-6, rtol=0)
    assert_close(both["tag"][:, 0], plain["tag"][:, 0])
    assert_close(both["tag"][:, 1], plain["tag"][:, 0], atol=1e-5, rtol=0)


def test_left_and_right_change_places_in_the_mirrored_pass():
    channels = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    fields = fused(scripted(lambda x: channels / 10, lambda x: channels), TestSettings(), "single")
    values = fields["tag"][0, :, :, 0, 0]
    assert values.tolist() == [[1, 2, 3], [1, 3, 2]]
    assert_close(fields["heatmap"][0, :, 0, 0], torch.tensor([0.1, 0.25, 0.25]))


@pytest.mark.parametrize("grid_stride", [1, 2, 4, 16])
def test_maps_are_fused_on_the_grid_that_is_asked_for(grid_stride: int) -> None:
    ramp = torch.arange(64.0).expand(1, 3, 64, 64)
    settings = TestSettings(flip=False, grid_stride=grid_stride)
    predictor = BatchPredictor(scripted(lambda x: ramp), settings)
    canvas = torch.zeros(3, 256, 256, dtype=torch.uint8)
    fields, stride = predictor.fields([[canvas]])
    assert stride == grid_stride and fields["heatmap"].shape == (1, 3, 256 // stride, 256 // stride)
    # cell i of the new grid lies where the ramp has the value of its own centre
    expected = geometry.to_grid(geometry.to_pixels(torch.arange(256.0 // stride), stride), STRIDE)
    inner = slice(64 // stride, 192 // stride)
    assert_close(fields["heatmap"][0, 0, 0, inner], expected[inner], atol=1e-4, rtol=0)


def test_a_grid_that_does_not_divide_the_canvases_is_told():
    with pytest.raises(UserError, match="test.grid_stride=5 does not divide the canvases"):
        BatchPredictor(dot_model(), TestSettings(grid_stride=5))


def test_heat_is_the_mean_of_all_passes_and_tags_come_from_scales_near_1():
    def width(x: Tensor) -> float:
        return x.shape[3] / 1000

    fields = fused(scripted(width, width), TestSettings())  # canvases of 512, 256 and 128
    assert fields["heatmap"].shape == (1, 3, 128, 128)
    assert_close(fields["heatmap"], torch.full((1, 3, 128, 128), (0.512 + 0.256 + 0.128) / 3))
    assert fields["tag"].shape == (1, 2, 3, 128, 128)  # passes: plain and mirrored at scale 1
    assert_close(fields["tag"], torch.full_like(fields["tag"], 0.256))
    near = fused(scripted(width, width), TestSettings(multi=(0.75, 1.0, 1.25), flip=False))
    assert near["tag"][0, :, 0, 0, 0].tolist() == pytest.approx([0.192, 0.256, 0.32])


def test_where_no_scale_is_near_1_the_nearest_gives_the_tags():
    fields = fused(scripted(0.5, lambda x: float(x.shape[3])), TestSettings(multi=(2.0, 3.0)))
    assert fields["tag"][0, :, 0, 0, 0].tolist() == [512, 512]


def test_a_scale_with_absurd_heat_is_left_out_for_that_picture_only():
    dark, bright = np.zeros((256, 256, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)

    def heat(x: Tensor) -> Tensor:  # beyond 10 / 2 passes at scale 2 of a bright picture
        return 1 + 5 * (x.mean((1, 2, 3)) > 0.5) * (x.shape[3] > 300)

    fields = fused(scripted(heat), TestSettings(outlier_heat=10.0), pictures=[dark, bright])
    assert_close(fields["heatmap"][:, 0, 0, 0], torch.tensor([1.0, 2 / 3]))
    fields = fused(scripted(heat), TestSettings(outlier_heat=12.1), pictures=[dark, bright])
    assert_close(fields["heatmap"][:, 0, 0, 0], torch.tensor([1.0, 8 / 3]))


def test_infinite_heat_of_one_scale_does_not_spoil_the_others():
    def heat(x: Tensor) -> float:
        return math.inf if x.shape[3] > 300 else 0.6

    fields = fused(scripted(heat), TestSettings(outlier_heat=10.0))
    assert_close(fields["heatmap"][0, 0, 0, 0], torch.tensor(0.4))


def test_nobody_is_found_where_the_scale_of_the_tags_is_an_outlier():
    def heat(x: Tensor) -> float:
        return 6.0 if x.shape[3] == 256 else 0.9

    predictor = BatchPredictor(scripted(heat), TestSettings(outlier_heat=10.0), "multi")
    assert len(predictor(np.zeros((256, 256, 3), np.uint8))) == 0


class OffsetHead(Head):
    """The nose is the hottest cell, the hands lie at offsets in pixels from it."""

    def __init__(self) -> None:
        super().__init__()
        self.fields = {
            "heatmap": FieldSpec(1, (0,), (1.0,)),
            "offset": FieldSpec(4, (2, 3, 0, 1), (-1.0, 1.0, -1.0, 1.0), in_pixels=True),
        }

    def targets(self, batch: Any, stride: int) -> Any:
        raise NotImplementedError

    def loss(self, stages: Any, targets: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def readout(self, stages: Any) -> Fields:
        return stages[-1]

    def decode(self, fields: Fields, stride: int) -> list[People]:
        width = fields["heatmap"].shape[-1]
        people = []
        for heat, offset in zip(fields["heatmap"], fields["offset"], strict=True):
            y, x = divmod(int(heat.argmax()), width)
            nose = geometry.to_pixels(np.array([x, y], np.float64), stride)
            hands = nose + offset[:, y, x].reshape(2, 2).numpy()
            keypoints = np.ones((1, 3, 3), np.float32)
            keypoints[0, :, :2] = [nose, *hands]
            people.append(People(keypoints, np.ones(1, np.float32)))
        return people


def dense_offsets(x: Tensor) -> Fields:
    """From every cell to the middle of the green dot in the right half and of that in the left half."""
    green, blue = x[:, 1], x[:, 2:]
    columns, rows = torch.arange(x.shape[3]).float(), torch.arange(x.shape[2]).float()
    cells = [torch.arange(side // STRIDE) * STRIDE + (STRIDE - 1) / 2 for side in x.shape[2:]]
    offsets = []
    for half in (columns * 2 >= x.shape[3], columns * 2 < x.shape[3]):
        weight = green * half
        total = weight.sum((1, 2))
        middle_x = (weight * columns).sum((1, 2)) / total
        middle_y = (weight * rows[:, None]).sum((1, 2)) / total
        shape = (len(x), len(cells[0]), len(cells[1]))
        offsets.append((middle_x[:, None, None] - cells[1]).expand(shape))
        offsets.append((middle_y[:, None, None] - cells[0][:, None]).expand(shape))
    return {"heatmap": torch.nn.functional.avg_pool2d(blue, STRIDE), "offset": torch.stack(offsets, 1)}


@pytest.mark.parametrize("multi", [(1.0, 2.0, 0.5), (2.0, 1.0, 0.5), (0.5, 1.0), (1.0, 0.7)])
@pytest.mark.parametrize("flip", [False, True])
def test_lengths_fit_the_grid_whatever_the_scales(multi, flip):
    """Fields in pixels are brought to one scale before they are averaged: the hands are found."""
    model = PoseModel(Scripted(dense_offsets), OffsetHead(), InputSettings(size=(256, 256)))
    image, expected = dots((300, 400), 1)
    people = BatchPredictor(model, TestSettings(multi=multi, flip=flip), "multi")(image)
    apart = np.linalg.norm(people.keypoints[0, 1:, :2] - expected[0, 1:, :2], axis=1)
    assert apart.max() < 0.5


def test_map_back_keeps_what_was_not_found_at_zero():
    keypoints = np.array([[[10, 20, 0.5], [7, 7, 0]]], np.float32)
    back = map_back(People(keypoints, np.ones(1, np.float32)), np.array([[2.0, 0, 4], [0, 2.0, -2]]))
    assert back.keypoints.tolist() == [[[3, 11, 0.5], [0, 0, 0]]]
    assert keypoints[0, 1].tolist() == [7, 7, 0]  # what was handed in stays


# ---- batches and threads ----


def prepared(predictor: BatchPredictor, pictures: list[np.ndarray]) -> Iterator[Prepared]:
    return (predictor.prepare(picture, i) for i, picture in enumerate(pictures))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("resize", ["letterbox", "short_side"])
def test_people_do_not_depend_on_the_batch(batch_size, resize):
    sizes = [(256, 256), (200, 300), (300, 200), (256, 256), (203, 301), (120, 90), (256, 257)]
    pictures = [dots(size, i % 4, seed=i)[0] for i, size in enumerate(sizes)]
    predictor = BatchPredictor(dot_model(), TestSettings(batch_size=batch_size, resize=resize), "multi")
    alone = [predictor(picture) for picture in pictures]
    results = list(predictor.predict(prepared(predictor, pictures)))
    assert sorted(index for index, _ in results) == list(range(len(pictures)))  # none lost, none doubled
    for index, people in results:
        np.testing.assert_allclose(people.keypoints, alone[index].keypoints, atol=1e-4)
        np.testing.assert_allclose(people.scores, alone[index].scores, atol=1e-6)


def test_few_pictures_wait_however_many_sizes_there_are():
    settings = TestSettings(resize="long_side", flip=False, batch_size=2)
    predictor = BatchPredictor(dot_model(size=64), settings)
    limit = WAITING * 2 + 3 * 2  # waiting, and in the pipe
    taken = done = worst = 0

    def many() -> Iterator[Prepared]:
        nonlocal taken, worst
        for i in range(60):
            taken += 1
            worst = max(worst, taken - done)
            yield Prepared(i, [torch.zeros(3, 32, 32 * (i + 1), dtype=torch.uint8)], np.eye(2, 3), (1, 1))

    seen = []
    for index, _ in predictor.predict(many()):
        done += 1
        seen.append(index)
    assert sorted(seen) == list(range(60))
    assert worst <= limit


def test_an_error_of_the_decoder_reaches_the_caller_and_leaves_no_thread():
    model = dot_model()
    threads = threading.active_count()

    def broken(fields: Fields, stride: int) -> list[People]:
        raise ZeroDivisionError("decoder")

    model.head.decode = broken  # type: ignore[method-assign]
    predictor = BatchPredictor(model, TestSettings(batch_size=1))
    with pytest.raises(ZeroDivisionError, match="decoder"):
        list(predictor.predict(prepared(predictor, [np.zeros((64, 64, 3), np.uint8)] * 5)))
    assert threading.active_count() == threads


def test_pictures_are_counted_and_timed():
    predictor = BatchPredictor(dot_model(), TestSettings(batch_size=2))
    list(predictor.predict(prepared(predictor, [np.zeros((64, 64, 3), np.uint8)] * 5)))
    assert predictor.timing.images == 5
    assert min(predictor.timing.forward, predictor.timing.decode, predictor.timing.wait) > 0
