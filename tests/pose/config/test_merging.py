"""Bases below a file and settings above it."""

from __future__ import annotations

from typing import Any

import pytest

from pose import config
from tests.toy_configs import Big, Config, Tiny, Train, Write, mistakes


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
