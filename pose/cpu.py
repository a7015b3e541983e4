"""What the processor of this machine is, and what it computes in."""

from __future__ import annotations

import os
import platform
import re
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BF16 = ("avx512_bf16", "amx_bf16")  # flags of x86-64, as Linux and torch write them
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the user's limits to oneDNN's instruction sets
WITH_BF16 = re.compile("BF16|FP16|AMX|AVX10|ALL|DEFAULT", re.IGNORECASE)


def has_bf16() -> bool:
    """Whether oneDNN computes in bf16 here (AVX512_BF16 or AMX), and does not only emulate it."""
    limit = next((os.environ[name] for name in LIMITS if os.environ.get(name)), "ALL")
    return bool(WITH_BF16.search(limit)) and any(flag in flags() for flag in BF16)


@lru_cache
def flags() -> frozenset[str]:
    """Instruction sets of the processor, in lower case; as far as torch or the system tells them."""
    return frozenset(_by_torch() | _by_linux())


def _by_torch() -> set[str]:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return {name.lower() for name, value in torch.cpu.get_capabilities().items() if value is True}
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)  # AMX comes with it
    return {"avx512_bf16"} if older() else set()


def _by_linux() -> set[str]:
    return set(_cpuinfo("flags").lower().split())


def _cpuinfo(key: str) -> str:
    """The value of the first processor; "" where there is none."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def name() -> str:
    """As its maker calls it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_set() -> str:
    """The widest vectors that torch uses here, and what there is for bf16: `AVX512, avx512_bf16`."""
    import torch

    bf16 = [flag for flag in BF16 if flag in flags()]
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *bf16])
