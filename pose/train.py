"""Train a model, or continue a run.

    python -m pose.train -e NAME [--config FILE] [key.sub=value ...]    a new run in exp/NAME/
    python -m pose.train -c NAME                                        continue exp/NAME/ where it stopped

All GPUs of the machine are used, by one process each (--gpus 0,2 chooses; train.parallel says otherwise).
Several machines: torchrun --nnodes 2 --nproc-per-node 8 ... -m pose.train -e NAME ... on each of them.

A run folder holds config.yaml (the resolved config, the only one that -c and pose.test read), last.pt,
best.pt, log.jsonl, curves.png, tensorboard/ and environment.jsonl.  Ctrl-C saves first; -c then goes on to
the same weights. `python -m pose.tools.show_config FILE` explains every key.
"""

from __future__ import annotations

import argparse
import sys

from pose.config_files import DEFAULT_CONFIG
from pose.engine.launch import Parallel, add_parallel, choose_gpus, launch, process_count
from pose.errors import UserError, user_facing
from pose.options import add_device, add_settings


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
    parser.add_argument(
        "--limit", type=int, metavar="N", help="train on N pictures of each set only (data.subset=N)"
    )
    add_device(parser)
    add_parallel(parser)
    add_settings(parser)
    options = parser.parse_intermixed_args(arguments)
    if options.limit is not None:
        options.settings.append(f"data.subset={options.limit}")
    if options.resume is not None and (options.config or options.settings):
        raise UserError(
            f"-c {options.resume} continues with exp/{options.resume}/config.yaml, without other settings; "
            "edit that file, or start a new run with -e"
        )
    return options


def parallel(options: argparse.Namespace) -> Parallel:
    """`train.parallel` of the run to continue, or of the config of a new one."""
    from pose.experiment import Experiment, load_config

    if options.resume is not None:
        return Experiment.open(options.resume).config.train.parallel
    return load_config(options.config or DEFAULT_CONFIG, options.settings).train.parallel


def main() -> int:
    options = parse()
    choose_gpus(options)
    count = process_count(options, lambda: parallel(options))
    if count > 1:
        return launch("pose.train", sys.argv[1:], count)
    from pose.engine.distributed import processes
    from pose.training import train

    with processes(options.device) as group:
        return train(options, group)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
