"""Written and described configs are read back to the same."""

from __future__ import annotations

import pytest

from pose import config
from tests.toy_configs import Big, Config, Train, Write


@pytest.mark.parametrize(
    "note",
    [
        "",
        "1e5",
        "2e-4",
        "true",
        "null",
        "a: b",
        "# no",
        "ü ✓",
        "2020-01-01",
        "two\nlines",
        "'\"",
        " x ",
        "0x1",
    ],
)
def test_what_is_written_is_read_back(write: Write, note: str) -> None:
    one = Config(backbone=Big(stacks=1), train=Train(note=note, lr=1e-7, scales=(0.1, 1e20), limit=3))
    path = write("again.yaml", config.to_yaml(one))
    assert config.load(Config, path) == one
    assert config.load(Config, write("plain.yaml", config.to_yaml(config.load(Config, path)))) == one


def test_what_is_described_is_read_back(write: Write) -> None:
    one = Config(backbone=Big(stacks=1), train=Train(note="# 1e5"))
    text = config.describe(one)
    assert "stacks: 1  # How many." in text
    assert config.load(Config, write("described.yaml", text)) == one
