"""Mistakes in a config become sentences with their place."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from pose import config
from pose.errors import UserError
from pose.experiment import ExperimentConfig, load_config
from tests.toy_configs import SYNTHETIC, Write, mistakes


def test_all_mistakes_at_once_as_the_user_sees_them(write: Write) -> None:
    text = (
        "base: [../configs/synthetic/ae_small.yaml]\n"
        "backbone: {name: hourglas}\nhead: {decoder: {tag_treshold: 1.0}}\ntrain: {batch_size: True}\n"
    )
    path = write("broken.yaml", text.replace("../configs/synthetic/ae_small.yaml", str(SYNTHETIC)))
    with pytest.raises(UserError) as caught:
        load_config(path)
    first, file, *lines = str(caught.value).splitlines()
    assert (first, file) == ("the config has mistakes", f"{path}:")
    assert "  train.batch_size: expected int, got True" in lines
    assert "  head.decoder.tag_treshold: unknown key, did you mean 'tag_threshold'?" in lines
    assert any(
        line.startswith("  backbone.name: unknown backbone 'hourglas', did you mean 'hourglass'? (known: ")
        for line in lines
    )
    assert len(lines) == 3


def test_a_mistake_is_attributed_to_what_set_it(write: Write) -> None:
    base = write("base.yaml", "backbone: {name: tiny, widht: 3}\ntrain: {lr: fast, 7: 1}")
    middle = write("middle.yaml", "base: base.yaml\ntrain: {scales: [1, x], 8: 1}")
    message = mistakes(write("top.yaml", "base: middle.yaml\ntrain: {flip: 1}"), "train.limit=1.5")
    blocks: dict[str, list[str]] = {}
    for line in message.splitlines()[1:]:
        if not line.startswith("  "):
            blocks[line.removesuffix(":")] = current = []
        else:
            current.append(line.strip().partition(":")[0])
    assert sorted(blocks[str(base)]) == ["backbone.widht", "train.7", "train.lr"]
    assert sorted(blocks[str(middle)]) == ["train.8", "train.scales.1"]
    assert blocks[str(base.parent / "top.yaml")] == ["train.flip"]
    assert blocks["command line"] == ["train.limit"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batch_size=true"], "train.batch_size: expected int, got True"),
        (["train.batch_size=4.0"], "train.batch_size: expected int"),
        (["train.batch_size=0"], "train.batch_size: input should be greater than 0, got 0"),
        (["train.flip=1"], "train.flip: expected true or false, got 1"),
        (["train.lr=.nan"], "train.lr: input should be a finite number, got nan"),
        (["train.lr=.inf"], "train.lr: input should be a finite number"),
        (["train.note=3"], "train.note: expected text, got 3"),
        (["train.scales=1"], "train.scales: expected a list, got 1"),
        (["train.scales=[1, [2]]"], "train.scales.1: expected float, got [2]"),
        (["train="], "train: expected a mapping, got None"),
        (["train=[]"], "train: expected a mapping, got []"),
        (["backbone=tiny"], "backbone: expected a mapping, got 'tiny'"),
        (
            ["backbone.name=tinny"],
            "backbone.name: unknown backbone 'tinny', did you mean 'tiny'? (known: big, tiny)",
        ),
        (["backbone.name=3"], "backbone.name: unknown backbone 3"),
        (["backbone={width: 3}"], "backbone.name: missing"),
        (["backbone={name: big, stacks: x}"], "backbone.stacks: expected int, got 'x'"),
        (["backbone={name: tiny, stacks: 3}"], "backbone.stacks: unknown key (known: name, width)"),
        (["trian.lr=3"], "trian: unknown key, did you mean 'train'?"),
    ],
)
def test_each_mistake_is_a_sentence_with_its_place(overrides: list[str], message: str) -> None:
    name = [] if any(o.startswith("backbone") for o in overrides) else ["backbone.name=tiny"]
    lines = mistakes(None, *name, *overrides).splitlines()
    assert len(lines) == 3 and lines[1] == "command line:" and lines[2].strip().startswith(message), lines


@pytest.mark.parametrize("text", ["3", "paf_groups", "[]", "null"])
def test_a_section_with_a_default_name_must_be_a_mapping_too(text: str) -> None:
    path = SYNTHETIC.with_name("paf_small.yaml")
    told = mistakes(path, f"head.decoder={text}", schema=ExperimentConfig)
    assert "head.decoder: expected a mapping, got" in told


def test_a_section_that_is_missing() -> None:
    assert "backbone: missing" in mistakes(None, "train.lr=1.0")


def leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


JUNK: list[Any] = [
    None,
    True,
    3,
    -1,
    0,
    2.5,
    math.nan,
    math.inf,
    1e308,
    10**30,
    "text",
    "",
    [],
    [1],
    ["a", 2],
    {},
    {"name": "x"},
    {"a": {"b": 1}},
    [[]],
    [None],
    "../..",
    "\x00",
    [1.0, "x", {}],
]


@pytest.mark.slow
def test_junk_anywhere_gives_settings_or_a_message_that_names_the_place() -> None:
    plain = config.to_plain(load_config(SYNTHETIC))
    rng = random.Random(0)
    cases = [(path, junk) for path in leaves(plain) for junk in JUNK]
    refused = 0
    for path, junk in rng.sample(cases, 700):
        merged = config.Merged(ExperimentConfig)
        merged.put(plain, "base")
        node = merged.data
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = junk
        try:
            loaded = config.validate(ExperimentConfig, merged)
        except UserError as error:
            refused += 1
            places = [line.strip().partition(":")[0] for line in str(error).splitlines()[2:]]
            dotted = ".".join(path)  # or a section around it, or a value inside it
            assert places and all(
                f"{dotted}.".startswith(f"{place}.") or place.startswith(f"{dotted}.") for place in places
            ), (path, junk, places)
        else:
            merged = config.Merged(ExperimentConfig)
            merged.put(config.parse_yaml(config.to_yaml(loaded), "written"), "written")
            assert config.validate(ExperimentConfig, merged) == loaded
    assert refused > 350
