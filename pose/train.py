"""Train a model, or continue a run.

    python -m pose.train -e NAME [--config FILE] [key.sub=value ...]    a new run in exp/NAME/
    python -m pose.train -c NAME                                        continue exp/NAME/ where it stopped

Several GPUs of one machine: as above (DataParallel), or faster, and on many machines,
    torchrun --standalone --nproc-per-node 8 -m pose.train -e NAME ...

A run folder holds config.yaml (the resolved config, the only one that -c and pose.test read), last.pt,
best.pt, log.jsonl, curves.png, tensorboard/ and environment.jsonl.  Ctrl-C saves first; -c then goes on to
the same weights. `python -m pose.tools.show_config FILE` explains every key.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from pose import checkpoint
from pose.engine.distributed import Processes, processes, wrap
from pose.engine.trainer import Interrupted, Trainer, seed_everything
from pose.errors import UserError, user_facing
from pose.experiment import DEFAULT_CONFIG, Experiment, already_exists, load_config, model_weights, run_folder
from pose.model import PoseModel, TrainStep, build_model, resolve_precision
from pose.sessions import TrainingData, prepare_data, validator


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-e", "--experiment", metavar="NAME", help="start a new run in exp/NAME/")
    which.add_argument(
        "-c", "--continue", dest="resume", metavar="NAME", help="continue the run in exp/NAME/"
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"YAML of a new run (default configs/{DEFAULT_CONFIG})"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="train on N pictures only (data.subset=N)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help="settings above the file's")
    options = parser.parse_args(arguments)
    if options.limit is not None:
        options.settings.append(f"data.subset={options.limit}")
    if options.resume and (options.config or options.settings):
        raise UserError(
            f"-c {options.resume} continues with exp/{options.resume}/config.yaml, without other settings; "
            "edit that file, or start a new run with -e"
        )
    return options


def open_run(options: argparse.Namespace, group: Processes) -> tuple[Experiment, TrainingData]:
    """The run folder (made only when config and data are known to be good) and the data."""
    if options.resume:
        experiment = Experiment.open(options.resume)
        data = prepare_data(experiment.config, group)
        group.first(experiment.note_environment)
        return experiment, data
    folder = run_folder(options.experiment)
    config = load_config(options.config or DEFAULT_CONFIG, options.settings)
    if group.main and folder.exists():
        raise UserError(already_exists(options.experiment, folder))
    with torch.device("meta"):  # a config that makes no model is found before there is a folder
        build_model(config.backbone, config.head, config.skeleton, config.input)
    data = prepare_data(config, group)
    return group.first(lambda: Experiment.create(options.experiment, config)), data


def load_weights(model: PoseModel, file: str) -> None:
    report = checkpoint.load_matching(model, model_weights(checkpoint.load(Path(file))))
    print(f"{file}: {report}", file=sys.stderr)


def train(options: argparse.Namespace, group: Processes) -> int:
    experiment, data = open_run(options, group)
    config, settings = experiment.config, experiment.config.train
    gpus = (
        1
        if group.distributed or group.device.type != "cuda" or ":" in options.device
        else torch.cuda.device_count()
    )
    processes_or_gpus = max(gpus, group.world_size)
    if (
        settings.batch_size % group.world_size
        or settings.batch_size < processes_or_gpus * settings.accumulate
    ):
        raise UserError(
            f"train.batch_size={settings.batch_size} cannot be shared by {processes_or_gpus} GPUs (processes)"
            f" in {settings.accumulate} parts; choose a multiple of {processes_or_gpus * settings.accumulate}"
        )
    seed_everything(settings.seed)
    model = build_model(config.backbone, config.head, config.skeleton, config.input).to(group.device)
    last = experiment.path("last.pt")
    if settings.weights and not last.exists():
        load_weights(model, settings.weights)
    channels_last = (
        settings.channels_last if settings.channels_last is not None else group.device.type == "cuda"
    )
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if settings.compile:
        model.backbone.compile()
    precision = resolve_precision(settings.precision, group.device)
    augment = config.data.augment
    step = TrainStep(model, precision=precision, color=augment.needs_color, hsv=augment.needs_hsv)
    trainer = Trainer(
        step=step,
        wrapped=wrap(step, group, gpus=gpus, sync_bn=settings.sync_bn),
        settings=settings,
        group=group,
        loader=lambda start: data.loader(start, settings.batch_size, group),
        steps_per_epoch=settings.steps_per_epoch or max(1, data.pass_length // settings.batch_size),
        folder=experiment.folder,
        validate=validator(config, data, group) if settings.validate_every else None,
    )
    if last.exists():
        trainer.load_state(checkpoint.load(last, group.device), last)
        if trainer.finished and not trainer.validation_due:
            print(f"{experiment.folder}: already finished, {trainer.progress.step} steps", file=sys.stderr)
            return 0
    if group.main:
        announce(experiment, trainer, data, group, gpus, precision)
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


def announce(
    experiment: Experiment, trainer: Trainer, data: TrainingData, group: Processes, gpus: int, precision: str
) -> None:
    parameters = sum(p.numel() for p in trainer.model.parameters())
    where = (
        f"{group.world_size} processes (DDP)"
        if group.distributed
        else f"{gpus} GPUs"
        if gpus > 1
        else group.device
    )
    start = f"continuing at step {trainer.progress.step}" if trainer.progress.step else "new run"
    config = experiment.config
    print(
        f"{experiment.folder}: {start} of {trainer.total_steps}; "
        f"{config.backbone.name} + {config.head.name}, "
        f"{parameters / 1e6:.2f} M parameters; {data.pass_length} pictures per pass; batch "
        f"{config.train.batch_size} on {where}, {precision}",
        file=sys.stderr,
    )


def conclude(experiment: Experiment, trainer: Trainer) -> None:
    done = trainer.progress
    best = (
        f"best AP {done.best_ap:.3f} at step {done.best_step} (best.pt)"
        if done.best_step
        else "never validated"
    )
    skipped = f", {done.nonfinite} steps skipped for a non-finite loss" if done.nonfinite else ""
    print(
        f"{experiment.folder}: finished after {done.step} steps{skipped}; {best}; curves in "
        f"{experiment.path('curves.png')}.\n"
        f"Test with: python -m pose.test -c {experiment.folder.name} -m single",
        file=sys.stderr,
    )


def main() -> int:
    options = parse()
    with processes(options.device) as group:
        return train(options, group)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
