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
from typing import Any, TypeAlias, get_args

import numpy as np
import torch

from pose import zoo
from pose.draw.people import Style, draw_people
from pose.engine.distributed import pick_device
from pose.errors import UserError
from pose.experiment import Experiment
from pose.exported import is_onnx, load_exported
from pose.images import as_rgb, read_image
from pose.inference import for_inference
from pose.options import device_for, run_settings
from pose.predict.batches import BatchPredictor
from pose.predict.settings import Mode
from pose.published.zoo_runs import run_of
from pose.run_folders import RUNS
from pose.runtimes import Runtime, known_runtime, settings_for, with_runtime
from pose.sessions import load_model
from pose.skeleton import Skeleton
from pose.structures import People

Picture: TypeAlias = Any  # a path, an array (H, W) or (H, W, 1, 3 or 4), or a PIL picture


def known_mode(mode: Mode) -> Mode:
    """Raises `UserError` for another word: it would mean "multi" without saying so."""
    if mode not in get_args(Mode):
        raise UserError(f"mode {mode!r}: expected single or multi")
    return mode


class Predictor:
    """A run's network with its test settings.  Not for several threads at once.

    told: a sentence about what was chosen for this machine, "" for nothing."""

    def __init__(
        self, batches: BatchPredictor, skeleton: Skeleton, experiment: Experiment, told: str = ""
    ) -> None:
        self.batches = batches
        self.skeleton = skeleton
        self.experiment = experiment
        self.told = told

    @classmethod
    def from_run(
        cls,
        name: str,
        *,
        mode: Mode = "single",
        weights: Path | str | None = None,
        device: str = "auto",
        settings: Sequence[str] = (),
        runs: Path | str = RUNS,
        runtime: Runtime = "torch",
    ) -> Predictor:
        """The run `exp/NAME/`, or for `zoo:NAME` the published network, as the run `exp/zoo-NAME/`.

        mode: "single" or "multi" scales; weights: "best", "last" or a file (None: best, else last);
        device: "auto", "cpu", "cuda", "cuda:N"; settings: `test.*` and `head.decoder.*` as "key.sub=value";
        runs: the folder of the runs; runtime: what runs the network, see `pose.runtimes`.  Raises `UserError`
        for a run that is not there or has no weights."""
        experiment = Experiment.open(run_of(name, Path(runs)), Path(runs), run_settings(settings))
        weights = None if weights is None else str(weights)
        runtime = known_runtime(runtime)
        model, _ = load_model(experiment, weights, pick_device(device_for(runtime, device), 0))
        config = experiment.config
        model = for_inference(model)
        test, told = settings_for(runtime, model, config.test, experiment.folder)
        model = with_runtime(runtime, model, config, experiment.folder)
        return cls(BatchPredictor(model, test, known_mode(mode)), config.skeleton, experiment, told)

    @classmethod
    def from_zoo(
        cls,
        name: str,
        *,
        mode: Mode = "single",
        device: str = "auto",
        settings: Sequence[str] = (),
        cache: Path | str | None = None,
        runtime: Runtime = "torch",
    ) -> Predictor:
        """A published network by its name in the zoo, fetched and converted on first use.

        name: such as "higherhrnet_w32" (`python -m pose.tools.zoo list`); cache: the folder of the downloads
        (None: the user's); the others as for `from_run`.  Raises `UserError`."""
        runs = (zoo.cache_folder() if cache is None else Path(cache)) / "runs"
        own = run_of(f"{zoo.PREFIX}{name.removeprefix(zoo.PREFIX)}", runs)
        return cls.from_run(own, mode=mode, device=device, settings=settings, runs=runs, runtime=runtime)

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
        return cls(BatchPredictor(model, config.test, known_mode(mode)), config.skeleton, experiment)

    def __repr__(self) -> str:
        config = self.experiment.config
        network = f"{config.backbone.name} + {config.head.name}"
        where = f"{self.batches.mode} scale, {self.batches.device}"
        return f"<Predictor of {self.experiment.folder.name}: {network}, {where}>"

    def __call__(self, image: Picture) -> People:
        """Everybody found on one picture, in its pixels, also fragments with a low score, which AP wants:
        `people.above(0.2)` leaves them out.

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
