"""Published weights -> a run folder that `pose.test -c NAME` and `pose.train -c NAME` read.

    python -m pose.tools.convert pose-ae FILE -e NAME     pose-ae-train's checkpoint (princeton-vl)

The run's config carries the conventions of the system that the weights come from: pixel geometry, thresholds,
scales.  Weights keep the licence of their publisher.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pose import checkpoint
from pose.errors import UserError, user_facing
from pose.experiment import Experiment, ExperimentConfig, already_exists, load_config, run_folder
from pose.model import PoseModel, build_model


@dataclass(frozen=True)
class Source:
    """One published system: its config, and what its names are called here."""

    config: str
    help: str
    settings: Callable[[Mapping[str, Tensor]], list[str]]  # read off the weights, above the config's
    rename: Callable[[str], str]


# --------------------------------------------------------------------------------------------- pose-ae-train


def rename_pose_ae(name: str) -> str:
    """`model.module.features.0.0.low2.up1.conv.weight` -> `backbone.stacks.0.hourglass.low2.up1.0.weight`."""
    name = re.sub(r"^(model\.)?(module\.)?", "", name)
    rules: list[tuple[str, str]] = [
        (r"^pre\.(\d+)\.(conv|bn)", r"stem.\1.\2"),
        (r"^features\.(\d+)\.0\.", r"stacks.\1.hourglass."),
        (r"^features\.(\d+)\.1\.", r"stacks.\1.features.0."),
        (r"^features\.(\d+)\.2\.", r"stacks.\1.features.1."),
        (r"^outs\.(\d+)\.conv\.", r"stacks.\1.prediction."),
        (r"^merge_features\.(\d+)\.conv\.conv\.", r"stacks.\1.merge_features."),
        (r"^merge_preds\.(\d+)\.conv\.conv\.", r"stacks.\1.merge_prediction."),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    # a convolution, its activation and then batch norm, where there is one
    return "backbone." + re.sub(r"\.conv\.", ".0.", re.sub(r"\.bn\.", ".2.", name))


def settings_pose_ae(weights: Mapping[str, Tensor]) -> list[str]:
    """The size of the network, from the shapes of its tensors."""
    named = {rename_pose_ae(name): value for name, value in weights.items()}
    try:
        stacks = 1 + max(
            int(m[1]) for n in named if (m := re.match(r"backbone\.stacks\.(\d+)\.prediction", n))
        )
        outputs, width = named["backbone.stacks.0.prediction.weight"].shape[:2]
        wider = named["backbone.stacks.0.hourglass.low1.0.weight"].shape[0]
        depth = 1 + max(n.count("low2.") for n in named if n.endswith("up1.0.weight"))
        stem_width = named["backbone.stem.0.0.weight"].shape[0]
    except (KeyError, ValueError):
        raise UserError(
            "the checkpoint is not pose-ae-train's: it has no pre, features and outs layers"
        ) from None
    normalised = any(name.endswith("running_mean") for name in named)
    return [
        f"backbone.stacks={stacks}",
        f"backbone.width={width}",
        f"backbone.growth={wider - width}",
        f"backbone.depth={depth}",
        f"backbone.stem_width={stem_width}",
        f"backbone.unused_channels={outputs - 34}",
        f"backbone.batch_norm={'after' if normalised else 'none'}",
    ]


SOURCES = {
    "pose-ae": Source(
        "published/pose_ae.yaml",
        "associative embedding, princeton-vl/pose-ae-train",
        settings_pose_ae,
        rename_pose_ae,
    ),
}


# ------------------------------------------------------------------------------------------------ conversion


def named_tensors(state: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, wherever it keeps them."""
    inner = next(
        (state[key] for key in ("state_dict", "model") if isinstance(state.get(key), Mapping)), state
    )
    weights = {k: v for k, v in inner.items() if isinstance(v, Tensor)}  # type: ignore[attr-defined]
    if not weights:
        raise UserError(f"{path} holds no named weights")
    return weights


def convert(
    source: Source, path: Path, overrides: Sequence[str] = ()
) -> tuple[ExperimentConfig, PoseModel, str]:
    """The config and model of a published checkpoint, and a sentence about what was loaded."""
    weights = named_tensors(checkpoint.load(path), path)
    config = load_config(source.config, [*source.settings(weights), *overrides])
    model = build_model(config.backbone, config.head, config.skeleton, config.input)
    report = checkpoint.load_matching(model, weights, source.rename)
    if report.missing or report.mismatched:
        raise UserError(f"{path} does not fill the network: {report}")
    return config, model, str(report)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_subparsers(dest="source", required=True)
    for name, source in SOURCES.items():
        one = sources.add_parser(name, help=source.help)
        one.add_argument("file", type=Path, metavar="FILE", help="the published checkpoint")
        one.add_argument("-e", "--experiment", required=True, metavar="NAME", help="the run folder exp/NAME/")
        one.add_argument(
            "settings", nargs="*", metavar="key.sub=value", help="settings above the system's own"
        )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    folder = run_folder(options.experiment)
    if folder.exists():
        raise UserError(already_exists(options.experiment, folder))
    config, model, report = convert(SOURCES[options.source], options.file, options.settings)
    experiment = Experiment.create(options.experiment, config)
    parameters = sum(p.numel() for p in model.parameters())
    checkpoint.save(
        {"format": 1, "model": model.state_dict(), "meta": {"source": options.source}}, folder / "best.pt"
    )
    print(f"{options.file}: {report}; {parameters / 1e6:.2f} M parameters", file=sys.stderr)
    print(
        f"{experiment.folder} is ready: python -m pose.test -c {options.experiment} -m single",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(user_facing(main)())
