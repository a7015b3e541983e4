"""A trained run in a few lines of Python: pictures in, people out.

import pose

predictor = pose.Predictor.from_run("quickstart")
people = predictor("photo.jpg")                  # or an array (H, W, 3) uint8 RGB, or a PIL picture
print(people.keypoints.shape, people.scores)     # (N, K, 3): x, y, score in pixels of the picture
predictor.draw("photo.jpg", people)              # an array to show or to save
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from pose.data.images import as_rgb, read_image
from pose.draw.people import Style, draw_people
from pose.engine.distributed import pick_device
from pose.errors import UserError
from pose.evaluate.predict import BatchPredictor, Mode
from pose.experiment import RUNS, Experiment
from pose.exported import is_onnx, load_exported
from pose.sessions import load_model
from pose.skeleton import Skeleton
from pose.structures import People

Picture: TypeAlias = Any  # a path, an array (H, W) or (H, W, 1, 3 or 4), or a PIL picture
CHANGEABLE = ("test.", "head.decoder.")


def run_settings(settings: Sequence[str]) -> list[str]:
    """The settings that may be given for a trained run; `UserError` for another."""
    for text in settings:
        if not text.startswith(CHANGEABLE):
            raise UserError(f"{text!r} cannot be changed for a trained run; test.* and head.decoder.* can")
    return list(settings)


class Predictor:
    """A run's network with its test settings.  Not for several threads at once."""

    def __init__(self, batches: BatchPredictor, skeleton: Skeleton, experiment: Experiment) -> None:
        self.batches = batches
        self.skeleton = skeleton
        self.experiment = experiment

    @classmethod
    def from_run(
        cls,
        name: str,
        *,
        mode: Mode = "single",
        weights: str | None = None,
        device: str = "auto",
        settings: Sequence[str] = (),
        runs: Path | str = RUNS,
    ) -> Predictor:
        """The run `exp/NAME/`.

        mode: "single" or "multi" scales; weights: "best", "last" or a file (None: best, else last);
        device: "auto", "cpu", "cuda", "cuda:N"; settings: `test.*` and `head.decoder.*` as "key.sub=value";
        runs: the folder of the runs.  Raises `UserError` for a run that is not there or has no weights."""
        experiment = Experiment.open(name, Path(runs), run_settings(settings))
        model, _ = load_model(experiment, weights, pick_device(device, 0))
        config = experiment.config
        return cls(BatchPredictor(model, config.test, mode), config.skeleton, experiment)

    @classmethod
    def from_exported(
        cls,
        file: Path | str,
        *,
        mode: Mode = "single",
        name: str | None = None,
        device: str = "auto",
        settings: Sequence[str] = (),
        runs: Path | str = RUNS,
    ) -> Predictor:
        """The network of a file that pose.tools.export wrote.

        name: the run that the file must be of (None: what the file says counts); device: of a TorchScript
        file, ONNX runs on the CPU; the others as for `from_run`.  Raises `UserError` for a file that cannot
        be used, or is of another run."""
        settings = run_settings(settings)
        run = None if name is None else Experiment.open(name, Path(runs), settings)
        place = torch.device("cpu") if device == "auto" and is_onnx(file) else pick_device(device, 0)
        model, config = load_exported(file, run, settings, place)
        experiment = run or Experiment(Path(file).parent, config)
        return cls(BatchPredictor(model, config.test, mode), config.skeleton, experiment)

    def __call__(self, image: Picture) -> People:
        """The people on one picture, best first by score, in its pixels.

        image: a path (the picture is turned upright), an array (H, W, 3) RGB, grey (H, W) or with alpha
        (H, W, 4), of 8 or 16 bit, or a PIL picture."""
        return self.batches(self.load(image))

    def draw(self, image: Picture, people: People, style: Style | None = None) -> np.ndarray:
        """The picture (H, W, 3) uint8 RGB with the people's skeletons."""
        return draw_people(self.load(image), people, self.skeleton, style or Style())

    def load(self, image: Picture) -> np.ndarray:
        """Any kind of picture -> (H, W, 3) uint8 RGB.  Raises `UserError`."""
        if isinstance(image, str | os.PathLike):
            return read_image(Path(image))
        return as_rgb(image)
