"""How near `pose.demo` comes to the bare network: a folder of pictures, read, drawn and written.

    python -m benchmarks.demo configs/coco/paf_vgg19.yaml [--pictures N] [--rounds R] [key.sub=value ...]
    python -m benchmarks.demo -c quickstart [--size PIXELS]

The bare rate is that of the network alone, on random canvases of the pictures' sizes, in batches, with the
mirrored ones.  Both take turns, so that whatever else runs on the machine slows both.  A config's network has
random weights and finds nobody; then the people that were drawn are taken as found, so that drawing and
writing cost what they cost."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose import demo
from pose.engine.distributed import pick_device
from pose.experiment import Experiment, load_config
from pose.media.sources import find_sources
from pose.model import build_model
from pose.predict.batches import BatchPredictor
from pose.predictor import Predictor
from pose.structures import People
from pose.synthetic.dataset import KEYPOINTS, SyntheticConfig, synthesize


class Told(BatchPredictor):
    """Decodes, and then says who was drawn."""

    truth: dict[int, People]

    def decode(self, fields: Any, stride: int, batch: Any) -> Any:
        return [(number, self.truth[number]) for number, _ in super().decode(fields, stride, batch)]


def drawn_people(root: Path, names: tuple[str, ...]) -> dict[int, People]:
    """Image id, from 1 in the order of the file names -> who was drawn there."""
    content = json.loads((root / "annotations/person_keypoints_val.json").read_text())
    order = [KEYPOINTS.index(name) if name in KEYPOINTS else 0 for name in names]
    people = {}
    for number, image in enumerate(sorted(content["images"], key=lambda one: one["file_name"]), start=1):
        own = [a["keypoints"] for a in content["annotations"] if a["image_id"] == image["id"]]
        keypoints = np.array(own, np.float32).reshape(-1, len(KEYPOINTS), 3)[:, order]
        keypoints[..., 2] = keypoints[..., 2] > 0
        people[number] = People(keypoints, np.ones(len(keypoints), np.float32))
    return people


def bare(batches: BatchPredictor, sizes: list[tuple[int, int]]) -> float:
    """Pictures per second of the network, nothing else, on canvases as pictures of these sizes have them."""
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
        for one in images:
            fields = batches.model.read(one, batches.precision)
        _ = next(iter(fields.values())).flatten()[0].item()  # waits for a GPU
    return len(sizes) / (time.perf_counter() - start)


def whole(predictor: Predictor, pictures: Path, output: Path, more: list[str]) -> float:
    """Pictures per second of the demo."""
    options = demo.parse(["-c", "none", str(pictures), "-o", str(output), *more])
    with demo.one_thread_each(), ExitStack() as parts:
        start = time.perf_counter()
        running = demo.build_viewer(options, predictor, parts)
        running.run(find_sources(options.sources, output), lambda: False, 0)
        parts.close()
        return running.tally.pictures / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", dest="name", metavar="NAME", help="a run instead of a config")
    parser.add_argument("--size", type=int, default=640, help="of the pictures' sides; 640: about COCO's")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="write records too")
    parser.add_argument("--device", default="auto")
    parser.add_argument("config", nargs="*", help="a config file, and settings")
    options = parser.parse_args()
    settings = [text for text in options.config if "=" in text]
    device = pick_device(options.device, 0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drawn = SyntheticConfig(train=1, val=options.pictures, seed=3, size=options.size)
        synthesize(root, drawn, progress=False)
        if options.name:
            predictor = Predictor.from_run(options.name, device=options.device, settings=settings)
        else:
            config = load_config(next(text for text in options.config if "=" not in text), settings)
            model = build_model(config.backbone, config.head, config.skeleton, config.input).to(device)
            told = Told(model, config.test)
            told.truth = drawn_people(root, config.skeleton.keypoints)
            predictor = Predictor(told, config.skeleton, Experiment(root, config))
        more = ["--json"] if options.json else []
        batches = predictor.batches
        size = f"{options.size} x {options.size}"
        print(f"{options.pictures} pictures of {size}, {device}, {torch.get_num_threads()} threads, "
              f"batch {batches.settings.batch_size}, flip {batches.settings.flip}")  # fmt: skip
        listed = json.loads((root / "annotations/person_keypoints_val.json").read_text())["images"]
        sizes = [(image["height"], image["width"]) for image in listed]
        bare(batches, sizes[: batches.settings.batch_size])
        ratios = []
        for i in range(options.rounds):
            clock = [time.process_time()]
            before = bare(batches, sizes)
            clock.append(time.process_time())
            rate = whole(predictor, root / "val", root / f"out{i}", more)
            clock.append(time.process_time())
            around = 2 / (1 / before + 1 / bare(batches, sizes))
            ratios.append(rate / around)
            work = [1e3 * seconds / options.pictures for seconds in np.diff(clock)]
            print(f"bare {around:8.2f} pictures/s, {work[0]:6.1f} ms of CPU each; demo {rate:8.2f} and "
                  f"{work[1]:6.1f} ms: {rate / around:6.1%}")  # fmt: skip
        print(f"median {statistics.median(ratios):.1%}")


if __name__ == "__main__":
    main()
