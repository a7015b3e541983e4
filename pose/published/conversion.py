"""A published checkpoint -> a run, by the plan of its system."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pose import checkpoint
from pose.errors import UserError
from pose.experiment import Experiment, ExperimentConfig, load_config
from pose.model import PoseModel
from pose.published.plan import Source
from pose.run_folders import RUNS
from pose.sessions import head_buffers


class Converted(NamedTuple):
    """What becomes a run."""

    config: ExperimentConfig
    model: PoseModel
    told: str  # what was loaded


def convert(source: Source, path: Path, overrides: Sequence[str] = (), **options: Any) -> Converted:
    """The config and model of a published checkpoint; `options` are the source's own.  Raises `UserError`."""
    weights = source.read(path)
    plan = source.plan(weights, **options)
    config = load_config(plan.config, [*plan.settings, *overrides])
    model = config.build_model()
    check_outputs(plan.outputs, model.head.channels, config, path)
    try:
        report = checkpoint.load_matching(model, weights, plan.rename)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # how many batches made the statistics is known to torch only, and of no use here
    known = head_buffers(model)
    missing = [n for n in report.missing if not n.endswith(".num_batches_tracked") and n not in known]
    if missing or report.mismatched:
        raise UserError(f"{path} does not fill the network: {report}")
    if plan.prepare:
        plan.prepare(model.head)
    told = str(report.without(known))
    return Converted(config, model, "; ".join(text for text in (plan.told, told) if text))


def check_outputs(
    outputs: Mapping[str, int], channels: Mapping[str, int], config: ExperimentConfig, path: Path
) -> None:
    """Raises `UserError` where the file's channels of a field are not those of the head."""
    for name, count in outputs.items():
        wanted = channels.get(name, 0)
        if count != wanted:
            raise UserError(
                f"{path} has {count} channels of the field {name!r}, and the head {config.head.name!r} with "
                f"the skeleton {config.skeleton.name!r} has {wanted}: it was trained for other keypoints or "
                "limbs, or without the background (data.skeleton=FILE or head.background=false would say so)"
            )


def write_run(name: str, converted: Converted, source: str, runs: Path = RUNS) -> Experiment:
    """The run folder of a converted checkpoint, with its weights as published.pt and best.pt.  Raises
    `UserError` where it is there already."""
    experiment = Experiment.create(name, converted.config, runs)
    folder = experiment.folder
    state = {"format": 1, "model": converted.model.state_dict(), "meta": {"source": source}}
    try:
        checkpoint.save(state, folder / "published.pt")
        shutil.copyfile(folder / "published.pt", folder / "best.pt")  # which training may replace
    except (UserError, OSError):  # a run without weights would be in the way of the next attempt
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return experiment
