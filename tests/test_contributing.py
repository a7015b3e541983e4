"""The examples of CONTRIBUTING.md work as they stand there."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from pose import config, skeleton
from pose.annotations.reader import parse
from pose.metrics.base import settings_of
from pose.registry import BACKBONES, HEADS, METRICS, SCHEDULES
from pose.skeleton import Skeleton
from tests.batches import batch_of

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = {
    path: code for code, path in re.findall(r"^```\w+\n(# (\S+\.(?:py|yaml))\n.*?)^```", TEXT, re.M | re.S)
}


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples register is gone after the test."""
    for registry in (BACKBONES, HEADS, METRICS, SCHEDULES):
        registry.names()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def written(path: str, folder: Path) -> Path:
    file = folder / Path(path).name
    file.write_text(EXAMPLES[path], encoding="utf-8")
    return file


def imported(path: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    name = path.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, written(path, folder))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def quadruped(folder: Path) -> Skeleton:
    return skeleton.from_dict(config.read_yaml(written("configs/_skeletons/quadruped.yaml", folder)))


def test_the_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = imported("pose/backbones/tiny.py", tmp_path, monkeypatch).TinySettings(width=8)
    net = BACKBONES.build(settings, {"heatmap": 3, "tag": 6})
    stages = net(torch.rand(2, 3, 32, 48))
    assert [tuple(maps.shape) for maps in stages[-1].values()] == [(2, 3, 8, 12), (2, 6, 8, 12)]
    assert list(stages[-1]) == ["heatmap", "tag"] and len(stages) == len(net.strides)


def test_the_head_reads_back_what_it_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = quadruped(tmp_path)
    head = HEADS.build(imported("pose/heads/single.py", tmp_path, monkeypatch).SingleSettings(), one)
    generator = torch.Generator().manual_seed(0)
    position = torch.rand(2, 1, len(one), 2, generator=generator) * 56 + 4
    keypoints = torch.cat((position, torch.full((2, 1, len(one), 1), 2)), -1)
    batch = batch_of(keypoints, (64, 64))
    targets = head.targets(batch, stride=4)
    stages = [{"heatmap": targets.heatmap}]
    assert head.loss(stages, [targets])["heatmap"] == 0
    drawn = head.target_fields(targets)  # what pictures show of it
    assert set(drawn) == {"heatmap", "mask"} and torch.equal(drawn["heatmap"], targets.heatmap)
    people = head.decode(head.readout(stages), stride=4)
    found = torch.stack([torch.from_numpy(p.keypoints) for p in people])
    assert (found[..., :2] - keypoints[..., :2]).abs().max() <= 2  # half a cell
    assert (found[..., 2] > 0.5).all()


def test_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every command: tests/commands/test_metrics.py."""
    imported("pose/metrics/count.py", tmp_path, monkeypatch)
    person = {"category_id": 1, "keypoints": [1, 2, 2]}
    file = parse(
        {
            "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)],
            "annotations": [{**person, "id": i, "image_id": i} for i in (1, 2)],
            "categories": [{"id": 1, "name": "dot", "keypoints": ["dot"]}],
        },
        "dots.json",
    )
    found = [{**person, "image_id": 1, "score": 1.0}] * 2 + [{**person, "image_id": 2, "score": 1.0}]
    values = [METRICS.build(settings_of("count", {"tolerance": n}), file).score(found).value for n in (0, 1)]
    assert values == [0.5, 1.0]


def test_the_data_set(tmp_path: Path) -> None:
    from pose.experiment import load_config

    quadruped(tmp_path)
    file = written("configs/animals/tiny.yaml", tmp_path)
    loaded = load_config(file, ["backbone.name=hourglass", f"data.skeleton={tmp_path / 'quadruped.yaml'}"])
    assert loaded.skeleton.name == "quadruped"
    assert loaded.data.root == "data/animals"


def test_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = imported("pose/engine/schedules/polynomial.py", tmp_path, monkeypatch).PolynomialSettings
    schedule = SCHEDULES.build(settings(power=2.0, warmup_steps=4), lr=0.1, total_steps=24, steps_per_epoch=5)
    assert [schedule(step) for step in (0, 3, 4, 14, 24)] == [0.25, 1.0, 1.0, 0.25, 0.0]


def test_every_example_is_tested() -> None:
    assert sorted(EXAMPLES) == [
        "configs/_skeletons/quadruped.yaml",
        "configs/animals/tiny.yaml",
        "pose/backbones/tiny.py",
        "pose/engine/schedules/polynomial.py",
        "pose/heads/single.py",
        "pose/metrics/count.py",
    ]
