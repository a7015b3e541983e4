"""A run for others: its weights, the settings that finding people needs, and a card with its scores."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import pose
from pose import config as cfg
from pose.errors import UserError
from pose.experiment import Experiment
from pose.exported import config_to_keep
from pose.files import write_bytes, write_text
from pose.model import PoseModel
from pose.published.publications import CARD, CONFIG, WEIGHTS
from pose.sessions import load_model
from pose.tools.comparison.tables import markdown

TAKEN = (
    "python",
    "cuda",
    "gpus",
    "packages",
    "git",
    "weights",
)  # of the environment: the rest has paths of this machine


def publish(experiment: Experiment, weights: str | None, output: Path, licence: str) -> list[Path]:
    """Writes a run's network into the folder `output` and gives the files.  Paths of this machine stay out.

    weights: best, last or a file; None: best, else last.  Raises `UserError` where the folder holds files
    already or safetensors is not installed."""
    try:
        from safetensors.torch import save
    except ImportError:
        raise UserError("a run is published as safetensors: pip install 'bottomup-pose[publish]'") from None
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"-o {output} is there already and not an empty folder; choose another")
    model, file = load_model(experiment, weights, torch.device("cpu"))
    name = experiment.folder.name
    # safetensors refuses tensors that share memory
    state = {key: value.detach().contiguous().clone() for key, value in model.state_dict().items()}
    notes = {"format": "pt", "bottomup_pose": pose.__version__, "run": name, "weights": file.name}
    content = save(state, notes)
    write_bytes(output / WEIGHTS, content)
    digest = f"# {WEIGHTS}: sha256 {hashlib.sha256(content).hexdigest()}"
    kept = cfg.plain_to_yaml(json.loads(config_to_keep(experiment.config)))
    write_text(output / CONFIG, f"# The run {name}, without its training and data.\n{digest}\n{kept}")
    written = [output / WEIGHTS, output / CONFIG]
    write_text(output / CARD, card(experiment, model, file.name, licence))
    return [*written, output / CARD]


def card(experiment: Experiment, model: PoseModel, weights: str, licence: str) -> str:
    """What somebody who finds the files must know, as Markdown."""
    config, skeleton = experiment.config, experiment.config.skeleton
    height, width = config.input.size
    parameters = sum(value.numel() for value in model.parameters())
    facts = {
        "backbone": config.backbone.name,
        "head": config.head.name,
        "input": f"{width} x {height}",
        "keypoints": f"{len(skeleton)} ({skeleton.name})",
        "parameters": f"{parameters / 1e6:.2f} M",
        "trained on": ", ".join(training_files(experiment)),
        "weights": weights,
        "licence": licence,
    }
    lines = [
        f"# {experiment.folder.name}",
        "",
        f"A network for bottom-up multi-person pose estimation, made with bottomup-pose {pose.__version__}.",
        "",
        markdown(("", ""), list(facts.items()), left=2),
        "",
        f"`{WEIGHTS}` holds the weights by name, `{CONFIG}` the settings of the network and of the test.",
        "`python -m pose.demo -c zoo:DIR photo.jpg` finds people, where DIR is this folder or the web",
        "address that has its files (`pip install 'bottomup-pose[publish]'`).",
        "",
        "## Scores",
        "",
        *(scores(experiment.folder) or ["This run has not been tested."]),
        "",
        "## Environment of the training",
        "",
        *environment_lines(experiment.path("environment.jsonl")),
    ]
    return "\n".join(lines) + "\n"


def training_files(experiment: Experiment) -> list[str]:
    """Names of the annotation files, without their folders."""
    data = experiment.config.data
    return [Path(one.annotations).name for one in (data.sets or (data.train,))]


def scores(folder: Path) -> list[str]:
    """One table for each metric, from the files that pose.test wrote."""
    tables: dict[str, list[tuple[str, str, dict[str, float]]]] = {}
    for file in sorted(folder.glob("metrics-*.json")):
        content = _json(file.read_text(encoding="utf-8"))  # {} where it was cut off
        header = content.get("header", {})
        test, flip = file.stem.removeprefix("metrics-"), header.get("flip", "?")
        test = f"{test}, scales {header.get('scales', '?')}, flip {flip}"
        for metric, found in content.get("scores", {}).items():
            tables.setdefault(metric, []).append((test, header.get("images", "?"), found["numbers"]))
    lines = []
    for metric, tests in tables.items():
        names = list(dict.fromkeys(name for _, _, numbers in tests for name in numbers))
        rows = [(test, images, *(_number(n.get(name)) for name in names)) for test, images, n in tests]
        lines += [f"By the metric {metric}:", "", markdown(("test", "images", *names), rows, left=2), ""]
    return lines[:-1]


def _number(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{value:.3f}"  # -1: there was nobody to find


def environment_lines(file: Path) -> Iterator[str]:
    """Versions and GPUs of the first session, as a list."""
    first = file.read_text(encoding="utf-8").split("\n")[0] if file.is_file() else "{}"
    found = _json(first)
    for key in TAKEN:
        value = found.get(key)
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        if key == "weights" and value:
            key, value = "started from", re.sub(r"\S*/(?=\S)", "", value)  # a file's name without its folders
        if value:
            yield f"- {key}: {value}"


def _json(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
