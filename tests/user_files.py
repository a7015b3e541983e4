"""A small drawn set to change one thing in: 4 images, 8 people, COCO's 17 keypoints; and the commands that
users give it to."""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from pose import test, train
from pose.data.images import SetImage, read_of_size
from pose.errors import user_facing
from pose.images import UnreadableImage
from pose.predict import predict_set
from pose.predict.images import Outcome
from pose.skeleton import from_dict
from pose.structures import People
from pose.tools import browse, doctor, draw, score
from tests.command_lines import ROOT

HEIGHT, WIDTH = 128, 160
COCO = from_dict(yaml.safe_load((ROOT / "configs" / "_skeletons" / "coco17.yaml").read_text("utf-8")))
NAMES = list(COCO.keypoints)
FIGURE = {  # that faces us, as shares of its box: x of the left side, y
    "nose": (0.5, 0.08), "eye": (0.58, 0.04), "ear": (0.66, 0.06), "shoulder": (0.78, 0.2),
    "elbow": (0.92, 0.4), "wrist": (0.97, 0.56), "hip": (0.68, 0.55),
    "knee": (0.7, 0.78), "ankle": (0.71, 0.97),
}  # fmt: skip
SMALL = ("input.size=[64,64]", "backbone.width=8", "data.workers=0")
Change = Callable[[dict[str, Any]], Any]


def figure(left: float, top: float, width: float, height: float, rng: np.random.Generator) -> np.ndarray:
    """(17, 3) x, y, v."""
    rows = []
    for name in NAMES:
        side, _, part = name.rpartition("_")
        x, y = FIGURE[part]
        x = 1 - x if side == "right" else x
        rows.append((left + width * x + rng.uniform(-1, 1), top + height * y + rng.uniform(-1, 1), 2))
    return np.round(rows, 1)


def base() -> dict[str, Any]:
    """A sound COCO file."""
    rng = np.random.default_rng(0)
    images = [{"id": i + 1, "file_name": f"p{i:02}.png", "width": WIDTH, "height": HEIGHT} for i in range(4)]
    annotations = []
    for i in range(8):
        size = rng.uniform((40, 85), (48, 100))
        left, top = rng.uniform((12, 12), (24, 18))
        person = figure(left + 70 * (i % 2), top, float(size[0]), float(size[1]), rng)
        low, high = person[:, :2].min(0), person[:, :2].max(0)
        annotations.append({
            "id": i + 1, "image_id": i // 2 + 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
            "keypoints": person.ravel().tolist(), "bbox": [*low.tolist(), *(high - low).round(1).tolist()],
            "area": round(float(0.6 * np.prod(high - low)), 1), "segmentation": [],
        })  # fmt: skip
    limbs = [[NAMES.index(a) + 1, NAMES.index(b) + 1] for a, b in COCO.limbs]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": NAMES, "skeleton": limbs}
    return {"images": images, "annotations": annotations, "categories": [category]}


def results(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The truth of a sound file."""
    return [
        {
            "image_id": one["image_id"],
            "category_id": 1,
            "keypoints": one["keypoints"],
            "score": 0.9 - 0.01 * i,
        }
        for i, one in enumerate(content["annotations"])
    ]


def people_of(stem: str) -> People:
    """The truth of an image, by the name of its file."""
    content = base()
    ids = {Path(one["file_name"]).stem: one["id"] for one in content["images"]}
    own = [one["keypoints"] for one in content["annotations"] if one["image_id"] == ids.get(stem)]
    keypoints = np.array(own, np.float32).reshape(-1, 17, 3)
    keypoints[..., 2] = 1
    return People(keypoints, np.linspace(0.9, 0.8, len(own), dtype=np.float32))


def draw_image(i: int) -> np.ndarray:
    """(128, 160, 3) BGR."""
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    content = base()
    for one in content["annotations"][2 * i : 2 * i + 2]:
        points = np.reshape(one["keypoints"], (17, 3))[:, :2].round().astype(int)
        for a, b in content["categories"][0]["skeleton"]:
            cv2.line(image, points[a - 1].tolist(), points[b - 1].tolist(), (80, 40 * i, 20), 3)
    return image


def perfect(models: Any, images: Sequence[SetImage], *_: Any, **options: Any) -> Outcome:
    """Instead of a network: reads the images and knows the truth."""
    outcome = Outcome()
    for place, one in enumerate(images):
        try:
            read_of_size(one.path, one.size, options["orientation"])
        except UnreadableImage as error:
            outcome.unreadable[place] = str(error)
            logging.getLogger("pose").warning("picture skipped: %s", error)
            continue
        outcome.people[place] = people_of(one.path.stem)
    return outcome


@dataclass
class UserFiles:
    """The folder, and the commands with its files."""

    folder: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    log: pytest.LogCaptureFixture

    def write(self, change: Change | None = None, name: str = "my.json") -> str:
        """The base set with one change, which may return another content."""
        content = base()
        changed = change(content) if change is not None else None
        text = json.dumps(content if changed is None else changed)
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def run(self, main: Callable[[], Any], *arguments: str) -> tuple[int, str]:
        """Exit code, and all that was said."""
        self.patch.setattr(sys, "argv", ["command", *arguments])
        self.capture.readouterr()
        self.log.clear()
        with self.log.at_level("INFO", "pose"):
            code = user_facing(main)()
        out, err = self.capture.readouterr()
        assert "Traceback" not in err, err
        return code, "\n".join([out, err, *(record.getMessage() for record in self.log.records)])

    def where(self, file: str, which: Sequence[str] = ("train",), images: str = "pictures") -> list[str]:
        own = [f"data.{one}.{key}" for one in which for key in ("annotations", "images")]
        values = [file, images] * len(which)
        return [
            f"data.root={self.folder}",
            *(f"{key}={value}" for key, value in zip(own, values, strict=True)),
        ]

    def doctor(self, file: str, *more: str, images: str = "pictures") -> tuple[int, str]:
        given = ["--annotations", str(self.folder / file), "--images", str(self.folder / images)]
        return self.run(doctor.main, *given, *more)

    def browse(self, file: str, *more: str, images: str = "pictures") -> tuple[int, str]:
        config = ["--config", "configs/coco/ae_small.yaml", *SMALL, *self.where(file, images=images)]
        return self.run(browse.main, *config, "-n", "4", "-o", str(self.folder / "out"), *more)

    def train(self, name: str, file: str, *more: str) -> tuple[int, str]:
        config = ["--config", "configs/coco/ae_small.yaml", *SMALL]
        config += (
            [] if any(one.startswith("data.root=") for one in more) else self.where(file, ("train", "val"))
        )
        short = ["train.batch_size=2", "train.epochs=1", "train.steps_per_epoch=2", "train.validate_every=1"]
        return self.run(train.main, "-e", name, *config, *short, "--device", "cpu", *more)

    def test(self, run: str, file: str, *more: str, images: str = "pictures") -> tuple[int, str]:
        return self.run(test.main, "-c", run, "--device", "cpu", *self.where(file, ["val"], images), *more)

    def score(self, file: str, *more: str, results: str = "base_results.json") -> tuple[int, str]:
        given = ["--annotations", str(self.folder / file), "--results", str(self.folder / results)]
        return self.run(score.main, "coco", *given, *more)

    def draw(self, file: str, *more: str) -> tuple[int, str]:
        given = ["--annotations", str(self.folder / file), "--images", str(self.folder / "pictures")]
        return self.run(draw.main, *given, "-o", str(self.folder / "drawn"), *more)

    def knows_the_truth(self) -> None:
        """Networks are replaced by one that finds everybody."""
        self.patch.setattr(predict_set, "predict_images", perfect)


def write_folder(folder: Path) -> Path:
    """base.json, base_results.json and pictures/."""
    (folder / "pictures").mkdir(parents=True)
    for i in range(4):
        cv2.imwrite(str(folder / "pictures" / f"p{i:02}.png"), draw_image(i))
    content = base()
    (folder / "base.json").write_text(json.dumps(content))
    (folder / "base_results.json").write_text(json.dumps(results(content)))
    return folder


def each(key: str, name: str, change: Callable[[Any], Any], every: int = 1) -> Change:
    """Changes one value of every image or annotation (key "images", "annotations")."""

    def apply(content: dict[str, Any]) -> None:
        for one in content[key][::every]:
            one[name] = change(one[name])

    return apply


def everywhere(change: Callable[[Any], Any]) -> Change:
    """Changes every number of a file."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(one) for key, one in value.items()}
        if isinstance(value, list):
            return [walk(one) for one in value]
        return change(value) if isinstance(value, int | float) else copy.copy(value)

    return walk
