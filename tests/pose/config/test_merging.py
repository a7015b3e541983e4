"""Bases below a file and settings above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pose import config
from pose.engine.settings import TrainSettings
from pose.errors import UserError
from pose.experiment import load_config
from tests.toy_configs import SYNTHETIC, Big, Config, Tiny, Train, Write, mistakes


def test_the_child_wins_key_by_key_and_later_bases_over_earlier(write: Write) -> None:
    write("low/one.yaml", "backbone: {name: big, stacks: 1, width: 1}\ntrain: {batch_size: 1, lr: 0.1}")
    write("two.yaml", "backbone: {width: 2}\ntrain: {batch_size: 2}")
    top = write("top.yaml", "base: [low/one.yaml, two.yaml]\ntrain: {batch_size: 3}")
    loaded = config.load(Config, top)
    assert loaded.backbone == Big(stacks=1, width=2)
    assert loaded.train == Train(batch_size=3, lr=0.1)


@pytest.mark.parametrize("how", ["file", "override", "mapping"])
def test_a_section_with_another_name_replaces_the_whole_section(write: Write, how: str) -> None:
    base = write("base.yaml", "backbone: {name: big, stacks: 9, width: 99}")
    text = "backbone: {name: tiny}" if how == "file" else ""
    top = write("top.yaml", f"base: base.yaml\n{text}")
    overrides = {"file": [], "override": ["backbone.name=tiny"], "mapping": ["backbone={name: tiny}"]}[how]
    assert config.load(Config, top, overrides).backbone == Tiny()
    assert config.load(Config, base, ["backbone.name=big"]).backbone == Big(stacks=9, width=99)


@pytest.mark.parametrize("order", [1, -1])
def test_overrides_may_stand_in_any_order(write: Write, order: int) -> None:
    base = write("base.yaml", "backbone: {name: big, stacks: 9}")
    overrides = ["backbone.width=5", "backbone.name=tiny"][::order]
    assert config.load(Config, base, overrides).backbone == Tiny(width=5)


def test_a_base_without_a_name_completes_the_section(write: Write) -> None:
    write("wide.yaml", "backbone: {width: 7}")
    top = write("top.yaml", "base: wide.yaml\nbackbone: {name: tiny}")
    assert config.load(Config, top).backbone == Tiny(width=7)


def test_bases_in_a_circle_are_named(write: Write) -> None:
    a = write("a.yaml", "base: sub/b.yaml")
    write("sub/b.yaml", "base: ../a.yaml")
    assert "a.yaml -> b.yaml -> a.yaml" in mistakes(a)
    assert "own.yaml -> own.yaml" in mistakes(write("own.yaml", "base: own.yaml"))


def test_one_base_by_two_ways_is_no_circle(write: Write) -> None:
    write("root.yaml", "backbone: {name: tiny}")
    write("x.yaml", "base: root.yaml\ntrain: {lr: 0.5}")
    write("y.yaml", "base: root.yaml")
    assert config.load(Config, write("top.yaml", "base: [x.yaml, y.yaml]")).train.lr == 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train.lr=2e-4", 2e-4),
        ("train.lr=1E5", 1e5),
        ("train.lr=-3e+2", -300.0),
        ("train.lr=1", 1.0),
        ("train.lr= 0.5 ", 0.5),
        ("train.scales=[1, 2e-1]", (1.0, 0.2)),
        ("train.limit=null", None),
        ("train.limit=", None),
        ("train.limit=7", 7),
        ("train.flip=false", False),
        ("train.note=a=b", "a=b"),
        ("train.note='1e5'", "1e5"),
        ("train.note=2020-01-01", "2020-01-01"),
        ("train={lr: 0.25}", None),
    ],
)
def test_the_value_of_an_override_is_yaml(text: str, value: Any) -> None:
    loaded = config.load(Config, None, ["backbone.name=tiny", text])
    key = text.partition("=")[0].removeprefix("train.")
    assert loaded.train.lr == 0.25 if key == "train" else getattr(loaded.train, key) == value


@pytest.mark.parametrize("text", ["train", "=3", "train.=3", ".lr=3", "a..b=3", ""])
def test_an_override_without_a_key_or_value(text: str) -> None:
    assert "write it as key.sub=value" in mistakes(None, text)


def test_an_override_below_a_plain_value() -> None:
    message = mistakes(None, "train.lr=3", "train.lr.x=3")
    assert "command line" in message and "train.lr has no keys below it" in message


# ------------------------------------------------------------------------------------ keys of former versions


def train_of(*steps: str | dict[str, Any]) -> TrainSettings:
    """Files as mappings, settings of a command line as text."""
    merged = config.Merged(TrainSettings)
    for number, step in enumerate(steps):
        if isinstance(step, str):
            config.override(merged, [step])
        else:
            merged.put(step, f"{number}.yaml")
    return config.validate(TrainSettings, merged)


ADAMW = {"optimizer": {"name": "adamw", "lr": 0.5, "weight_decay": 0.25, "betas": [0.5, 0.75]}}
FLAT = {"optimizer": "adamw", "lr": 0.5, "weight_decay": 0.25, "betas": [0.5, 0.75]}
COSINE = {"schedule": {"name": "cosine", "final_lr": 0.5, "warmup_steps": 7}}


def test_flat_keys_are_those_of_the_sections() -> None:
    assert train_of(FLAT) == train_of(ADAMW)
    flat = {"schedule": "cosine", "final_lr": 0.5, "warmup_steps": 7, "ema": 0.5}
    assert train_of(flat) == train_of({**COSINE, "ema": 0.5})
    plateau = {"schedule": "plateau", "plateau_metric": "loss", "plateau_factor": 0.5, "plateau_patience": 1}
    own = {"name": "plateau", "metric": "loss", "factor": 0.5, "patience": 1}
    assert train_of(plateau) == train_of({"schedule": own})


@pytest.mark.parametrize("base", [FLAT, ADAMW], ids=["flat", "section"])
@pytest.mark.parametrize("kind", ["file", "command line"])
def test_flat_keys_count_above_either_kind_of_base(base: dict[str, Any], kind: str) -> None:
    def above(key: str, value: Any) -> str | dict[str, Any]:
        return f"{key}={value}" if kind == "command line" else {key: value}

    lower = train_of(base, above("lr", 0.125)).optimizer
    assert (lower.name, lower.lr, lower.weight_decay, lower.betas) == ("adamw", 0.125, 0.25, (0.5, 0.75))
    # another optimiser by its flat name keeps what both have, as it always did ...
    other = train_of(base, above("optimizer", "sgd")).optimizer
    assert (other.name, other.lr, other.weight_decay, other.momentum) == ("sgd", 0.5, 0.25, 0.9)
    # ... and by the section's name begins anew, as every section does
    section = train_of(base, "optimizer.name=sgd").optimizer
    assert (section.name, section.lr, section.weight_decay) == ("sgd", 2e-4, 0.0)
    assert train_of(base, "optimizer.lr=0.125") == train_of(base, "lr=0.125")


def test_flat_keys_of_a_component_that_is_chosen_later_are_remembered() -> None:
    assert train_of({"momentum": 0.5, "nesterov": True}, "optimizer=sgd").optimizer.momentum == 0.5
    assert train_of(COSINE, {"milestones": [3], "gamma": 0.5}) == train_of(COSINE)
    stepped = train_of(COSINE, {"milestones": [3], "gamma": 0.5}, {"schedule": "step"}).schedule
    assert (stepped.name, stepped.milestones, stepped.gamma, stepped.warmup_steps) == ("step", (3,), 0.5, 7)
    # what was said of the section in between stays
    again = train_of({"schedule": "step", "gamma": 0.5}, "schedule.gamma=0.25", "schedule=step").schedule
    assert again.gamma == 0.25


def test_a_config_of_a_former_run_has_the_keys_of_all_components() -> None:
    every = {
        **FLAT, "backbone_lr": 0.5, "layer_decay": 0.75, "momentum": 0.9, "nesterov": False,
        "schedule": "constant", "milestones": [2.0], "gamma": 0.1, "rates": [], "final_lr": 0.0,
        "plateau_factor": 0.8, "plateau_patience": 5, "plateau_cooldown": 3, "plateau_threshold": 1e-4,
        "plateau_metric": "AP", "warmup_steps": 3, "clip_norm": None, "ema": 0.5,
    }  # fmt: skip
    section = {**ADAMW["optimizer"], "backbone_lr": 0.5, "layer_decay": 0.75}
    schedule = {"name": "constant", "warmup_steps": 3}
    assert train_of(every) == train_of({"optimizer": section, "schedule": schedule, "ema": 0.5})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": "fast"}, "0.yaml:\n  optimizer.lr: expected float, got 'fast'"),
        ({"optimizer": "adma"}, "optimizer.name: unknown optimizer 'adma', did you mean 'adam'?"),
        ({"lrr": 1}, "lrr: unknown key, did you mean 'optimizer.lr'?"),
        ({"plateau_patence": 1}, "plateau_patence: unknown key, did you mean 'schedule.patience'?"),
        ({"epoch": 1}, "epoch: unknown key, did you mean 'epochs'?"),
        ({"schedule": 3}, "schedule.name: unknown schedule 3"),
        ({"optimizer": ["adam"]}, "optimizer.name: unknown optimizer"),
        ({"schedule": "piecewise", "rates": [[1, 1]]}, "piecewise needs rates"),
        ({"schedule": "plateau", "validate_every": 0}, "the schedule plateau goes by validations"),
    ],
)
def test_mistakes_in_flat_keys_are_told_with_their_names_of_today(given: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        train_of(given)
    assert message in str(caught.value)


def test_what_flat_keys_are_today_is_told_once_a_file(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"base: {SYNTHETIC}\ntrain: {{optimizer: sgd, lr: 0.1, momentum: 0.5, nesterov: true}}")
    assert load_config(own, ["train.lr=0.2"]).train.optimizer.lr == 0.2
    first, second = (record.getMessage() for record in caplog.records)
    assert first == (
        f"{own}: train.lr is now train.optimizer.lr, train.momentum is now train.optimizer.momentum, "
        "train.nesterov is now train.optimizer.nesterov, and 1 more are in sections of their own; this "
        "version takes the old names too"
    )
    assert second.startswith("command line: train.lr is now train.optimizer.lr; this version")
    caplog.clear()
    assert load_config(SYNTHETIC).train.optimizer.lr == 4e-3 and not caplog.records
