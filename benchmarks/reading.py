"""Reading a keypoint file of COCO's size: the first time, from the cache, and how much memory it takes.

    python -m benchmarks.reading [--smallest]

118 000 images and 260 000 annotations, of which two fifths have no labelled keypoint, all with polygons, made
anew.  Processor time of one process and its largest memory, of which PyTorch alone takes what the first line
says, beside those of `json.loads` alone and of pycocotools, which reads the same file.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from benchmarks.timing import Row, Times, command_line
from pose.annotations.annotations import load_annotations
from pose.config import read_yaml
from pose.config_files import config_folder
from pose.skeleton import from_dict

IMAGES, ANNOTATIONS = 118_000, 260_000
HEIGHT, WIDTH = 480, 640  # of the images
LABELLED_POINTS, OTHER_POINTS = 33, 19  # of the outline of a person with and without labelled keypoints
RUNS = 1000  # of a crowd
CACHED = 20  # loads from the cache


def write_file(path: Path, images: int, annotations: int) -> None:
    """A file with COCO's keys and likely values: sizes, numbers of points and shares as in its own files."""
    rng = np.random.default_rng(0)
    names = list(read_yaml(config_folder() / "_skeletons/coco17.yaml")["keypoints"])
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"images": [')
        for i in range(images):
            entry: dict[str, Any] = {
                "license": 1, "file_name": f"{i:012}.jpg", "coco_url": f"http://x/{i:012}.jpg",
                "height": HEIGHT, "width": WIDTH, "date_captured": "2013-11-14 17:02:52",
                "flickr_url": f"http://y/{i}", "id": i,
            }  # fmt: skip
            file.write(("" if not i else ",") + json.dumps(entry))
        file.write('], "annotations": [')
        for i in range(annotations):
            labelled, crowd = i % 5 > 1, i % 40 == 0
            points = rng.integers(0, 480, (17, 3))
            points[:, 2] = rng.integers(0, 3, 17) if labelled else 0
            points[points[:, 2] == 0] = 0
            sides = rng.lognormal(0, 0.8, 2) * ((85, 150) if labelled else (20, 34))
            sides = sides.clip(4, (WIDTH - 1, HEIGHT - 1))
            corner = rng.uniform(0, np.array([WIDTH, HEIGHT]) - sides)
            box = np.concatenate([corner, sides]).round(2).tolist()
            entry = {
                "segmentation": _runs(rng) if crowd else [_outline(rng, corner, sides, labelled)],
                "num_keypoints": int((points[:, 2] > 0).sum()), "iscrowd": int(crowd),
                "area": box[2] * box[3] / 2, "keypoints": points.ravel().tolist(), "bbox": box,
                "image_id": int(rng.integers(images)), "category_id": 1, "id": i + 1,
            }  # fmt: skip
            file.write(("" if not i else ",") + json.dumps(entry))
        category = {"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2]]}
        file.write('], "categories": [' + json.dumps(category) + "]}")


def _outline(rng: np.random.Generator, corner: np.ndarray, sides: np.ndarray, labelled: bool) -> list[float]:
    """x0, y0, x1, y1, ... of a bumpy ellipse."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, LABELLED_POINTS if labelled else OTHER_POINTS))
    rays = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.7, 1, (len(angles), 1))
    return (corner + (1 + rays) / 2 * sides).round(2).ravel().tolist()


def _runs(rng: np.random.Generator) -> dict[str, Any]:
    """A crowd's run lengths, not compressed."""
    ends = np.sort(rng.choice(HEIGHT * WIDTH, RUNS, replace=False))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(ends, prepend=0, append=HEIGHT * WIDTH).tolist()}


SKELETON = from_dict(read_yaml(config_folder() / "_skeletons/coco17.yaml"))


def nothing(path: Path) -> None:
    """What importing takes."""


def read_all(path: Path) -> None:
    load_annotations(path, SKELETON, cache=False)


def read_cached(path: Path) -> None:
    load_annotations(path, SKELETON)


def only_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


def pycocotools(path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        COCO(str(path))


def measure(call: Callable[[Path], object], path: Path, runs: int, out: Any) -> None:
    """In a process of its own: median seconds of processor time, and the largest memory in MB."""
    times = []
    for _ in range(runs):
        start = time.process_time(), time.perf_counter()
        call(path)
        times.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    scale = 1e6 if sys.platform == "darwin" else 1e3
    seconds = [statistics.median(column) for column in zip(*times)]
    out.put((*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale))


def in_own_process(call: Callable[[Path], object], path: Path, runs: int = 1) -> tuple[float, float, float]:
    """Seconds of processor and wall time, and MB."""
    context = multiprocessing.get_context("spawn")
    out = context.SimpleQueue()
    here = importlib.import_module("benchmarks.reading")  # the other process cannot find what is in __main__
    arguments = (getattr(here, call.__name__), path, runs, out)
    process = context.Process(target=here.measure, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{call.__name__} ended with {process.exitcode}")
    seconds, wall, megabytes = out.get()
    return seconds, wall, megabytes


def rows(smallest: bool = False) -> Iterator[Row]:
    """Rows from fresh processes: always the first call, never with warm caches."""
    images, annotations = (100, 200) if smallest else (IMAGES, ANNOTATIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        write_file(path, images, annotations)
        seconds, wall, _ = in_own_process(pycocotools, path)
        theirs = Times(1000 * seconds, 1000 * wall)
        for what, call, runs in (
            ("", read_cached, 1),
            ("from the cache", read_cached, 1 if smallest else CACHED),
        ):
            seconds, wall, _ = in_own_process(call, path, runs)
            named = f"  {what}" if what else f"a keypoint file of {images} images, literal pycocotools"
            yield Row(named, theirs, Times(1000 * seconds, 1000 * wall))


def main(arguments: list[str] | None = None) -> None:
    options = command_line("benchmarks.reading", __doc__).parse_args(arguments)
    images, annotations = (100, 200) if options.smallest else (IMAGES, ANNOTATIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        write_file(path, images, annotations)
        size = path.stat().st_size / 1e6
        print(f"{images} images, {annotations} annotations, {size:.0f} MB of JSON")
        for what, call, runs in (
            ("imports alone", nothing, 1),
            ("json.loads alone", only_json, 1),
            ("pycocotools' COCO(file)", pycocotools, 1),
            ("the first time", read_all, 1),
            ("and kept as a cache", read_cached, 1),
            ("from the cache", read_cached, CACHED),
        ):
            seconds, _, megabytes = in_own_process(call, path, runs)
            print(f"{what:<25}{1000 * seconds:>10.1f} ms{megabytes:>10.0f} MB", flush=True)


if __name__ == "__main__":
    main()
