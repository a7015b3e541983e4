"""The whole config, and the run folder `exp/NAME/` that holds it with everything a run makes."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pose import checkpoint
from pose import config as cfg
from pose.config import Counts, Merged, Settings, component_settings, keys_that_count
from pose.config_files import config_folder, find_config
from pose.data.settings import DataSettings, resolve_skeleton
from pose.engine.log import environment
from pose.engine.settings import TrainSettings
from pose.errors import UserError
from pose.model import PoseModel, build_model
from pose.necks.none import NoNeckSettings
from pose.predict.settings import TestSettings
from pose.predictors.conv import ConvSettings
from pose.registry import BACKBONES, HEADS, NECKS, PREDICTORS, nearest
from pose.run_folders import RUNS, already_exists, run_folder
from pose.skeleton import Skeleton, to_dict
from pose.structures import InputSettings

if TYPE_CHECKING:
    BackboneSettings: TypeAlias = Any
    NeckSettings: TypeAlias = Any
    PredictorSettings: TypeAlias = Any
    HeadSettings: TypeAlias = Any
else:
    BackboneSettings = component_settings(BACKBONES)
    NeckSettings = component_settings(NECKS, default="none")
    PredictorSettings = component_settings(PREDICTORS, default="conv")
    HeadSettings = component_settings(HEADS)


class ExperimentConfig(Settings):
    """One experiment.  Each section goes to the part that it is named after."""

    input: InputSettings = InputSettings()
    """What the network sees."""
    data: DataSettings
    """Pictures, annotations, skeleton, augmentation."""
    backbone: BackboneSettings
    """The network: image -> features, or image -> stages of fields."""
    neck: NeckSettings = NoNeckSettings()
    """Features -> features, for a backbone that gives features."""
    predictor: PredictorSettings = ConvSettings()
    """Features -> stages of fields, for a backbone that gives features."""
    head: HeadSettings
    """The grouping method: targets, loss, decoder."""
    train: TrainSettings = TrainSettings()
    """The training recipe."""
    test: Annotated[TestSettings, Counts.AFTER_TRAINING] = TestSettings()
    """How pictures are tested."""

    @property
    def skeleton(self) -> Skeleton:
        return resolve_skeleton(self.data)

    def of_a_run(self) -> ExperimentConfig:
        """Without what only the start of a new run looks at."""
        head: Settings = self.head
        unread: dict[str, Any] = {key: None for (key,) in keys_that_count(type(head), Counts.ONLY_AT_START)}
        return self.model_copy(update={"head": head.model_copy(update=unread)})

    def build_model(self) -> PoseModel:
        """The model with random weights, those of torch's generator."""
        return build_model(
            self.backbone, self.head, self.skeleton, self.input, neck=self.neck, predictor=self.predictor
        )


def load_config(path: Path | str | None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The checked config of a YAML file, with `key.sub=value` settings above it."""
    merged = cfg.merge(
        ExperimentConfig, find_config(path) if path is not None else None, with_own_data(overrides)
    )
    _embed_skeleton(merged)
    for file, names in merged.former.items():
        renamed = [f"{old} is now {new}" for old, new in sorted(names.items())]
        more = f", and {len(renamed) - 3} more are in sections of their own" if renamed[3:] else ""
        text = "%s: %s%s; this version takes the old names too"
        logging.getLogger("pose").warning(text, file, ", ".join(renamed[:3]), more)
    return cfg.validate(ExperimentConfig, merged)


def with_own_data(overrides: Sequence[str]) -> list[str]:
    """Settings that say where data lie ask for nothing to be drawn there, unless they say that, too."""
    where = ("data.root=", "data.train=", "data.train.", "data.val=", "data.val.")
    given = [text for text in overrides if text.startswith(where)]
    if given and not any(text.startswith("data.synthetic") for text in overrides):
        return [*overrides, "data.synthetic=null"]
    return list(overrides)


def _embed_skeleton(merged: Merged) -> None:
    """`data.skeleton: coco17` -> the skeleton itself, so that a run folder needs no other file; likewise
    `{base: coco17, mirror: ...}`, whose other keys replace those of the base."""
    data = merged.data.get("data")
    given = data.get("skeleton") if isinstance(data, dict) else None
    changes: dict[str, Any] = {}
    if isinstance(given, dict) and isinstance(given.get("base"), str):
        changes = {key: value for key, value in given.items() if key != "base"}
        given = given["base"]
    if not isinstance(data, dict) or not isinstance(given, str):
        return
    origin = merged.origin_of(("data", "skeleton")) or cfg.COMMAND_LINE
    if given == "annotations":
        skeleton = _skeleton_of_annotations(data, merged, mirrored="mirror" in changes)
    else:
        skeleton = cfg.read_yaml(_skeleton_file(given, Path(origin).parent))
    if "limbs" in changes:  # orders along the old ones would not fit
        skeleton = {
            k: v
            for k, v in skeleton.items()
            if k not in ("grouping_order", "limb_order", "pairs", "no_limbs")
        }
    data["skeleton"] = None  # replaced as a whole
    merged.put({"data": {"skeleton": {**skeleton, **changes}}}, origin)


def _skeleton_of_annotations(data: dict[str, Any], merged: Merged, *, mirrored: bool) -> dict[str, Any]:
    """The skeleton that the training annotations describe in their `categories`; mirrored: the settings say
    which keypoints change places."""
    if data.get("sets"):
        raise UserError(
            "data.skeleton: `annotations` takes the keypoints of one file, but data.sets are several; name a "
            "skeleton with the keypoints of all of them"
        )
    plain = Merged(DataSettings)
    plain.origin = merged.origin
    plain.data = {k: v for k, v in data.items() if k != "skeleton"}
    skeleton = resolve_skeleton(cfg.validate(DataSettings, plain), mirrored=mirrored)
    log = logging.getLogger("pose")
    for file in sorted((config_folder() / "_skeletons").glob("*.yaml")):
        known = cfg.read_yaml(file)
        if skeleton.has_default_sigmas and tuple(known["keypoints"]) == skeleton.keypoints:
            # COCO's file lists names and limbs, but no sigmas
            if skeleton.no_limbs:
                log.warning("%s; taken: those of the skeleton %s", skeleton.no_limbs, file.stem)
            return known
    if skeleton.no_limbs:
        log.warning("%s; left out, which only a head that needs limbs (paf) misses", skeleton.no_limbs)
    if not skeleton.has_default_sigmas:
        return to_dict(skeleton)
    log.warning(
        "the annotations give no sigmas, so AP uses %g for every keypoint; a skeleton file can say others",
        skeleton.sigmas[0],
    )
    return to_dict(skeleton)


def _skeleton_file(name: str, beside: Path) -> Path:
    folder = config_folder() / "_skeletons"
    for candidate in (Path(os.path.expanduser(name)), beside / name, folder / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    raise UserError(
        f"data.skeleton: no skeleton {name!r}{nearest(name, known)} (known: {', '.join(known)}; or a YAML "
        "file, or `annotations` for the one in the annotation file)"
    )


@dataclass(frozen=True)
class Experiment:
    """A run: its folder and its resolved config."""

    folder: Path
    config: ExperimentConfig

    @staticmethod
    def create(name: str, config: ExperimentConfig, runs: Path = RUNS, *, weights: str = "") -> Experiment:
        """A new run folder with the resolved config and what the result depends on.  weights: a sentence
        about those that training starts from."""
        experiment = Experiment.plan(name, config.of_a_run(), runs)
        config = experiment.config
        folder = experiment.folder
        text = f"# The resolved config of the run {name}: -c {name} reads this file and no other.\n"
        text += "# Values that stand beside a preset count, not the preset's.\n"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise UserError(already_exists(name, folder)) from None
        except OSError as error:
            raise UserError(f"cannot make the run folder {folder}: {error.strerror}") from None
        try:
            experiment.path("config.yaml").write_text(text + cfg.to_yaml(config), encoding="utf-8")
            experiment.note_environment(**({"weights": weights} if weights else {}))
        except OSError as error:  # half a run folder would be in the way of the next attempt
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(f"cannot write to the run folder {folder}: {error.strerror}") from None
        return experiment

    @staticmethod
    def plan(name: str, config: ExperimentConfig, runs: Path = RUNS) -> Experiment:
        """What `create` will make: nothing is written yet."""
        folder = run_folder(name, runs)
        if folder.exists():
            raise UserError(already_exists(name, folder))
        return Experiment(folder, config)

    @staticmethod
    def open(name: str, runs: Path = RUNS, overrides: Sequence[str] = ()) -> Experiment:
        """An existing run; only `exp/NAME/config.yaml` is read."""
        folder = run_folder(name, runs)
        file = folder / "config.yaml"
        if not file.is_file():
            known = sorted(p.parent.name for p in runs.glob("*/config.yaml"))
            listed = f" (known: {', '.join(known)})" if known else f"; there are no runs in {runs}/ yet"
            raise UserError(f"no run {name!r}: {file} is missing{nearest(name, known)}{listed}")
        merged = cfg.merge(ExperimentConfig, file, with_own_data(overrides))
        return Experiment(folder, with_own_files(cfg.validate(ExperimentConfig, merged), folder))

    def path(self, file: str) -> Path:
        return self.folder / file

    def note_environment(self, **more: str) -> None:
        """Adds this session's versions, git state and command line to `environment.jsonl`, and `more`."""
        with open(self.path("environment.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps({**environment(), **more}) + "\n")

    def weights(self, choice: str | None = None) -> Path:
        """The file of `best`, `last` or a path; None: the best one, or the last where none was validated."""
        if choice is None:
            choice = "best" if self.path("best.pt").is_file() else "last"
        file = (
            self.path(f"{choice}.pt") if re.fullmatch(r"[\w-]+", choice) else Path(os.path.expanduser(choice))
        )
        if not file.is_file():
            there = sorted(p.name for p in self.folder.glob("*.pt"))
            listed = (
                f"there are {', '.join(there)}"
                if there
                else f"the run has saved none yet; python -m pose.train -c {self.folder.name} trains it"
            )
            raise UserError(f"no weights {file}; {listed}")
        return file

    def read_weights(self, file: Path) -> dict[str, Any]:
        """The weights in a checkpoint of this run: the moving average where the run keeps one.  Raises
        `UserError`."""
        try:
            return model_weights(checkpoint.load(file), averaged=bool(self.config.train.ema))
        except NoAverage:
            raise self.no_average(file) from None

    def no_average(self, file: Path) -> UserError:
        """That a checkpoint of this run lacks the moving average that the run keeps."""
        return UserError(
            f"{file} lacks the moving average of the weights, which train.ema={self.config.train.ema:g} asks "
            f"for; take another checkpoint of the run, or set train.ema: 0 in {self.path('config.yaml')} to "
            "go on without it"
        )


def with_own_files(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """Runs of before 0.9 had files of their own that the config names; the run may have been moved since."""
    head: Settings = config.head
    named = {key: getattr(head, key) for (key,) in keys_that_count(type(head), Counts.ONLY_AT_START)}
    own = {key: folder / Path(value).name for key, value in named.items() if value is not None}
    moved = {key: str(file) for key, file in own.items() if file.is_file()}
    return config.model_copy(update={"head": head.model_copy(update=moved)}) if moved else config


class NoAverage(UserError):
    """A training's state without the moving average that it should have."""


def model_weights(state: dict[str, Any], *, averaged: bool | None = None) -> dict[str, Any]:
    """The weights to use from a checkpoint: the moving average where it has one.

    averaged: whether the run keeps an average; None: not known, but every training's state says what became
    of it.  Raises `NoAverage`."""
    average = state.get("ema")
    if "optimizer" in state and "model" in state and not average:  # else weights that somebody took out
        lost = "ema" not in state or average is not None if averaged is None else averaged
        if lost:
            raise NoAverage("it lacks the moving average of the weights (ema); take another checkpoint")
    chosen = state.get("ema") or state.get("model") or state.get("state_dict") or state
    if not isinstance(chosen, dict):
        raise UserError("the checkpoint holds no named weights")
    return chosen
