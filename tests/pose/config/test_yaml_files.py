"""Reading YAML: what is refused, and what is said then."""

from __future__ import annotations

import os
import random

import pytest

from pose import config
from pose.errors import UserError
from pose.experiment import ExperimentConfig
from tests.toy_configs import SYNTHETIC, Config, Train, Write, mistakes


def aliases(pattern: str) -> str:
    """Ten lines, each of which repeats the one before it nine times: 9 ** 10 values."""
    lines = ["a: &a {x: 1}"]
    lines += [f"{here}: &{here} {pattern.format(there)}" for there, here in zip("abcdefghij", "bcdefghijk")]
    return "\n".join(lines)


def test_files_without_an_end_are_refused(write: Write) -> None:
    path = write("config.yaml", "base: [/dev/zero]")
    assert "/dev/zero: it is no regular file" in mistakes(path)
    os.mkfifo(path.with_name("pipe.yaml"))
    assert "it is no regular file" in mistakes(path.with_name("pipe.yaml"))


def test_a_name_that_no_file_can_have(write: Write) -> None:
    assert "data.root: no file name" in mistakes(
        write("c.yaml", 'data: {root: "a\\0b"}'), schema=ExperimentConfig
    )
    assert "'a\\x00b' is a name that no file can have" in mistakes(write("d.yaml", 'base: "a\\0b"'))
    assert "no config file" in mistakes(write("e.yaml", "base: ~nobody_of_this_name/a.yaml"))


def test_aliases_are_counted_and_not_written_out() -> None:
    shared = config.parse_yaml("a: &a [1, 2]\nb: [*a, *a]\nc: {<<: {d: *a}}", "here")
    assert shared == {"a": [1, 2], "b": [[1, 2], [1, 2]], "c": {"d": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {lr: 1.0}\ntrain: {lr: 2.0}",
            "line 2: not readable as YAML: the key 'train' stands here twice",
        ),
        ("train:\n  lr: 1.0\n  lr: 1.0", "line 3"),
        ("train:\n\tlr: 3", "line 2: not readable as YAML: found character '\\t'"),
        ("train: [1,\nlr: 3", "not readable as YAML"),
        ("- 1\n- 2", "expected a mapping of names at the top, got list"),
        ("just words", "expected a mapping of names at the top, got str"),
        ("3: 4", "expected a mapping of names at the top"),
        (b"note: \xff\xfe\xfa", "cannot read"),
        (
            "train: !!python/object/apply:os.system ['true']",
            "line 1: not readable as YAML: could not determine",
        ),
        ("train: !!python/name:os.system", "not readable as YAML"),
        ("? [a, b]\n: 3", "a key must be a name"),
        ("train: &a {lr: *a}", "not readable as YAML"),
        ("train: &a [*a]", "not readable as YAML"),
        ("train: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("train: {batch_size: " + "1" * 5000 + "}", "not readable as YAML"),
        ("train: {lr: !!timestamp 2020-01-01}", "not plain data"),
        ("train: !!timestamp x", "line 1: not readable as YAML: 'x' is no timestamp"),
        ("train:\n  lr: !!bool x", "line 2: not readable as YAML: 'x' is no bool"),
        ("train: !!int ''", "'' is no int"),
        ("train: !!map [1]", "expected a mapping node"),
        ("? !!set {a}\n: 3", "a key must be a name"),
        ("train: {lr: " + ":".join(["1"] * 100_000) + "}", "a number of 199999 characters"),
        ("train: [" + "1," * 100_001 + "]", "more than 100000 values"),
        (aliases("[*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]"), "more than 100000 values"),
        (aliases("{{<<: [*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]}}"), "more than 100000 values"),
        ("train: 1 #" + " " * (1 << 20), "too large for a config"),
        ("base: 3", "`base:` is a file name or a list of file names"),
        ("base: [bsae.yaml]", "did you mean"),
        ("base: .", "cannot read"),
    ],
)
def test_a_file_that_is_no_config(write: Write, text: str | bytes, message: str) -> None:
    write("base.yaml", "backbone: {name: tiny}")
    assert message in mistakes(write("bad.yaml", text))


def test_a_missing_file_names_the_nearest(write: Write) -> None:
    there = write("ae_hourglass.yaml", "")
    assert f"did you mean {there}?" in mistakes(there.with_name("ae_hourglas.yaml"))
    assert "no config file" in mistakes(there.parent / "no" / "where.yaml")


def test_yaml_merge_keys_work(write: Write) -> None:
    path = write("m.yaml", "backbone: &b {name: tiny, width: 3}\n")
    path.write_text(path.read_text() + "train:\n  <<: {lr: 0.5, note: below}\n  note: above\n")
    assert config.load(Config, path).train == Train(lr=0.5, note="above")


def test_text_at_random_never_crashes(write: Write) -> None:
    rng = random.Random(1)
    good = SYNTHETIC.read_text(encoding="utf-8").replace("base: ", "bas: ")
    pieces = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "&a",
        "*a",
        "<<",
        "!!int",
        "\t",
        "\n",
        "'",
        '"',
        "- ",
        "? ",
        "|",
        "\x07",
        "é",
        "%",
    ]
    for _ in range(150):
        text = list(good)
        for _ in range(rng.choice([1, 3, 10])):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(4)] = rng.choice(pieces)
        path = write("fuzz.yaml", "".join(text))
        with pytest.raises(UserError):
            config.load(ExperimentConfig, path)
