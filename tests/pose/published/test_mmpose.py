"""Published associative-embedding checkpoints of MMPose and HigherHRNet: the same maps, and the same people
of a whole test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pose.errors import UserError
from pose.experiment import load_config
from pose.images import read_image
from pose.model import PoseModel
from pose.predict.batches import BatchPredictor
from pose.predict.settings import Mode
from pose.structures import Fields
from pose.tools import convert
from tests.golden import golden

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
    converted = convert.convert(convert.SOURCES[system], file)
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


def cases(folder: Path) -> Iterator[dict[str, Any]]:
    content = json.loads((folder / "golden" / "pipeline" / "cases.json").read_text())
    for case in content["cases"]:
        if case["case"].startswith(("higherhrnet", "hrnet", "hourglass", "original")):
            yield case


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
    higher = name.startswith(("higherhrnet", "original"))
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
    case = next(one for one in cases(real_data) if one["case"] == name)
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
        convert.convert(convert.SOURCES["mmpose"], tmp_path / "file.pth", **options)
