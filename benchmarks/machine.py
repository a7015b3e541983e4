"""The machine that benchmarks run on: its processor and the instructions that decide about their figures."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

import torch

# of /proc/cpuinfo, in the order in which they are shown
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
)


class Machine(NamedTuple):
    processor: str
    cores: int  # that this process may use
    features: tuple[str, ...]
    torch_uses: str  # widest vectors of torch's own kernels; oneDNN chooses for itself
    gpu: str

    def __str__(self) -> str:
        found = ", ".join(self.features) or "no vector instructions known"
        return (
            f"{self.processor}, {self.cores} cores, {found}; "
            f"torch {torch.__version__} uses {self.torch_uses}; {self.gpu}"
        )


def describe() -> Machine:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        text = ""
    flags = set((re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE) or [""])[0].split())
    names = re.findall(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        processor=names[0] if names else platform.processor() or platform.machine(),
        cores=cores,
        features=tuple(name for name in FEATURES if name in flags),
        torch_uses=torch.backends.cpu.get_cpu_capability(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
    )
