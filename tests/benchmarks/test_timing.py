"""What the benchmarks share: how often they call, and what a row says."""

from __future__ import annotations

import math

import pytest

from benchmarks import machine
from benchmarks.__main__ import unmeasured
from benchmarks.timing import Row, Times, compare, lines


def test_compare_takes_turns_hot_and_cold() -> None:
    calls: list[str] = []
    row = compare("x", lambda: calls.append("l"), lambda: calls.append("o"), literal_runs=2, runs=6)
    assert "".join(calls) == "lo" + 2 * ("looo" + "l" + 3 * "o")  # first ones; then hot and cold in each turn
    assert all(value >= 0 for side in (row.literal, row.ours) if side for value in side)


def test_a_row_is_a_line_hot_and_one_cold() -> None:
    hot, cold = lines(Row("decoding", Times(10.0, 20.0, 30.0, 40.0), Times(1.0, 4.0, 2.0, 40.0)))
    assert hot.startswith("decoding, hot") and hot.split()[2:] == [
        "10.0",
        "ms",
        "1.00",
        "ms",
        "10.0x",
        "20.0",
        "ms",
        "4.00",
        "ms",
        "5.00x",
    ]
    assert cold.split() == ["cold", "30.0", "ms", "2.00", "ms", "15.0x", "40.0", "ms", "40.00", "ms", "1.00x"]
    (alone,) = lines(Row("start-up", None, Times(3.0, 4.0)))
    assert alone.split() == ["start-up", "-", "3.00", "ms", "-", "-", "4.00", "ms", "-"]


def test_the_machine_names_its_instructions_and_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.describe()
    assert found.processor and found.cores >= 1 and found.torch_uses
    bare = found._replace(features=("avx2",))
    monkeypatch.setattr(machine, "describe", lambda: bare)
    text = "\n".join(unmeasured())
    assert "no avx512_bf16" in text and "no amx_bf16" in text
    monkeypatch.setattr(machine, "describe", lambda: bare._replace(features=machine.FEATURES))
    assert "amx_bf16" not in "\n".join(unmeasured())
    assert not math.isnan(Times(1.0).cpu) and math.isnan(Times(1.0).wall)
