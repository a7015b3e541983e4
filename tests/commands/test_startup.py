"""Commands start without what they do not need: torch alone takes two seconds and 450 MB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pose.config import read_yaml
from pose.config_files import config_folder
from pose.registry import METRICS
from pose.synthetic import dataset as synthetic
from tests.command_lines import COMMANDS, ROOT

PACKAGE = [command for command in COMMANDS if command.startswith("pose.")]
ANNOTATIONS = "annotations/person_keypoints_val.json"
# packages that take a tenth of a second or more to import, and everything that needs torch
SLOW = {"torch", "torchvision", "scipy", "matplotlib", "gradio", "timm", "onnx", "onnxruntime", "tensorboard"}
# a command as `python -m` runs it, and then the modules that are loaded
PROGRAM = """\
import json, runpy, sys
module, output, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    code = ended.code or 0
else:
    code = 0
open(output, "w").write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
sys.exit(code)
"""


def slow_imports(arguments: Sequence[str], folder: Path, code: int = 0) -> set[str]:
    """What a fresh process loads of `SLOW` for `python -m ARGUMENTS`, in a folder; code: its exit code."""
    module, *rest = arguments
    loaded = folder / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, str(loaded), *rest],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, f"{' '.join(arguments)}: {done.stderr}"
    return SLOW & set(json.loads(loaded.read_text(encoding="utf-8")))


@pytest.mark.parametrize("command", PACKAGE)
def test_help_needs_nothing_slow(command: str, tmp_path: Path) -> None:
    assert slow_imports([command, "--help"], tmp_path) == set()


def test_the_probe_itself(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import scipy.optimize\n", encoding="utf-8")
    assert slow_imports(["slow"], tmp_path) == {"scipy"}


@pytest.mark.parametrize("command", PACKAGE)
def test_a_mistake_is_told_before_anything_slow(command: str, tmp_path: Path) -> None:
    assert slow_imports([command, "--no-such-option"], tmp_path, code=2) == set()


# ---- commands that read and write files ----


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn images, with everything that the commands below read."""
    root = tmp_path_factory.mktemp("data")
    synthetic.ensure(root, synthetic.SyntheticConfig(train=1, val=1, size=96, max_people=1))
    run = root / "exp/one"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("head: {name: tags}\n", encoding="utf-8")
    content = json.loads((root / ANNOTATIONS).read_text(encoding="utf-8"))
    content["annotations"] += [{**one, "id": one["id"] + 1000} for one in content["annotations"]]
    (root / "twice.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "official.json").write_text(json.dumps(scored("aic")[0]), encoding="utf-8")
    (root / "a.jpg").write_bytes(next((root / "val").glob("*.jpg")).read_bytes())
    (run / "log.jsonl").write_text('{"kind": "train", "step": 1, "loss": 1.0}\n', encoding="utf-8")
    return root


def annotated(names: Sequence[str], keypoints: list[float], **more: Any) -> dict[str, Any]:
    """A COCO file of one image with one person."""
    body = {"keypoints": keypoints, "num_keypoints": len(keypoints) // 3}
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100, "crowdIndex": 0.1}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(names), "skeleton": []}],
        "annotations": [{**person, **body, **more}],
    }


def scored(metric: str) -> tuple[Any, Any]:
    """Annotations of one person and results for `pose.tools.score METRIC`."""
    skeletons = {"crowdpose": "crowdpose14", "aic_oks": "aic14", "wholebody": "coco_wholebody133"}
    names = read_yaml(config_folder() / "_skeletons" / f"{skeletons.get(metric, 'coco17')}.yaml")["keypoints"]
    triples = [float(v) for i in range(len(names)) for v in (10 + i % 50, 10 + i // 3, 2)]
    result: dict[str, Any] = {"image_id": 1, "category_id": 1, "keypoints": triples, "score": 1.0}
    if metric == "aic":
        keypoints = [number for i in range(14) for number in (10 + i, 20 + i, 1)]
        official = {"image_id": "a", "keypoint_annotations": {"human1": keypoints}}
        return [{**official, "human_annotations": {"human1": [5, 5, 60, 60]}}], [official]
    if metric != "wholebody":
        return annotated(names, triples), [result]
    ends = {"foot_kpts": 23, "face_kpts": 91, "lefthand_kpts": 112, "righthand_kpts": 133}
    parts, start = {}, 17
    for part, end in ends.items():
        parts[part], start = triples[3 * start : 3 * end], end
    boxes = {f"{part}_box": [10, 10, 50, 50] for part in ("face", "lefthand", "righthand")}
    valid = {f"{part}_valid": True for part in ("foot", "face", "lefthand", "righthand")}
    return annotated(names[:17], triples[:51], **parts, **boxes, **valid), [
        {**result, "keypoints": triples[:51], **parts}
    ]


@pytest.mark.parametrize("metric", METRICS.names())
def test_scoring_needs_nothing_slow(metric: str, tmp_path: Path) -> None:
    for name, content in zip(("truth.json", "found.json"), scored(metric)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    files = ["--annotations", "truth.json", "--results", "found.json", "-o", "scores.json"]
    assert slow_imports(["pose.tools.score", metric, *files], tmp_path) == set()
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))


LIGHT = [
    ["pose.tools.list"],
    ["pose.tools.zoo", "list"],
    ["pose.tools.zoo", "show", "higherhrnet_w32"],
    ["pose.tools.draw", "--annotations", ANNOTATIONS, "--images", "val", "-o", "drawn"],
    ["pose.tools.sigmas", "twice.json"],
    ["pose.tools.aic", "to-coco", "official.json", "--images", ".", "-o", "coco.json"],
    ["pose.tools.synthesize", "--root", "more", "--train", "1", "--val", "1", "--size", "96"],
    ["pose.tools.doctor", "--annotations", ANNOTATIONS, "--images", "val", "-o", "report.html"],
]


@pytest.mark.parametrize("arguments", LIGHT, ids=lambda arguments: " ".join(arguments[:2]))
def test_a_command_without_a_network_needs_nothing_slow(
    arguments: list[str], data: Path, tmp_path: Path
) -> None:
    for path in data.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert slow_imports(arguments, tmp_path) == set()
