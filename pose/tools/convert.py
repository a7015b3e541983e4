"""Published weights -> a run folder that `pose.test -c NAME` and `pose.train -c NAME` read.

    python -m pose.tools.convert pose-ae FILE -e NAME     pose-ae-train's checkpoint (princeton-vl)
    python -m pose.tools.convert rtpose FILE -e NAME      part affinity fields: CMU's, or trained by rtpose
    python -m pose.tools.convert ae-aic FILE -e NAME      JakeRenn's entry to AI Challenger
    python -m pose.tools.convert higherhrnet FILE -e NAME   HigherHRNet's own checkpoints
    python -m pose.tools.convert mmpose FILE -e NAME      associative embedding of MMPose 0.x and 1.x
    python -m pose.tools.convert deepercut FILE -e NAME --statistics pairwise_stats.mat --models DIR
                                                          pose-tensorflow's checkpoint (needs TensorFlow)

The run's config carries the conventions of the system that the weights come from: pixel geometry, thresholds,
scales.  Weights keep the licence of their publisher.
"""

from __future__ import annotations

import argparse
import sys

from pose.errors import UserError, user_facing
from pose.options import add_settings, user_path
from pose.published.sources import SOURCES
from pose.run_folders import already_exists, run_folder


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
    import torch

    from pose.published.conversion import convert, write_run

    folder = run_folder(options.experiment)
    if folder.exists():
        raise UserError(already_exists(options.experiment, folder))
    source = SOURCES[options.source]
    chosen = {option: getattr(options, option) for option in source.options}
    # what pose.train -c starts from
    settings = [f"train.weights={folder / 'published.pt'}", *options.settings]
    with torch.no_grad():
        converted = convert(source, options.file, settings, **chosen)
        experiment = write_run(options.experiment, converted, options.source)
    parameters = sum(p.numel() for p in converted.model.parameters())
    print(f"{options.file}: {converted.told}; {parameters / 1e6:.2f} M parameters", file=sys.stderr)
    print(
        f"{experiment.folder} is ready: python -m pose.test -c {options.experiment} -m single --images DIR "
        f"(without --images where the data lie in {experiment.config.data.root}, or with data.root=...)",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(user_facing(main)())
