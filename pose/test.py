"""Test a run: people on every image of its validation set, and the numbers of every metric that fits.

    python -m pose.test -c NAME -m single            one scale
    python -m pose.test -c NAME -m multi             several scales
    python -m pose.test -c NAME --report             and a page about its errors
    python -m pose.test -c NAME --images DIR         people of a folder's pictures, without a score
    python -m pose.test -c NAME --tune               AI Challenger: which people to leave out of its list
    python -m pose.test -c NAME --submission FILE    AI Challenger's list, of the set or of --images DIR

Reads exp/NAME/config.yaml; `test.*`, `head.decoder.*` and where the data lie (`data.root`, `data.val.*`,
`data.year` and a few more) may be set on the command line.  Writes results-MODE.json (COCO results) and
metrics-MODE.json to the run folder; --report adds report-MODE.html, which opens offline: curves, groups of
people, errors by kind and what AP they cost, the worst pictures.  Results have the keypoints in the order of
the annotation file, for a folder of pictures in that of data.skeleton; derived ones such as a neck are left
out.  Which metrics fit depends on the annotations (COCO, CrowdPose, COCO-WholeBody, AI Challenger; PCK where
each image shows one person); `test.metric=NAME` puts another one first.  AI Challenger's official score is
that of the list which --submission writes, without people below test.person_threshold.  Images without
annotations give results only.
All visible GPUs work; under torchrun, all processes.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pose.archives import archive_at, files_below, is_file, is_folder
from pose.data.images import SetImage
from pose.engine.launch import add_parallel, choose_gpus, launch, process_count
from pose.errors import UserError, user_facing
from pose.images import tell_unread
from pose.options import (
    TEST_SETTINGS,
    add_device,
    add_mode,
    add_run,
    add_runtime,
    add_setting_options,
    add_settings,
    add_weights,
    device_for,
    run_settings,
    user_path,
)
from pose.registry import METRICS

if TYPE_CHECKING:
    import torch

    from pose.engine.distributed import Processes
    from pose.predict.images import Outcome

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run(parser)
    add_mode(parser)
    add_weights(parser)
    parser.add_argument(
        "--images",
        type=user_path,
        metavar="DIR",
        help="predict the images of a folder or an archive instead of the set",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="test a fixed random subset of N pictures")
    parser.add_argument(
        "--save-pictures", type=int, default=0, metavar="N", help="draw the people of N pictures"
    )
    parser.add_argument(
        "--report", action="store_true", help="write a page about errors, their cost and the worst pictures"
    )
    parser.add_argument("--tag", help="goes into the names of the files, to keep what other settings gave")
    add_metric_options(parser)
    add_device(parser)
    add_runtime(parser)
    add_parallel(parser)
    add_settings(parser, f"{TEST_SETTINGS}, data.root, data.val.*")
    options = parser.parse_intermixed_args(arguments)
    run_settings(options.settings, data=True)
    options.device = device_for(options.runtime, options.device)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: expected 1 picture or more")
    if options.tag is not None and not re.fullmatch(r"[\w.+-]+", options.tag):
        raise UserError(f"--tag {options.tag!r}: use letters, digits, '.', '_', '+' and '-'")
    if options.report and options.images:
        raise UserError("--report needs annotated images, and --images has none; leave one of the two out")
    if options.save_pictures < 0:
        raise UserError(f"--save-pictures {options.save_pictures}: expected 0 or more")
    return options


def add_metric_options(parser: argparse.ArgumentParser) -> None:
    """Those of all metrics; metrics of one kind share theirs."""
    added: set[str] = set()
    for name in METRICS.names():
        metric, settings = METRICS[name]
        add_setting_options(parser, settings, [one for one in metric.test_options if one not in added])
        added.update(metric.test_options)


def folder_images(folder: Path) -> list[SetImage]:
    """The pictures of a folder or an archive, numbered from 1 in the order of their names."""
    if not is_folder(folder):
        raise UserError(f"{folder} is a file; give its folder" if folder.exists() else f"no folder {folder}")
    everything = files_below(folder) if archive_at(folder) else sorted(folder.rglob("*"))
    tell_unread(everything, folder)
    files = [file for file in everything if is_image(file, folder)]
    if not files:
        raise UserError(f"{folder} holds no pictures ({', '.join(sorted(PICTURES))})")
    return [SetImage(number, file) for number, file in enumerate(files, start=1)]


def is_image(file: Path, folder: Path) -> bool:
    """By its suffix; hidden files, and those in hidden folders, are no images: `._x.jpg`, `__MACOSX`."""
    parts = file.relative_to(folder).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return file.suffix.lower() in PICTURES and not hidden and is_file(file)


def devices(options: argparse.Namespace, group: Processes) -> list[torch.device]:
    import torch

    if group.distributed or group.device.type != "cuda" or ":" in options.device:
        return [group.device]
    return [torch.device("cuda", i) for i in range(torch.cuda.device_count())]


def test(options: argparse.Namespace, group: Processes) -> int:
    from pose.experiment import Experiment
    from pose.inference import for_inference
    from pose.predict.images import replicas
    from pose.predict.predict_set import predict_set
    from pose.published.zoo_runs import run_of
    from pose.runtimes import known_runtime, settings_for, with_runtime
    from pose.sessions import draw_synthetic, load_model, test_workers, validation_set
    from pose.tested import Report

    experiment = Experiment.open(run_of(options.name), overrides=options.settings)
    config = experiment.config
    runtime = known_runtime(options.runtime)
    model, weights = load_model(experiment, options.weights, group.device)
    if options.images:
        images = folder_images(options.images)[: options.limit]
    else:
        draw_synthetic(config, group)
        images = validation_set(config, group, options.limit)
    model = for_inference(model)
    # one choice for all processes
    settings, told = group.first(lambda: settings_for(runtime, model, config.test, experiment.folder))
    report = Report(options, experiment, weights, images, settings.precision, model.size_multiple)
    group.first(report.check)
    model = group.main_first(lambda: with_runtime(runtime, model, config, experiment.folder))
    if group.main and told:
        print(told, file=sys.stderr)
    start = time.perf_counter()
    people, outcome = predict_set(
        replicas(model, devices(options, group)),
        images,
        settings,
        gather=group.gather,
        share=(group.rank, group.world_size),
        mode=options.mode,
        workers=test_workers(config),
        strict=config.data.strict,
        timeout=config.data.timeout,
        orientation=report.orientation,
    )
    seconds = time.perf_counter() - start
    if group.main:
        print(speed(outcome, seconds, len(images)), file=sys.stderr)
        report.write(people, outcome)
    return 0


def speed(outcome: Outcome, seconds: float, count: int) -> str:
    timing = outcome.timing
    done = max(1, timing.images)
    return (
        f"{count} pictures in {seconds:.1f} s; per picture {1e3 * timing.wait / done:.1f} ms waiting for "
        f"data, {1e3 * timing.forward / done:.1f} forward, {1e3 * timing.decode / done:.1f} decode beside it"
    )


def main() -> int:
    options = parse()
    choose_gpus(options)
    count = process_count(options, lambda: "auto")
    if count > 1:
        return launch("pose.test", sys.argv[1:], count)
    from pose.engine.distributed import processes

    with processes(options.device) as group:
        return test(options, group)


if __name__ == "__main__":
    sys.exit(user_facing(main)())
