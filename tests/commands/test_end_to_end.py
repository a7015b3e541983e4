"""From drawn pictures to scores through the real commands: a skeleton of one's own, and learning itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAMES = ["head", "neck", "hip", "left_hand", "right_hand", "left_foot", "right_foot"]
LIMBS = [("head", "neck"), ("neck", "hip"), ("neck", "left_hand"), ("neck", "right_hand")]
LIMBS += [("hip", "left_foot"), ("hip", "right_foot")]
SIGMAS = [0.05, 0.06, 0.08, 0.07, 0.07, 0.09, 0.09]
COLORS = [
    (250, 60, 60),
    (60, 250, 60),
    (60, 60, 250),
    (250, 250, 60),
    (250, 60, 250),
    (60, 250, 250),
    (9, 9, 9),
]
CATEGORY = 5
NO_AUGMENTATION = {
    "scale": [1.0, 1.0], "rotation": 0, "shift": 0, "flip": 0,
    "hue": 0, "saturation": [1.0, 1.0], "brightness": 0, "contrast": [1.0, 1.0],
}  # fmt: skip


def command(module: str, *arguments: str, cwd: Path) -> str:
    """Runs `python -m pose.MODULE` as a user does -> what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", f"pose.{module}", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- a skeleton that the project has never seen ----


def draw_animals(root: Path, count: int) -> None:
    """Stick animals with coloured joints, one or two in a picture, in COCO's format."""
    (root / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(3)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for i in range(count):
        canvas = np.full((96, 128, 3), 200, np.uint8)
        images.append({"id": 100 + i, "file_name": f"{i}.png", "height": 96, "width": 128})
        for place in range(1 + i % 2):
            points = stick_animal(rng) + [32 + 64 * place if i % 2 else 64, 48]
            paint(canvas, points)
            low, extent = points.min(0), np.ptp(points, axis=0)
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": 100 + i,
                    "category_id": CATEGORY,
                    "iscrowd": 0,
                    "num_keypoints": len(NAMES),
                    "keypoints": np.column_stack([points, np.full(len(NAMES), 2)]).ravel().tolist(),
                    "bbox": [*low.tolist(), *extent.tolist()],
                    "area": float(extent.prod() / 2),
                }
            )
        cv2.imwrite(str(root / "pictures" / f"{i}.png"), canvas[..., ::-1])
    category = {
        "id": CATEGORY,
        "name": "animal",
        "keypoints": NAMES,
        "skeleton": [[NAMES.index(a) + 1, NAMES.index(b) + 1] for a, b in LIMBS],
        "sigmas": SIGMAS,
    }
    other = {"id": 1, "name": "thing"}  # without keypoints
    data = {"images": images, "annotations": annotations, "categories": [other, category]}
    (root / "animals.json").write_text(json.dumps(data))


def stick_animal(rng: np.random.Generator) -> np.ndarray:
    """(7, 2) pixels around the middle."""
    upright = np.array([[0, -34], [0, -20], [0, 8], [18, -10], [-18, -10], [10, 32], [-10, 32]], float)
    return upright + rng.uniform(-4, 4, upright.shape)


def paint(canvas: np.ndarray, points: np.ndarray) -> None:
    spots = points.round().astype(int).tolist()
    for a, b in LIMBS:
        cv2.line(canvas, spots[NAMES.index(a)], spots[NAMES.index(b)], (90, 90, 90), 2, cv2.LINE_AA)
    for spot, color in zip(spots, COLORS, strict=True):
        cv2.circle(canvas, spot, 4, color, -1, cv2.LINE_AA)


def animal_config(root: Path, skeleton: str) -> Path:
    files = {"annotations": "animals.json", "images": "pictures"}
    data = {"root": str(root), "train": files, "val": files, "workers": 0, "skeleton": skeleton}
    config = {
        "input": {"size": [64, 64]},
        "data": data,
        "backbone": {"name": "hourglass", "stacks": 1, "width": 12, "growth": 4, "depth": 2, "stem_width": 6},
        "head": {"name": "tags", "decoder": {"name": "tag_groups", "detection_threshold": 0.0}},
        "train": {"batch_size": 4, "epochs": 2, "steps_per_epoch": 4, "log_every": 2, "lr": 2e-3},
    }
    path = root / "animals.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("source", ["annotations", "yaml"])
def test_a_skeleton_of_ones_own_needs_no_code(tmp_path: Path, source: str) -> None:
    """Given by the COCO file's `categories` alone or by a YAML file: train, test, score, draw."""
    root = tmp_path / "data"
    draw_animals(root, 12)
    skeleton = {
        "name": "animal",
        "keypoints": NAMES,
        "limbs": [list(limb) for limb in LIMBS],
        "sigmas": SIGMAS,
    }
    (root / "animal.yaml").write_text(yaml.safe_dump(skeleton))
    config = animal_config(root, "annotations" if source == "annotations" else "animal.yaml")

    command("train", "-e", "animals", "--config", str(config), "--device", "cpu", cwd=tmp_path)
    run = tmp_path / "exp" / "animals"
    stored = yaml.safe_load((run / "config.yaml").read_text())["data"]["skeleton"]
    assert stored["keypoints"] == NAMES
    assert stored["sigmas"] == SIGMAS
    assert [tuple(limb) for limb in stored["limbs"]] == LIMBS
    assert len([line for line in (run / "log.jsonl").open() if '"validation"' in line]) == 2

    (root / "animal.yaml").unlink()  # a run needs nothing but its folder and the data
    printed = command("test", "-c", "animals", "--save-pictures", "4", "--device", "cpu", cwd=tmp_path)
    assert "Average Precision  (AP)" in printed
    metrics = json.loads((run / "metrics-single.json").read_text())
    assert (metrics["num_images"], metrics["num_ground_truth"]) == (12, 18)
    assert cv2.imread(str(run / "pictures-single.png")) is not None
    results = json.loads((run / "results-single.json").read_text())
    assert all(r["category_id"] == CATEGORY and len(r["keypoints"]) == 3 * len(NAMES) for r in results)


def test_the_score_of_ones_own_skeleton_uses_its_sigmas_and_category(tmp_path: Path) -> None:
    """Results moved by 3 pixels, scored by the command: the AP falls with the sigmas."""
    draw_animals(tmp_path, 6)
    truth = json.loads((tmp_path / "animals.json").read_text())
    results = []
    for person in truth["annotations"]:
        keypoints = np.array(person["keypoints"]).reshape(-1, 3) + [3, 0, 0]
        results.append(
            {
                "image_id": person["image_id"],
                "category_id": CATEGORY,
                "keypoints": keypoints.ravel().tolist(),
                "score": 1.0,
            }
        )
    from pose.annotations.skeletons import read_skeleton
    from pose.metrics.coco_eval import evaluate

    skeleton = read_skeleton(tmp_path / "animals.json")
    assert skeleton.sigmas == tuple(SIGMAS)
    own = evaluate(truth, results, sigmas=skeleton.sigmas).stats["AP"]
    strict = evaluate(truth, results, sigmas=[s / 4 for s in SIGMAS]).stats["AP"]
    assert own > 0.3 > strict


# ---- learning ----


@pytest.mark.slow
def test_four_pictures_are_learned_by_heart(tmp_path: Path) -> None:
    """Six animals, side by side in two of the pictures; what a network has learned is found again."""
    root = tmp_path / "data"
    draw_animals(root, 4)
    config = yaml.safe_load(animal_config(root, "annotations").read_text())
    config["input"] = {"size": [128, 128], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    config["data"]["augment"] = NO_AUGMENTATION
    config["backbone"].update(width=24, growth=8, stem_width=12, batch_norm="before")
    config["head"] = {
        "name": "tags", "center": "subpixel", "sigma": 1.5, "foreground_weight": 9.0,
        "pull_weight": 3e-2, "push_weight": 1e-1, "push": "hinge",
        "decoder": {"name": "tag_groups", "subpixel": "dark", "detection_threshold": 0.2},
    }  # fmt: skip
    config["train"] = {
        "batch_size": 4, "optimizer": "adamw", "lr": 5e-3, "schedule": "cosine", "warmup_steps": 20,
        "epochs": 1, "steps_per_epoch": 200,
    }  # fmt: skip
    config["test"] = {"flip": False}  # nothing was learned about mirrored pictures
    (tmp_path / "four.yaml").write_text(yaml.safe_dump(config))

    command("train", "-e", "four", "--config", "four.yaml", "--device", "cpu", cwd=tmp_path)
    command("test", "-c", "four", "--device", "cpu", cwd=tmp_path)
    metrics = json.loads((tmp_path / "exp/four/metrics-single.json").read_text())
    assert metrics["num_images"] == 4
    assert metrics["stats"]["AP"] >= 0.8
