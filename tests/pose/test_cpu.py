"""What a processor is said to compute in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pose import cpu

ZEN5 = "flags\t\t: fpu avx2 avx512f avx512_bf16\nmodel name\t: A processor\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing remembered, and no limits of this machine."""
    for name in cpu.LIMITS:
        monkeypatch.delenv(name, raising=False)
    cpu.flags.cache_clear()
    yield
    cpu.flags.cache_clear()


def capabilities(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    known = {name: name in names for name in ("avx2", *cpu.BF16)} | {"cpu_name": "some", "num_sockets": 1}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)


@pytest.mark.parametrize(
    ("names", "expected"), [((), False), (("avx2",), False), (("avx512_bf16",), True), (("amx_bf16",), True)]
)
def test_by_torch(names: tuple[str, ...], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", Path("nowhere"))  # Windows
    capabilities(monkeypatch, *names)
    assert cpu.has_bf16() == expected
    assert cpu.flags() == set(names)
    assert cpu.name()


@pytest.mark.parametrize("native", [True, False])
def test_by_an_older_torch(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", Path("nowhere"))
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    assert cpu.has_bf16() == native
    cpu.flags.cache_clear()
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert not cpu.has_bf16()


def test_by_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities(monkeypatch)
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpu, "CPUINFO", file)
    file.write_text(ZEN5)
    assert cpu.has_bf16() and cpu.name() == "A processor"
    assert cpu.instruction_set().endswith(", avx512_bf16")
    cpu.flags.cache_clear()
    file.write_text("Features\t: fp asimd bf16\n")  # ARM, which is not known to gain
    assert not cpu.has_bf16()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("AVX2", False),
        ("AVX512_CORE", False),
        ("avx512_core_vnni", False),
        ("AVX512_CORE_BF16", True),
        ("AVX512_CORE_AMX", True),
        ("AVX10_1_512", True),
        ("ALL", True),
        ("", True),
    ],
)
def test_a_limit_to_onednn_counts(limit: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities(monkeypatch, "avx512_bf16")
    for name in cpu.LIMITS:
        monkeypatch.setenv(name, limit)
        assert cpu.has_bf16() == expected
        monkeypatch.delenv(name)
