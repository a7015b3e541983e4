"""What a command costs before it does anything: processor time and memory of fresh processes.

python -m benchmarks.startup [--smallest]

Every command's --help; those that need no network, on a small run; and the whole of a training that has
nothing left to do, a test and a demo of one image.  The median of 5 processes each, on one thread.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import Row, Times, command_line
from tests.command_lines import COMMANDS

ROOT = Path(__file__).parents[1]
# a process of its own, because a child's peak counts what its parent held when it was started
LAUNCHER = """\
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
if done.returncode:
    sys.exit(done.stderr.decode())
print(json.dumps([time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
CONFIG = "configs/synthetic/ae_small.yaml"
SETTINGS = ["data.synthetic.train=2", "data.synthetic.val=1", "data.workers=0", "train.epochs=1"]
SETTINGS += [
    "train.steps_per_epoch=1",
    "train.batch_size=2",
    "train.validate_every=0",
    "train.panels_every=0",
]
RUNS = 5


class Cost(NamedTuple):
    seconds: float  # of processor time
    megabytes: float  # at the peak
    wall: float  # seconds


def cost(arguments: Sequence[str], folder: Path) -> Cost:
    """Measures one fresh process, `python ARGUMENTS`, in a folder."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", LAUNCHER, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    wall, seconds, kilobytes = json.loads(done.stdout)
    return Cost(seconds, kilobytes / 1024, wall)


def make_run(folder: Path) -> None:
    """A run `exp/small` that has taken its only step, and was tested."""
    train = ["pose.train", "-e", "small", "--config", str(ROOT / CONFIG), *SETTINGS, "--device", "cpu"]
    cost(["-m", *train], folder)
    cost(["-m", "pose.test", "-c", "small", "--device", "cpu"], folder)
    (folder / "people.json").write_text(json.dumps([_somebody(1)]))


def _somebody(image_id: int) -> dict[str, object]:
    """A found person with 17 keypoints."""
    return {"image_id": image_id, "category_id": 1, "keypoints": [20.0, 20.0, 1.0] * 17, "score": 1.0}


def working_commands(images: Path) -> Iterator[list[str]]:
    """Command lines that need no network, then those that do."""
    annotations = "data/synthetic/annotations/person_keypoints_val.json"
    scored = ["--annotations", annotations, "--results", "people.json"]
    yield ["pose.tools.score", "coco", *scored]
    yield ["pose.tools.score", "pck", *scored]
    yield ["pose.tools.list"]
    yield ["pose.tools.zoo", "list"]
    yield ["pose.tools.sigmas", annotations, annotations]
    yield ["pose.train", "-c", "small", "--device", "cpu"]
    yield ["pose.test", "-c", "small", "--device", "cpu"]
    yield ["pose.demo", "-c", "small", "--device", "cpu", str(next(images.glob("*.jpg")))]


def measure(command: Sequence[str], folder: Path, runs: int) -> Cost:
    """The median of several processes, `python -m COMMAND`, after a first one."""
    cost(["-m", *command], folder)
    costs = [cost(["-m", *command], folder) for _ in range(runs)]
    return Cost(*(statistics.median(column) for column in zip(*costs)))


def shown(command: Sequence[str], found: Cost) -> str:
    named = " ".join(word for word in command[:2] if "/" not in word)
    return f"{named:<36}{1000 * found.seconds:>7.0f} ms{found.megabytes:>7.0f} MB"


def rows(smallest: bool = False) -> Iterator[Row]:
    """`--help` of some commands, each in a process of its own; nothing to compare with."""
    with tempfile.TemporaryDirectory() as name:
        for command in ("pose.tools.list", "pose.tools.score", "pose.train", "pose.test", "pose.demo")[
            : 1 if smallest else None
        ]:
            found = measure([command, "--help"], Path(name), 1 if smallest else RUNS)
            yield Row(f"python -m {command} --help", None, Times(1000 * found.seconds, 1000 * found.wall))


def main(arguments: list[str] | None = None) -> None:
    options = command_line("benchmarks.startup", __doc__).parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.smallest:
            print(shown(["pose.tools.list", "--help"], cost(["-m", "pose.tools.list", "--help"], folder)))
            return
        make_run(folder)
        helps = [[command, "--help"] for command in COMMANDS if command.startswith("pose.")]
        for command in [*helps, *working_commands(folder / "data/synthetic/val")]:
            print(shown(command, measure(command, folder, RUNS)), flush=True)


if __name__ == "__main__":
    main()
