"""Published associative-embedding checkpoints of MMPose and HigherHRNet: the same maps, and the same people
of a whole test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pose.errors import UserError
from pose.experiment import load_config
from pose.images import read_image
from pose.model import PoseModel
from pose.predict.batches import BatchPredictor
from pose.predict.canvas import lay_out, prepare
from pose.predict.settings import Mode
from pose.published import conversion
from pose.structures import Fields
from pose.tools import convert
from tests.golden import golden
from tests.literal.reference import mmpose1_testing as mmpose1

NETWORKS = {
    "mmpose_hrnet_w32_ae": "mmpose",
    "mmpose_higherhrnet_w32": "mmpose",
    "original_higherhrnet_w32": "higherhrnet",
    "mmpose_resnet50_ae": "mmpose",
    "mmpose_mobilenetv2_ae": "mmpose",
    "mmpose_hourglass_ae": "mmpose",
}
LARGE = ("mmpose_hrnet_w48_ae", "mmpose_higherhrnet_w48", "mmpose_resnet101_ae", "mmpose_resnet152_ae")


def check_network(folder: Path, file: Path, name: str, system: str, wrap: Any = lambda name: name) -> None:
    published = golden(folder, name)
    weights = {wrap(key): value for key, value in published.weights("").items()}
    torch.save({"state_dict": weights, "meta": {"epoch": 300}}, file)
    converted = conversion.convert(convert.SOURCES[system], file)
    model = converted.model.eval()
    assert sum(p.numel() for p in model.parameters()) == published.facts["parameters"]
    for case in published.cases:
        with torch.no_grad():
            x = model.backbone(case.image)
            stages = x if model.predictor is None else model.predictor(model.neck(x))  # type: ignore[misc]
        case.check([torch.cat([*fields.values()], 1) for fields in stages])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_published_network_gives_its_maps(real_data: Path, tmp_path: Path, name: str) -> None:
    check_network(real_data, tmp_path / "file.pth", name, NETWORKS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_published_network_gives_its_maps(real_data: Path, tmp_path: Path, name: str) -> None:
    check_network(real_data, tmp_path / "file.pth", name, "mmpose")


@pytest.mark.parametrize(
    ("name", "system", "wrap"),
    [
        ("mmpose_hrnet_w32_ae", "mmpose", lambda name: name.replace("keypoint_head.", "head.")),  # MMPose 1.x
        ("mmpose_hrnet_w32_ae", "mmpose", lambda name: f"module.{name}"),
        ("original_higherhrnet_w32", "higherhrnet", lambda name: f"1.{name}"),  # its half-precision wrapper
        ("original_higherhrnet_w32", "mmpose", lambda name: name),
    ],
)
def test_names_as_files_have_them(real_data: Path, tmp_path: Path, name: str, system: str, wrap: Any) -> None:
    check_network(real_data, tmp_path / "file.pth", name, system, wrap)


# --------------------------------------------------------------------------------------------- whole tests

FLIP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
Figures = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def figures(seed: int, count: int) -> Figures:
    """Places in fractions of the canvas, visibility, heat, tags of the plain and the mirrored pass."""
    rng = np.random.default_rng(seed)
    place, seen = np.zeros((count, 17, 2)), np.zeros((count, 17), bool)
    top, tags = np.zeros((count, 17)), np.zeros((count, 17, 2))
    for p in range(count):
        base = rng.uniform(-100, 100, 2)
        center, size = rng.uniform(0.15, 0.85, 2), rng.uniform(0.05, 0.3)
        for k in range(17):
            seen[p, k] = rng.random() < 0.85
            place[p, k] = center + 0.5 * size * rng.standard_normal(2)
            top[p, k] = rng.uniform(0.3, 1.0)
            tags[p, k] = base + 0.1 * rng.standard_normal(2)
    return place, seen, top, tags


def drawn_maps(people: Figures, seed: int, size: tuple[int, int], mirrored: bool, tagged: bool) -> Tensor:
    """(1, 17 or 34, h, w) float32: heatmaps, then tags, as a network would give for the image or its mirror
    image."""
    place, seen, top, tags = people
    (height, width), count = size, len(seen)
    rng = np.random.default_rng(seed)
    heat: np.ndarray = np.zeros((17, height, width))
    tag = 0.3 * rng.standard_normal((17, height, width))
    ys, xs = np.arange(height)[:, None], np.arange(width)[None]
    for p in range(count):
        for k in range(17):
            x, y = place[p, k, 0] * width, place[p, k, 1] * height
            if not seen[p, k] or not (0 <= x < width and 0 <= y < height):
                continue
            heat[k] = np.maximum(heat[k], top[p, k] * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 8))
            column, row = int(x), int(y)
            near = slice(max(0, row - 4), row + 5), slice(max(0, column - 4), column + 5)
            tag[k][near] = tags[p, k, int(mirrored)]
    heat = heat + 0.01 * rng.standard_normal(heat.shape)
    out = np.concatenate([heat, tag]) if tagged else heat
    if mirrored:
        order = [*FLIP, *(17 + k for k in FLIP)] if tagged else list(FLIP)
        out = out[order][:, :, ::-1]
    return torch.from_numpy((np.round(out[None] * 2**16) / 2**16).astype(np.float32))


class Drawn(nn.Module):
    """In the place of a network: gives the drawn maps of canvas after canvas, plain and mirrored."""

    size_multiple = 32

    def __init__(self, case: dict[str, Any], stages: list[tuple[int, bool]]) -> None:
        super().__init__()
        self.people = figures(case["people_seed"], case["people_drawn"])
        self.first, self.passes = case["first_map_seed"], 0
        self.stages = stages  # stride, and whether there are tags
        self.strides = tuple(stride for stride, _ in stages)

    def forward(self, x: Tensor) -> list[Fields]:
        found = []
        for s, (stride, tagged) in enumerate(self.stages):
            size = (x.shape[-2] // stride, x.shape[-1] // stride)
            both = [
                drawn_maps(self.people, self.first + 10 * (self.passes + m) + s, size, bool(m), tagged)
                for m in (0, 1)
            ]
            maps = torch.cat(both)
            found.append({"heatmap": maps[:, :17], **({"tag": maps[:, 17:]} if tagged else {})})
        self.passes += 2
        return found


def recorded_case(folder: Path, name: str, pipeline: str = "pipeline") -> dict[str, Any]:
    content = json.loads((folder / "golden" / pipeline / "cases.json").read_text(encoding="utf-8"))
    case: dict[str, Any] = next(one for one in content["cases"] if one["case"] == name)
    return case


NAMES = [
    "higherhrnet_1", "higherhrnet_multi", "higherhrnet_udp_1", "higherhrnet_udp_multi", "hrnet_1",
    "hrnet_udp_multi", "hourglass_1", "hourglass_multi", "higherhrnet_640_1", "original_1", "original_multi",
    "original_small_1", "original_small_multi",
]  # fmt: skip


def config_of(case: dict[str, Any]) -> Any:
    """The run that the converters make for such a checkpoint."""
    name = case["case"]
    original, udp = name.startswith("original"), case.get("udp", False)
    scales = sorted(case["scales"], reverse=True)
    higher = name.startswith(("higherhrnet", "original", "random"))
    side = case.get("input_size", 512)
    settings = [f"input.size=[{side}, {side}]", f"test.multi={[float(s) for s in scales]}"]
    if original and not case["project2image"]:
        settings.append("test.project=false")
    if higher:
        settings += ["head.tag_strides=[4]", "predictor={name: higher_resolution}"]
    if name.startswith("hourglass"):
        settings.append("test.align_corners=true")
    system = "higherhrnet" if original else "mmpose_udp" if udp else "mmpose"
    return load_config(f"published/{system}.yaml", settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_whole_test_finds_the_published_people(real_data: Path, name: str) -> None:
    """Canvas, fusion, grouping and the way back, of drawn maps: single, mirrored and several scales."""
    case = recorded_case(real_data, name)
    samples = np.load(real_data / "golden" / "pipeline" / "samples.npz")
    config = config_of(case)
    stages = [(4, True), (2, False)] if name.startswith(("higherhrnet", "original")) else [(4, True)]
    if name.startswith("hourglass"):
        stages = [(4, True)] * 4
    with torch.device("meta"):
        head = config.build_model().head
    model = PoseModel(Drawn(case, stages), head, config.input)
    mode: Mode = "single" if len(case["scales"]) == 1 else "multi"
    predictor = BatchPredictor(model, config.test, mode)
    (image,) = real_data.rglob(case["picture"])
    people = predictor(read_image(image))
    expected, scores = samples[f"{name}_people"], samples[f"{name}_scores"]
    order = np.argsort(-scores, kind="stable")
    expected, scores = expected[order], scores[order]
    assert len(people) == len(expected)
    np.testing.assert_allclose(people.scores, scores, atol=1e-5)
    found = expected[..., 2] > 0
    assert (people.keypoints[..., 2] > 0)[found].all()
    assert np.abs(people.keypoints[..., :2] - expected[..., :2])[found].max() < 0.01
    np.testing.assert_allclose(people.keypoints[..., 2][found], expected[..., 2][found].clip(0, 1), atol=1e-4)


# OpenCV 4 rounds the positions that it warps from to 1/32 pixel, OpenCV 5 does not: canvases differ, and maps
# of real images with them.
PIPELINES = {5: "pipeline", 4: "pipeline_opencv4"}
RANDOM = ["random_higherhrnet_1", "random_higherhrnet_multi", "random_higherhrnet_udp_1"]
OF_BOTH = [name for name in NAMES if not name.startswith("original")] + RANDOM


def of_this_opencv(major: int) -> str:
    if int(cv2.__version__.split(".")[0]) != major:
        pytest.skip(f"of OpenCV {major}, and this is {cv2.__version__}")
    return PIPELINES[major]


def test_the_recorded_canvases_are_of_an_opencv_that_may_be_installed() -> None:
    assert int(cv2.__version__.split(".")[0]) in PIPELINES


@pytest.mark.parametrize("major", PIPELINES)
@pytest.mark.parametrize("name", [*OF_BOTH, *(name for name in NAMES if name.startswith("original"))])
def test_canvases_are_the_published_ones(real_data: Path, name: str, major: int) -> None:
    """Pixel by pixel."""
    pipeline = of_this_opencv(major)
    if major == 4 and name not in OF_BOTH:
        pytest.skip("HigherHRNet's own canvases are recorded for OpenCV 5 only")
    case = recorded_case(real_data, name, pipeline)
    config = config_of(recorded_case(real_data, name))
    (path,) = real_data.rglob(case["picture"])
    image = read_image(path)
    if "image_sha256" in case:
        assert hashlib.sha256(image.tobytes()).hexdigest() == case["image_sha256"]
    scales = sorted((float(scale) for scale in case["scales"]), reverse=True)
    prepared = prepare(image, 0, scales, config.test, config.input, 32)
    assert len(prepared.canvases) == len(case["canvases"])
    for ours, theirs in zip(prepared.canvases, case["canvases"], strict=True):
        canvas = ours.permute(1, 2, 0).contiguous().numpy()
        assert canvas.shape == (theirs["height"], theirs["width"], 3)
        assert hashlib.sha256(canvas.tobytes()).hexdigest() == theirs["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("major", PIPELINES)
@pytest.mark.parametrize("name", RANDOM)
def test_a_network_gives_the_published_maps_of_an_image(
    real_data: Path, tmp_path: Path, name: str, major: int
) -> None:
    """Canvas, normalisation, network, mirrored pass and scales, put together on the grid of the grouping."""
    pipeline = of_this_opencv(major)
    case = recorded_case(real_data, name, pipeline)
    torch.save({"state_dict": golden(real_data, "mmpose_higherhrnet_w32").weights("")}, tmp_path / "file.pth")
    scales = sorted((float(scale) for scale in case["scales"]), reverse=True)
    mode: Mode = "single" if len(scales) == 1 else "multi"
    converted = conversion.convert(
        convert.SOURCES["mmpose"],
        tmp_path / "file.pth",
        [f"test.{mode}={scales}", "test.precision=fp32"],
        udp=case["udp"],
        size=case["input_size"],
    )
    predictor = BatchPredictor(converted.model, converted.config.test, mode)
    (path,) = real_data.rglob(case["picture"])
    fields, _ = predictor.fields([predictor.prepare(read_image(path)).canvases])
    made = {"heatmaps": fields["heatmap"], "tags": fields["tag"].permute(0, 2, 3, 4, 1)}
    with np.load(real_data / "golden" / pipeline / "samples.npz") as samples:
        for kind, told in case["aggregated"].items():
            assert list(made[kind].shape) == told["shape"]
            flat, expected = made[kind].flatten(), samples[f"{name}_{kind}"]
            largest = max(abs(told["max"]), abs(told["min"]))
            assert np.abs(flat[:: told["step"]].numpy() - expected).max() < 2e-5 * largest
            assert abs(float(flat.double().abs().sum()) / told["abs_sum"] - 1) < 1e-6


# ----------------------------------------------------------------------------------------------- MMPose 1.x


class DrawnCase(NamedTuple):
    size: tuple[int, int]  # of the image, height and width
    side: int  # of the square input
    people: int
    seed: int


MMPOSE1 = [
    DrawnCase((425, 640), 512, 4, 0),
    DrawnCase((640, 425), 256, 6, 1),
    DrawnCase((333, 500), 256, 8, 2),
    DrawnCase((481, 480), 256, 3, 3),
    DrawnCase((77, 101), 128, 5, 4),
    DrawnCase((450, 400), 256, 34, 5),  # more people than 30
    DrawnCase((205, 205), 224, 5, 6),  # a side that is no multiple of 64
    DrawnCase((301, 240), 256, 0, 7),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", MMPOSE1, ids=str)
def test_a_whole_test_by_the_rules_of_mmpose1_finds_the_literal_people(
    case: DrawnCase,
) -> None:
    """Canvas, mirrored pass, grouping and the way back, of drawn maps."""
    drawn = {
        "people_seed": 900 + case.seed,
        "people_drawn": case.people,
        "first_map_seed": 90000 + 100 * case.seed,
    }
    config = load_config("published/mmpose1.yaml", [f"input.size=[{case.side}, {case.side}]"])
    with torch.device("meta"):
        head = config.build_model().head
    predictor = BatchPredictor(PoseModel(Drawn(drawn, [(4, True)]), head, config.input), config.test)
    found = predictor(np.zeros((*case.size, 3), np.uint8))

    people = figures(drawn["people_seed"], case.people)
    grid = [side // 4 for side in mmpose1.canvas(case.size, case.side).size]
    plain, mirrored = (
        drawn_maps(people, drawn["first_map_seed"] + 10 * m, (grid[0], grid[1]), bool(m), True)
        for m in (0, 1)
    )
    expected, scores = mmpose1.people_of(plain, mirrored, case.size, case.side, FLIP)
    order = np.argsort(-scores, kind="stable")
    expected, scores = expected[order], scores[order]
    assert len(found) == len(expected) == (30 if case.people > 30 else len(expected))
    assert len(expected) >= case.people - 4 and bool(len(expected)) == bool(case.people)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    there = expected[..., 2] > 0
    np.testing.assert_array_equal(found.keypoints[..., 2] > 0, there)
    away = np.abs(found.keypoints[..., :2] - expected[..., :2])[there]
    assert away.max(initial=0) < 0.01
    np.testing.assert_allclose(found.keypoints[..., 2][there], expected[..., 2][there].clip(0, 1), atol=1e-4)


@pytest.mark.parametrize("name", ["cid_plain", "cid_mirrored_too"])
def test_the_canvas_of_mmpose1(real_data: Path, name: str) -> None:
    """Recorded for CID, which has the same one: sides of multiples of 64, the image in the middle."""
    case = recorded_case(real_data, name, "pipeline_mmpose1")
    config = load_config("published/mmpose1.yaml", ["input.size=[128, 128]"])
    (path,) = real_data.rglob(case["picture"])
    image = read_image(path)
    prepared = prepare(image, 0, [1.0], config.test, config.input, 32)
    (canvas,) = prepared.canvases
    assert [canvas.shape[2], canvas.shape[1]] == case["input_size"]
    np.testing.assert_allclose(prepared.matrix, case["matrix"], atol=1e-9)
    literal = mmpose1.canvas((image.shape[0], image.shape[1]), 128)
    np.testing.assert_allclose(literal.matrix, case["matrix"], atol=1e-9)
    assert literal.scale.tolist() == case["input_scale"] and literal.center.tolist() == case["input_center"]
    if cv2.__version__.startswith("5"):
        assert int(canvas.long().sum()) == case["canvas_sum"]


def test_other_scales_of_mmpose1_are_its_canvas_stretched() -> None:
    config = load_config("published/mmpose1.yaml", [])
    size = (333, 500)
    alone = lay_out(size, [1.0], config.test, config.input, 32)
    several = lay_out(size, [2.0, 1.0, 0.5], config.test, config.input, 32)
    assert several.sizes == [(1024, 1664), (512, 832), (256, 416)] and alone.sizes == [(512, 832)]
    for scale, matrix in zip((2.0, 1.0, 0.5), several.matrices, strict=True):
        np.testing.assert_allclose(matrix, scale * alone.matrices[0])


@pytest.mark.parametrize(
    ("head", "options", "config", "told"),
    [
        ("keypoint_head", {}, "mmpose", "rules of MMPose 0.x (names as in 0.x, else: --rules 1.x)"),
        ("head", {}, "mmpose1", "rules of MMPose 1.x (names as in 1.x, else: --rules 0.x)"),
        ("head", {"rules": "0.x"}, "mmpose", "rules of MMPose 0.x (names as in 1.x, else: --rules 1.x)"),
        ("keypoint_head", {"rules": "1.x"}, "mmpose1", "rules of MMPose 1.x"),
        ("head", {"udp": True}, "mmpose_udp", "rules of MMPose 0.x (names as in 1.x)"),
    ],
)
def test_whose_rules_a_converted_run_follows(
    head: str, options: dict[str, Any], config: str, told: str
) -> None:
    weights = {name.replace("keypoint_head", head): value for name, value in small().items()}
    for wrapped in (weights, {f"module.{name}": value for name, value in weights.items()}):
        plan = convert.SOURCES["mmpose"].plan(wrapped, **options)
        assert plan.config == f"published/{config}.yaml" and told in plan.told
        load_config(plan.config, plan.settings)


def test_rules_that_there_are_not() -> None:
    for weights, options, says in (
        (small(), {"udp": True}, "with unbiased data processing; leave --rules 1.x out"),
        (small(16), {}, "no associative embedding with mhp's keypoints"),
    ):
        with pytest.raises(UserError, match=says):
            convert.SOURCES["mmpose"].plan(weights, rules="1.x", **options)


# ----------------------------------------------------------------------------------------------- refusals


def small(keypoints: int = 17) -> dict[str, Tensor]:
    """The tensors by which a file is told, of a plain HRNet."""
    return {
        "backbone.stage4.0.branches.0.0.conv1.weight": torch.zeros(8, 8, 3, 3),
        "keypoint_head.final_layer.weight": torch.zeros(2 * keypoints, 8, 1, 1),
    }


@pytest.mark.parametrize(
    ("weights", "options", "says"),
    [
        ({"conv1.weight": torch.zeros(3)}, {}, "none of MMPose's or HigherHRNet's"),
        (small(14), {}, "14 keypoints; give --data aic or crowdpose"),
        (
            small(17),
            {"data": "aic"},
            "--data aic has 14 keypoints, and the checkpoint has 17; give --data coco",
        ),
        (small(5), {}, "no data set here has so many"),
        (small(), {}, "does not fill the network"),
        (
            {**small(), "backbone.stage4.2.fuse_layers.1.0.0.0.weight": torch.zeros(1)},
            {},
            "DEKR's or CID's",
        ),
        ({name: value for name, value in small().items() if "final" not in name}, {}, "another method"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, weights: Any, options: Any, says: str) -> None:
    torch.save({"state_dict": weights}, tmp_path / "file.pth")
    with pytest.raises(UserError, match=says):
        conversion.convert(convert.SOURCES["mmpose"], tmp_path / "file.pth", **options)
