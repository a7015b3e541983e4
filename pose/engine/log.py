"""What a run says: a bar on the terminal, `log.jsonl`, TensorBoard, and an image of its curves."""

from __future__ import annotations

import gc
import json
import os
import platform
import shlex
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose.metrics.base import Scores

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "pycocotools",
    "faster-coco-eval",
)
LINE_SECONDS = 30.0


class RunLog:
    """Writes scalars by step.  Continuing a run drops what an interrupted stretch wrote beyond `step`, and
    validations beyond `validated`."""

    def __init__(
        self, folder: Path, step: int, total_steps: int, *, validated: int = 0, bar: bool = True
    ) -> None:
        self.folder = folder
        self.file = folder / "log.jsonl"
        keep_until(self.file, step, validated)
        self.board = Board(folder / "tensorboard", purge_step=step + 1 if step else None)
        self.bar = tqdm(
            total=total_steps, initial=step, unit="step", dynamic_ncols=True, disable=None if bar else True
        )
        self.lines = (
            bar and self.bar.disable
        )  # no terminal, but a file or a batch system's log: lines at times
        self.unwritten: list[str] = []  # lines of log.jsonl, until they can be written
        self.failed: set[str] = set()  # what could not be written, and was said
        self.step, self.first, self.total = step, step, total_steps
        self.start = self.last_line = time.monotonic()

    def scalars(self, kind: str, step: int, values: Mapping[str, float], **texts: Any) -> None:
        """One line of `log.jsonl`, and the same values under fixed names in TensorBoard."""
        self.note(kind, step, {**texts, **{name: _rounded(value) for name, value in values.items()}})
        finite = {f"{kind}/{name}": value for name, value in values.items() if np.isfinite(value)}
        with self._no_matter("TensorBoard's events"):
            self.board.write(lambda board: [board.add_scalar(name, v, step) for name, v in finite.items()])

    def scores(self, step: int, scores: Scores) -> None:
        """Of a validation: one line of `log.jsonl` that says by what the best is chosen, and TensorBoard."""
        shown = list(scores.shown or (scores.best,))
        self.scalars("validation", step, scores.numbers, metric=scores.metric, best=scores.best, shown=shown)

    def note(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line of `log.jsonl`; `values` are plain data."""
        self.unwritten.append(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        with self._no_matter(str(self.file)), open(self.file, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                write_whole(file, "".join(self.unwritten).encode())
            except OSError:
                with suppress(OSError):
                    file.truncate(size)  # no half of a line, which would spoil the next one
                raise
            self.unwritten.clear()

    def image(self, name: str, step: int, picture: np.ndarray) -> None:
        """picture (H, W, 3) uint8 RGB."""
        with self._no_matter("TensorBoard's events"):
            self.board.write(lambda board: board.add_image(name, picture, step, dataformats="HWC"))

    def say(self, text: str) -> None:
        self.bar.write(text, file=sys.stderr)

    def advance(self, steps: int, postfix: Mapping[str, str] | None = None) -> None:
        self.step += steps
        self.bar.update(steps)
        if postfix is None:
            return
        self.bar.set_postfix(postfix, refresh=False)
        now = time.monotonic()
        if self.lines and now - self.last_line > LINE_SECONDS and self.step > self.first:
            self.last_line = now
            left = (self.total - self.step) * (now - self.start) / (self.step - self.first)
            values = ", ".join(f"{name} {value}" for name, value in postfix.items())
            self.say(f"step {self.step}/{self.total}: {values}, {tqdm.format_interval(left)} left")

    def curves(self) -> None:
        """Draws `curves.png` anew."""
        with self._no_matter(str(self.folder / "curves.png")):
            draw_curves(self.file, self.folder / "curves.png")

    @contextmanager
    def _no_matter(self, what: str) -> Iterator[None]:
        """No ornament ends a training: where `what` cannot be written it is said once, and tried again
        later."""
        try:
            yield
        except OSError as error:
            if what not in self.failed:
                self.failed.add(what)
                self.say(f"cannot write {what}: {error.strerror or error}; the training goes on")

    def close(self) -> None:
        self.bar.close()
        with self._no_matter("TensorBoard's events"):
            self.board.close()
        if self.unwritten:
            self.say(f"{len(self.unwritten)} lines of {self.file} could not be written")


class Board:
    """TensorBoard's writer, which is made anew after it could not write."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        self.folder = folder
        self.hook = threading.excepthook
        threading.excepthook = self._thread_failed
        self.writer: Any = self._made(purge_step)

    def _made(self, purge_step: int | None = None) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # slow to import: only where a run writes

        return SummaryWriter(str(self.folder), purge_step=purge_step)

    def write(self, add: Callable[[Any], object]) -> None:
        """Raises `OSError`."""
        if self.writer is None and self.folder.is_dir():  # else the run was moved: it is not made anew
            self.writer = self._made()
        if self.writer is None:
            return
        try:
            add(self.writer)
        except OSError:
            writer, self.writer = self.writer, None
            with suppress(OSError):
                writer.close()
            raise

    def close(self) -> None:
        """Raises `OSError`."""
        try:
            if self.writer is not None:
                self.writer.close()
        finally:  # not before: its thread may fail now
            threading.excepthook = self.hook

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        """What the thread that writes could not do is raised by the next `write`; a traceback says nothing
        more."""
        of_board = type(args.thread).__module__.startswith("tensorboard.")
        if not (of_board and issubclass(args.exc_type, OSError)):
            self.hook(args)


class NoLog:
    """What the other processes of a run have in place of its log."""

    def scalars(self, kind: str, step: int, values: Mapping[str, float], **texts: Any) -> None: ...

    def scores(self, step: int, scores: Scores) -> None: ...

    def note(self, kind: str, step: int, values: Mapping[str, Any]) -> None: ...

    def image(self, name: str, step: int, picture: np.ndarray) -> None: ...

    def say(self, text: str) -> None: ...

    def advance(self, steps: int, postfix: Mapping[str, str] | None = None) -> None: ...

    def curves(self) -> None: ...

    def close(self) -> None: ...


Log = RunLog | NoLog


def write_whole(file: Any, content: bytes) -> None:
    """To a file without a buffer, which may take less at a time."""
    while content:
        content = content[file.write(content) :]


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def read_log(file: Path) -> list[dict[str, Any]]:
    """The records of a `log.jsonl`; a line cut off by a kill is left out."""
    return [*records_of(file)]


def records_of(file: Path) -> Iterator[dict[str, Any]]:
    """As `read_log`, one after the other."""
    if not file.exists():
        return
    with open(file, encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def shown_numbers(record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Of a validation's record: the metric, and the names of the numbers to show, the one that chooses the
    best checkpoint first.  Runs from before there were other metrics say neither; their first three are."""
    first = [name for name in record if name not in ("kind", "step")][:3] or ["AP"]
    names = record.get("shown") or ([record["best"]] if "best" in record else first)
    return record.get("metric", "coco"), names


def keep_until(file: Path, step: int, validated: int) -> None:
    """Drop the records beyond `step`, and the validations beyond step `validated`: they will come again."""
    if not file.exists():
        return
    ends = {"validation": validated}
    records = [record for record in read_log(file) if record["step"] <= ends.get(record["kind"], step)]
    temporary = file.with_suffix(".partial")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    temporary.replace(file)


def environment() -> dict[str, Any]:
    """What a result depends on: versions, git state, command line, machine."""
    import torch  # only here: pose.tools.list reads logs without it

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "packages": versions,
        "torchrun": torchrun_session(),
        "git": _git("rev-parse", "HEAD"),
        "git_changed_files": (_git("status", "--porcelain") or "").splitlines(),
    }


def torchrun_session() -> str | None:
    """What the processes that torchrun starts have in common, also after it has started them again."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    return run if run != "none" else f"{platform.node()} {os.getppid()}"  # none: without --rdzv-id


def _git(*arguments: str) -> str | None:
    here = Path(__file__).parent
    try:
        result = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def draw_curves(file: Path, output: Path) -> None:
    """Loss terms and what validations gave over steps, as a PNG."""
    from matplotlib.figure import Figure  # not pyplot, which would choose a backend for the whole process

    train, validation = read_curves(file)
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (steps, values) in train.items():
        left.plot(steps, values, label=name.removeprefix("loss/")) if steps else None
    left.set(xlabel="step", ylabel="loss (weighted)", yscale="log", title="training")
    metric, names = shown_numbers(validation[-1] if validation else {})
    largest = 1.0
    for name in names:
        points = [(r["step"], r[name]) for r in validation if r.get(name) is not None]
        right.plot(*zip(*points), marker="o", label=name) if points else None
        largest = max([largest, *(value for _, value in points)])
    right.set(xlabel="step", ylabel=f"{names[0]} ({metric})", ylim=(0, largest), title="validation")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", framealpha=0.6)
    try:
        figure.savefig(output, dpi=110)
    finally:
        figure.clear()
        del figure, left, right, axis
        gc.collect()  # a figure is full of cycles, and megabytes of each would wait for the next collection


Curve = tuple["array[int]", "array[float]"]  # steps, values


def read_curves(file: Path) -> tuple[dict[str, Curve], list[dict[str, Any]]]:
    """The loss terms of a `log.jsonl`, those that its first line of training has, where they are not 0; and
    the records of validations."""
    curves: dict[str, Curve] | None = None
    validation = []
    for record in records_of(file):
        if record["kind"] == "validation":
            validation.append(record)
        if record["kind"] != "train":
            continue
        if curves is None:
            names = [name for name in record if name.startswith("loss")]
            curves = {name: (array("q"), array("d")) for name in names}
        for name, (steps, values) in curves.items():
            if record.get(name):
                steps.append(record["step"])
                values.append(record[name])
    return curves or {}, validation
