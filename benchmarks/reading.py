"""Reading a keypoint file of COCO's size: the first time, from the cache, and how much memory it takes.

    python -m benchmarks.reading [--smallest]

118 000 images and 260 000 annotations, of which two fifths have no labelled keypoint, all with polygons, made
anew.  Processor time of one process and its largest memory, beside those of `json.loads` alone,
which is the least that any reader in Python takes.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import command_line
from pose.annotations.annotations import load_annotations
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.skeleton import from_dict

IMAGES, ANNOTATIONS = 118_000, 260_000
POLYGON = 22  # points
CACHED = 20  # loads from the cache


def write_file(path: Path, images: int, annotations: int) -> None:
    """A file with COCO's keys, values that are likely, and no sense."""
    rng = np.random.default_rng(0)
    names = list(read_yaml(config_folder() / "_skeletons/coco17.yaml")["keypoints"])
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"images": [')
        for i in range(images):
            entry: dict[str, Any] = {
                "license": 1, "file_name": f"{i:012}.jpg", "coco_url": f"http://x/{i:012}.jpg", "height": 480,
                "width": 640, "date_captured": "2013-11-14 17:02:52", "flickr_url": f"http://y/{i}", "id": i,
            }  # fmt: skip
            file.write(("" if not i else ",") + json.dumps(entry))
        file.write('], "annotations": [')
        for i in range(annotations):
            points = rng.integers(0, 480, (17, 3))
            points[:, 2] = rng.integers(0, 3, 17) if i % 5 > 1 else 0
            points[points[:, 2] == 0] = 0
            polygon = rng.uniform(0, 480, 2 * POLYGON).round(2).tolist()
            box = rng.uniform(1, 240, 4).round(2).tolist()
            entry = {
                "segmentation": [polygon], "num_keypoints": int((points[:, 2] > 0).sum()), "iscrowd": 0,
                "area": box[2] * box[3] / 2, "keypoints": points.ravel().tolist(), "bbox": box,
                "image_id": int(rng.integers(images)), "category_id": 1, "id": i + 1,
            }  # fmt: skip
            file.write(("" if not i else ",") + json.dumps(entry))
        category = {"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2]]}
        file.write('], "categories": [' + json.dumps(category) + "]}")


SKELETON = from_dict(read_yaml(config_folder() / "_skeletons/coco17.yaml"))


def read_all(path: Path) -> None:
    load_annotations(path, SKELETON, cache=False)


def read_cached(path: Path) -> None:
    load_annotations(path, SKELETON)


def only_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


def measure(call: Callable[[Path], object], path: Path, runs: int, out: Any) -> None:
    """In a process of its own: median seconds of processor time, and the largest memory in MB."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        call(path)
        times.append(time.process_time() - start)
    scale = 1e6 if sys.platform == "darwin" else 1e3
    out.put((statistics.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale))


def in_own_process(call: Callable[[Path], object], path: Path, runs: int = 1) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    out = context.SimpleQueue()
    here = importlib.import_module("benchmarks.reading")  # the other process cannot find what is in __main__
    arguments = (getattr(here, call.__name__), path, runs, out)
    process = context.Process(target=here.measure, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{call.__name__} ended with {process.exitcode}")
    seconds, megabytes = out.get()
    return seconds, megabytes


def main(arguments: list[str] | None = None) -> None:
    options = command_line("benchmarks.reading", __doc__).parse_args(arguments)
    images, annotations = (100, 200) if options.smallest else (IMAGES, ANNOTATIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        write_file(path, images, annotations)
        size = path.stat().st_size / 1e6
        print(f"{images} images, {annotations} annotations, {size:.0f} MB of JSON")
        for what, call, runs in (
            ("json.loads alone", only_json, 1),
            ("the first time", read_all, 1),
            ("and kept as a cache", read_cached, 1),
            ("from the cache", read_cached, CACHED),
        ):
            seconds, megabytes = in_own_process(call, path, runs)
            print(f"{what:<22}{1000 * seconds:>10.1f} ms{megabytes:>10.0f} MB", flush=True)


if __name__ == "__main__":
    main()
