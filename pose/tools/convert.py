"""Published weights -> a run folder that `pose.test -c NAME` and `pose.train -c NAME` read.

    python -m pose.tools.convert pose-ae FILE -e NAME     pose-ae-train's checkpoint (princeton-vl)
    python -m pose.tools.convert rtpose FILE -e NAME      part affinity fields: CMU's, or trained by rtpose
    python -m pose.tools.convert ae-aic FILE -e NAME      JakeRenn's entry to AI Challenger
    python -m pose.tools.convert higherhrnet FILE -e NAME HigherHRNet's own checkpoints
    python -m pose.tools.convert mmpose FILE -e NAME      associative embedding of MMPose 0.x and 1.x
    python -m pose.tools.convert deepercut FILE -e NAME --statistics pairwise_stats.mat --models DIR
                                                          pose-tensorflow's checkpoint (needs TensorFlow)

The run's config carries the conventions of the system that the weights come from: pixel geometry, thresholds,
scales.  Weights keep the licence of their publisher.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pose import checkpoint
from pose.errors import UserError, user_facing
from pose.experiment import Experiment, ExperimentConfig, already_exists, load_config, run_folder
from pose.model import PoseModel
from pose.options import add_settings, user_path
from pose.sessions import head_buffers
from pose.tools.published import ae_aic, deepercut, mmpose, pose_ae, rtpose
from pose.tools.published.plan import Source

SOURCES = {
    "pose-ae": pose_ae.SOURCE,
    "rtpose": rtpose.SOURCE,
    "ae-aic": ae_aic.SOURCE,
    "higherhrnet": mmpose.HIGHERHRNET,
    "mmpose": mmpose.MMPOSE,
    "deepercut": deepercut.SOURCE,
}


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
    report = checkpoint.load_matching(model, weights, plan.rename)
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


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_subparsers(dest="source", required=True)
    for name, source in SOURCES.items():
        one = sources.add_parser(name, help=source.help)
        one.add_argument("file", type=user_path, metavar="FILE", help="the published checkpoint")
        one.add_argument("-e", "--experiment", required=True, metavar="NAME", help="the run folder exp/NAME/")
        for option, settings in source.options.items():
            one.add_argument(f"--{option.replace('_', '-')}", **settings)
        add_settings(one, "changes to the system's own settings")
    options, rest = parser.parse_known_args(arguments)  # settings may stand behind the options too
    wrong = [text for text in rest if text.startswith("-") or "=" not in text]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    options.settings += rest
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    folder = run_folder(options.experiment)
    if folder.exists():
        raise UserError(already_exists(options.experiment, folder))
    source = SOURCES[options.source]
    chosen = {option: getattr(options, option) for option in source.options}
    # what pose.train -c starts from
    settings = [f"train.weights={folder / 'published.pt'}", *options.settings]
    config, model, report = convert(source, options.file, settings, **chosen)
    experiment = Experiment.create(options.experiment, config)
    parameters = sum(p.numel() for p in model.parameters())
    state = {"format": 1, "model": model.state_dict(), "meta": {"source": options.source}}
    try:
        checkpoint.save(state, folder / "published.pt")
        shutil.copyfile(folder / "published.pt", folder / "best.pt")  # which training may replace
    except (UserError, OSError):  # a run without weights would be in the way of the next attempt
        shutil.rmtree(folder, ignore_errors=True)
        raise
    print(f"{options.file}: {report}; {parameters / 1e6:.2f} M parameters", file=sys.stderr)
    print(
        f"{experiment.folder} is ready: python -m pose.test -c {options.experiment} -m single --images DIR "
        f"(without --images where the data lie in {config.data.root}, or with data.root=...)",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(user_facing(main)())
