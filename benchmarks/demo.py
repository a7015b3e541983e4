"""How near `pose.demo` comes to the bare network: a folder of images, read, drawn and written.

    python -m benchmarks.demo configs/coco/paf_vgg19.yaml [--images N] [--rounds R] [key.sub=value ...]
    python -m benchmarks.demo -c quickstart [--size PIXELS]
    python -m benchmarks.demo --smallest

The bare rate is that of the network alone, on random canvases of the images' sizes, in batches, mirrored ones
included.  Both take turns, so that whatever else runs on the machine slows both.  A config's network has
random weights and finds nobody; then the people that were drawn are taken as found, so that drawing and
writing cost what they do in use.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import Row, Times, clocks, command_line
from pose import demo
from pose.engine.distributed import pick_device
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.media.sources import find_sources
from pose.predict.batches import BatchPredictor
from pose.predictor import Predictor
from pose.structures import People
from pose.synthetic.dataset import KEYPOINTS, SyntheticConfig, synthesize


class KnownPeople(BatchPredictor):
    """Decodes, and then returns the people that were drawn."""

    truth: dict[int, People]

    def decode(self, fields: Any, stride: int, batch: Any) -> Any:
        return [(number, self.truth[number]) for number, _ in super().decode(fields, stride, batch)]


def drawn_people(root: Path, names: tuple[str, ...]) -> dict[int, People]:
    """Image id, from 1 in the order of the file names -> who was drawn there."""
    content = json.loads((root / "annotations/person_keypoints_val.json").read_text())
    order = [KEYPOINTS.index(name) if name in KEYPOINTS else 0 for name in names]
    people = {}
    for number, image in enumerate(sorted(content["images"], key=lambda image: image["file_name"]), start=1):
        listed = [a["keypoints"] for a in content["annotations"] if a["image_id"] == image["id"]]
        keypoints = np.array(listed, np.float32).reshape(-1, len(KEYPOINTS), 3)[:, order]
        keypoints[..., 2] = keypoints[..., 2] > 0
        people[number] = People(keypoints, np.ones(len(keypoints), np.float32))
    return people


def bare(batches: BatchPredictor, sizes: list[tuple[int, int]]) -> float:
    """Images per second of the network, nothing else, on canvases as images of these sizes have them."""
    shapes = sorted(
        tuple(batches.prepare(np.zeros((*size, 3), np.uint8)).canvases[0].shape) for size in sizes
    )
    passes = 2 if batches.settings.flip else 1
    groups = [list(group) for _, group in itertools.groupby(shapes)]
    limit = batches.settings.batch_size
    chunks = [group[i : i + limit] for group in groups for i in range(0, len(group), limit)]
    images = [
        torch.randint(0, 256, (passes * len(chunk), *chunk[0]), dtype=torch.uint8, device=batches.device)
        for chunk in chunks
    ]
    with torch.inference_mode():
        start = time.perf_counter()
        for batch in images:
            fields = batches.model.read(batch, batches.precision)
        _ = next(iter(fields.values())).flatten()[0].item()  # waits for a GPU
    return len(sizes) / (time.perf_counter() - start)


def whole(predictor: Predictor, images: Path, output: Path, more: list[str]) -> float:
    """Images per second of the demo."""
    options = demo.parse(["-c", "none", str(images), "-o", str(output), *more])
    with demo.one_thread_each(), ExitStack() as parts:
        start = time.perf_counter()
        running = demo.build_viewer(options, predictor, parts)
        running.run(find_sources(options.sources, output), lambda: False, 0)
        parts.close()
        return running.tally.pictures / (time.perf_counter() - start)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = command_line("benchmarks.demo", __doc__)
    parser.add_argument("-c", dest="name", metavar="NAME", help="a run instead of a config")
    parser.add_argument("--size", type=int, default=640, help="pixels of an image's sides (default 640)")
    parser.add_argument("--images", type=int, default=256, help="images in the folder (default 256)")
    # the name it had before
    parser.add_argument(
        "--pictures", type=int, dest="images", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--json", action="store_true", help="write records too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument("config", nargs="*", help="a config file, and settings")
    options = parser.parse_intermixed_args(arguments)
    if options.smallest:
        options.size, options.images, options.rounds = 128, 2, 1
        if not options.name and not options.config:
            options.config = ["synthetic/ae_small.yaml"]
    if (options.name is None) == all("=" in text for text in options.config):
        parser.error("give a config file or -c NAME")
    return options


def open_predictor(options: argparse.Namespace, root: Path) -> Predictor:
    """Of the run, or of the config with random weights and the people of `root`."""
    settings = [text for text in options.config if "=" in text]
    if options.name:
        return Predictor.from_run(options.name, device=options.device, settings=settings)
    config = load_config(next(text for text in options.config if "=" not in text), settings)
    model = config.build_model()
    batches = KnownPeople(model.to(pick_device(options.device, 0)), config.test)
    batches.truth = drawn_people(root, config.skeleton.keypoints)
    return Predictor(batches, config.skeleton, Experiment(root, config))


def turn(
    predictor: Predictor, root: Path, sizes: list[tuple[int, int]], output: Path, more: list[str]
) -> float:
    """The demo's rate as a part of the bare rate before and after it; prints both."""
    clock = [time.process_time()]
    before = bare(predictor.batches, sizes)
    clock.append(time.process_time())
    rate = whole(predictor, root / "val", output, more)
    clock.append(time.process_time())
    around = 2 / (1 / before + 1 / bare(predictor.batches, sizes))
    work = [1e3 * seconds / len(sizes) for seconds in np.diff(clock)]
    print(f"bare {around:8.2f} images/s, {work[0]:6.1f} ms of CPU each; demo {rate:8.2f} and "
          f"{work[1]:6.1f} ms: {rate / around:6.1%}")  # fmt: skip
    return rate / around


def rows(smallest: bool = False) -> list[Row]:
    """A tested image, the network alone (as "literal") against the whole demo, on all threads."""
    images, rounds = (2, 1) if smallest else (64, 3)
    options = parse(
        ["--images", str(images), "--size", "128" if smallest else "320", "synthetic/ae_small.yaml"]
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        synthesize(root, SyntheticConfig(train=1, val=images, seed=3, size=options.size), progress=False)
        predictor = open_predictor(options, root)
        sizes = [(options.size, options.size)] * images
        bare(predictor.batches, sizes)
        times: list[list[np.ndarray]] = [[], []]
        for i in range(rounds):
            for side, call in enumerate((
                partial(bare, predictor.batches, sizes),
                partial(whole, predictor, root / "val", root / f"out{i}", []),
            )):  # fmt: skip
                start = clocks()
                call()
                times[side].append((clocks() - start) / images)
    bare_times, demo_times = (Times(*np.median(side, 0).tolist()) for side in times)
    return [
        Row(f"demo, an image of {options.size} pixels; literal: its network alone", bare_times, demo_times)
    ]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    more = ["--json"] if options.json else []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drawn = SyntheticConfig(train=1, val=options.images, seed=3, size=options.size)
        synthesize(root, drawn, progress=False)
        predictor = open_predictor(options, root)
        settings = predictor.batches.settings
        print(
            f"{options.images} images of {options.size} x {options.size}, {predictor.batches.device}, "
            f"{torch.get_num_threads()} threads, batch {settings.batch_size}, flip {settings.flip}"
        )
        listed = json.loads((root / "annotations/person_keypoints_val.json").read_text())["images"]
        sizes = [(image["height"], image["width"]) for image in listed]
        bare(predictor.batches, sizes[: settings.batch_size])
        ratios = [turn(predictor, root, sizes, root / f"out{i}", more) for i in range(options.rounds)]
        print(f"median {statistics.median(ratios):.1%}")


if __name__ == "__main__":
    sys.exit(user_facing(main)())
