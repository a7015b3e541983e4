"""What a network sees in pictures: the people it finds, its heatmaps, part affinity fields or tags.

    python -m pose.tools.visualize -c NAME PICTURE... [-m single|multi] [-o FOLDER]

Writes FOLDER/STEM-fields.png for each picture (by default to exp/NAME/): the picture with its people, and one
panel for each field.  `test.*` and `head.decoder.*` may be set as for pose.test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from pose import geometry
from pose.data.images import read_image
from pose.draw.fields import draw_fields
from pose.draw.people import Style, draw_people
from pose.engine.distributed import pick_device
from pose.errors import UserError, user_facing
from pose.evaluate.predict import BatchPredictor, map_back
from pose.experiment import Experiment
from pose.files import write_picture
from pose.sessions import load_model
from pose.skeleton import Skeleton

GAP = 6  # pixels between panels
SMALLEST = 384  # pixels of a panel's long side: smaller canvases are enlarged


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--continue", dest="name", metavar="NAME", required=True, help="run exp/NAME/")
    parser.add_argument("-m", "--mode", choices=["single", "multi"], default="single", help="scales")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: the run folder")
    parser.add_argument("--weights", default=None, help="best, last or a file (default: best, else last)")
    parser.add_argument("--min-score", type=float, default=0.0, help="people below this are not drawn")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (default cpu)")
    parser.add_argument(
        "pictures", nargs="+", metavar="PICTURE", help="picture files, and settings as key.sub=value"
    )
    return parser.parse_intermixed_args(arguments)


def panels(predictor: BatchPredictor, image: np.ndarray, skeleton: Skeleton, min_score: float) -> np.ndarray:
    """image (H, W, 3) uint8 RGB -> the panels side by side, each the network's first canvas, a whole number
    of times as large."""
    prepared = predictor.prepare(image)
    fields, stride = predictor.fields([prepared.canvases])
    canvas = prepared.canvases[0].permute(1, 2, 0).numpy()
    height, width = canvas.shape[:2]
    zoom = max(1, round(SMALLEST / max(height, width)))
    people = predictor.model.head.decode(fields, stride)[0]
    people = map_back(people, geometry.resize((1 / zoom, 1 / zoom), predictor.model.input.pixel_center))
    canvas = cv2.resize(canvas, (width * zoom, height * zoom), interpolation=cv2.INTER_CUBIC)
    painted = draw_fields(canvas, {name: maps[0] for name, maps in fields.items()}, len(skeleton))
    shown = [draw_people(canvas, people, skeleton, Style(min_score=min_score)), *painted.values()]
    gap = np.full((canvas.shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for panel in shown for part in (panel, gap)][:-1], axis=1)


def sheets(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The sheet of each picture -> the picture; `UserError` for two pictures with one sheet."""
    found: dict[Path, Path] = {}
    for file in files:
        output = folder / f"{file.stem}-fields.png"
        if found.setdefault(output, file) != file:
            raise UserError(
                f"{found[output]} and {file} would both be drawn to {output}; take them one at a time, each "
                "with a folder of its own (-o)"
            )
    return found


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    settings = [text for text in options.pictures if "=" in text and not Path(text).exists()]
    files = [Path(text) for text in options.pictures if text not in settings]
    wrong = [text for text in settings if not text.startswith(("test.", "head.decoder."))]
    if wrong:
        raise UserError(f"{wrong[0]!r} cannot be changed for a trained run; test.* and head.decoder.* can")
    if not files:
        raise UserError("no picture given")
    if folders := [file for file in files if file.is_dir()]:
        raise UserError(f"{folders[0]} is a folder; name its pictures ({folders[0]}/*)")
    experiment = Experiment.open(options.name, overrides=settings)
    model, _ = load_model(experiment, options.weights, pick_device(options.device, 0))
    predictor = BatchPredictor(model, experiment.config.test, options.mode)
    folder = options.output or experiment.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    for output, file in sheets(files, folder).items():
        sheet = panels(predictor, read_image(file), experiment.config.skeleton, options.min_score)
        write_picture(output, sheet)
        print(output)
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(user_facing(main)())
