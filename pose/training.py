"""A training from its config or its run folder to its last step: what pose.train starts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from pose import checkpoint, cpu
from pose.backbones.base import FeatureBackbone
from pose.backbones.pretrained import Pretrained
from pose.config_files import DEFAULT_CONFIG
from pose.engine.allocator import keep_freed_memory
from pose.engine.backends import set_backends
from pose.engine.distributed import Processes, wrap
from pose.engine.freeze import FrozenStart, check_frozen_start
from pose.engine.lock import RunLock
from pose.engine.log import read_log, torchrun_session
from pose.engine.optim import layer_rates
from pose.engine.settings import TrainSettings
from pose.engine.signals import Interrupted
from pose.engine.trainer import Trainer, seed_everything
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig, load_config
from pose.first_weights import load_weights
from pose.model import PoseModel, TrainStep, resolve_precision
from pose.run_folders import run_folder
from pose.sessions import TrainingData, panel_drawer, prepare_data, shown_people, validator
from pose.structures import NORMALIZATIONS


def find_run(options: argparse.Namespace) -> Experiment:
    """The run to continue, or a planned one whose config is known to be good; nothing is written yet."""
    if options.resume is not None:
        return Experiment.open(options.resume)
    run_folder(options.experiment)  # a bad name is told before a bad config
    config = load_config(options.config or DEFAULT_CONFIG, options.settings)
    with torch.device("meta"):  # a config that makes no model is found before the data are read
        model = config.build_model()
    check_shapes(config, model.size_multiple)
    layer_rates(model.backbone, config.train.optimizer)
    check_normalization(model, config)
    return Experiment.plan(options.experiment, config)


def check_shapes(config: ExperimentConfig, multiple: int) -> None:
    """Batches of whole images must go through the network."""
    augment = config.data.augment
    if augment.crop == "whole" and augment.whole_multiple % multiple:
        raise UserError(
            f"data.augment.whole_multiple={augment.whole_multiple}: pictures go through the "
            f"{config.backbone.name} backbone with sides that are multiples of {multiple}, such as "
            f"{-(-augment.whole_multiple // multiple) * multiple}"
        )


def check_normalization(model: PoseModel, config: ExperimentConfig) -> None:
    """Pretrained weights see images as they were trained with them."""
    backbone = model.backbone
    if not isinstance(backbone, FeatureBackbone) or not backbone.normalization or config.train.weights:
        return
    wanted, given = backbone.normalization, config.input
    if not getattr(config.backbone, "pretrained", None) or all(
        getattr(given, key) == value for key, value in wanted.items()
    ):
        return
    names = [f"input.normalization={name}" for name, known in NORMALIZATIONS.items() if known == wanted]
    values = [
        f"input.{key}={list(value) if isinstance(value, tuple) else value}" for key, value in wanted.items()
    ]
    raise UserError(
        f"backbone.pretrained={config.backbone.pretrained}: these weights were trained on images with mean "
        f"{list(wanted['mean'])} and std {list(wanted['std'])}, and input has mean {list(given.mean)} and "
        f"std {list(given.std)}; set {' '.join(names or ['input.normalization=custom', *values])}"
    )


def first_model(config: ExperimentConfig, *, weights: bool, tell: bool) -> tuple[PoseModel, str]:
    """The model with its first weights: the seed's or, with `weights`, those of `train.weights` or else of
    the backbone's `pretrained`; and a sentence about those."""
    seed_everything(config.train.seed)
    model = config.build_model()
    if not weights:
        return model, ""
    told = load_weights(model, config) if config.train.weights else load_pretrained(model, config)
    if tell and told:
        print(told, file=sys.stderr)
    return model, told


def load_pretrained(model: PoseModel, config: ExperimentConfig) -> str:
    """What the backbone's `pretrained` asks for; a sentence, or an empty one."""
    if not isinstance(model.backbone, Pretrained):
        return ""
    if config.backbone.pretrained:
        return model.backbone.load_pretrained()
    told, held = [], config.train.freeze_epochs
    if held:
        told.append(f"train.freeze_epochs={held} holds layers with random weights; better set it to 0")
    if getattr(config.backbone, "batch_norm", None) == "frozen":
        told.append("backbone.batch_norm=frozen goes by statistics of no weights; better set it to train")
    return "; ".join(told)


def check_batch(settings: TrainSettings, parts: int) -> None:
    """`parts`: GPUs or processes that share a batch."""
    smallest = parts * settings.accumulate
    if settings.batch_size % parts or settings.batch_size < smallest:
        raise UserError(
            f"train.batch_size={settings.batch_size} cannot be shared by {parts} GPUs (processes) in "
            f"{settings.accumulate} parts; choose a multiple of {smallest}"
        )


def make_trainer(
    experiment: Experiment, model: PoseModel, data: TrainingData, group: Processes, gpus: int, *, frozen: bool
) -> Trainer:
    """`model` is on its device; it is wrapped as the settings and `group` want it.  frozen: the run is still
    in its first epochs, where pretrained layers may be frozen."""
    config, settings = experiment.config, experiment.config.train
    last = settings.channels_last
    if last or (last is None and group.device.type == "cuda"):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if settings.compile:
        model.compile_network()
    fixed = config.data.augment.crop != "whole"
    set_backends(group.device, fixed_size=fixed, tf32=settings.tf32)
    step = TrainStep(
        model,
        precision=resolve_precision(settings.precision, group.device),
        augment=config.data.augment,
    )

    def wrapped() -> nn.Module:
        return wrap(
            step,
            group,
            gpus=gpus,
            sync_bn=settings.sync_bn,
            compression=settings.gradient_compression,
        )

    steps_per_epoch = settings.steps_per_epoch or max(1, data.pass_length // settings.batch_size)
    held = None
    if frozen and settings.freeze_epochs and isinstance(model.backbone, Pretrained):
        layers = model.backbone.pretrained_layers()
        held = FrozenStart(layers, settings.freeze_epochs * steps_per_epoch, wrapped)
    return Trainer(
        step=step,
        wrapped=wrapped(),
        settings=settings,
        group=group,
        loader=lambda start: data.loader(start, settings.batch_size, group),
        steps_per_epoch=steps_per_epoch,
        folder=experiment.folder,
        validate=validator(config, data, group) if settings.validate_every else None,
        panels=panel_drawer(config, data, group),
        frozen=held,
    )


def restore_head(experiment: Experiment, trainer: Trainer, data: TrainingData) -> None:
    """What the head of a continued run knows of its data set, where its checkpoint does not say."""
    average = trainer.updater.average
    models = [trainer.updater.model, *([average.module] if average else [])]
    for model in models:
        assert isinstance(model, PoseModel)
        model.head.restore(experiment.folder)
        if not model.head.prepared:  # a converted run that came without
            model.head.prepare(shown_people(data.training))


def read_state(experiment: Experiment, device: torch.device, model: PoseModel) -> dict[str, Any]:
    """What a run goes on with.  Raises `UserError` for weights that the model cannot compute with, and where
    the moving average is missing."""
    file = experiment.path("last.pt")
    state, own = checkpoint.load(file, device), model.state_dict()
    if experiment.config.train.ema and not state.get("ema"):
        raise experiment.no_average(file)
    for part in ("model", "ema"):
        weights = state.get(part)
        for name, value in weights.items() if isinstance(weights, dict) else ():
            if name in own and isinstance(value, torch.Tensor):
                try:
                    checkpoint.check_values(name, value, own[name].dtype)
                except UserError as error:
                    raise UserError(f"{file}: {error}") from None
    return state


def begun_by_torchrun(name: str) -> bool:
    """Whether the run exp/NAME/ was begun by the processes that torchrun has started again since."""
    file, session = run_folder(name) / "environment.jsonl", torchrun_session()
    return session is not None and any(record.get("torchrun") == session for record in read_log(file))


def train(options: argparse.Namespace, group: Processes) -> int:
    with ExitStack() as held:

        def hold(experiment: Experiment) -> None:
            held.enter_context(RunLock(experiment.folder))

        return train_held(options, group, lambda experiment: group.first(lambda: hold(experiment)))


def train_held(options: argparse.Namespace, group: Processes, hold: Callable[[Experiment], None]) -> int:
    """`hold` keeps other trainings out of a run, until the end."""
    if options.resume is None and group.first(lambda: begun_by_torchrun(options.experiment)):
        options.resume = options.experiment
    experiment = group.together(lambda: find_run(options))
    config = experiment.config
    if group.device.type == "cpu":
        keep_freed_memory()
    if options.resume is not None:
        hold(experiment)
    gpus = 1
    if config.train.parallel == "dp" and options.device in ("auto", "cuda") and not group.distributed:
        gpus = max(1, torch.cuda.device_count())
    group.together(lambda: check_batch(config.train, max(gpus, group.world_size)))
    group.together(lambda: check_frozen_start(config.backbone.name, config.train.freeze_epochs))
    data = prepare_data(config, group)
    last = experiment.path("last.pt")
    # rank 0 first: it may download pretrained weights
    model, told = group.main_first(lambda: first_model(config, weights=not last.exists(), tell=group.main))
    resumed = last.exists()
    if options.resume is None:
        group.together(lambda: model.head.prepare(shown_people(data.training)))
        config = with_precision(config, group.device)
        # only now: what fails above leaves no run folder behind
        experiment = group.first(lambda: Experiment.create(options.experiment, config, weights=told))
        hold(experiment)
    saved = group.together(lambda: read_state(experiment, group.device, model)) if resumed else {}
    frozen = not resumed or bool(saved.get("frozen"))
    trainer = make_trainer(experiment, model.to(group.device), data, group, gpus, frozen=frozen)
    if resumed:
        group.together(lambda: trainer.load_state(saved, last))
    if options.resume is not None:
        group.together(lambda: restore_head(experiment, trainer, data))
    saved = {}  # a copy of all weights
    if trainer.finished and not trainer.validator.due(trainer.progress):
        if group.main:
            print(f"{experiment.folder}: already finished, {trainer.total_steps} steps", file=sys.stderr)
        return 0
    if options.resume is not None:
        group.first(experiment.note_environment)
    if group.main:
        announce(experiment, trainer, data, group, gpus)
        if options.resume is not None and (told := emulated(experiment, group.device)):
            print(told, file=sys.stderr)
    try:
        trainer.run()
    except Interrupted as stop:
        if group.main:
            print(
                f"stopped by {stop} after step {trainer.progress.step}; everything is saved in {last}.\n"
                f"Continue with: python -m pose.train -c {experiment.folder.name}",
                file=sys.stderr,
            )
        return stop.code
    if group.main:
        conclude(experiment, trainer)
    return 0


def with_precision(config: ExperimentConfig, device: torch.device) -> ExperimentConfig:
    """The config of a new run, which keeps the precision that it begins with wherever it is continued."""
    precision = resolve_precision(config.train.precision, device)
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def emulated(experiment: Experiment, device: torch.device) -> str:
    """A sentence where the run's precision is not one that this device computes in; "" elsewhere."""
    precision = experiment.config.train.precision
    native = {
        "bf16": cpu.has_bf16 if device.type == "cpu" else partial(torch.cuda.is_bf16_supported, False),
        "fp16": lambda: device.type != "cpu",
    }
    if precision not in native or native[precision]():
        return ""
    where = "this CPU" if device.type == "cpu" else device
    return (
        f"{experiment.folder} is trained in {precision}, which {where} only emulates: its steps are slow. "
        f"To change that, set train.precision: fp32 in {experiment.path('config.yaml')}"
    )


def announce(
    experiment: Experiment, trainer: Trainer, data: TrainingData, group: Processes, gpus: int
) -> None:
    parameters = sum(p.numel() for p in trainer.updater.model.parameters())
    where = (
        f"{group.world_size} processes (DDP)"
        if group.distributed
        else f"{gpus} GPUs"
        if gpus > 1
        else group.device
    )
    start = f"continuing at step {trainer.progress.step}" if trainer.progress.step else "new run"
    config = experiment.config
    precision = resolve_precision(config.train.precision, group.device)
    print(
        f"{experiment.folder}: {start} of {trainer.total_steps}; "
        f"{config.backbone.name} + {config.head.name}, "
        f"{parameters / 1e6:.2f} M parameters; {data.summary}; batch "
        f"{config.train.batch_size} on {where}, {precision}",
        file=sys.stderr,
    )
    held = config.train.freeze_epochs
    if config.train.epochs <= held:
        told = f"train.freeze_epochs={held} of {config.train.epochs} epochs: the pretrained layers never move"
        print(told, file=sys.stderr)


def conclude(experiment: Experiment, trainer: Trainer) -> None:
    done = trainer.progress
    best = (
        f"best {done.metric} {done.best:.3f} at step {done.best_step} (best.pt)"
        if done.best_step
        else "never validated"
    )
    skipped = f", {done.nonfinite} steps skipped for a non-finite loss" if done.nonfinite else ""
    skipped += f", {done.unreadable} times a picture that could not be read" if done.unreadable else ""
    print(
        f"{experiment.folder}: finished after {done.step} steps{skipped}; {best}; curves in "
        f"{experiment.path('curves.png')}.\n"
        f"Test with: python -m pose.test -c {experiment.folder.name} -m single",
        file=sys.stderr,
    )
