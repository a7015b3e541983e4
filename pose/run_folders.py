"""Where runs lie, and what the files of their folders tell without the checkpoints: for pose.tools.list and
pose.tools.compare."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pose.engine.log import shown_numbers
from pose.errors import UserError

RUNS = Path("exp")
RUNNING = 600.0  # seconds: a run that logged so lately is said to be running
QUICK: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it


@dataclass
class Summary:
    """A run in one line.  What is wrong with its folder is in `problems`; the rest is told all the same."""

    name: str
    backbone: str | None = None
    head: str | None = None
    skeleton: str | None = None
    step: int = 0
    total: int | None = None  # steps of the whole training; None: not known
    state: str = "new"  # new, running, stopped, finished, or converted: weights without a training
    metric: str = ""  # what `best` and `tested` are: "coco AP"; of the validations where both are there
    best: float | None = None  # of its validations
    tested: dict[str, float] = field(default_factory=dict)  # by mode, tag and limit
    tested_by: dict[str, str] = field(default_factory=dict)  # of each test its metric
    changed: float = 0.0  # seconds since 1970
    size: int = 0  # bytes on the disk
    problems: list[str] = field(default_factory=list)


def run_folder(name: str, runs: Path = RUNS) -> Path:
    """The folder of a run; `exp/NAME/` is taken as NAME.  Raises `UserError` for what is no name."""
    given = Path(name)
    if len(given.parts) > 1 and given.parent.resolve() == runs.resolve():
        name = given.name
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        raise UserError(
            f"{name!r} is no run name; use letters, digits, '.', '_', '+' and '-' (runs lie in {runs}/)"
        )
    return runs / name


def already_exists(name: str, folder: Path) -> str:
    return f"{folder} exists already; continue it with -c {name}, choose another name, or remove the folder"


def run_folders(runs: Path) -> list[Path]:
    """Folders with anything of a run in them."""
    marks = ("config.yaml", "log.jsonl", "best.pt", "last.pt")
    if not runs.is_dir():
        return []
    return sorted(path for path in runs.iterdir() if any((path / mark).is_file() for mark in marks))


def summarize(folder: Path) -> Summary:
    one = Summary(folder.name)
    config = _config(folder, one)
    _training(folder, config, one)
    for file in sorted(folder.glob("metrics-*.json")):
        score = _read_score(file, one)
        if score is not None:
            stem = file.stem.removeprefix("metrics-")
            one.tested[stem], one.tested_by[stem] = score.value, score.title
            one.metric = one.metric or score.title
    if not any((folder / name).is_file() for name in ("best.pt", "last.pt")):
        one.problems.append("no checkpoint")
    one.size = folder_size(folder)
    return one


def _config(folder: Path, one: Summary) -> Mapping[str, Any]:
    try:
        with open(folder / "config.yaml", "rb") as file:
            config = yaml.load(file, Loader=QUICK)  # noqa: S506 -- a SafeLoader
        one.backbone, one.head = (str(config[part]["name"]) for part in ("backbone", "head"))
        one.skeleton = str(config["data"]["skeleton"]["name"])
        return config
    except FileNotFoundError:
        one.problems.append("no config.yaml")
    except OSError as error:
        one.problems.append(f"config.yaml cannot be read ({error.strerror})")
    except (yaml.YAMLError, UnicodeDecodeError):
        one.problems.append("config.yaml is not YAML")
    except (KeyError, TypeError, AttributeError) as error:
        lacks = f"lacks {error}" if isinstance(error, KeyError) else "is not a run's"
        one.problems.append(f"config.yaml {lacks}")
    return {}


def _training(folder: Path, config: Mapping[str, Any], one: Summary) -> None:
    file = folder / "log.jsonl"
    plan = config.get("train") if isinstance(config, Mapping) else None
    plan = plan if isinstance(plan, Mapping) else {}
    epochs, per_epoch = plan.get("epochs"), plan.get("steps_per_epoch")
    one.total = epochs * per_epoch if isinstance(epochs, int) and isinstance(per_epoch, int) else None
    dates = [path.stat().st_mtime for path in (folder / "config.yaml", file) if path.is_file()]
    one.changed = max(dates, default=folder.stat().st_mtime)
    if not file.is_file():
        trained = any((folder / name).is_file() for name in ("best.pt", "last.pt"))
        one.state = "converted" if trained else "new"
        return
    try:
        last, scores = read_ends(file)
    except OSError as error:
        one.problems.append(f"log.jsonl cannot be read ({error.strerror})")
        last, scores = {}, []
    else:
        if not last:
            one.problems.append("log.jsonl holds no step")
    one.step = last.get("step", 0)
    if scores:  # another metric's before count no longer
        one.metric = scores[-1].title
        same = (one.metric, one.metric.rpartition(" ")[2])
        one.best = max(score.value for score in scores if score.title in same)
    epoch = last.get("epoch")
    if one.total is None and isinstance(epochs, int) and isinstance(epoch, int | float) and epoch > 0:
        one.total = round(epochs * one.step / epoch)
    if one.total is not None and one.step >= one.total:
        one.state = "finished"
    else:
        one.state = "running" if time.time() - file.stat().st_mtime < RUNNING else "stopped"


class Score(NamedTuple):
    """A number, and what it is."""

    title: str  # "coco AP"; in files from before there were other metrics "AP"
    value: float


def read_ends(file: Path) -> tuple[dict[str, Any], list[Score]]:
    """The last training record of a log ({} where there is none), and what every validation gave.

    Other lines are not parsed; one that was cut off is left out."""
    last: dict[str, Any] = {}
    scores = []
    lines = file.read_bytes().splitlines()
    for line in lines:
        if line.startswith(b'{"kind": "validation"'):
            record = _record(line)
            metric, names = shown_numbers(record)
            value = record.get(names[0])
            if isinstance(value, (int, float)) and value >= 0:
                scores.append(Score(f"{metric} {names[0]}" if "metric" in record else names[0], value))
    for line in reversed(lines):
        if line.startswith(b'{"kind": "train"') and isinstance(_record(line).get("step"), int):
            last = _record(line)
            break
    return last, scores


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _read_score(file: Path, one: Summary) -> Score | None:
    """The score of the metric that comes first."""
    try:
        metrics = json.loads(file.read_bytes())
        name = metrics.get("metric", "")
        best = metrics["scores"][name]["best"] if name else "AP"
        score = float(metrics["stats"][best])
        if not math.isfinite(score):  # no JSON, and not to be sorted by
            raise ValueError
        return Score(f"{name} {best}".strip(), score)
    except OSError as error:
        one.problems.append(f"{file.name} cannot be read ({error.strerror})")
    except (ValueError, KeyError, TypeError, AttributeError):
        one.problems.append(f"{file.name} is damaged")
    return None


def folder_size(folder: Path | str) -> int:
    """Bytes of all files below it; what vanishes meanwhile does not count."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += folder_size(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass
    return total
