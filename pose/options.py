"""Options that several commands have: one spelling, one default and one sentence, wherever they stand."""

from __future__ import annotations

import argparse
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pose.config import Counts, Settings, keys_that_count
from pose.errors import UserError

RUN = "the run exp/NAME/"
TEST_SETTINGS = "test.*, head.decoder.*"  # what may be set for a trained run: `Counts.AFTER_TRAINING`
GRAPHS = ("onnx", "openvino")  # values of --runtime that run an exported graph, on the CPU


def user_path(text: str) -> Path:
    """The type of options that name a file or folder; `~` is the home folder, also behind `--option=`."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~somebody who has no home here
        return Path(text)


def add_run(parser: argparse._ActionsContainer, *, required: bool = True) -> None:
    """-c, --continue; the name is `options.name`."""
    parser.add_argument("-c", "--continue", dest="name", metavar="NAME", required=required, help=RUN)


def add_config_or_run(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """--config or -c, one of them; returns their group, in which there may be more."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--config", metavar="FILE", help="a config")
    add_run(group, required=False)
    return group


def add_mode(parser: argparse.ArgumentParser) -> None:
    """-m, --mode."""
    choices = ["single", "multi"]
    parser.add_argument(
        "-m", "--mode", choices=choices, default="single", help="one scale (default) or several"
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights."""
    parser.add_argument("--weights", help="best, last or a file (default: best, else last)")


def add_device(parser: argparse.ArgumentParser, default: str = "auto") -> None:
    """--device."""
    sentence = f"auto, cpu, cuda or cuda:N (default {default})"
    parser.add_argument("--device", default=default, help=sentence)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """--runtime."""
    parser.add_argument(
        "--runtime",
        choices=["torch", "onnx", "openvino", "compile"],
        default="torch",
        help="what runs the network (default torch): on a CPU onnx (ONNX Runtime) and openvino are often "
        "quicker and need the extras export and openvino; compile is torch.compile, minutes at the start",
    )


def device_for(runtime: str, device: str) -> str:
    """Where `device` is `auto`, that which the runtime has.  Raises `UserError` for one that it lacks."""
    if runtime not in GRAPHS:
        return device
    if device not in ("auto", "cpu"):
        raise UserError(f"--runtime {runtime} runs on the CPU; leave out --device {device}, or --runtime")
    return "cpu"


def add_settings(parser: argparse.ArgumentParser, which: str = "changes to the config") -> None:
    """key.sub=value, any number of them; which: the sentence that says what they may be."""
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help=which)


def run_settings(settings: Sequence[str], *, data: bool = False) -> list[str]:
    """The `key.sub=value` settings that may be given for a trained run; data: also where its data lie.
    Raises `UserError` for another."""
    if isinstance(settings, str):  # a sequence of letters
        settings = [settings]
    if not settings:
        return []
    from pose.experiment import ExperimentConfig  # needs torch

    marks = [Counts.AFTER_TRAINING, *([Counts.WITH_THE_DATA] if data else [])]
    keys = [key for mark in marks for key in keys_that_count(ExperimentConfig, mark)]
    for text in settings:
        path = tuple(text.partition("=")[0].strip().split("."))
        if not any(path[: len(key)] == key for key in keys):
            known = ", ".join(map(".".join, keys))
            raise UserError(f"{text!r} cannot be changed for a trained run; {known} can")
    return list(settings)


# ---- settings of a metric as options


def add_setting_options(
    parser: argparse._ActionsContainer, settings: type[Settings], names: Sequence[str]
) -> None:
    """`--image-ids` for the setting `image_ids`, and so on: what they may be, their defaults and their
    sentences are those of the settings."""
    for name in names:
        field = settings.model_fields[name]
        flag, text = f"--{name.replace('_', '-')}", _sentence(field.description or "")
        kind = _inner(field.annotation)
        if kind is bool:
            parser.add_argument(flag, dest=name, action="store_true", help=text)
        elif get_origin(kind) is Literal:
            parser.add_argument(flag, dest=name, choices=get_args(kind), default=field.default, help=text)
        else:
            read = _numbers if get_origin(kind) is tuple else user_path if kind is Path else kind
            metavar = "FILE" if kind is Path else None
            parser.add_argument(flag, dest=name, type=read, default=field.default, metavar=metavar, help=text)


def _inner(annotation: Any) -> Any:
    """`X | None` -> X."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def _sentence(description: str) -> str:
    """As options are described: one line, without a full stop at its end, `%` written out."""
    text = " ".join(description.split()).removesuffix(".").replace("%", "%%")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _numbers(text: str) -> tuple[float, ...]:
    """`0.5,0.75`."""
    return tuple(float(part) for part in text.split(","))


def was_given(options: argparse.Namespace, settings: type[Settings], names: Sequence[str]) -> bool:
    """Whether one of these options is not what it is by default."""
    return any(getattr(options, name) != settings.model_fields[name].default for name in names)
