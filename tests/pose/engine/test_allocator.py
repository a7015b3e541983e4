"""Freed memory stays with a process that asked for it: a further step takes hardly any page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pose.engine.allocator import keep_freed_memory
from tests.training_fixtures import environment

STEPS = """\
import resource, sys, torch
from pose.engine.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    maps = [torch.ones(1 << 20) for _ in range(40)]  # 4 MiB each
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


def page_faults(how: str) -> int:
    # glibc's first rule, which it changes by itself while it goes: each map has pages of its own
    fixed = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17), "MALLOC_TRIM_THRESHOLD_": str(1 << 17)}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, how],
        env={**environment(), **fixed}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_further_steps_take_hardly_any_new_pages() -> None:
    assert page_faults("keep") * 4 < page_faults("default")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
